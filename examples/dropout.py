"""Dropout against none, and Monte-Carlo dropout: how sure is the network?

A wide network and few digits to learn from. In training, dropout removes half of the hidden units
at random; at test all are there. Monte-Carlo dropout keeps it on: `model(x, training=True)` and
`model(x)` are two graphs over the same parameters. The answers of many runs spread, and they spread
more where the network is wrong, and most on what is no digit at all.

Shows: dropout in training, off at test, Monte-Carlo dropout's spread (row C6).

    python examples/dropout.py     # --quick: fewer passes
"""

import numpy as np
from common import accuracy, digits, options

import symgrad as sg

n = sg.dim("batch", max=1200)
x, y = sg.input("x", (n, 64)), sg.input("y", (n,), dtype="int32")


def network(p: float) -> sg.nn.Sequential:
    return sg.nn.Sequential(
        sg.nn.Linear(64, 256, name="fc1"),
        sg.nn.relu,
        sg.nn.Dropout(p),
        sg.nn.Linear(256, 256, name="fc2"),
        sg.nn.relu,
        sg.nn.Dropout(p),
        sg.nn.Linear(256, 10, name="fc3"),
    )


def main() -> None:
    quick = options(__doc__).quick
    passes, runs, seeds = (60, 30, 1) if quick else (300, 200, 5)
    parts = digits()
    few = {name: array[::7] for name, array in parts["train"].items()}
    for p in (0.0, 0.5):
        scores = []
        for seed in range(seeds):
            model = network(p)
            loss = sg.losses.cross_entropy(model(x, training=True), y)
            step = sg.train_step(loss, sg.optim.Adam(1e-3), seed=seed)
            step.run(few, batch_size=32, epochs=passes)
            score = sg.function([x, y], accuracy(model(x), y), state=step.state)
            scores.append(float(score(**parts["test"])))
        print(f"dropout {p}: test accuracy {np.mean(scores):.4f}, mean of {seeds} starts")

    sample = sg.function([x], sg.nn.softmax(model(x, training=True)), state=step.state)
    images, labels = parts["test"]["x"], parts["test"]["y"]
    nonsense = np.random.default_rng(0).permuted(images, axis=1)  # pixels in any order
    spread = {}
    for name, batch in (("digits", images), ("nonsense", nonsense)):
        answers = np.stack([sample(batch) for _ in range(runs)])  # (runs, images, 10)
        mean, deviation = answers.mean(axis=0), answers.std(axis=0)
        spread[name] = np.take_along_axis(deviation, mean.argmax(axis=1)[:, None], axis=1)[:, 0]
        if name == "digits":
            right = mean.argmax(axis=1) == labels
    groups = {
        "digits read right": spread["digits"][right],
        "digits read wrong": spread["digits"][~right],
        "no digits": spread["nonsense"],
    }
    print(f"Monte-Carlo dropout, {runs} runs: standard deviation of the answer's probability")
    for name, values in groups.items():
        print(f"  {name:18s} {len(values):4d} images, mean spread {values.mean():.4f}")
    assert groups["digits read right"].mean() < groups["digits read wrong"].mean()


if __name__ == "__main__":
    main()
