"""Data sets made larger: shifted, flipped, cropped, rotated, recoloured and noisy images.

In: images (n, channels, h, w) or (n, h, w) as NumPy arrays, how far to go, a random generator or
seed. Out: new images of the same dtype, each changed in its own way. They are made on the host
between passes, by NumPy; noise drawn natively in the step is `sg.nn.gaussian_noise`.

    rng = np.random.default_rng(0)
    for epoch in range(30):
        x = sg.augment.flip(sg.augment.shift(X, 2, rng), rng)
        step.run({"x": x, "y": Y}, batch_size=64)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from symgrad.checks import bad, number
from symgrad.errors import InputError

Array = np.ndarray[Any, Any]
Rng = Any  # a numpy.random.Generator, or a seed for one


def _fail(what: str) -> InputError:
    name, _, why = what.partition(": ")
    return bad(f"augment.{name}", why)


def _images(name: str, images: Any) -> Array:
    """The images as (n, channels, h, w)."""
    array = np.asarray(images)
    if array.ndim not in (3, 4):
        raise _fail(f"{name}: images must be (n, h, w) or (n, channels, h, w), got {array.shape}")
    return array if array.ndim == 4 else array[:, None]


def _number(name: str, what: str, value: Any, interval: str = "[0, inf)") -> float:
    return number(f"augment.{name}", what, value, interval)


def _count(name: str, what: str, value: Any, least: int = 0) -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
        raise _fail(f"{name}: {what} must be an int from {least} on, got {value!r}")
    return int(value)


def _like(images: Any, changed: Array) -> Array:
    """In the shape and dtype of what was given."""
    array = np.asarray(images)
    if array.dtype.kind in "iu":
        limits = np.iinfo(array.dtype)
        changed = np.clip(np.rint(changed), limits.min, limits.max)
    shape = (*array.shape[:-2], *changed.shape[-2:])
    return np.ascontiguousarray(changed.astype(array.dtype, copy=False).reshape(shape))


# -- moves ---------------------------------------------------------------------------------------
def shift(images: Any, pixels: int, rng: Rng = None, fill: float = 0.0) -> Array:
    """Each image moved by up to `pixels` rows and columns, what comes in being `fill`."""
    array, by = _images("shift", images), _count("shift", "pixels", pixels)
    return _like(images, _windows(array, by, array.shape[2:], np.random.default_rng(rng), fill))


def crop(images: Any, size: Any, rng: Rng = None, padding: int = 0, fill: float = 0.0) -> Array:
    """A window of `size` (an int or (h, w)) at a place of its own in each image, padded before."""
    array, by = _images("crop", images), _count("crop", "padding", padding)
    height, width = (size, size) if np.ndim(size) == 0 else size
    for what, part, whole in (
        ("height", height, array.shape[2]),
        ("width", width, array.shape[3]),
    ):
        if _count("crop", what, part, 1) > whole + 2 * by:
            raise _fail(f"crop: {what} {part} is more than the {whole + 2 * by} of padded images")
    return _like(images, _windows(array, by, (height, width), np.random.default_rng(rng), fill))


def _windows(array: Array, padding: int, size: Any, rng: np.random.Generator, fill: float) -> Array:
    """A window of each padded image, all places being equally likely."""
    around = ((0, 0), (0, 0), (padding, padding), (padding, padding))
    padded = np.pad(array, around, constant_values=fill)
    top, left = (
        rng.integers(0, whole - part + 1, len(array)) for whole, part in zip(padded.shape[2:], size)
    )
    n, c = np.ogrid[: len(array), : array.shape[1]]
    rows = top[:, None] + np.arange(size[0])
    columns = left[:, None] + np.arange(size[1])
    return padded[
        n[..., None, None], c[..., None, None], rows[:, None, :, None], columns[:, None, None]
    ]


def flip(images: Any, rng: Rng = None, p: float = 0.5, axis: int = -1) -> Array:
    """Each image mirrored with probability p: left to right (axis -1) or upside down (-2)."""
    array, p = _images("flip", images), _number("flip", "p", p, "[0, 1]")
    if axis not in (-1, -2):
        raise _fail(f"flip: axis is -1 (left to right) or -2 (upside down), got {axis!r}")
    turned = np.random.default_rng(rng).random(len(array)) < p
    return _like(images, np.where(turned[:, None, None, None], np.flip(array, axis), array))


def rotate(images: Any, degrees: float, rng: Rng = None, fill: float = 0.0) -> Array:
    """Each image turned about its middle by up to `degrees` either way, bilinearly.

    The value at a point is interpolated from the four pixels around where it comes from; what
    comes from outside is `fill`.
    """
    array, most = _images("rotate", images), _number("rotate", "degrees", degrees)
    angle = np.radians(np.random.default_rng(rng).uniform(-most, most, len(array)))
    height, width = array.shape[2:]
    y, x = np.meshgrid(*(np.arange(s) - (s - 1) / 2 for s in (height, width)), indexing="ij")
    sine, cosine = np.sin(angle)[:, None, None], np.cos(angle)[:, None, None]
    rows = cosine * y + sine * x + (height - 1) / 2
    columns = cosine * x - sine * y + (width - 1) / 2
    return _like(images, _sampled(array, rows, columns, fill))


def _sampled(array: Array, rows: Array, columns: Array, fill: float) -> Array:
    """Bilinear interpolation at (rows, columns), each (n, h, w)."""
    padded = np.pad(array, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=fill)
    height, width = array.shape[2:]
    rows, columns = np.clip(rows, -1, height) + 1, np.clip(columns, -1, width) + 1
    top = np.minimum(rows.astype(int), height)
    left = np.minimum(columns.astype(int), width)
    down, right = (rows - top)[:, None], (columns - left)[:, None]
    n, c = np.ogrid[: len(array), : array.shape[1]]
    n, c = n[..., None, None], c[..., None, None]

    def pixel(i: int, j: int) -> Array:
        return padded[n, c, (top + i)[:, None], (left + j)[:, None]]  # type: ignore[no-any-return]

    upper = pixel(0, 0) * (1 - right) + pixel(0, 1) * right
    lower = pixel(1, 0) * (1 - right) + pixel(1, 1) * right
    return upper * (1 - down) + lower * down


# -- values --------------------------------------------------------------------------------------
def color(
    images: Any,
    rng: Rng = None,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
) -> Array:
    """Each image times 1 +- brightness; its distance from its own mean times 1 +- contrast; that
    from its grey (the mean of the channels at each pixel) times 1 +- saturation."""
    array, rng = _images("color", images), np.random.default_rng(rng)
    spread = [
        _number("color", what, value, "[0, 1]")
        for what, value in (
            ("brightness", brightness),
            ("contrast", contrast),
            ("saturation", saturation),
        )
    ]
    light, clear, colorful = (rng.uniform(1 - s, 1 + s, (len(array), 1, 1, 1)) for s in spread)
    changed = array * light
    mean = changed.mean(axis=(1, 2, 3), keepdims=True)
    changed = mean + (changed - mean) * clear
    grey = changed.mean(axis=1, keepdims=True)
    return _like(images, grey + (changed - grey) * colorful)


def noise(images: Any, std: float, rng: Rng = None) -> Array:
    """Normal noise of standard deviation `std` added to every pixel; arrays of any shape."""
    array, std = np.asarray(images), _number("noise", "std", std)
    changed = array + np.random.default_rng(rng).normal(0.0, std, array.shape)
    return _like(images, changed) if array.ndim > 1 else changed.astype(array.dtype)
