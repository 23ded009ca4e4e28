"""Structured prediction: reading chains of digits, where each tends to be one more than the last.

The score of a whole labelling y = (y_1 ... y_T) of the images x = (x_1 ... x_T) is

    F(w, x, y) = sum_i unary(x_i)[y_i] + sum_i pair[y_i, y_i+1]

and w minimises the general structured objective

    C/2 |w|^2 + sum_(x,y) (eps log sum_y' exp((L(y, y') + F(w, x, y')) / eps) - F(w, x, y))

with L the number of wrong digits. The sum over all 10^T labellings y' is a recursion along the
chain. eps = 1 and L = 0 is a conditional random field, eps -> 0 a structured SVM.

Shows: the general structured objective (row B10).

    python examples/structured.py     # --quick: fewer passes
"""

from itertools import product

import numpy as np
from common import options, raw_digits

import symgrad as sg

T, K = 5, 10  # length of a chain, number of labels
NOISE = 0.6  # of pixels, so that a single image is often misread

n = sg.dim("batch", max=2000)
x = sg.input("x", (n, T, 64))
y = sg.input("y", (n, T), dtype="int32")
unary = sg.nn.Linear(64, K, name="unary")
pair = sg.parameter("pair", (K, K))


def objective(eps: float, task: float, decay: float) -> sg.Expr:
    """The structured objective; `task` scales the loss L."""
    scores = unary(x)
    truth = sg.one_hot(y, K, dtype="float32")
    raised = scores + task * (1 - truth)
    total = raised[:, 0]
    for i in range(1, T):  # log sum exp over the labels before place i, for each label at i
        total = eps * sg.logsumexp((total[:, :, None] + pair) / eps, axis=1) + raised[:, i]
    best = eps * sg.logsumexp(total / eps, axis=1)
    steps = sg.einsum("nia,ab,nib->n", truth[:, :-1], pair, truth[:, 1:])
    own = sg.sum(scores * truth, axis=(1, 2)) + steps
    return sg.mean(best - own) + decay * sg.regularizers.l2([unary, pair], 0.5)


def chains(count: int, pixels: np.ndarray, labels: np.ndarray, seed: int) -> dict:
    """Noisy images of chains: the next digit is one more in nine of ten cases."""
    rng = np.random.default_rng(seed)
    digits = np.empty((count, T), np.int32)
    digits[:, 0] = rng.integers(K, size=count)
    for i in range(1, T):
        chance = rng.integers(K, size=count)
        digits[:, i] = np.where(rng.random(count) < 0.9, (digits[:, i - 1] + 1) % K, chance)
    rows = [np.flatnonzero(labels == k) for k in range(K)]
    images = np.stack([[pixels[rng.choice(rows[k])] for k in chain] for chain in digits])
    return {"x": images + rng.normal(0, NOISE, images.shape).astype(np.float32), "y": digits}


def decode(scores: np.ndarray, pair: np.ndarray) -> np.ndarray:
    """The labelling of largest F for each sample (Viterbi's algorithm)."""
    total, back = scores[:, 0], []
    for i in range(1, T):
        through = total[:, :, None] + pair
        back.append(through.argmax(axis=1))
        total = through.max(axis=1) + scores[:, i]
    path = [total.argmax(axis=1)]
    for pointers in reversed(back):
        path.append(pointers[np.arange(len(scores)), path[-1]])
    return np.stack(path[::-1], axis=1)


def enumerated(scores: np.ndarray, pair: np.ndarray, truth: np.ndarray, eps: float) -> float:
    """The objective of one sample without decay, by all labellings one by one."""

    def score(labels: tuple) -> float:
        return sum(scores[range(T), labels]) + sum(pair[a, b] for a, b in zip(labels, labels[1:]))

    every = np.array([score(c) + np.sum(np.array(c) != truth) for c in product(range(K), repeat=T)])
    return eps * np.log(np.sum(np.exp((every - every.max()) / eps))) + every.max() - score(truth)


def main() -> None:
    quick = options(__doc__).quick
    pixels, labels = raw_digits()
    pixels = pixels / 16 - 0.3
    train = chains(300 if quick else 2000, pixels[:1200], labels[:1200], seed=1)
    test = chains(500, pixels[1200:], labels[1200:], seed=2)
    for name, eps, task in (
        ("conditional random field, eps 1, L = 0", 1.0, 0.0),
        ("softened margin, eps 1", 1.0, 1.0),
        ("structured SVM, eps 0.05", 0.05, 1.0),
    ):
        step = sg.train_step(objective(eps, task, 1e-3), sg.optim.Adam(0.01), seed=0)
        step.run(train, batch_size=50, epochs=5 if quick else 40)
        scores = sg.function([x], unary(x), state=step.state)(test["x"])
        transitions = step.state["pair"]
        alone = np.mean(scores.argmax(axis=2) == test["y"])
        chain = np.mean(decode(scores, transitions) == test["y"])
        print(f"{name:40s} digits read right: one by one {alone:.4f}, as a chain {chain:.4f}")
    misread = (decode(scores, transitions) != test["y"]).any(axis=1)
    wrong = np.flatnonzero(misread)[:1]  # the objective of others is almost 0
    exact = enumerated(scores[wrong[0]].astype(float), transitions, test["y"][wrong[0]], eps)
    value = sg.function([x, y], objective(eps, 1.0, 0.0), state=step.state)
    recursion = value(test["x"][wrong], test["y"][wrong])
    print(f"objective of one chain, by all {K**T} labellings {exact:.5f}")
    print(f"and by the recursion {recursion:.5f}")
    assert chain > alone and abs(recursion - exact) < 1e-3


if __name__ == "__main__":
    main()
