"""Images with labels: MNIST and Fashion-MNIST from IDX files, or the embedded digits enlarged.

In: the name of a set. Out: "train", "validation" and "test", each {"x": (n, 1, 28, 28) float32,
"y": (n,) int32}; pixels have zero mean and unit variance by the statistics of the training set.

>>> images("mnist")["train"]["x"].shape
(55000, 1, 28, 28)

The files are those published by Y. LeCun and C. Cortes (MNIST, CC BY-SA 3.0) and by Zalando
(Fashion-MNIST, MIT), read from SYMGRAD_DATA/mnist and SYMGRAD_DATA/fashion-mnist, compressed or
not.
"""

from __future__ import annotations

import gzip
import math
import os
from pathlib import Path

import numpy as np
from common import Array, Parts, raw_digits
from data.find import find

SOURCES = {
    "mnist": "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "fashion-mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
}
FILES = {"train": "train", "test": "t10k"}
KINDS = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}  # IDX's types of numbers


def images(name: str, quick: bool = False, held_out: int = 5000, scale: str = "standard") -> Parts:
    """A set by name; the last `held_out` training images are for validation.

    With `quick` 2000 to train on, and where the set is missing, the embedded digits. Without, a
    missing file ends the program, which says what to download. With `scale="unit"`
    pixels go from 0 to 1 instead.
    """
    missing = lacking(name)
    if missing and not quick:
        raise SystemExit(missing)
    if missing:
        print(f"{missing}\n--quick goes on with the embedded digits, enlarged to 28x28")
        return cut(*enlarged_digits(), 300, 500, scale)
    rows = {"train": 3000, "test": 1000} if quick else {}
    sets = {part: both(name, part, rows.get(part)) for part in FILES}
    (x, y), (x_test, y_test) = sets["train"], sets["test"]
    joined = np.concatenate([x, x_test]), np.concatenate([y, y_test])
    return cut(*joined, 1000 if quick else held_out, len(y_test), scale)


def cut(pixels: Array, labels: Array, held_out: int, test: int, scale: str) -> Parts:
    """Parts, the test rows last, scaled by the statistics of the training rows."""
    first, second = len(labels) - test - held_out, len(labels) - test
    seen = pixels[:first]
    mean, std = seen.mean(dtype=np.float64), seen.std(dtype=np.float64)
    low, width = (0.0, seen.max()) if scale == "unit" else (mean, std)
    x = ((pixels - np.float32(low)) / np.float32(width))[:, None]
    y = labels.astype(np.int32)
    cuts = {
        "train": slice(0, first),
        "validation": slice(first, second),
        "test": slice(second, None),
    }
    return {part: {"x": x[rows], "y": y[rows]} for part, rows in cuts.items()}


def enlarged_digits(seed: int = 0) -> tuple[Array, Array]:
    """The 1797 digits of 8x8 in random order, every pixel 3x3, with a border: 28x28."""
    pixels, labels = raw_digits()
    order = np.random.default_rng(seed).permutation(len(labels))
    large = np.kron(pixels[order].reshape(-1, 8, 8), np.ones((3, 3), np.float32))
    return np.pad(large, ((0, 0), (2, 2), (2, 2))), labels[order]


# -- files -------------------------------------------------------------------------------------
def lacking(name: str) -> str:
    """What has to be downloaded before a set can be read; empty where everything is there."""
    files = [f"{part}-{what}.gz" for part in FILES.values() for what in kinds()]
    missing = [f for f in files if find(name, f) is None and find(name, f[:-3]) is None]
    if not missing:
        return ""
    folder = os.environ.get("SYMGRAD_DATA")
    where = f"{folder}/{name}" if folder else f"FOLDER/{name} and set SYMGRAD_DATA=FOLDER"
    return f"{name} is not here: download {', '.join(missing)} from {SOURCES[name]} to {where}"


def kinds() -> tuple[str, str]:
    return "images-idx3-ubyte", "labels-idx1-ubyte"


def both(name: str, part: str, rows: int | None) -> tuple[Array, Array]:
    """Pixels (n, 28, 28) from 0 to 255 as float32, and labels; the first `rows` of them."""
    pixels, labels = (
        read_idx(
            find(name, f"{FILES[part]}-{kind}.gz") or find(name, f"{FILES[part]}-{kind}"), rows
        )
        for kind in kinds()
    )
    return pixels.astype(np.float32), labels


def read_idx(path: Path | None, rows: int | None = None) -> Array:
    """The array in an IDX file, or its first `rows` rows.

    Four bytes (0, 0, type, number of axes), the sizes as big-endian int32, the numbers.
    """
    if path is None:
        raise FileNotFoundError("no IDX file")
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        head = file.read(4)
        sizes = file.read(4 * head[3]) if len(head) == 4 else b""
        if head[:2] != b"\0\0" or head[2] not in KINDS or len(sizes) != 4 * head[3]:
            raise ValueError(f"{path} is no IDX file")
        shape = [int(size) for size in np.frombuffer(sizes, ">i4")]
        if rows is not None:
            shape[0] = min(rows, shape[0])
        dtype = np.dtype(KINDS[head[2]])
        raw = file.read(math.prod(shape) * dtype.itemsize)
        if len(raw) < math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{path} ends early: its header says {shape}")
    return np.frombuffer(raw, dtype).reshape(shape)
