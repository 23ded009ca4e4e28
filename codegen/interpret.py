"""The loop grammar run by Python and NumPy: slow, plain, and the meaning the machine must match.

In: a `loops.Program`, one array per buffer that the caller owns, the run-time sizes. Out: nothing;
the arrays are changed in place. `Lanes` runs as one NumPy vector of its live lanes, or with
`scalar=True` lane after lane, which is what a program means.

Memory nobody has written yet is poison (NaN, or a wild integer), and so is what a `full` store
leaves behind idle lanes. An access outside its buffer is an `OutOfBounds` naming kernel, buffer and
index. Turns of split loops run backwards; two that would disturb each other on two threads are a
`Race`, and private memory is poison again at each turn; so is, at each turn of a repeat, what
belongs to the turn (see `codegen.carried`). With `plan` the arena buffers share memory
as `codegen.memory.plan` laid them out, so that a buffer reused too early shows.

>>> run(program, {"x": np.ones(20, np.float32), "y": y}, {"n": 20})
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from codegen import loops
from codegen.carried import own
from codegen.closures import Bound, Compiler, Frame, OutOfBounds, Watch, poison
from codegen.loops import PLANNED
from codegen.repeats import offsets

Array = Any  # np.ndarray or NumPy scalar


class Plan(Protocol):
    """What is needed of `codegen.memory.ArenaPlan`: byte offsets, and the bytes in all."""

    @property
    def offsets(self) -> Mapping[str, int]: ...

    @property
    def size(self) -> int: ...


def run(
    program: loops.Program,
    buffers: Mapping[str, np.ndarray],
    sizes: Mapping[str, int],
    *,
    plan: Plan | None = None,
    scalar: bool = False,
) -> None:
    """Run every call of `program` in order on `buffers`."""
    with np.errstate(all="ignore"):
        _Run(program, _memory(program, buffers, plan), all_sizes(program, sizes), scalar).run()


class _Run:
    """A program in progress. `names` holds the sizes and the variables of the repeats around."""

    def __init__(
        self,
        program: loops.Program,
        memory: dict[str, np.ndarray],
        names: dict[str, int],
        scalar: bool,
    ) -> None:
        self.program, self.memory, self.names = program, memory, names
        self.code = {
            k.name: (k, Compiler(program.lanes, k, scalar).block(k.body)) for k in program.kernels
        }
        self.private = {b.name: memory[b.name] for b in program.buffers if b.role == "private"}
        self.own = {r: [memory[name] for name in names] for r, names in own(program).items()}

    def run(self) -> None:
        self.calls(self.program.calls)

    def calls(self, calls: tuple[loops.Call | loops.Repeat, ...]) -> None:
        for call in calls:
            if isinstance(call, loops.Repeat):
                self.repeat(call)
            else:
                self.call(call)

    def repeat(self, repeat: loops.Repeat) -> None:
        for i in range(repeat.extent.value(self.names)):
            for array in self.own[repeat]:
                array[:] = poison(array.dtype.name)
            self.names[repeat.var] = i
            self.calls(repeat.calls)
            del self.names[repeat.var]

    def call(self, call: loops.Call) -> None:
        kernel, body = self.code[call.kernel]
        watches = _watches(self.program, call, kernel) if kernel.split else {}
        own = [self.private[name] for name in call.buffers if name in self.private]
        bound = {
            param.name: Bound(self.memory[name], offset.value(self.names), watches.get(name))
            for param, name, offset in zip(kernel.params, call.buffers, offsets(call))
        }
        turn = functools.partial(_turn, [*watches.values()], own)
        turn()
        body(Frame(dict(self.names), bound, turn=turn))


def _turn(watches: list[Watch], private: list[np.ndarray]) -> None:
    """What a thread finds when it begins a turn of split loops."""
    for watch in watches:
        watch.turn += 1
    for array in private:
        array[:] = poison(array.dtype.name)


def _watches(program: loops.Program, call: loops.Call, kernel: loops.Kernel) -> dict[str, Watch]:
    """For every buffer that a call writes: private ones are each thread's own."""
    written = {name for name, p in zip(call.buffers, kernel.params) if p.mode != "r"}
    return {
        b.name: Watch.of(b.name, b.size)
        for b in program.buffers
        if b.name in written and b.role != "private"
    }


def all_sizes(program: loops.Program, given: Mapping[str, int]) -> dict[str, int]:
    """The run-time sizes, with the derived ones computed."""
    names: dict[str, int] = {}
    for name, rule in program.sizes.items():
        if isinstance(rule, loops.Derived):
            top = rule.poly.value(names)
            if rule.op == "ceildiv":
                names[name] = -(-top // rule.by)
            else:
                names[name] = top // rule.by if rule.op == "div" else top % rule.by
        elif name not in given:
            raise ValueError(f"size {name!r} is missing")
        elif not 0 <= given[name] <= rule:
            raise ValueError(f"size {name} = {given[name]} is not in 0..{rule}")
        else:
            names[name] = int(given[name])
    return names


def evaluate(value: loops.Value, names: Mapping[str, Array], lanes: int = 1) -> Array:
    """One value without loads, `Get`s and `Index`es reading `names`."""
    kernel = loops.Kernel("value", (), ())
    compiler = Compiler(lanes, kernel, False)
    compiler.vectors.update(names)
    with np.errstate(all="ignore"):
        return compiler.root(value)(Frame(dict(names), {}))


# -- memory --------------------------------------------------------------------------------------


def _memory(
    program: loops.Program, buffers: Mapping[str, np.ndarray], plan: Plan | None
) -> dict[str, np.ndarray]:
    memory: dict[str, np.ndarray] = {}
    arena = np.full(plan.size if plan else 0, 255, np.uint8)  # NaN in either float width
    for buffer in program.buffers:
        if buffer.role == "constant":
            memory[buffer.name] = np.frombuffer(buffer.data or b"", buffer.dtype)
        elif buffer.role in PLANNED and plan is None:
            memory[buffer.name] = np.full(buffer.size, poison(buffer.dtype), buffer.dtype)
        elif buffer.role in PLANNED and plan is not None:
            start = plan.offsets[buffer.name]
            stop = start + buffer.size * loops.ITEMSIZE[buffer.dtype]
            if start < 0 or stop > plan.size:
                raise OutOfBounds(f"buffer {buffer.name} lies outside of the arena")
            memory[buffer.name] = arena[start:stop].view(buffer.dtype)
        else:
            memory[buffer.name] = _given(buffer, buffers)
    return memory


def _given(buffer: loops.Buffer, buffers: Mapping[str, np.ndarray]) -> np.ndarray:
    if buffer.name not in buffers:
        raise ValueError(f"{buffer.role} buffer {buffer.name!r} is missing")
    array = buffers[buffer.name]
    if array.dtype.name != buffer.dtype or not array.flags.c_contiguous:
        raise ValueError(
            f"{buffer.role} buffer {buffer.name!r}: expected contiguous {buffer.dtype}, "
            f"got {array.dtype.name} with strides {array.strides}"
        )
    return array.reshape(-1)
