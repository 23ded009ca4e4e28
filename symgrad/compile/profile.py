"""`step.profile()`: where the time of a call goes, kernel by kernel.

In: a compiled function, inputs (or none: then random ones at the largest sizes). Out: a `Profile`:
rows to compute with, and a table to read. A second program, with a look at the machine's counter
between its kernels, runs on copies of the parameters; the function itself is not touched.

>>> profile = step.profile(X, Y)
>>> print(profile)
>>> profile.rows[0].kernel, profile.rows[0].seconds
('product_linear1', 0.00021)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from symgrad import dtypes
from symgrad.compile import arguments
from symgrad.errors import InputError
from symgrad.node import Expr
from symgrad.sizes import Dim, value
from symgrad.state import aligned

if TYPE_CHECKING:
    from codegen.counts import Counts
    from symgrad.compile.backend import Backend
    from symgrad.compile.pipeline import Pipeline
    from symgrad.compile.provenance import Provenance
    from symgrad.compile.saved import Code

Array = np.ndarray[Any, Any]
LONG = 80  # letters of mathematics in the table; rows have all of it


@dataclass(frozen=True)
class Row:
    """One kernel, all of its calls together, those of every turn of a scan too. `floor` is the part
    of its time that the machine's peak arithmetic or memory bandwidth would need for the work."""

    kernel: str
    calls: int
    seconds: float
    flops: int
    bytes: int
    floor: float
    maths: tuple[str, ...]
    sources: tuple[str, ...]

    @property
    def computes(self) -> str:
        """The mathematics in one line."""
        return "; ".join(self.maths)

    @property
    def gflops(self) -> float:
        """Billions of operations on floats a second."""
        return _rate(self.flops, self.seconds)

    @property
    def gbytes(self) -> float:
        """Billions of distinct bytes, read and written, a second."""
        return _rate(self.bytes, self.seconds)


def _rate(amount: int, seconds: float) -> float:
    return amount / seconds / 1e9 if seconds else 0.0


@dataclass(frozen=True)
class Profile:
    """Rows from the slowest kernel to the fastest; the middle of `runs` calls at `sizes`. `peak` is
    the machine's arithmetic in GFLOP/s, `memory` its bandwidth in GB/s, of all `threads`."""

    rows: tuple[Row, ...]
    seconds: float
    sizes: Mapping[str, int]
    runs: int
    threads: int
    peak: float
    memory: float

    def __str__(self) -> str:
        workers = "one thread" if self.threads == 1 else f"{self.threads} threads"
        sizes = "".join(f", {name} {size}" for name, size in self.sizes.items())
        head = (
            f"{shown_time(self.seconds)} in {sum(r.calls for r in self.rows)} kernel calls{sizes}; "
            f"middle of {self.runs} runs\n"
            f"machine, {workers}: {self.peak:.0f} GFLOP/s, {self.memory:.0f} GB/s from memory"
        )
        titles = ("time", "share", "calls", "GFLOP/s", "GB/s", "of floor", "kernel")
        cells = [titles] + [
            (
                shown_time(row.seconds),
                f"{100 * row.seconds / self.seconds:.1f} %" if self.seconds else "",
                str(row.calls),
                f"{row.gflops:.1f}",
                f"{row.gbytes:.1f}",
                f"{100 * row.floor:.0f} %",
                row.kernel,
            )
            for row in self.rows
        ]
        widths = [max(map(len, column)) for column in zip(*cells)]
        lines = ["  ".join(c.rjust(w) for c, w in zip(line[:-1], widths)) for line in cells]
        names = [line[-1].ljust(widths[-1]) for line in cells]
        about = ["computes", *(_about(row) for row in self.rows)]
        table = [f"{a}  {b}  {c}".rstrip() for a, b, c in zip(lines, names, about)]
        return "\n".join([head, "", *table])

    def _repr_html_(self) -> str:
        from symgrad.compile import notebook

        return notebook.profile(self)


def _about(row: Row) -> str:
    shown = row.computes
    if len(shown) > LONG:
        shown = shown[: LONG - 3].rstrip() + "..."
    return shown + (f"  {', '.join(row.sources)}" if row.sources else "")


def shown_time(seconds: float) -> str:
    """A time in the unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}" if seconds < 1000 * size else f"{seconds:.0f} s"
    return f"{seconds * 1e9:.0f} ns"


def profile(
    pipeline: Pipeline,
    backend: Backend,
    args: Sequence[Any],
    named: Mapping[str, Any],
    seconds: float,
) -> Profile:
    """Runs the instrumented program for about `seconds`."""
    native: Any = getattr(backend, "native", backend)  # the other one compares
    if not hasattr(native, "code"):
        raise InputError('a profile needs native code: target="interpret" has none')
    from codegen.bounds import derived_sizes
    from codegen.counts import program_counts
    from codegen.machine import measure
    from codegen.profile import Timed
    from codegen.repeats import runs
    from symgrad.compile.native import signature

    leaves = pipeline.request.graph.inputs
    if not args and not named and leaves:
        args = random_inputs(leaves, pipeline.domains)
    arrays, sizes = arguments.bind(leaves, args, named)
    arguments.check_domains(pipeline.domains, leaves, arrays, sizes)
    program = pipeline.schedule.program
    takes, _ = signature(pipeline)
    held = _buffers(pipeline, native.code)
    with native.store.quiet():
        states = {held[name]: _copy(memory) for name, memory in native.states()}
    timed = Timed(program, pipeline.target, takes, states)
    times = timed.run(arrays, seconds)
    wide = any(b.dtype == "float64" for b in program.buffers)
    peaks = measure(pipeline.target, "float64" if wide else "float32", program.threads)
    often = runs(program, derived_sizes(program, sizes))
    counts = program_counts(program, sizes)
    rows = _rows(pipeline.provenance, program, often, _middle(times), counts, peaks)
    pipeline.profiled = Profile(
        tuple(sorted(rows, key=lambda row: -row.seconds)),
        sum(row.seconds for row in rows),
        sizes,
        len(times),
        program.threads,
        peaks.flops / 1e9,
        peaks.levels[-1][1] / 1e9,
    )
    return pipeline.profiled


def _buffers(pipeline: Pipeline, code: Code) -> dict[str, str]:
    """What the buffers of states are called here: cached code may have been compiled for equal
    mathematics with other names."""
    schedule = pipeline.schedule
    place = {id(p): i for i, p in enumerate(pipeline.request.graph.parameters)}
    here = {place[id(p)]: name for p, (name, _) in schedule.states.items()}
    found = {name: here[position] for position, name, _ in code.states}
    if code.rng is not None and schedule.rng is not None:
        found[code.rng] = schedule.rng
    return found


def _middle(times: Array) -> Any:
    """The mean of the middle half of the runs: as little disturbed as the median, and finer than
    the counter, which on some machines counts in tens of nanoseconds."""
    ordered = np.sort(times, axis=0)
    quarter = len(ordered) // 4
    return ordered[quarter : len(ordered) - quarter].mean(axis=0)


def _copy(memory: Array) -> Array:
    copy = aligned(memory.size, memory.dtype.name)
    copy[:] = memory.reshape(-1)
    return copy


def _rows(
    known: Provenance,
    program: Any,
    often: Sequence[int],
    times: Array,
    work: Sequence[Counts],
    peaks: Any,
) -> list[Row]:
    """A row for each kernel. Of every call in the order of the text: how often it ran, the time it
    took then altogether, and what it did each time."""
    from codegen.repeats import flat

    calls: dict[str, list[int]] = {}
    for i, (call, _) in enumerate(flat(program)):
        calls.setdefault(call.kernel, []).append(i)
    rows = []
    for kernel, name in known.names.items():
        own = calls.get(kernel, [])
        spent = float(sum(times[i] for i in own))
        least = sum(often[i] * peaks.floor(work[i].flops, work[i].bytes) for i in own)
        rows.append(
            Row(
                name,
                sum(often[i] for i in own),
                spent,
                sum(often[i] * work[i].flops for i in own),
                sum(often[i] * work[i].bytes for i in own),
                least / spent if spent else 0.0,
                tuple(s.text for s in known.maths[name]),
                tuple(dict.fromkeys(str(s.where) for s in known.maths[name])),
            )
        )
    return rows


def random_inputs(
    leaves: Sequence[Expr], domains: Mapping[Expr, Any], sizes: Mapping[str, int] | None = None
) -> list[Array]:
    """Inputs at these sizes, else at their largest: normal floats, labels and indices of their
    range."""
    random = np.random.default_rng(0)
    largest = {s.name: s.max for leaf in leaves for s in leaf.shape if isinstance(s, Dim)}
    largest.update(sizes or {})
    arrays: list[Array] = []
    for leaf in leaves:
        shape = tuple(value(s, largest) for s in leaf.shape)
        if leaf in domains:
            low, high = domains[leaf][:2]
            arrays.append(random.integers(low, value(high, largest), shape).astype(leaf.dtype))
        elif dtypes.is_float(leaf.dtype):
            arrays.append(random.standard_normal(shape).astype(leaf.dtype))
        else:
            arrays.append(random.integers(0, 2, shape).astype(leaf.dtype))
    return arrays
