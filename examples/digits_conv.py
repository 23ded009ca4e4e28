"""Handwritten digits by convolution: batch norm, max pooling and dropout, trained natively.

    symgrad train examples/digits_conv.py
    python examples/digits_conv.py           # the same by hand; --quick for a few epochs

The same images of 8x8 pixels as in digits_mlp.py, as images (n, 1, 8, 8).
"""

import sys
from pathlib import Path

import numpy as np

import symgrad as sg

FILE = Path(__file__).parent / "data" / "digits.csv.gz"
epochs = 20
batch_size = 32

n = sg.dim("batch", max=64)
x = sg.input("x", (n, 1, 8, 8))
y = sg.input("y", (n,), dtype="int32")

model = sg.nn.Sequential(
    sg.nn.Conv2d(1, 16, 3, padding="same", name="conv1"),
    sg.nn.BatchNorm(16, name="norm1"),
    sg.nn.relu,
    sg.nn.Conv2d(16, 32, 3, padding="same", name="conv2"),
    sg.nn.BatchNorm(32, name="norm2"),
    sg.nn.relu,
    sg.nn.MaxPool2d(2),
    sg.nn.Flatten(),
    sg.nn.Dropout(0.3),
    sg.nn.Linear(32 * 4 * 4, 10, name="fc"),
)
loss = sg.losses.cross_entropy(model(x, training=True), y)
logits = model(x)
accuracy = sg.mean((sg.argmax(logits, axis=1) == y).astype("float32"))
optimizer = sg.optim.AdamW(sg.schedules.cosine(3e-3, steps=epochs * 34, final=1e-5))


def data(seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """60 % to train on, 20 % to validate, 20 % to test."""
    table = np.loadtxt(FILE, delimiter=",", dtype=np.float32)
    images = (table[:, :64] / 16 - 0.3).reshape(-1, 1, 8, 8)
    labels = table[:, 64].astype(np.int32)
    order = np.random.default_rng(seed).permutation(len(labels))
    cuts = [round(0.6 * len(order)), round(0.8 * len(order))]
    parts = zip(("train", "validation", "test"), np.split(order, cuts))
    return {part: {"x": images[chosen], "y": labels[chosen]} for part, chosen in parts}


def main() -> None:
    parts = data()
    step = sg.train_step(loss, optimizer, seed=0)
    predict = sg.function([x, y], accuracy, state=step.state)  # with the running statistics

    def score(part: dict[str, np.ndarray]) -> float:
        """Accuracy over a whole part, in batches of at most the declared size."""
        size = len(part["y"])
        cuts = range(0, size, n.max)
        right = [
            predict(part["x"][i : i + n.max], part["y"][i : i + n.max]) * min(n.max, size - i)
            for i in cuts
        ]
        return float(sum(right)) / size

    rounds = 2 if "--quick" in sys.argv else epochs
    for epoch in range(rounds):
        mean_loss = step.run(parts["train"], batch_size=batch_size, epochs=1, shuffle=True)[-1]
        if epoch % 5 == 4 or epoch == rounds - 1:
            print(
                f"epoch {epoch + 1:2d}  loss {mean_loss:.4f}  "
                f"validation accuracy {score(parts['validation']):.4f}"
            )
    print(f"test accuracy {score(parts['test']):.4f}")


if __name__ == "__main__":
    main()
