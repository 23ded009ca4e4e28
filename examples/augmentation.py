"""Data set augmentation: every pass sees the digits shifted, turned, cropped, shaded, noisy.

The transformations are drawn anew before each pass, in NumPy, and the step trains on what comes
out. What the network has seen in all variants it recognises in all variants, from the same few
digits. A variant should still be of its class: a mirrored 3 is no 3, learning it costs accuracy.

Shows: augmentation by shifts, flips, crops, rotation, colour, noise (row F5).

    python examples/augmentation.py --plot augmented.png     # --quick: fewer passes
"""

import numpy as np
from common import accuracy, options, picture, raw_digits, split

import symgrad as sg

n = sg.dim("batch", max=1500)
x, y = sg.input("x", (n, 1, 8, 8)), sg.input("y", (n,), dtype="int32")


def resampled(images: np.ndarray, matrix: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Images (m, 8, 8) read at matrix @ (place - centre) + centre + offset, bilinearly."""
    m, size, _ = images.shape
    centre = (size - 1) / 2
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), -1) - centre
    at = np.einsum("mij,rcj->mrci", matrix, grid) + centre + offset[:, None, None]
    padded = np.pad(images, ((0, 0), (1, 2), (1, 2)))
    at = np.clip(at + 1, 0, size + 1)
    low = at.astype(int)
    (r, c), (dr, dc) = np.moveaxis(low, -1, 0), np.moveaxis(at - low, -1, 0)
    k = np.arange(m)[:, None, None]
    top = padded[k, r, c] * (1 - dc) + padded[k, r, c + 1] * dc
    bottom = padded[k, r + 1, c] * (1 - dc) + padded[k, r + 1, c + 1] * dc
    return top * (1 - dr) + bottom * dr


def shift(images, rng):
    same = np.tile(np.eye(2), (len(images), 1, 1))
    return resampled(images, same, rng.uniform(-1, 1, (len(images), 2)))


def rotate(images, rng):
    angle = rng.uniform(-0.26, 0.26, len(images))  # 15 degrees
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return resampled(images, np.moveaxis(turn, -1, 0), np.zeros((len(images), 2)))


def crop(images, rng):
    """A part of the image, enlarged to the whole."""
    zoom = rng.uniform(0.8, 1.0, len(images))[:, None, None] * np.eye(2)
    return resampled(images, zoom, rng.uniform(-0.5, 0.5, (len(images), 2)))


def flip(images, rng):
    return np.where(rng.random((len(images), 1, 1)) < 0.5, images[:, :, ::-1], images)


def colour(images, rng):
    """Contrast and brightness, which is all the colour that grey has."""
    contrast, brightness = rng.uniform(0.7, 1.3, (2, len(images), 1, 1))
    return np.clip(images * contrast + brightness - 1, 0, 1)


def noise(images, rng):
    return images + rng.normal(0, 0.2, images.shape)


def batch(part: dict, ways, rng) -> dict:
    """Images as the network takes them, each transformed in all these ways."""
    images = part["x"]
    for way in ways:
        images = way(images, rng)
    return {"x": images[:, None].astype(np.float32), "y": part["y"]}


def train(ways, part: dict, passes: int):
    """A small convolutional network; gives a function from a part to its accuracy."""
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
        step.run(batch(part, ways, rng), batch_size=32, epochs=1)
    score = sg.function([x, y], accuracy(model(x), y), state=step.state)
    return lambda part, *ways: float(score(**batch(part, ways, np.random.default_rng(1))))


def main() -> None:
    given = options(__doc__)
    passes = 60 if given.quick else 300
    pixels, labels = raw_digits()
    parts = split(pixels.reshape(-1, 8, 8) / 16, labels, shares=(0.15, 0.05))
    few, test = parts["train"], parts["test"]
    print(f"{len(few['y'])} digits to learn from, {len(test['y'])} to test")
    plain = train([], few, passes)
    print(f"trained without augmentation: test accuracy {plain(test):.4f}")
    for way in (shift, rotate, crop, colour, noise, flip):
        augmented = train([way], few, passes)
        before, after = plain(test, way), augmented(test, way)
        print(
            f"{way.__name__:7s} test accuracy {augmented(test):.4f}; on a test set changed alike "
            f"{before:.4f} without, {after:.4f} with augmentation"
        )
        assert after > before or way is noise
    with picture(given.plot, columns=7) as axes:
        if axes is not None:
            for axis, way in zip(axes, (None, shift, rotate, crop, colour, noise, flip)):
                image = few["x"][:1]
                shown = image if way is None else way(image, np.random.default_rng(3))
                axis.imshow(shown[0], cmap="gray_r")
                axis.set_title("as it is" if way is None else way.__name__)


if __name__ == "__main__":
    main()
