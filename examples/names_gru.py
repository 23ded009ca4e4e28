"""Names letter by letter: recurrent networks, and new names written by one native loop.

    python examples/names_gru.py      # --quick: a few hundred names

A plain recurrent network, an LSTM and a GRU read a name from its first letter on, so that each
letter is predicted from all before it. The loop over the letters is native, and so is the one that
writes new names, where every step reads the letter that the step before has drawn. On the names
held out, the perceptron of names_mlp.py has a loss of 2.11; here 20 epochs, five to eight seconds
each network, give 2.05, 1.98 and 2.00. Row C8 of the systems: recurrent nets.
"""

from typing import Any

import numpy as np
from common import options
from data.text import decode, names, noise, padded, split

import symgrad as sg

LETTERS, LENGTH, UNITS, BATCH = 27, 16, 64, 32
KINDS = {"RNN": sg.nn.RNN, "LSTM": sg.nn.LSTM, "GRU": sg.nn.GRU}

n = sg.dim("batch", max=256)
x = sg.input("x", (n, LENGTH), dtype="int32")
y = sg.input("y", (n, LENGTH), dtype="int32")  # -1 where the name has ended


class Network(sg.nn.Module):
    """Letters to vectors, one recurrent layer, scores of the letter that follows."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.letters = sg.nn.Embedding(LETTERS, 16)
        self.recurrent = KINDS[kind](16, UNITS)
        self.out = sg.nn.Linear(UNITS, LETTERS)

    def __call__(self, x: sg.Expr, state: Any = None) -> tuple[sg.Expr, Any]:
        outputs, state = self.recurrent(self.letters(x), state)
        return self.out(outputs), state


def written(network: Network, count: int) -> sg.Expr:
    """The letters of new names, (LENGTH, count)."""

    def turn(carry: Any, noise: sg.Expr) -> Any:
        letter, state = carry
        scores, state = network(letter[:, None], state)
        letter = sg.argmax(scores[:, 0] + noise, axis=1).astype("int32")
        return (letter, state), letter

    first = sg.constant(np.zeros(count, np.int32))
    blank = sg.constant(np.zeros((1, count, UNITS), np.float32))
    state = (blank, blank) if isinstance(network.recurrent, sg.nn.LSTM) else blank
    _, letters = sg.scan(turn, (first, state), noise((LENGTH, count, LETTERS)))
    return letters


def trained(kind: str, names: np.ndarray, following: np.ndarray, epochs: int) -> tuple[Any, Any]:
    """The network and its step, after training."""
    network = Network(kind)
    scores, _ = network(x)
    loss = sg.losses.cross_entropy(scores, y, ignore_index=-1)
    rate = sg.schedules.cosine(5e-3, steps=epochs * -(-len(names) // BATCH), final=1e-5)
    step = sg.train_step(loss, sg.optim.AdamW(rate), seed=0)
    step.run({"x": names, "y": following}, batch_size=BATCH, epochs=epochs)
    return network, step


def mean_loss(network: Network, state: Any, names: np.ndarray, following: np.ndarray) -> float:
    """Per letter, over a whole part, in batches of at most the declared size."""
    scores, _ = network(x)
    total = sg.losses.cross_entropy(scores, y, ignore_index=-1, reduction="sum")
    f = sg.function([x, y], total, state=state)
    cuts = range(0, len(names), n.max)
    sums = [float(f(names[i : i + n.max], following[i : i + n.max])) for i in cuts]
    return sum(sums) / int((following >= 0).sum())


def main() -> None:
    quick = options(__doc__).quick
    train, held, _ = (padded(part, LENGTH) for part in split(names(embedded=quick)))
    for kind in KINDS:
        network, step = trained(kind, *train, epochs=2 if quick else 20)
        write = sg.function([], written(network, 10), state=step.state, seed=1)
        print(f"{kind}:", ", ".join(decode(row) for row in write().T))
        losses = [mean_loss(network, step.state, *part) for part in (train, held)]
        print("{}: loss on the names trained on {:.4f}, held out {:.4f}".format(kind, *losses))


if __name__ == "__main__":
    main()
