"""What the examples share: arguments, small data sets, the accuracy of a classifier, pictures.

In: the command line and files. Out: `options.quick`, arrays, an expression, a saved picture.

>>> parts = digits()
>>> parts["train"]["x"].shape, parts["test"]["y"].dtype
((1079, 64), dtype('int32'))

Larger sets are read from the folder that the environment variable SYMGRAD_DATA names; an example
that needs one says so and stops where it is missing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from data.find import find

import symgrad as sg

DIGITS = Path(__file__).parent / "data" / "digits.csv.gz"
Array = np.ndarray
Parts = dict[str, dict[str, Array]]


def options(description: str | None, names: Sequence[str] = ()) -> argparse.Namespace:
    """The command line of an example: --quick for seconds, --plot FILE for a picture.

    Where an example shows several things by name, `names` are those to choose from: all by default.
    """
    title = (description or "").strip().splitlines()[0]
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--quick", action="store_true", help="a small run of a few seconds")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="save a picture (matplotlib)")
    if names:
        parser.add_argument("names", nargs="*", help=f"of {', '.join(names)}; all by default")
    chosen = parser.parse_args()
    if names:
        unknown = [name for name in chosen.names if name not in names]
        if unknown:
            parser.error(f"{unknown[0]!r} is none of {', '.join(names)}")
        chosen.names = chosen.names or list(names)
    return chosen


def library(name: str) -> Any:
    """A module that only some examples need; a clear end where it is not installed."""
    try:
        return import_module(name)
    except ImportError:
        raise SystemExit(
            f"this example needs {name}: pip install 'symgrad[examples]' brings it"
        ) from None


# -- data --------------------------------------------------------------------------------------
def split(x: Array, y: Array, shares: tuple[float, ...] = (0.6, 0.2), seed: int = 0) -> Parts:
    """Rows drawn at random into "train", "validation" and "test", which takes the rest."""
    order = np.random.default_rng(seed).permutation(len(y))
    cuts = [round(sum(shares[: i + 1]) * len(order)) for i in range(2)]
    parts = zip(("train", "validation", "test"), np.split(order, cuts))
    return {part: {"x": x[rows], "y": y[rows]} for part, rows in parts}


def standardised(parts: Parts) -> Parts:
    """Zero mean and unit variance for each feature, by statistics of the training set only."""
    seen = parts["train"]["x"]
    mean, std = seen.mean(axis=0), seen.std(axis=0)
    std[std == 0] = 1
    return {name: {**part, "x": (part["x"] - mean) / std} for name, part in parts.items()}


def digits(seed: int = 0) -> Parts:
    """1797 handwritten digits of 8x8 pixels: 60 % to train on, 20 % to validate, 20 % to test.

    Each digit comes in the same proportion in every part. Pixels have zero mean each, and unit
    variance over all, by the statistics of the training set. (UCI, CC BY 4.0.)
    """
    pixels, labels = raw_digits()
    rng = np.random.default_rng(seed)
    rows: dict[str, list[Array]] = {"train": [], "validation": [], "test": []}
    for digit in range(10):
        mine = rng.permutation(np.flatnonzero(labels == digit))
        cuts = [round(0.6 * len(mine)), round(0.8 * len(mine))]
        for part, chosen in zip(rows, np.split(mine, cuts)):
            rows[part].append(chosen)
    index = {part: np.concatenate(chosen) for part, chosen in rows.items()}
    seen = pixels[index["train"]]
    mean = seen.mean(axis=0)
    scaled = (pixels - mean) / (seen - mean).std()
    return {part: {"x": scaled[i], "y": labels[i]} for part, i in index.items()}


def raw_digits() -> tuple[Array, Array]:
    """All digits as they are in the file: 64 pixels from 0 to 16, and the label."""
    table = np.loadtxt(DIGITS, delimiter=",", dtype=np.float32)
    return table[:, :64], table[:, 64].astype(np.int32)


def moons(count: int, noise: float = 0.2, seed: int = 0) -> tuple[Array, Array]:
    """Two interleaved half circles: points (count, 2), labels 0 and 1."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % 2
    angle = rng.uniform(0, np.pi, count)
    x = np.where(y, 1 - np.cos(angle), np.cos(angle))
    z = np.where(y, 0.5 - np.sin(angle), np.sin(angle))
    points = np.stack([x, z], axis=1) + rng.normal(0, noise, (count, 2))
    return points.astype(np.float32), y.astype(np.int32)


def uci(name: str) -> Array | None:
    """A table of the UCI repository as text, one row a sample; None where it is not at hand."""
    path = find("uci", f"{name}.csv")
    return None if path is None else np.loadtxt(path, delimiter=",", dtype=str)


# -- models ------------------------------------------------------------------------------------
def accuracy(scores: sg.Expr, labels: sg.Expr) -> sg.Expr:
    """The share of rows whose largest score is that of the label."""
    return sg.mean((sg.argmax(scores, axis=1) == labels).astype("float32"))


def mlp(*widths: int, activation: Any = sg.nn.relu, **settings: Any) -> sg.nn.Sequential:
    """A multilayer perceptron: `mlp(64, 32, 10)` has one hidden layer; layers fc1, fc2, ...

    `settings` go to each layer: init=, dtype=.
    """
    layers: list[Any] = []
    for i, (inputs, outputs) in enumerate(zip(widths, widths[1:]), 1):
        layers += [sg.nn.Linear(inputs, outputs, name=f"fc{i}", **settings), activation]
    return sg.nn.Sequential(*layers[:-1])


# -- what is shown -----------------------------------------------------------------------------
def show(name: str, e: sg.Expr, known: set[str] | None = None) -> None:
    """Print `name = e`, and below what its parts stand for unless that was printed before."""
    *parts, last = str(sg.simplify(e)).splitlines()
    print(f"  {name} = {last}")
    known = set() if known is None else known
    for part in parts:
        if part not in known:
            print(f"    with {part}")
            known.add(part)


@contextmanager
def picture(path: Path | None, columns: int = 1, rows: int = 1) -> Iterator[Any]:
    """Axes to draw on as pyplot.subplots gives them, saved at the end; None without a path."""
    if path is None:
        yield None
        return
    library("matplotlib").use("Agg")
    pyplot = library("matplotlib.pyplot")
    figure, axes = pyplot.subplots(rows, columns, figsize=(4.8 * columns, 4 * rows))
    yield axes
    figure.tight_layout()
    figure.savefig(path)
    print(f"picture saved to {path}")
