"""Text of one LLVM function: registers, constants, instructions that find their own place.

In: requests for instructions. Out: lines. An instruction without side effects is written once
(asking again for the same text gives the same register) and as far out as its operands allow: in
front of the outermost loop whose variables it does not use. So what is emitted is already free of
common subexpressions and of loop-invariant arithmetic, and no optimisation pass is needed.

>>> b.binary("fmul", x, b.splat(b.const(2.0, "float32")))    # both vectors of float32
Reg(%.7)
"""

from __future__ import annotations

import functools
import math
import struct
from typing import Sequence

from codegen.target import Target

VALUE_TYPE = {
    "bool": "i1",
    "int8": "i8",  # a bool as it is in memory
    "int32": "i32",
    "int64": "i64",
    "float32": "float",
    "float64": "double",
    "ptr": "ptr",
}
MEMORY_TYPE = {**VALUE_TYPE, "bool": "i8"}
SUFFIX = {
    "bool": "i1",
    "int8": "i8",
    "int32": "i32",
    "int64": "i64",
    "float32": "f32",
    "float64": "f64",
}
FLOATS = ("float32", "float64")
WIDTH = {"bool": 1, "int32": 32, "int64": 64}


class EmitError(ValueError):
    """A program that the grammar forbids or that the emitter cannot express."""


class Reg:
    """An SSA value: `ref` as the text names it, whether it has one element per lane, and `depth`,
    the number of open loops where it is defined. `number` is set for constants."""

    __slots__ = ("ref", "dtype", "vec", "depth", "number")

    def __init__(
        self,
        ref: str,
        dtype: str,
        vec: bool = False,
        depth: int = 0,
        number: float | int | bool | None = None,
    ) -> None:
        self.ref, self.dtype, self.vec, self.depth, self.number = ref, dtype, vec, depth, number

    def __repr__(self) -> str:
        return f"Reg({self.ref})"


def literal(number: float | int | bool, dtype: str) -> str:
    """A constant of LLVM text. Floats are written by their bits as a double, as LLVM wants it."""
    if dtype == "bool":
        return "true" if number else "false"
    if dtype not in FLOATS:
        half = 1 << (WIDTH[dtype] - 1)
        return str((int(number) + half) % (2 * half) - half)
    number = float(number)
    if dtype == "float32":
        try:
            number = struct.unpack("<f", struct.pack("<f", number))[0]
        except OverflowError:
            number = math.copysign(math.inf, number)
    return f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}"


class Turn:
    """A loop under construction: its limits, blocks and variable. `phis` are the first lines of
    its body; others may be added when the values of the next turn are known."""

    entry: str
    head: str
    latch: str
    done: str
    variable: Reg
    guard: Reg | None  # whether there is a turn, where that is not known

    def __init__(self, start: Reg | int, stop: Reg | int, step: int) -> None:
        self.skippable = isinstance(start, Reg) or isinstance(stop, Reg)
        self.first = start.ref if isinstance(start, Reg) else str(start)
        self.last = stop.ref if isinstance(stop, Reg) else str(stop)
        self.step, self.guard = step, None
        self.phis: list[str] = []


@functools.lru_cache(4096)
def constant(number: float | int | bool, dtype: str, sign: float = 1.0) -> Reg:
    """`sign` keeps 0.0 and -0.0 apart, which are equal as keys of the cache."""
    number = math.copysign(number, sign) if sign < 0 else number
    return Reg(literal(number, dtype), dtype, False, 0, number)


@functools.lru_cache(256)
def shuffle_mask(lanes: Sequence[int]) -> str:
    """The last operand of a shufflevector; -1 is an element nobody reads."""
    body = ", ".join("i32 poison" if i < 0 else f"i32 {i}" for i in lanes)
    return f"<{len(lanes)} x i32> <{body}>"


class Builder:
    """One function's text. `out` holds lines, and lists of lines that grow later: `outside[d]` is
    the place in front of the d-th open loop. `declared` collects the module's declarations."""

    def __init__(self, lanes: int, target: Target, declared: dict[str, str]) -> None:
        self.lanes, self.target, self.declared = lanes, target, declared
        self.out: list[str | list[str]] = []
        self.outside: list[list[str]] = [[]]
        self.depth = 0
        self.block = "entry"
        self.count = 0
        self.written: dict[str, Reg] = {}
        self.splats: dict[str, Reg] = {}
        self.overloads: dict[tuple[str, str, bool], str] = {}  # names of intrinsics
        vector = {d: f"<{lanes} x {t}>" for d, t in VALUE_TYPE.items()}
        self.types = (VALUE_TYPE, vector)
        self.memory_types = (MEMORY_TYPE, {**vector, "bool": f"<{lanes} x i8>"})

    # -- text

    def name(self, hint: str = "") -> str:
        self.count += 1
        return f"%{hint}.{self.count}"

    def label(self, hint: str) -> str:
        self.count += 1
        return f"{hint}.{self.count}"

    def line(self, text: str) -> None:
        self.out.append("  " + text)

    def open_block(self, label: str) -> None:
        self.out.append(label + ":")
        self.block = label

    def text(self) -> str:
        lines: list[str] = []
        for item in self.out:
            if isinstance(item, str):
                lines.append(item)
            else:
                lines.extend(item)
        return "\n".join(lines)

    def pure(self, text: str, dtype: str, vec: bool, depth: int) -> Reg:
        """An instruction that depends on its operands only; `depth` is the deepest of them."""
        reg = self.written.get(text)
        if reg is None:
            self.count += 1
            name = f"%.{self.count}"
            if depth < self.depth:
                self.outside[depth + 1].append(f"  {name} = {text}")
            else:
                self.out.append(f"  {name} = {text}")
            reg = self.written[text] = Reg(name, dtype, vec, depth)
        return reg

    def here(self, text: str, dtype: str, vec: bool) -> Reg:
        """An instruction that must stay where it is."""
        self.count += 1
        name = f"%.{self.count}"
        self.out.append(f"  {name} = {text}")
        return Reg(name, dtype, vec, self.depth)

    def type_of(self, reg: Reg) -> str:
        return self.types[reg.vec][reg.dtype]

    # -- common instructions

    def const(self, number: float | int | bool, dtype: str) -> Reg:
        if dtype in FLOATS:
            number = float(number)
            return constant(number, dtype, math.copysign(1.0, number))
        return constant(bool(number) if dtype == "bool" else int(number), dtype)

    def splat(self, reg: Reg) -> Reg:
        """The scalar in every lane."""
        if reg.vec:
            return reg
        found = self.splats.get(reg.ref + reg.dtype)
        if found is None:
            vector, scalar = self.types[1][reg.dtype], VALUE_TYPE[reg.dtype]
            if reg.number is not None:
                found = Reg(f"splat ({scalar} {reg.ref})", reg.dtype, True, 0, reg.number)
            else:
                one = self.pure(
                    f"insertelement {vector} poison, {scalar} {reg.ref}, i64 0",
                    reg.dtype,
                    True,
                    reg.depth,
                )
                found = self.pure(
                    f"shufflevector {vector} {one.ref}, {vector} poison, "
                    f"<{self.lanes} x i32> zeroinitializer",
                    reg.dtype,
                    True,
                    reg.depth,
                )
            self.splats[reg.ref + reg.dtype] = found
        return found

    def same(self, *regs: Reg) -> list[Reg]:
        """All as vectors if any is one."""
        for reg in regs:
            if reg.vec:
                return [self.splat(r) for r in regs]
        return list(regs)

    def binary(self, opcode: str, a: Reg, b: Reg, dtype: str | None = None) -> Reg:
        """`opcode a, b` on operands of one type; `dtype` is the result's, if it differs."""
        if a.vec != b.vec:
            a, b = self.splat(a), self.splat(b)
        text = f"{opcode} {self.types[a.vec][a.dtype]} {a.ref}, {b.ref}"
        depth = a.depth if a.depth > b.depth else b.depth
        return self.pure(text, dtype or a.dtype, a.vec, depth)

    def convert(self, opcode: str, a: Reg, dtype: str) -> Reg:
        text = f"{opcode} {self.types[a.vec][a.dtype]} {a.ref} to {self.types[a.vec][dtype]}"
        return self.pure(text, dtype, a.vec, a.depth)

    def select(self, condition: Reg, a: Reg, b: Reg) -> Reg:
        condition, a, b = self.same(condition, a, b)
        kind = self.types[a.vec][a.dtype]
        text = f"select {self.type_of(condition)} {condition.ref}, {kind} {a.ref}, {kind} {b.ref}"
        return self.pure(text, a.dtype, a.vec, max(condition.depth, a.depth, b.depth))

    def intrinsic(self, name: str, *args: Reg, flag: str = "") -> Reg:
        """`llvm.<name>` overloaded on the one type of its operands. `flag` is a literal last
        operand, which some want."""
        dtype, vec = args[0].dtype, False
        depth = 0
        for a in args:
            vec = vec or a.vec
            depth = a.depth if a.depth > depth else depth
        kind = self.types[vec][dtype]
        key = (name, dtype, vec)
        full = self.overloads.get(key)
        if full is None:
            suffix = f"v{self.lanes}{SUFFIX[dtype]}" if vec else SUFFIX[dtype]
            full = self.overloads[key] = f"llvm.{name}.{suffix}"
            kinds = ", ".join([kind] * len(args) + ([flag.split()[0]] if flag else []))
            self.declared.setdefault(full, f"declare {kind} @{full}({kinds})")
        given = [f"{kind} {a.ref if a.vec is vec else self.splat(a).ref}" for a in args]
        if flag:
            given.append(flag)
        return self.pure(f"call {kind} @{full}({', '.join(given)})", dtype, vec, depth)

    def element(self, pointer: Reg, index: Reg | int, dtype: str) -> Reg:
        """The pointer to element `index`, counted in elements of `dtype`."""
        kind = MEMORY_TYPE[dtype]
        if isinstance(index, int):
            if index == 0:
                return pointer
            kinds = self.types[pointer.vec]["ptr"]
            text = f"getelementptr {kind}, {kinds} {pointer.ref}, i64 {index}"
            return self.pure(text, "ptr", pointer.vec, pointer.depth)
        text = f"getelementptr {kind}, ptr {pointer.ref}, {self.type_of(index)} {index.ref}"
        return self.pure(text, "ptr", index.vec, max(pointer.depth, index.depth))

    def iota(self, dtype: str) -> Reg:
        """0, 1, 2, ... by lane."""
        kind = VALUE_TYPE[dtype]
        body = ", ".join(f"{kind} {i}" for i in range(self.lanes))
        return Reg(f"<{body}>", dtype, True)

    def first_lanes(self, live: Reg | int) -> Reg | None:
        """The mask of lanes below `live`; None if that is all of them, whatever happens."""
        if isinstance(live, int):
            if live >= self.lanes:
                return None
            body = ", ".join("i1 true" if i < live else "i1 false" for i in range(self.lanes))
            return Reg(f"<{body}>", "bool", True)
        clamped = self.intrinsic("smin", live, self.const(self.lanes, "int64"))
        narrow = self.convert("trunc", clamped, "int32")
        return self.binary("icmp slt", self.iota("int32"), narrow, "bool")

    def declare(self, name: str, text: str) -> None:
        self.declared.setdefault(name, text)

    def shuffle(self, a: Reg, b: Reg | None, lanes: Sequence[int]) -> Reg:
        """A permutation of the elements of two vectors into a vector of the same length."""
        kind = self.type_of(a)
        other = "poison" if b is None else b.ref
        text = f"shufflevector {kind} {a.ref}, {kind} {other}, {shuffle_mask(tuple(lanes))}"
        return self.pure(text, a.dtype, True, max(a.depth, b.depth if b else 0))

    # -- loops

    def open_loop(self, hint: str, start: Reg | int, stop: Reg | int, step: int) -> Turn:
        """Start a loop of basic blocks, which is entered only if it has a turn."""
        turn = Turn(start, stop, step)
        turn.entry = self.block
        if turn.skippable:
            first, last = (
                limit if isinstance(limit, Reg) else self.const(limit, "int64")
                for limit in (start, stop)
            )
            turn.guard = self.binary("icmp slt", first, last, "bool")
        turn.head, turn.done = self.label(hint), self.label("end_" + hint)
        before: list[str] = []
        self.out.append(before)
        self.outside.append(before)
        if turn.guard is not None:
            self.line(f"br i1 {turn.guard.ref}, label %{turn.head}, label %{turn.done}")
        else:
            self.line(f"br label %{turn.head}")
        self.open_block(turn.head)
        self.depth += 1
        turn.variable = Reg(self.name(hint), "int64", False, self.depth)
        self.out.append(turn.phis)
        return turn

    def close_loop(self, turn: Turn) -> None:
        """Branch back, or out of the loop."""
        following, test = self.name(), self.name()
        self.line(f"{following} = add nuw nsw i64 {turn.variable.ref}, {turn.step}")
        self.line(f"{test} = icmp slt i64 {following}, {turn.last}")
        self.line(f"br i1 {test}, label %{turn.head}, label %{turn.done}")
        turn.latch = self.block
        turn.phis.append(
            f"  {turn.variable.ref} = phi i64 [ {turn.first}, %{turn.entry} ], "
            f"[ {following}, %{turn.latch} ]"
        )
        self.depth -= 1
        self.outside.pop()
        self.open_block(turn.done)
