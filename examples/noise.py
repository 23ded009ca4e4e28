"""Noise as a regulariser: on inputs, on weights, on labels; the same numbers in every run.

Random numbers are expressions, `sg.random.normal(shape)` say: new at each step, made natively where
they are used, a function of the seed. Label smoothing replaces the one-hot target by
(1 - s) one-hot + s/10. A tenth of the training labels is wrong here, few digits are left to learn
from: what keeps the network from trusting single digits helps.

Shows: noise on inputs, weights and labels, label smoothing (row F6).

    python examples/noise.py     # --quick: fewer passes
"""

import numpy as np
from common import accuracy, digits, options

import symgrad as sg

n = sg.dim("batch", max=1200)
x, y = sg.input("x", (n, 64)), sg.input("y", (n,), dtype="int32")


class Network(sg.nn.Module):
    """One hidden layer, with noise of a given strength on its inputs and its weights."""

    def __init__(self, inputs: float = 0.0, weights: float = 0.0) -> None:
        self.inputs, self.weights = inputs, weights
        self.fc1, self.fc2 = sg.nn.Linear(64, 128), sg.nn.Linear(128, 10)

    def __call__(self, x: sg.Expr, training: bool = False) -> sg.Expr:
        x = sg.nn.gaussian_noise(x, self.inputs, training)
        w1 = sg.nn.gaussian_noise(self.fc1.weight, self.weights, training)
        w2 = sg.nn.gaussian_noise(self.fc2.weight, self.weights, training)
        return sg.nn.relu(x @ w1 + self.fc1.bias) @ w2 + self.fc2.bias


def train(noise: str, part: dict, passes: int, seed: int):
    """The trained state, and the compiled accuracy."""
    model = Network(
        inputs=0.5 if noise == "inputs" else 0.0, weights=0.1 if noise == "weights" else 0.0
    )
    labels = sg.nn.label_noise(y, 10, 0.1) if noise == "labels" else y
    smoothing = 0.2 if noise == "label smoothing" else 0.0
    loss = sg.losses.cross_entropy(model(x, training=True), labels, label_smoothing=smoothing)
    step = sg.train_step(loss, sg.optim.Adam(1e-3), seed=seed)
    step.run(part, batch_size=32, epochs=passes)
    return step.state, sg.function([x, y], accuracy(model(x), y), state=step.state)


def main() -> None:
    quick = options(__doc__).quick
    passes, seeds = (40, 1) if quick else (150, 8)
    parts = digits()
    few = {name: array[::4].copy() for name, array in parts["train"].items()}
    rng = np.random.default_rng(0)
    wrong = rng.random(len(few["y"])) < 0.1
    few["y"][wrong] = rng.integers(10, size=wrong.sum())
    for noise in ("no noise", "inputs", "weights", "labels", "label smoothing"):
        scores = [train(noise, few, passes, seed)[1](**parts["test"]) for seed in range(seeds)]
        print(f"{noise:16s} test accuracy {np.mean(scores):.4f}, mean of {seeds} starts")
    one, two = (train("weights", few, 2, seed=3)[0] for _ in range(2))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    largest = max(np.abs(one[name] - two[name]).max() for name in one)
    print(f"two runs of one seed differ by {largest}")


if __name__ == "__main__":
    main()
