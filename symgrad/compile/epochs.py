"""Whole passes over data: `step.run({"x": X, "y": Y}, batch_size=64, epochs=3)`.

In: arrays with one row for every sample. Out: the mean loss of each pass. Data are checked before
the first step; batches are cut, shuffled and fed natively where the backend can.

An input whose value has exactly its declared shape, and no run-time size, is the same at every
step: a penalty's weight, say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from symgrad.compile import arguments
from symgrad.compile.shuffle import permutation
from symgrad.errors import InputError
from symgrad.node import Expr
from symgrad.sizes import Dim, show

if TYPE_CHECKING:
    from symgrad.compile.function import TrainStep

Array = np.ndarray[Any, Any]
Callback = Callable[[int, float], Any]  # the number of the pass, its mean loss -> whether to stop


@dataclass(frozen=True)
class Data:
    """Checked data: arrays in the order of the inputs, `rows` samples; who is cut into batches."""

    leaves: Sequence[Expr]
    arrays: list[Array]
    cut: list[bool]
    rows: int
    batch: int
    size: str | None  # the run-time size that counts rows

    def bounds(self) -> list[tuple[int, int]]:
        """First and last row of every batch; the last may be smaller."""
        return [(i, min(i + self.batch, self.rows)) for i in range(0, self.rows, self.batch)]


def run(
    step: TrainStep,
    data: Mapping[str, Any],
    batch_size: int,
    epochs: int,
    shuffle: bool,
    progress: bool,
    callback: Callback | Sequence[Callback] | None,
) -> list[float]:
    with arguments.located():
        checked = check(step._leaves, data, batch_size)
    if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 0:
        raise InputError(f"epochs must be a non-negative int, got {epochs!r}")
    _check_domains(step._pipeline.domains, checked, shuffle)
    callbacks = _callbacks(callback)
    losses: list[float] = []
    with _bar(progress, epochs) as advance:
        for epoch in range(epochs):
            step.means = one(step, checked, shuffle)
            losses.append(step.means["loss"])
            advance(losses[-1])
            if any([stops(epoch, losses[-1]) for stops in callbacks]):  # all of them are called
                break
    return losses


def _callbacks(given: Any) -> list[Callback]:
    found = [] if given is None else list(given) if isinstance(given, (list, tuple)) else [given]
    for callback in found:
        if not callable(callback):
            raise InputError(
                f"callback must be a function of the pass and its loss, got {callback!r}"
            )
    return found


def one(step: TrainStep, data: Data, shuffle: bool) -> dict[str, float]:
    """One pass: the means of all scalar outputs."""
    store = step._store
    epoch = store.epoch if shuffle else None
    store.epoch += 1
    native = getattr(step._backend, "epoch", None)
    if native is not None and step._options.check is None:
        return dict(native(data, store.seed, epoch))
    order = None if epoch is None else permutation(data.rows, store.seed, epoch)
    totals: dict[str, float] = {}
    for first, last in data.bounds():
        rows: Any = slice(first, last) if order is None else order[first:last]
        batch = [a[rows] if cut else a for a, cut in zip(data.arrays, data.cut)]
        for name, value in step._run(batch, arguments.measure(data.leaves, batch)).items():
            if not value.ndim and value.dtype.kind == "f":
                totals[name] = totals.get(name, 0.0) + float(value) * (last - first)
    return {name: total / data.rows for name, total in totals.items()}


# -- checks ------------------------------------------------------------------------------------


def check(leaves: Sequence[Expr], data: Any, batch_size: Any) -> Data:
    """Data that fit the inputs, or one InputError."""
    if not isinstance(data, Mapping):
        raise InputError(
            f"data: expected a dict of arrays by input name, got {type(data).__name__}"
        )
    if not isinstance(batch_size, (int, np.integer)) or isinstance(batch_size, bool):
        raise InputError(f"batch_size must be a positive int, got {batch_size!r}")
    if batch_size < 1:
        raise InputError(f"batch_size must be a positive int, got {batch_size!r}")
    values = arguments.match(leaves, (), data)
    arrays = [arguments.convert(leaf, value) for leaf, value in zip(leaves, values)]
    cut = [_is_cut(leaf, array) for leaf, array in zip(leaves, arrays)]
    counts = {leaf.name: _samples(leaf, array) for leaf, array, c in zip(leaves, arrays, cut) if c}
    if not counts:
        lengths = {a.shape[0] if a.ndim else 0 for a in arrays}
        if len(lengths) == 1 and 0 not in lengths:  # the data are one batch, whole
            rows = int(arrays[0].shape[0])
            return Data(leaves, arrays, [True] * len(arrays), rows, rows, None)
        raise InputError("data: no array has a row for every sample")
    first = next(iter(counts))
    for name, count in counts.items():
        if count != counts[first]:
            raise InputError(
                f"data: {first!r} has {counts[first]} samples and {name!r} has {count}"
            )
    if counts[first] == 0:
        raise InputError("data: there are no samples")
    _check_batch(leaves, cut, int(batch_size), counts[first])
    leads = [leaf.shape[0] for leaf, c in zip(leaves, cut) if c]
    size = next((s.name for s in leads if isinstance(s, Dim)), None)
    return Data(leaves, arrays, cut, counts[first], min(int(batch_size), counts[first]), size)


def _is_cut(leaf: Expr, array: Array) -> bool:
    """Whether an input takes its rows in batches."""
    if leaf.ndim and isinstance(leaf.shape[0], Dim):
        return True
    return array.shape != leaf.shape


def _samples(leaf: Expr, array: Array) -> int:
    inner = leaf.shape[1:]
    fits = array.ndim == leaf.ndim and leaf.ndim > 0
    fits = fits and all(isinstance(s, Dim) or s == e for s, e in zip(inner, array.shape[1:]))
    if not fits:
        wanted = show(("samples", *inner)) if leaf.ndim else "()"  # type: ignore[arg-type]
        raise InputError(
            f"data: {leaf.name!r} must have shape {wanted}, the array given has {show(array.shape)}"
        )
    factor = leaf.shape[0].factor if isinstance(leaf.shape[0], Dim) else 1
    if factor != 1:
        raise InputError(
            f"data: {leaf.name!r} has {show(leaf.shape)}: run needs one row for every sample"
        )
    return int(array.shape[0])


def _check_domains(domains: Mapping[Expr, Any], data: Data, shuffle: bool) -> None:
    """Labels and indices of all samples; those of rows of the batch, batch by batch."""
    fixed = {leaf: d for leaf, d in domains.items() if not isinstance(d[1], Dim)}
    arguments.check_domains(fixed, data.leaves, data.arrays, {})
    moving = {leaf: d for leaf, d in domains.items() if leaf not in fixed}
    if not moving or data.size is None:
        return
    bounds = data.bounds()
    smallest = bounds[-1][1] - bounds[-1][0]
    for first, last in bounds:
        batch = [a[first:last] if cut else a for a, cut in zip(data.arrays, data.cut)]
        sizes = arguments.measure(data.leaves, batch)
        if shuffle:  # any sample may come into the last batch
            sizes[data.size] = smallest
        arguments.check_domains(moving, data.leaves, batch, sizes)


def _check_batch(leaves: Sequence[Expr], cut: Sequence[bool], batch: int, rows: int) -> None:
    for leaf, is_cut in zip(leaves, cut):
        size = leaf.shape[0] if leaf.ndim else None
        if not is_cut or size is None:
            continue
        if isinstance(size, Dim):
            if min(batch, rows) > size.max:
                raise InputError(
                    f"batch_size {batch} is over the largest {size.name}: sg.dim({size.name!r}, "
                    f"max={size.max})"
                )
        elif size != batch or rows % batch:
            raise InputError(
                f"input {leaf.name!r} takes exactly {size} rows: batch_size {batch} on {rows} "
                "samples does not; declare its first size with sg.dim for batches of any size"
            )


class _bar:  # noqa: N801 - used as a function
    """A progress bar over passes, on a terminal's standard error."""

    def __init__(self, wanted: bool, total: int) -> None:
        self.wanted, self.total = wanted, total

    def __enter__(self) -> Callable[[float], None]:
        if not self.wanted:
            return lambda loss: None
        from rich.console import Console
        from rich.progress import Progress

        self.progress = Progress(console=Console(stderr=True))
        self.progress.start()
        task = self.progress.add_task("training", total=self.total)

        def advance(loss: float) -> None:
            self.progress.update(task, advance=1, description=f"loss {loss:.4f}")

        return advance

    def __exit__(self, *_: object) -> None:
        if self.wanted:
            self.progress.stop()
