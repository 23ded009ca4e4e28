"""Ensembles: several networks, their probabilities averaged, are better than each of them.

The networks differ by their random start alone, or by bagging, in that each also has training data
of its own: as many rows as there are, drawn with replacement.

Shows: ensembles and bagging (row F11).

    python examples/ensemble.py     # --quick: fewer networks
"""

import numpy as np
from common import digits, mlp, options

import symgrad as sg

n = sg.dim("batch", max=1200)
x, y = sg.input("x", (n, 64)), sg.input("y", (n,), dtype="int32")


def members(count: int, part: dict, passes: int, bagging: bool, test: dict) -> np.ndarray:
    """The probabilities that each network gives the test set: (count, rows, 10)."""
    rng = np.random.default_rng(0)
    rows = len(part["y"])
    answers = []
    for seed in range(count):
        logits = mlp(64, 32, 10)(x)
        step = sg.train_step(sg.losses.cross_entropy(logits, y), sg.optim.Adam(3e-3), seed=seed)
        chosen = rng.integers(rows, size=rows) if bagging else np.arange(rows)
        own = {name: array[chosen] for name, array in part.items()}
        step.run(own, batch_size=32, epochs=passes)
        predict = sg.function([x], sg.nn.softmax(logits), state=step.state)
        answers.append(predict(test["x"]))
    return np.stack(answers)


def main() -> None:
    quick = options(__doc__).quick
    count, passes = (5, 30) if quick else (25, 60)
    parts = digits()
    few = {name: array[::4] for name, array in parts["train"].items()}
    test = parts["test"]
    for name, bagging in (("random starts", False), ("bagging", True)):
        answers = members(count, few, passes, bagging, test)
        alone = np.mean(answers.argmax(axis=2) == test["y"], axis=1)
        together = np.mean(answers.mean(axis=0).argmax(axis=1) == test["y"])
        print(f"{name}: {count} networks, test accuracy alone {alone.mean():.4f}", end=" ")
        print(f"(best {alone.max():.4f}), averaged {together:.4f}")
        assert together > alone.mean()


if __name__ == "__main__":
    main()
