"""Names letter by letter: a table of counts, and a network with one matrix that learns the same.

    python examples/names_bigram.py      # --quick: a few hundred names

Both say how likely a letter is after the one before it. Counting is the solution of maximum
likelihood; the network, softmax regression on one letter, finds it by gradient descent. With an L2
term it stays a little above, as counts do to which something is added. Rows B2, B7 and B8 of the
systems: negative log-likelihood, multiclass regression, maximum likelihood; row F1: L2.
"""

import numpy as np
from common import options
from data.text import decode, drawn, names, windows

import symgrad as sg

LETTERS, DECAY = 27, 0.01
weight = sg.parameter("weight", (LETTERS, LETTERS), init=sg.init.normal(0, 1))


def counted(before: np.ndarray, after: np.ndarray, added: float = 1.0) -> float:
    """Mean negative log-likelihood of the table of counts, with `added` to each of them."""
    table = np.full((LETTERS, LETTERS), added)
    np.add.at(table, (before, after), 1)
    p = table / table.sum(axis=1, keepdims=True)
    return float(-np.log(p[before, after]).mean())


def declared(pairs: int) -> tuple[sg.Expr, sg.Expr]:
    """The loss with its L2 term, and the negative log-likelihood in it."""
    x = sg.input("x", (pairs,), dtype="int32")
    y = sg.input("y", (pairs,), dtype="int32")
    likelihood = sg.losses.cross_entropy(weight[x], y)  # a row of it: one_hot(x) @ weight
    return likelihood + DECAY * sg.mean(sg.square(weight)), likelihood


def main() -> None:
    quick = options(__doc__).quick
    before, after = windows(names(embedded=quick), context=1)
    before = before[:, 0]
    print(f"{len(after)} pairs of letters; counted: {counted(before, after):.4f}")

    loss, likelihood = declared(len(after))
    step = sg.train_step(loss, sg.optim.SGD(50.0), outputs={"likelihood": likelihood}, seed=0)
    for _ in range(50 if quick else 300):  # gradient descent on all pairs at once
        result = step(before, after)

    letter = sg.input("letter", (10,), dtype="int32")
    following = sg.function([letter], drawn(weight[letter]), state=step.state, seed=1)
    columns = [np.zeros(10, np.int32)]
    for _ in range(20):
        columns.append(following(columns[-1]))
    print("new names:", ", ".join(decode(row) for row in np.stack(columns[1:], axis=1)))
    print(f"learned: {result['likelihood']:.4f}, with the L2 term: {result['loss']:.4f}")


if __name__ == "__main__":
    main()
