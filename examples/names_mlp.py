"""Names letter by letter: a multilayer perceptron that sees the three letters before.

    python examples/names_mlp.py      # --quick: a few hundred names

The network of Bengio et al. (2003), "A Neural Probabilistic Language Model", with the sizes and the
recipe of Karpathy's makemore lectures: letters become vectors of 10 numbers, three of them go
through 200 tanh units, 200,000 steps of 32 letters each, which take a few seconds. The losses there
are 2.126 on the names trained on and 2.170 on those held out; here 2.06 and 2.11.

Rows C1, D1 and F12 of the systems: layers, MLP, held-out sets.
"""

import numpy as np
from common import options
from data.text import decode, drawn, names, split, windows

import symgrad as sg

LETTERS, CONTEXT, BATCH = 27, 3, 32

n = sg.dim("batch", max=256)
x = sg.input("x", (n, CONTEXT), dtype="int32")
y = sg.input("y", (n,), dtype="int32")
model = sg.nn.Sequential(
    sg.nn.Embedding(LETTERS, 10, name="letters"),
    sg.nn.Flatten(),
    sg.nn.Linear(CONTEXT * 10, 200, name="hidden"),
    sg.nn.tanh,
    sg.nn.Linear(200, LETTERS, init=sg.init.normal(0, 0.01), name="out"),
)
scores = model(x)
loss = sg.losses.cross_entropy(scores, y)


def mean_loss(f: sg.Expr, rows: np.ndarray, labels: np.ndarray) -> float:
    """Over a whole part, in batches of at most the declared size."""
    cuts = range(0, len(labels), n.max)
    parts = [(rows[i : i + n.max], labels[i : i + n.max]) for i in cuts]
    return sum(float(f(*part)) * len(part[1]) for part in parts) / len(labels)


def main() -> None:
    quick = options(__doc__).quick
    train, held, _ = (windows(part, CONTEXT) for part in split(names(embedded=quick)))
    epochs = 5 if quick else 35
    steps = epochs * -(-len(train[1]) // BATCH)
    rate = sg.schedules.step(0.1, every=steps // 2)
    step = sg.train_step(loss, sg.optim.SGD(rate), seed=0)
    step.run({"x": train[0], "y": train[1]}, batch_size=BATCH, epochs=epochs)
    f = sg.function([x, y], loss, state=step.state)

    following = sg.function([x], drawn(scores), state=step.state, seed=1)
    text = np.zeros((10, CONTEXT), np.int32)
    for _ in range(20):
        text = np.hstack([text, following(text[:, -CONTEXT:])[:, None]])
    print("new names:", ", ".join(decode(row) for row in text[:, CONTEXT:]))
    print(f"loss on the names trained on: {mean_loss(f, *train):.4f}")
    print(f"loss on the names held out: {mean_loss(f, *held):.4f}")


if __name__ == "__main__":
    main()
