"""Transfer learning: what was learned from half of the digits reads the other half.

A convolutional network learns the digits 0 to 4. Its convolutions then serve a new head that learns
the digits 5 to 9 from 500 images: with the convolutions frozen, or trained further, or, for
comparison, from scratch. `parameters=` says what is trained; gradients of the rest are never built,
so a frozen base costs its forward pass alone: see the kernels and the time of a step.

Shows: transfer learning, frozen layers without gradient code (row F10).

    python examples/transfer_learning.py      # MNIST; --quick: 2000 images, one pass

The full run takes half a minute and ends at a test accuracy of 0.9720 with the base frozen (16
kernels, 1.0 ms a step), 0.9687 with all trained on (49 kernels, 3.8 ms), 0.9543 from scratch.
"""

from typing import Any

from classify import fit, inputs
from common import Parts, accuracy, options
from data.images import images

import symgrad as sg

x, y = inputs()
base = sg.nn.Sequential(
    sg.nn.Conv2d(1, 16, 3, padding=1),
    sg.nn.BatchNorm(16),
    sg.nn.relu,
    sg.nn.MaxPool2d(2),
    sg.nn.Conv2d(16, 32, 3, padding=1),
    sg.nn.BatchNorm(32),
    sg.nn.relu,
    sg.nn.MaxPool2d(2),
    sg.nn.Flatten(),
    name="base",
)
small, large = (sg.nn.Linear(32 * 7 * 7, 5, name=name) for name in ("small", "large"))


def digits(parts: Parts, first: int, most: int | None = None) -> Parts:
    """The digits first .. first + 4 as classes 0 .. 4, at most so many images to train on."""
    chosen: Parts = {}
    for part, data in parts.items():
        rows = (data["y"] >= first) & (data["y"] < first + 5)
        stop = most if part == "train" else None
        chosen[part] = {"x": data["x"][rows][:stop], "y": data["y"][rows][:stop] - first}
    return chosen


def learn(head: sg.nn.Linear, parts: Parts, epochs: int, frozen: bool, start: Any) -> Any:
    """Train a head, and the base unless that is frozen."""
    loss = sg.losses.cross_entropy(head(base(x, training=not frozen)), y)
    result = fit(
        loss,
        accuracy(head(base(x)), y),
        sg.optim.Adam(1e-3),
        parts,
        batch_size=50,
        epochs=epochs,
        quiet=True,
        start=start,
        parameters=head if frozen else None,
    )
    kernels = result["step"].report().split(" for ")[0]
    print(f"{kernels}, {result['each'] * 1e3:.2f} ms a step, test accuracy {result['test']:.4f}")
    return result


def main() -> None:
    quick = options(__doc__).quick
    parts = images("mnist", quick)
    few = digits(parts, 5, most=500)
    print("digits 0 to 4:                 ", end="", flush=True)
    state = learn(small, digits(parts, 0), 1 if quick else 4, False, None)["step"].state
    learned = {leaf: state[leaf] for leaf in (*base.parameters(), *base.states())}
    epochs = 5 if quick else 40
    print("digits 5 to 9, from scratch:   ", end="", flush=True)
    learn(large, few, epochs, False, None)
    print("digits 5 to 9, all trained on: ", end="", flush=True)
    learn(large, few, epochs, False, learned)
    print("digits 5 to 9, frozen base:    ", end="", flush=True)
    result = learn(large, few, epochs, True, learned)
    after = result["step"].state
    assert all((after[leaf] == value).all() for leaf, value in learned.items())
    print(f"test accuracy {result['test']:.4f}")


if __name__ == "__main__":
    main()
