"""SYMGRAD_CHECK=1: every call is computed after each stage, and the values compared.

In: a native backend. Out: a backend that gives its results, or `StageError`, naming the stage whose
values differ from those of the stage before.

    expression -> rewritten    the graph interpreter on both
    rewritten  -> loops        the loop interpreter, with the arena laid out as planned
    loops      -> native       the machine
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from symgrad.compile.graph import Form, Graph
from symgrad.compile.interpreted import leaves, run
from symgrad.errors import SymgradError
from symgrad.sizes import value
from symgrad.state import Store

if TYPE_CHECKING:
    from symgrad.compile.native import Native
    from symgrad.compile.pipeline import Pipeline

Array = np.ndarray[Any, Any]
# Float32 sums in another order differ by far less than this of the largest element.
NOTHING = 1e-3  # what is smaller may be all that is left of terms that cancel
TOLERANCE = {"float32": 2e-3, "float64": 1e-8}


class StageError(SymgradError):
    """Two stages of one compile compute different values: a fault of symgrad, not of the model."""


class Compared:
    """A native backend, checked against the stages before it at every call."""

    def __init__(self, pipeline: Pipeline, store: Store, native: Native) -> None:
        self.pipeline, self.store, self.native = pipeline, store, native

    def fast(self, form: Form) -> Callable[..., Any] | None:
        return None

    def call(self, arrays: Sequence[Array], sizes: Mapping[str, int]) -> dict[str, Array]:
        line = self.pipeline
        before = self._interpret(line.gradient, arrays, sizes)
        rewritten = self._interpret(line.rewritten, arrays, sizes)
        compare("expression", before, "rewritten", rewritten, unstable=True)
        loops = self._loops(arrays, sizes)
        compare("rewritten", rewritten, "loops", loops)
        results = self.native.call(arrays, sizes)
        moved = {_moved(p.name): self.store[p.name] for p in line.rewritten.updates}
        compare("loops", loops, "native", {**results, **moved})
        return results

    def _interpret(
        self, graph: Graph, arrays: Sequence[Array], sizes: Mapping[str, int]
    ) -> dict[str, Array]:
        values = run(graph, leaves(graph, self.store, arrays), sizes, self.store.rng)
        names = [*graph.outputs, *(_moved(p.name) for p in graph.updates)]
        return dict(zip(names, values))

    def _loops(self, arrays: Sequence[Array], sizes: Mapping[str, int]) -> dict[str, Array]:
        """The scheduled program, run by the loop interpreter on copies."""
        from codegen import interpret

        schedule = self.pipeline.schedule
        graph = self.pipeline.rewritten
        lanes = schedule.program.lanes
        memory: dict[str, Array] = {}
        for leaf, array in zip(graph.inputs, arrays):
            if leaf in schedule.inputs:
                memory[schedule.inputs[leaf]] = array.reshape(-1)
        for p, (name, layout) in schedule.states.items():
            memory[name] = layout.pack(self.store[p.name], lanes).reshape(-1)
        if schedule.rng is not None:
            memory[schedule.rng] = self.store.rng.copy()
        held = {b.name: b for b in schedule.program.buffers}
        for name in schedule.outputs.values():
            memory.setdefault(name, np.zeros(held[name].size, held[name].dtype))
        whole = {name: _padded(array, held[name].size) for name, array in memory.items()}
        interpret.run(schedule.program, whole, sizes, plan=self.pipeline.plan)
        found: dict[str, Array] = {}
        for output, name in schedule.outputs.items():
            shape = tuple(value(s, dict(sizes)) for s in graph.outputs[output].shape)
            found[output] = whole[name][: int(np.prod(shape))].reshape(shape)
        for p in graph.updates:
            name, layout = schedule.states[p]
            shape = tuple(int(s) for s in p.shape)  # type: ignore[arg-type]
            found[_moved(p.name)] = layout.unpack(whole[name], shape, lanes)
        return found


def _padded(array: Array, size: int) -> Array:
    """An array at the size planned for: a partial batch fills only the front of its buffer."""
    if array.size == size:
        return array
    full = np.zeros(size, array.dtype)
    full[: array.size] = array
    return full


def _moved(name: str) -> str:
    return f"{name}'"


def compare(
    first: str,
    before: Mapping[str, Array],
    second: str,
    after: Mapping[str, Array],
    unstable: bool = False,
) -> None:
    """Raise StageError where values differ; `unstable` lets the first be NaN or infinite."""
    for name, expected in before.items():
        found = np.asarray(after[name])
        problem = difference(np.asarray(expected), found, unstable)
        if problem:
            raise StageError(f"{name!r} differs between {first} and {second}: {problem}")


def difference(expected: Array, found: Array, unstable: bool = False) -> str:
    """How two arrays differ by more than rounding; empty when they do not."""
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return f"{expected.dtype}{expected.shape} and {found.dtype}{found.shape}"
    if expected.dtype.kind != "f":
        wrong = expected != found
    else:
        finite = np.isfinite(expected)
        scale = np.abs(expected[finite]).max(initial=0.0)
        limit = TOLERANCE[expected.dtype.name] * max(float(scale), NOTHING)
        with np.errstate(invalid="ignore"):
            wrong = np.where(finite, ~(np.abs(expected - found) <= limit), False)
            if not unstable:
                same = (expected == found) | (np.isnan(expected) & np.isnan(found))
                wrong = wrong | (~finite & ~same)
    if not wrong.any():
        return ""
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    return (
        f"{int(wrong.sum())} of {wrong.size} elements, first at {list(at)}: "
        f"{expected[at]} and {found[at]}"
    )
