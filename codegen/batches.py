"""Whole epochs natively: batches from arrays of rows, step after step, without Python between.

In: a `Function` and arrays of N rows for its inputs. Out: `Batches`, which runs an epoch in slices
of about 50 ms, so that Ctrl-C and a progress bar get their turn, and sums up scalar outputs.

Rows are used in order, where a batch is simply a pointer into the array, or in the order of a
permutation, given or drawn natively; then each batch's rows are gathered first. When the batch is a
run-time size the last batch may be smaller; when it is static, remaining rows are left out.

>>> batches = Batches(f, {"x": X, "y": Y}, 64, totals=("loss", "accuracy"))
>>> for epoch in range(3):
...     batches.shuffle(seed=0, epoch=epoch)
...     for _ in batches:            # once per slice
...         show(batches.position / batches.rows)
...     print(batches.means)
"""

from __future__ import annotations

import ctypes
import time
from typing import Any, Iterator, Mapping, Sequence

import numpy as np

from codegen.call import KINDS, Array, Function, InputSpec, address, aligned, words
from codegen.entry import Pin, Run, Stream, Total

SLICE = 0.05  # seconds


class Batches:
    """One pass over rows, prepared once and started again for every epoch."""

    def __init__(
        self,
        function: Function,
        arrays: Mapping[str, Array],
        batch: int,
        totals: Sequence[str] = (),
        size: str | None = None,
        streams: Sequence[str] | None = None,
    ) -> None:
        """`size` is the run-time size that counts rows (found when only one leads a shape);
        `streams` are the inputs of which each batch takes its rows: by default those that the size
        leads or, without one, those whose first axis is `batch` long."""
        self._call = function.call  # raises when state is missing
        self.function, self.arrays, self.batch = function, dict(arrays), batch
        self.totals = tuple(totals)
        names = [spec.name for spec in function.signature.inputs]
        if sorted(self.arrays) != sorted(names):
            raise ValueError(f"arrays for {sorted(self.arrays)}, inputs are {sorted(names)}")
        self.size = size or _leading_size(function)
        self._streamed = set(streams) if streams is not None else self._find_streams()
        self.rows = self._count_rows()
        self.values = self._bind_sizes()
        self._check_values()
        self._build()
        self._pace = 1.0  # batches per slice

    # -- checking --------------------------------------------------------------------------------
    def _find_streams(self) -> set[str]:
        """The inputs that the size leads; without one, those whose first axis is the batch."""
        lead = {s.name: s.shape[0] for s in self.function.signature.inputs if s.shape}
        if self.size is None:
            return {name for name, axis in lead.items() if axis == self.batch}
        return {n for n, axis in lead.items() if not isinstance(axis, int) and axis[0] == self.size}

    def _factor(self, spec: InputSpec) -> int:
        """Elements of the first axis that make one row."""
        lead = spec.shape[0]
        return 1 if isinstance(lead, int) else lead[1]

    def _count_rows(self) -> int:
        counts = {}
        for spec in self.function.signature.inputs:
            if spec.name in self._streamed:
                length, rest = divmod(len(self.arrays[spec.name]), self._factor(spec))
                if rest:
                    raise ValueError(f"{spec.name}: not a multiple of {self._factor(spec)} rows")
                counts[spec.name] = length
        if not counts:
            raise ValueError("no input has rows to take batches from")
        if len(set(counts.values())) > 1:
            raise ValueError(f"inputs disagree about their rows: {counts}")
        return next(iter(counts.values()))

    def _bind_sizes(self) -> Array:
        """Values of all run-time sizes; the one that counts rows is set batch by batch."""
        maxima = dict(self.function.signature.sizes)
        bound: dict[str, int] = {}
        if self.size is not None:
            bound[self.size] = self.batch
        for spec in self.function.signature.inputs:
            array = self.arrays[spec.name]
            if array.dtype != spec.dtype or array.ndim != len(spec.shape):
                raise ValueError(
                    f"{spec.name}: {array.dtype} of rank {array.ndim}, expected {spec.dtype} of "
                    f"rank {len(spec.shape)}"
                )
            if not (array.flags.c_contiguous and array.flags.aligned):
                raise ValueError(f"{spec.name}: not contiguous")
            if self.function.writes_into(array):
                raise ValueError(f"{spec.name}: lies in memory that the step writes")
            start = 1 if spec.name in self._streamed else 0
            for axis, length in list(zip(spec.shape, array.shape))[start:]:
                name, factor = ("", 1) if isinstance(axis, int) else axis[:2]
                value = axis if isinstance(axis, int) else bound.setdefault(name, length // factor)
                if value * factor != length:
                    raise ValueError(f"{spec.name}: shape {array.shape}, expected {spec.shape}")
        for name, largest in maxima.items():
            if not 1 <= bound.get(name, 0) <= largest:
                raise ValueError(f"{name} is {bound.get(name)}, which is not in 1..{largest}")
        if self.batch < 1:
            raise ValueError(f"the batch is {self.batch}")
        return np.array([bound[name] for name in maxima], np.int64)

    def _check_values(self) -> None:
        for position, low, high in self.function.signature.checks:
            name = self.function.signature.inputs[position].name
            array = self.arrays[name]
            if array.size and not (low <= array.min() and array.max() < high):
                raise ValueError(
                    f"{name}: values {array.min()}..{array.max()} outside {low}..{high - 1}"
                )

    # -- descriptors -----------------------------------------------------------------------------
    def _build(self) -> None:
        function, streams, pins = self.function, [], []
        self._staging = []
        for spec in function.signature.inputs:
            array, place = self.arrays[spec.name], function.place(spec.name)
            if spec.name not in self._streamed:
                pins.append((place, address(array)))
                continue
            row = array.nbytes // max(self.rows, 1)
            self._staging.append(aligned(max(row * min(self.batch, self.rows), 1)))
            streams.append((place, address(array), row, address(self._staging[-1])))
        totals = []
        for name in self.totals:
            memory = function.output(name)
            totals.append((address(memory), KINDS[str(memory.dtype)], 0))
        self._streams, self._pins = words(streams, len(Stream)), words(pins, len(Pin))
        self._totals = words(totals, len(Total))
        self._sums = self._totals[:, Total.SUM].view(np.float64)
        self._order: Array | None = None
        self._permutation: Array | None = None
        run = self._run = np.zeros(len(Run), np.int64)
        run[Run.STEP] = address(function.step)
        run[Run.BATCH] = self.batch
        names = [name for name, _ in function.signature.sizes]
        run[Run.SIZE] = -1 if self.size is None else names.index(self.size)
        run[Run.VALUES] = address(self.values)
        run[Run.STREAMS], run[Run.STREAM] = len(streams), address(self._streams)
        run[Run.PINS], run[Run.PIN] = len(pins), address(self._pins)
        run[Run.TOTALS], run[Run.TOTAL] = len(totals), address(self._totals)
        library = function.library
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self._enter = library.function("step_run", number, pointer)
        self._shuffle = library.function("step_shuffle", None, pointer, number, number, number)
        self._at = address(run)
        self.start()

    # -- running ---------------------------------------------------------------------------------
    def start(self, order: Array | None = None) -> None:
        """Go to the first batch; `order` lists the rows to use (None: all, as they come)."""
        if order is not None:
            order = np.array(order, np.int64)
            if order.ndim != 1 or (order.size and not 0 <= order.min() <= order.max() < self.rows):
                raise ValueError(f"an order is a list of rows below {self.rows}")
        self._begin(order)

    def shuffle(self, seed: int, epoch: int) -> None:
        """Go to the first batch, the rows in a random order: the same for the same arguments."""
        if self._permutation is None:
            self._permutation = np.empty(self.rows, np.int64)
        order = self._permutation
        self._shuffle(address(order), self.rows, _signed(seed), _signed(epoch))
        self._begin(order)

    def _begin(self, order: Array | None) -> None:
        run, self._order = self._run, order
        run[Run.ORDER] = 0 if order is None else address(order)
        run[Run.ROWS] = self.rows if order is None else len(order)
        run[Run.POSITION] = run[Run.WEIGHT] = run[Run.STOP] = 0
        self._sums[:] = 0.0

    def advance(self, batches: int | None = None) -> int:
        """Run one slice, of a number of batches or of about 50 ms; how many batches were done."""
        run = self._run
        run[Run.LIMIT] = max(int(self._pace), 1) if batches is None else batches
        begin = time.perf_counter()
        done = int(self._enter(self._at))
        if batches is None and done:
            fitting = done * SLICE / max(time.perf_counter() - begin, 1e-6)
            self._pace = min(fitting, self._pace * 16)
        return done

    def __iter__(self) -> Iterator[int]:
        """Run to the end of the epoch or until `stop`; rows done so far, after each slice."""
        while not self.finished:
            self.advance()
            yield self.position

    def stop(self) -> None:
        """End the epoch after the batch that is running; for another thread."""
        self._run[Run.STOP] = 1

    @property
    def finished(self) -> bool:
        run = self._run
        return bool(run[Run.POSITION] >= run[Run.ROWS] or run[Run.STOP])

    @property
    def position(self) -> int:
        """Rows used up so far in this epoch."""
        return int(self._run[Run.POSITION])

    @property
    def weight(self) -> int:
        """Rows that steps have seen: `position` without what a static batch leaves out."""
        return int(self._run[Run.WEIGHT])

    @property
    def means(self) -> dict[str, float]:
        """Means of the totals over the rows so far, each batch weighted by its rows."""
        weight = self.weight
        return {
            name: float(total) / weight if weight else float("nan")
            for name, total in zip(self.totals, self._sums)
        }


def _leading_size(function: Function) -> str | None:
    leading: set[Any] = {
        spec.shape[0][0]
        for spec in function.signature.inputs
        if spec.shape and not isinstance(spec.shape[0], int)
    }
    if len(leading) > 1:
        raise ValueError(f"several run-time sizes lead inputs, {sorted(leading)}: give `size`")
    return next(iter(leading), None)


def _signed(value: int) -> int:
    """The 64-bit pattern of a non-negative number as ctypes takes it."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)
