"""Data set augmentation: every pass sees the digits shifted, turned, cropped, shaded, noisy.

The changes are drawn anew before each pass, and the step trains on what comes out. What the network
has seen in all variants it recognises in all variants, from the same few digits. A variant should
still be of its class: a mirrored 3 is no 3, learning it costs accuracy.

Shows: augmentation by shifts, flips, crops, rotation, colour, noise (row F5).

    python examples/augmentation.py --plot augmented.png     # --quick: fewer passes
"""

import numpy as np
from common import accuracy, options, picture, raw_digits, split

import symgrad as sg

n = sg.dim("batch", max=1500)
x, y = sg.input("x", (n, 1, 8, 8)), sg.input("y", (n,), dtype="int32")

WAYS = {
    "shift": lambda images, rng: sg.augment.shift(images, 1, rng),
    "rotate": lambda images, rng: sg.augment.rotate(images, 20, rng),
    "crop": lambda images, rng: sg.augment.crop(images, 8, rng, padding=2),
    "colour": lambda images, rng: sg.augment.color(images, rng, brightness=0.4, contrast=0.4),
    "noise": lambda images, rng: sg.augment.noise(images, 0.2, rng),
    "flip": lambda images, rng: sg.augment.flip(images, rng),
}


def changed(part: dict, way: str, rng: np.random.Generator) -> dict:
    """The part with its images changed in one way, or as they are."""
    return {**part, "x": WAYS[way](part["x"], rng)} if way else part


def train(way: str, part: dict, passes: int):
    """A small convolutional network; gives its accuracy, compiled."""
    model = sg.nn.Sequential(
        sg.nn.Conv2d(1, 16, 3, padding=1, name="conv1"),
        sg.nn.relu,
        sg.nn.MaxPool2d(2),
        sg.nn.Flatten(),
        sg.nn.Linear(256, 64, name="fc1"),
        sg.nn.relu,
        sg.nn.Linear(64, 10, name="fc2"),
    )
    step = sg.train_step(sg.losses.cross_entropy(model(x), y), sg.optim.Adam(2e-3), seed=0)
    rng = np.random.default_rng(0)
    for _ in range(passes):
        step.run(changed(part, way, rng), batch_size=32, epochs=1)
    return sg.function([x, y], accuracy(model(x), y), state=step.state)


def main() -> None:
    given = options(__doc__)
    passes = 60 if given.quick else 300
    pixels, labels = raw_digits()
    parts = split(pixels.reshape(-1, 1, 8, 8) / 16, labels, shares=(0.15, 0.05))
    few, test = parts["train"], parts["test"]
    print(f"{len(few['y'])} digits to learn from, {len(test['y'])} to test")
    plain = train("", few, passes)
    print(f"trained without augmentation: test accuracy {plain(**test):.4f}")
    for way in WAYS:
        augmented = train(way, few, passes)
        alike = changed(test, way, np.random.default_rng(1))
        before, after = plain(**alike), augmented(**alike)
        print(
            f"{way:7s} test accuracy {augmented(**test):.4f}; on a test set changed alike without "
            f"augmentation {before:.4f}, with it {after:.4f}"
        )
        assert after > before
    with picture(given.plot, columns=7) as axes:
        if axes is not None:
            for axis, way in zip(axes, ("", *WAYS)):
                shown = changed({"x": few["x"][:1]}, way, np.random.default_rng(3))["x"]
                axis.imshow(shown[0, 0], cmap="gray_r")
                axis.set_title(way or "as it is")


if __name__ == "__main__":
    main()
