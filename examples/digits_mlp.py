"""Handwritten digits: a two-hidden-layer network trained natively on real data.

    symgrad train examples/digits_mlp.py
    python examples/digits_mlp.py            # the same by hand; --quick for a few epochs

The data are the 1797 images of 8x8 pixels of the UCI "Optical Recognition of Handwritten Digits"
test set, in examples/data/digits.csv.gz: 60 % to train on, 20 % to validate, 20 % to test.

Shows: a multilayer perceptron on real digits (row D1).
"""

import numpy as np
from common import digits, options

import symgrad as sg

data = digits  # what `symgrad train` asks for
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

    rounds = 3 if options(__doc__).quick else epochs
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
