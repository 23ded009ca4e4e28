"""Native code behind a function: found in the object cache or compiled, bound to the store.

In: a `Pipeline` and a store. Out: a backend that runs machine code on the store's memory, step by
step or whole passes at a time.

>>> Native(pipeline, store).call([X, Y], {"batch": 64})
{'loss': array(2.3, dtype=float32)}
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from codegen import call as calling
from codegen.load import load
from symgrad import dtypes
from symgrad.compile import saved
from symgrad.compile.graph import Form
from symgrad.compile.options import debug_level
from symgrad.compile.results import Output
from symgrad.sizes import Dim, maximum
from symgrad.state import Store

if TYPE_CHECKING:
    from codegen.batches import Batches
    from symgrad.compile.epochs import Data
    from symgrad.compile.pipeline import Pipeline

Array = np.ndarray[Any, Any]


class Native:
    """Machine code, its outputs, and the memory of the store that it works on."""

    def __init__(self, pipeline: Pipeline, store: Store) -> None:
        self.store = store
        self.graph = pipeline.request.graph
        self.code = saved.find(pipeline)
        if store.lock is None:
            store.lock = calling.Lock()
        library = load(self.code.object)
        self.function = calling.Function.from_json(library, dict(self.code.function), store.lock)
        for name, memory in self.states():
            self.function.set_pointer(name, memory)
        self.outputs = self._results()
        self.enter = self.function.call
        self._reading = threading.Lock()  # results are read before another call writes them
        self._batches: tuple[int, list[Array], Batches] | None = None
        if debug_level():
            saved.trace(self.code)

    def states(self) -> list[tuple[str, Array]]:
        """The store's memory for every buffer that is kept between calls."""
        store = self.store
        parameters = self.graph.parameters
        placed = []
        for position, buffer, layout in self.code.states:
            placed.append((buffer, store.place(parameters[position], layout, self.code.lanes)))
        if self.code.rng is not None:
            placed.append((self.code.rng, store.rng))
        return placed

    def _results(self) -> list[Output]:
        buffers = self.code.outputs
        uses = list(buffers.values())
        return [
            Output(name, node, self.function, buffers[name], uses.count(buffers[name]) == 1)
            for name, node in self.graph.outputs.items()
        ]

    # -- calls ---------------------------------------------------------------------------------
    def call(self, arrays: Sequence[Array], sizes: Mapping[str, int]) -> dict[str, Array]:
        with self._reading:
            self._ready()
            if self.enter(*arrays) is NotImplemented:
                # Arrays that lie in memory this call writes are read from a copy.
                copies = [a.copy() if self.function.writes_into(a) else a for a in arrays]
                if self.enter(*copies) is NotImplemented:
                    raise RuntimeError("native code refuses arguments that were checked")
            return {output.name: output.take(sizes) for output in self.outputs}

    def fast(self, form: Form) -> Callable[..., Any] | None:
        if not self.code.checked:
            return None
        if form.number and form.kind == "one":
            return self.enter
        return self._reader(form)

    def _reader(self, form: Form) -> Callable[..., Any]:
        """A call whose results are built from the outputs' memory."""
        enter, reading, function, outputs = self.enter, self._reading, self.function, self.outputs
        names = [output.name for output in outputs]
        if form.number and all(not output.node.shape for output in outputs):
            numbers = [(output.name, output.memory.item) for output in outputs]

            def read_numbers(*arrays: Any) -> Any:
                with reading:
                    if enter(*arrays) is NotImplemented:
                        return NotImplemented
                    return {name: item() for name, item in numbers}

            return read_numbers

        if form.kind == "one" and outputs[0].node.shape and outputs[0].fixed is not None:
            return self._single(outputs[0], outputs[0].fixed)
        ready = [output.place.choose for output in outputs if output.place is not None]
        fixed = all(output.fixed is not None for output in outputs)

        def read(*arrays: Any) -> Any:
            with reading:
                for choose in ready:
                    choose()
                if enter(*arrays) is NotImplemented:
                    return NotImplemented
                sizes = {} if fixed else function.sizes
                found = [output.take(sizes) for output in outputs]
            return form.build(dict(zip(names, found)))

        return read

    def _single(self, output: Output, shape: tuple[int, ...]) -> Callable[..., Any]:
        """The same for one array of a fixed shape, with as little around it as can be."""
        enter, reading, take = self.enter, self._reading, output.taker(shape)
        choose = output.ready if output.place is not None else None

        def read(*arrays: Any) -> Any:
            with reading:
                if choose is not None:
                    choose()
                if enter(*arrays) is NotImplemented:
                    return NotImplemented
                return take()

        return read

    def _ready(self) -> None:
        for output in self.outputs:
            output.ready()

    # -- whole passes --------------------------------------------------------------------------
    def epoch(self, data: Data, seed: int, epoch: int | None) -> dict[str, float]:
        """One pass over the data, shuffled if an epoch is given; means of scalar outputs."""
        batches = self._prepared(data)
        self._ready()
        if epoch is None:
            batches.start()
        else:
            batches.shuffle(seed, epoch)
        for _ in batches:  # once every 50 ms, so that Ctrl-C gets its turn
            pass
        found = batches.means
        return {o.name: found[self.code.outputs[o.name]] for o in self._scalars()}

    def _scalars(self) -> list[Output]:
        return [o for o in self.outputs if not o.node.shape and dtypes.is_float(o.node.dtype)]

    def _prepared(self, data: Data) -> Batches:
        """Batches of these arrays; kept for the next pass over the same ones."""
        from codegen.batches import Batches

        known = self._batches
        if known is None or known[0] != data.batch or not _same(known[1], data.arrays):
            names = [spec.name for spec in self.function.signature.inputs]
            arrays = [a.copy() if self.function.writes_into(a) else a for a in data.arrays]
            made = Batches(
                self.function,
                dict(zip(names, arrays)),
                data.batch,
                totals=[self.code.outputs[o.name] for o in self._scalars()],
                size=data.size,
                streams=[name for name, cut in zip(names, data.cut) if cut],
            )
            self._batches = known = (data.batch, list(data.arrays), made)
        return known[2]


def _same(some: Sequence[Array], others: Sequence[Array]) -> bool:
    """Whether these are the same arrays, not merely equal ones."""
    return len(some) == len(others) and all(a is b for a, b in zip(some, others))


def signature(pipeline: Pipeline) -> tuple[calling.Signature, bool]:
    """What a call takes, and whether native code can check all of it by itself."""
    graph, schedule = pipeline.request.graph, pipeline.schedule
    specs = []
    for i, leaf in enumerate(graph.inputs):
        axes = tuple((s.name, s.factor, s.max) if isinstance(s, Dim) else s for s in leaf.shape)
        specs.append(calling.InputSpec(schedule.inputs.get(leaf, f"unused{i}"), leaf.dtype, axes))
    checks, whole = [], True
    position = {leaf: i for i, leaf in enumerate(graph.inputs)}
    for leaf, (low, high, _, also) in pipeline.domains.items():
        if leaf in position:
            whole = whole and isinstance(high, int) and also is None
            if also is None:
                checks.append((position[leaf], int(low), maximum(high)))
    sizes = [
        (name, largest)
        for name, largest in schedule.program.sizes.items()
        if isinstance(largest, int)
    ]
    loss = graph.outputs.get("loss")
    number = loss is not None and not loss.shape and dtypes.is_float(loss.dtype)
    return (
        calling.Signature(
            tuple(specs),
            tuple(sizes),
            tuple(checks),
            schedule.outputs["loss"] if number else None,
        ),
        whole,
    )
