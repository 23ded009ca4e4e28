"""LLVM text of `step`: sizes, addresses, the calls of the kernels in order, repeats as loops.

In: a program, where its buffers are, the sizes that each kernel takes, which kernels are shared out
among threads. Out: `void step(ptr buffers, ptr sizes)`, which reads the base pointers and the
run-time sizes and computes the derived ones. What does not depend on a repeat's variable is
computed in front of its loop.

A kernel that is shared out gets its operands through a frame of 64-bit words on the stack, which
`pool_run` (see `codegen.threads`) hands to `NAME.task` on every thread:

    void @NAME.task(ptr frame, i64 begin, i64 end, i64 thread)

It takes the operands out of the frame, its thread's copy of private buffers among them, and calls
the kernel for turns begin..end-1 of its split loops.

With a buffer of stamps the clock is asked after every call (see `codegen.emit_clock`): entries are
the calls in the order of the text, then one for what it costs to ask.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from codegen import emit_clock
from codegen.emit_address import Addresses
from codegen.emit_builder import MEMORY_TYPE, EmitError, Reg
from codegen.emit_names import quoted
from codegen.loops import ITEMSIZE, PLANNED, Call, Derived, Poly, Program, Repeat
from codegen.memory import copy_bytes
from codegen.repeats import flat, offsets
from codegen.shares import PARTS, Share
from codegen.target import Target


class Plan(Protocol):
    """What is needed of `codegen.memory.ArenaPlan`."""

    @property
    def offsets(self) -> Mapping[str, int]: ...

    @property
    def table(self) -> Mapping[str, int]: ...


class Driver(Addresses):
    """Emits `step`, and the tasks of what it shares out."""

    def __init__(
        self,
        program: Program,
        plan: Plan,
        target: Target,
        declared: dict[str, str],
        shares: Mapping[str, Share],
        stamps: str | None = None,
    ) -> None:
        super().__init__(program.lanes, target, declared)
        self.program, self.plan, self.shares, self.stamps = program, plan, shares, stamps
        self.env, self.lane = {}, None
        self.buffers = {b.name: b for b in program.buffers}
        self.tasks: dict[str, str] = {}
        self.words = 0  # of the longest frame
        self.calls = len(flat(program))
        self.number = 0  # of the next call

    def function(self, sizes: Mapping[str, list[str]]) -> str:
        self.takes = sizes
        self._sizes()
        self._clock(emit_clock.START)
        self._run(self.program.calls)
        self._clock(emit_clock.STAMP, self.calls)
        before = []
        if self.tasks:
            before = ["%frame = alloca i64, i64 " + str(self.words), "%held = alloca i64"]
            before.append("store i64 0, ptr %held")
            self.line("call void @pool_leave(ptr %held)")
            self.declare("pool_run", "declare void @pool_run(ptr, ptr, i64, i64, i64, ptr)")
            self.declare("pool_leave", "declare void @pool_leave(ptr)")
        lines = ["define void @step(ptr %buffers, ptr %sizes) #0 {", "entry:"]
        lines += ["  " + line for line in before] + ([self.text()] if self.out else [])
        return "\n\n".join([*self.tasks.values(), "\n".join([*lines, "  ret void", "}"])])

    # -- calls

    def _run(self, calls: tuple[Call | Repeat, ...]) -> None:
        for call in calls:
            if isinstance(call, Repeat):
                self._repeat(call)
            else:
                self._call(call)
                self._clock(emit_clock.STAMP, self.number)
                self.number += 1

    def _repeat(self, repeat: Repeat) -> None:
        if repeat.var in self.env:
            raise EmitError(f"{repeat.var!r} is in use already")
        extent = self.integer(repeat.extent)
        if isinstance(extent, int) and extent < 2:
            self.env[repeat.var] = 0
            self._run(repeat.calls if extent == 1 else ())
        else:
            turn = self.open_loop("repeat", 0, extent, 1)
            self.env[repeat.var] = turn.variable
            self._run(repeat.calls)
            self.close_loop(turn)
        del self.env[repeat.var]

    def _call(self, call: Call) -> None:
        operands = self._operands(call, self.takes[call.kernel])
        if call.kernel in self.shares:
            self._share(call, operands)
        else:
            self.line(f"call void @{quoted(call.kernel)}({', '.join(operands)})")

    def _clock(self, function: str, *entry: int) -> None:
        """Calls the clock, where calls are timed."""
        if self.stamps is None:
            return
        self.declare("clock", emit_clock.text(self.target))
        numbers = "".join(f", i64 {number}" for number in (self.calls + 1, *entry))
        stamps = self._base(self.plan.table[self.stamps])
        self.line(f"call void @{function}(ptr {stamps.ref}{numbers})")

    # -- sizes and operands

    def _sizes(self) -> None:
        position = 0
        for name, rule in self.program.sizes.items():
            if isinstance(rule, Derived):
                self.env[name] = self._derived(rule)
                continue
            at = self.element(Reg("%sizes", "ptr"), position, "int64")
            self.env[name] = self.here(f"load i64, ptr {at.ref}", "int64", False)
            position += 1

    def _derived(self, rule: Derived) -> Reg:
        by = self.const(rule.by, "int64")
        top = self.integer(rule.poly + rule.by - 1 if rule.op == "ceildiv" else rule.poly)
        if isinstance(top, int):
            top = self.const(top, "int64")
        if rule.op not in ("ceildiv", "div", "mod"):
            raise EmitError(f"sizes are derived by ceildiv, div or mod, not {rule.op}")
        return self.binary("urem" if rule.op == "mod" else "udiv", top, by)

    def _operands(self, call: Call, sizes: list[str]) -> list[str]:
        given = [f"ptr {self._pointer(b, at).ref}" for b, at in zip(call.buffers, offsets(call))]
        for name in sizes:
            bound = self.env[name]
            assert isinstance(bound, Reg)
            given.append(f"i64 {bound.ref}")
        return given

    def _pointer(self, name: str, offset: Poly) -> Reg:
        """A buffer's element: in the arena, in the pointer table, or a constant of the module."""
        buffer = self.buffers.get(name)
        if buffer is None:
            raise EmitError(f"there is no buffer {name!r}")
        skip = self.integer(offset * ITEMSIZE[buffer.dtype])
        if buffer.role == "constant":
            return self._bytes(Reg("@" + quoted(name), "ptr"), skip)
        if buffer.role not in PLANNED:
            return self._bytes(self._base(self.plan.table[name]), skip)
        start = self.plan.offsets[name]
        if isinstance(skip, int):
            return self._bytes(self._base(0), start + skip)
        return self._bytes(self._bytes(self._base(0), start), skip)

    def _base(self, index: int) -> Reg:
        """A pointer of the table, which stays as it is while a step runs."""
        at = self._bytes(Reg("%buffers", "ptr"), 8 * index)
        return self.pure(f"load ptr, ptr {at.ref}", "ptr", False, 0)

    def _bytes(self, pointer: Reg, offset: Reg | int) -> Reg:
        if isinstance(offset, int):
            if not offset:
                return pointer
            offset = self.const(offset, "int64")
        kind = MEMORY_TYPE["bool"]
        text = f"getelementptr {kind}, ptr {pointer.ref}, i64 {offset.ref}"
        return self.pure(text, "ptr", False, max(pointer.depth, offset.depth))

    # -- sharing out

    def _share(self, call: Call, operands: list[str]) -> None:
        self.words = max(self.words, len(operands))
        for i, operand in enumerate(operands):
            at = self._bytes(Reg("%frame", "ptr"), 8 * i)
            self.line(f"store {operand}, ptr {at.ref}")
        share = self.shares[call.kernel]
        turns = self._number(self.integer(share.turns))
        parts = self._parts(share, turns)
        self.line(
            f"call void @pool_run(ptr @{quoted(self._task(call, operands))}, ptr %frame, "
            f"i64 {turns.ref}, i64 {parts.ref}, i64 {self.program.threads}, ptr %held)"
        )

    def _parts(self, share: Share, turns: Reg) -> Reg:
        """How many parts: the same number for each thread if there are as many, so that threads
        find what they wrote in the kernel before in their own caches."""
        amount = self._number(share.scale)
        for name in share.sizes:
            bound = self.env[name]
            assert isinstance(bound, Reg)
            amount = self.binary("mul", amount, bound)
        amount = self.binary("udiv", amount, self._number(share.by))
        threads = self._number(self.program.threads)
        even = self.binary("sub", amount, self.binary("urem", amount, threads))
        amount = self.intrinsic("umax", even, self.intrinsic("umin", amount, threads))
        most = self._number(PARTS * self.program.threads)
        return self.intrinsic("umin", self.intrinsic("umin", amount, most), turns)

    def _number(self, value: Reg | int) -> Reg:
        return value if isinstance(value, Reg) else self.const(value, "int64")

    def _task(self, call: Call, operands: list[str]) -> str:
        """The name of the call's task, which is written when it is first needed."""
        copies = [
            copy_bytes(self.buffers[b]) if self.buffers[b].role == "private" else 0
            for b in call.buffers
        ]
        name = ".".join([call.kernel, "task", *(f"{i}.{c}" for i, c in enumerate(copies) if c)])
        if name not in self.tasks:
            self.tasks[name] = _task(name, call.kernel, [o.split()[0] for o in operands], copies)
        return name


def _task(name: str, kernel: str, kinds: list[str], copies: list[int]) -> str:
    """`copies` has, for each buffer, the bytes from one thread's copy to the next, or 0."""
    lines = [
        f"define internal void @{quoted(name)}(ptr %frame, i64 %begin, i64 %end, i64 %thread) #0 {{"
    ]
    given = []
    for i, kind in enumerate(kinds):
        lines.append(f"  %at.{i} = getelementptr i64, ptr %frame, i64 {i}")
        lines.append(f"  %all.{i} = load {kind}, ptr %at.{i}")
        given.append(f"{kind} %all.{i}")
        if i < len(copies) and copies[i]:
            lines.append(f"  %skip.{i} = mul i64 %thread, {copies[i]}")
            lines.append(f"  %own.{i} = getelementptr i8, ptr %all.{i}, i64 %skip.{i}")
            given[-1] = f"ptr %own.{i}"
    given += ["i64 %begin", "i64 %end"]
    lines += [f"  call void @{quoted(kernel)}({', '.join(given)})", "  ret void", "}"]
    return "\n".join(lines)
