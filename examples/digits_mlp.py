"""Handwritten digits: a two-hidden-layer network trained natively on real data.

    symgrad train examples/digits_mlp.py
    python examples/digits_mlp.py            # the same by hand; --quick for a few epochs

The data are the 1797 images of 8x8 pixels of the UCI "Optical Recognition of Handwritten Digits"
test set, in examples/data/digits.csv.gz: 64 pixels from 0 to 16, and the label.
"""

import sys
from pathlib import Path

import numpy as np

import symgrad as sg

FILE = Path(__file__).parent / "data" / "digits.csv.gz"
epochs = 30
batch_size = 32

n = sg.dim("batch", max=64)
x = sg.input("x", (n, 64))
y = sg.input("y", (n,), dtype="int32")

model = sg.nn.Sequential(
    sg.nn.Linear(64, 128, name="fc1"),
    sg.nn.relu,
    sg.nn.Linear(128, 64, name="fc2"),
    sg.nn.relu,
    sg.nn.Linear(64, 10, name="fc3"),
)
logits = model(x)
loss = sg.losses.cross_entropy(logits, y)
accuracy = sg.mean((sg.argmax(logits, axis=1) == y).astype("float32"))
outputs = {"accuracy": accuracy}
optimizer = sg.optim.AdamW(sg.schedules.cosine(2e-3, steps=epochs * 34, final=1e-5))


def data(seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """60 % to train on, 20 % to validate, 20 % to test, each digit in the same proportion."""
    table = np.loadtxt(FILE, delimiter=",", dtype=np.float32)
    pixels, labels = table[:, :64], table[:, 64].astype(np.int32)
    rng = np.random.default_rng(seed)
    rows: dict[str, list[np.ndarray]] = {"train": [], "validation": [], "test": []}
    for digit in range(10):
        mine = rng.permutation(np.flatnonzero(labels == digit))
        cuts = [round(0.6 * len(mine)), round(0.8 * len(mine))]
        for part, chosen in zip(rows, np.split(mine, cuts)):
            rows[part].append(chosen)
    index = {part: np.concatenate(chosen) for part, chosen in rows.items()}
    # Zero mean for each pixel, unit variance over all; statistics of the training set only.
    seen = pixels[index["train"]]
    mean = seen.mean(axis=0)
    scaled = (pixels - mean) / (seen - mean).std()
    return {part: {"x": scaled[i], "y": labels[i]} for part, i in index.items()}


def main() -> None:
    parts = data()
    step = sg.train_step(loss, optimizer, outputs=outputs, seed=0)
    predict = sg.function([x, y], accuracy, state=step.state)

    def score(part: dict[str, np.ndarray]) -> float:
        """Accuracy over a whole part, in batches of at most the declared size."""
        size = len(part["y"])
        cuts = range(0, size, n.max)
        right = [
            predict(part["x"][i : i + n.max], part["y"][i : i + n.max]) * min(n.max, size - i)
            for i in cuts
        ]
        return float(sum(right)) / size

    rounds = 3 if "--quick" in sys.argv else epochs
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
