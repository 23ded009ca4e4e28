"""Values of the grammar as registers: loads, named values, accumulators, scalar functions.

In: a `Value`, a DAG. Out: a register, one vector if it differs by lane, else a scalar. What was
emitted is used again as long as it holds: arithmetic always, loads until their buffer is written.

>>> v.value(Op("add", (Load("x", row, "float32"), Const(1, "float32")), "float32"))
Reg(%.14)
"""

from __future__ import annotations

from typing import Callable, Sequence

from codegen import vecmath
from codegen.emit_address import Place
from codegen.emit_arithmetic import Arithmetic
from codegen.emit_builder import FLOATS, EmitError, Reg
from codegen.emit_scan import Facts
from codegen.functions import FUNCTIONS
from codegen.loops import ITEMSIZE, Const, Get, Index, Load, Op, Poly, PolyLike, Value

HOISTED = 8  # so many loads may move in front of a loop: each keeps a register
DEEP = 200  # longer chains of functions are evaluated from their leaves, not by recursion
ZEROS = "@zeros"  # a vector of zeros in memory: where loads go that must not happen


def item_bytes(dtype: str) -> int:
    """Bytes of an element in memory."""
    return 1 if dtype == "int8" else ITEMSIZE[dtype]


class Accumulator:
    """Accumulators of one name. `values` are their current registers: scalars, vectors of one
    accumulator per lane, or (`partial`) one vector of partial results each, to be combined with
    `base`. With `memory` they are in memory instead, because a subscript is not known."""

    __slots__ = ("dtype", "shape", "fn", "vec", "partial", "values", "base", "memory")

    def __init__(self, dtype: str, shape: tuple[int, ...], fn: str, vec: bool, partial: bool):
        self.dtype, self.shape, self.fn = dtype, shape, fn
        self.vec, self.partial = vec, partial
        self.values: list[Reg] = []
        self.base: list[Reg] = []
        self.memory: tuple[Reg, Reg] | None = None

    @property
    def wide(self) -> bool:
        return self.vec or self.partial


class Values(Arithmetic):
    """Adds the evaluation of values. `mask` says which lanes are live, None: all."""

    facts: Facts
    lets: dict[str, Reg]
    tiles: dict[str, Accumulator]
    mask: Reg | None
    memo: dict[int, Reg]
    versions: dict[str, int]  # counts the writes to a buffer
    loaded: list[dict[tuple, Reg]]  # by open loop
    hoisted: list[int]  # loads moved in front of the next loop, by open loop
    loops: list[tuple[frozenset[str], Reg | None]]  # what open loops write, whether they run
    lowered: dict[int, Value]

    def value(self, v: Value) -> Reg:
        found = self.memo.get(id(v))
        if found is None:
            found = self.memo[id(v)] = _VISIT[type(v)](self, v)
        return found

    def root(self, v: Value) -> Reg:
        """A statement's value."""
        if type(v) is Op and id(v) not in self.memo:
            for op in _deep(v):
                self.value(op)
        return self.value(v)

    def _const(self, v: Const) -> Reg:
        return self.const(v.number, v.dtype)

    def _index(self, v: Index) -> Reg:
        return self.index(v.poly, v.dtype)

    def _op(self, v: Op) -> Reg:
        function = FUNCTIONS.get(v.fn)
        if function is None:
            raise EmitError(f"there is no scalar function {v.fn!r}")
        if not function.primitive:
            lowered = self.lowered.get(id(v))
            if lowered is None:
                lowered = self.lowered[id(v)] = vecmath.lower(v, self.target)
            return self.root(lowered)
        return self.apply(v.fn, [self.value(a) for a in v.args], v.dtype)

    # -- names

    def _get(self, v: Get) -> Reg:
        let = self.lets.get(v.name)
        if let is not None:
            return let
        tile = self.tiles.get(v.name)
        if tile is None:
            raise EmitError(f"{v.name!r} is not in scope")
        return self.read(tile, self.subscript(tile, v.name, v.at))

    def subscript(self, tile: Accumulator, name: str, at: Sequence[PolyLike]) -> Reg | int:
        """The position of `name[at]` in the flat tile."""
        if len(at) != len(tile.shape):
            raise EmitError(f"{name} has {len(tile.shape)} subscripts, not {len(at)}")
        position = 0
        for size, subscript in zip(tile.shape, at):
            index = self.integer(subscript)
            if isinstance(index, Reg):
                flat = Poly()
                for size, subscript in zip(tile.shape, at):
                    flat = flat * size + Poly.of(subscript)
                return self.integer(flat)
            if not 0 <= index < size:
                raise EmitError(f"{name}[{index}] is outside of its shape {tile.shape}")
            position = position * size + index
        return position

    def read(self, tile: Accumulator, at: Reg | int) -> Reg:
        """An accumulator's value; partial results of the lanes are combined here."""
        value = self.current(tile, at, 0)
        if not tile.partial:
            return value
        base = self.current(tile, at, 1)
        total = self.reduce(value, tile.fn)
        return self.fold(tile, base, total)

    def fold(self, tile: Accumulator, base: Reg, total: Reg) -> Reg:
        """The reduced partial results with what the accumulator had besides."""
        if base.number is not None and base.number == self.neutral(tile.fn, tile.dtype).number:
            return total
        return self.combine(tile.fn, base, total)

    def current(self, tile: Accumulator, at: Reg | int, part: int) -> Reg:
        """The register of an accumulator: `part` 1 is its base."""
        if tile.memory is None:
            assert isinstance(at, int)
            return (tile.base if part else tile.values)[at]
        vec = tile.wide and not part
        kind = self.memory_types[vec][tile.dtype]
        value = self.here(f"load {kind}, ptr {self.cell(tile, at, part)}", tile.dtype, vec)
        return self.from_memory(value)

    def cell(self, tile: Accumulator, at: Reg | int, part: int) -> str:
        """The address of an accumulator in memory."""
        assert tile.memory is not None
        kind = self.memory_types[tile.wide and not part][tile.dtype]
        index = at.ref if isinstance(at, Reg) else str(at)
        pointer = tile.memory[part].ref
        return self.here(f"getelementptr {kind}, ptr {pointer}, i64 {index}", "ptr", False).ref

    # -- loads

    def from_memory(self, reg: Reg) -> Reg:
        """A bool is a byte in memory."""
        if reg.dtype != "bool":
            return reg
        kind = self.memory_types[reg.vec]["bool"]
        zero = "zeroinitializer" if reg.vec else "0"
        return self.pure(f"icmp ne {kind} {reg.ref}, {zero}", "bool", reg.vec, reg.depth)

    def _load(self, v: Load) -> Reg:
        place = self.place(v.buffer, v.index)
        dtype = self.pointers[v.buffer][1]
        if dtype != v.dtype:
            raise EmitError(f"{v.buffer} holds {dtype}, not {v.dtype}")
        when = None if v.when is None else self.value(v.when)
        if when is not None and when.number is not None and not when.vec:
            if not when.number:
                return self.const(0, dtype)
            when = None
        pointer, mask = place.pointer, None if v.full or place.kind == "one" else self.mask
        if place.kind == "each" and v.full:
            mask = None
        if when is not None:
            if when.vec:
                mask = when if self.mask is None else self.both(self.mask, when)
                if place.kind == "one":
                    kinds = f"<{self.lanes} x ptr>"
                    pointer = self._spread(pointer, kinds)
                    place = Place(pointer, "each")
            elif place.kind == "each":
                wide = self.splat(when)
                mask = wide if mask is None else self.both(mask, wide)
            else:
                pointer = self.choose(when, pointer, Reg(ZEROS, "ptr"))
        return self.load(v.buffer, dtype, pointer, place.kind, mask)

    def _spread(self, pointer: Reg, kinds: str) -> Reg:
        """The pointer in every lane."""
        one = self.pure(
            f"insertelement {kinds} poison, ptr {pointer.ref}, i64 0", "ptr", True, pointer.depth
        )
        return self.pure(
            f"shufflevector {kinds} {one.ref}, {kinds} poison, "
            f"<{self.lanes} x i32> zeroinitializer",
            "ptr",
            True,
            pointer.depth,
        )

    def load(self, buffer: str, dtype: str, pointer: Reg, kind: str, mask: Reg | None) -> Reg:
        """What is at `pointer`, read once until the buffer is written."""
        key = (kind, pointer.ref, dtype, mask.ref if mask else "", self.versions.get(buffer, 0))
        for seen in reversed(self.loaded):
            found = seen.get(key)
            if found is not None:
                return found
        level, known, safe = self._level(buffer, pointer, kind, mask)
        pointer = safe
        vec = kind != "one"
        type_ = self.memory_types[vec][dtype]
        if kind == "each":
            text = self._gather(type_, dtype, pointer, mask)
        elif vec and mask is not None:
            text = self._masked(type_, dtype, pointer, mask)
        else:
            text = f"load {type_}, ptr {pointer.ref}, align {ITEMSIZE[dtype]}"
        if level == self.depth:
            value = self.here(text, dtype, vec)
        else:
            value = Reg(self.name(), dtype, vec, level)
            self.outside[level + 1].append(f"  {value.ref} = {text}")
            self.hoisted[level] += 1
        self.loaded[known][key] = value = self.from_memory(value)
        return value

    def _level(
        self, buffer: str, pointer: Reg, kind: str, mask: Reg | None
    ) -> tuple[int, int, Reg]:
        """How many of the open loops a load stays inside of: it moves out of those that neither
        change its address nor its buffer. In front of a loop that may have no turn it reads zeros
        instead if there is none, since its own address may not exist: then its value is known
        inside that loop only, not to other loops beside it. Both depths, and the address."""
        level = self.depth
        inner = pointer.depth if mask is None else max(pointer.depth, mask.depth)
        if kind == "each" or inner >= level:
            return level, level, pointer
        guards: list[Reg] = []
        known = 0
        while level > inner and self.hoisted[level - 1] < HOISTED:
            writes, guard = self.loops[level - 1]
            new = guards if guard is None else [*guards, guard]
            inside = level if guard is not None and not guards else known
            if buffer in writes or any(g.depth >= level for g in new):
                break
            guards, level, known = new, level - 1, inside
        if level == self.depth or not guards:
            return level, level, pointer
        taken = guards[0]
        for guard in guards[1:]:
            taken = self.both(taken, guard)
        return level, known, self.choose(taken, pointer, Reg(ZEROS, "ptr"))

    def choose(self, condition: Reg, a: Reg, b: Reg) -> Reg:
        """One of two pointers."""
        return self.pure(
            f"select i1 {condition.ref}, ptr {a.ref}, ptr {b.ref}",
            "ptr",
            False,
            max(condition.depth, a.depth, b.depth),
        )

    def masked_load(self, type_: str, dtype: str, pointer: Reg, mask: Reg) -> Reg:
        """A vector of consecutive elements, 0 where the mask is not set."""
        return self.here(self._masked(type_, dtype, pointer, mask), dtype, True)

    def _masked(self, type_: str, dtype: str, pointer: Reg, mask: Reg) -> str:
        name = f"llvm.masked.load.{self.suffix(dtype)}.p0"
        bits = f"<{self.lanes} x i1>"
        self.declare(name, f"declare {type_} @{name}(ptr, i32, {bits}, {type_})")
        return (
            f"call {type_} @{name}(ptr {pointer.ref}, i32 {item_bytes(dtype)}, "
            f"{bits} {mask.ref}, {type_} zeroinitializer)"
        )

    def _gather(self, type_: str, dtype: str, pointers: Reg, mask: Reg | None) -> str:
        kinds, bits = f"<{self.lanes} x ptr>", f"<{self.lanes} x i1>"
        name = f"llvm.masked.gather.{self.suffix(dtype)}.v{self.lanes}p0"
        self.declare(name, f"declare {type_} @{name}({kinds}, i32, {bits}, {type_})")
        which = mask.ref if mask is not None else "splat (i1 true)"
        return (
            f"call {type_} @{name}({kinds} {pointers.ref}, i32 {ITEMSIZE[dtype]}, "
            f"{bits} {which}, {type_} zeroinitializer)"
        )

    def suffix(self, dtype: str) -> str:
        """The overload of a memory intrinsic."""
        name = {"bool": "i8", "int8": "i8", "int32": "i32", "int64": "i64"}.get(dtype)
        return f"v{self.lanes}" + (name or ("f32" if dtype == FLOATS[0] else "f64"))


_VISIT: dict[type, Callable[..., Reg]] = {
    Const: Values._const,
    Index: Values._index,
    Op: Values._op,
    Get: Values._get,
    Load: Values._load,
}


def _deep(root: Op) -> list[Op]:
    """The functions below a very long chain, leaves first; nothing if recursion will do."""
    heights: dict[int, int] = {}
    order: list[Op] = []
    stack: list[tuple[Op, bool]] = [(root, False)]
    while stack:
        op, done = stack.pop()
        if id(op) in heights:
            continue
        inner = [a for a in op.args if type(a) is Op]
        if not done:
            stack.append((op, True))
            stack.extend((a, False) for a in inner if id(a) not in heights)
            continue
        heights[id(op)] = 1 + max((heights[id(a)] for a in inner), default=0)
        order.append(op)
    return order if heights[id(root)] > DEEP else []
