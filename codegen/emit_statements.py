"""Statements of the grammar as instructions and basic blocks.

In: a kernel's body. Out: its text, in the builder. Accumulators are registers: a loop that changes
them has a phi for each. A loop whose extent is its `unroll` is written out, its variable a number.

>>> s.run(kernel.body)
>>> s.text()
'  br label %k.4 ...'
"""

from __future__ import annotations

from typing import Sequence

from codegen.emit_address import Binding
from codegen.emit_builder import EmitError, Reg, Turn
from codegen.emit_scan import Body
from codegen.emit_values import Accumulator, Values, item_bytes
from codegen.loops import (
    ITEMSIZE,
    Accumulate,
    Declare,
    For,
    Lanes,
    Let,
    Op,
    Poly,
    Prefetch,
    Scatter,
    Stmt,
    Store,
)

TURN = "turn of split loops"  # no kernel has such a name


class Statements(Values):
    """Adds statements. `aliases` are the parameters that may be the same memory as one."""

    aliases: dict[str, frozenset[str]]
    live: Reg | int | None
    first: dict[int, Poly]  # of loops whose turns are shared out: the number of the first turn
    share: tuple[Reg, Reg]  # the numbers of the turns that are to be run: begin and end

    def run(self, body: Sequence[Stmt]) -> None:
        for position, statement in enumerate(body):
            if type(statement) is Declare:
                self._declare(statement, body[position + 1 :])
            else:
                getattr(self, "_" + type(statement).__name__.lower())(statement)

    def _let(self, s: Let) -> None:
        reg = self.root(s.value)
        self.lets[s.name] = reg
        known = reg.number is not None and not reg.vec and reg.dtype in ("int32", "int64")
        self.env[s.name] = int(reg.number or 0) if known else reg

    # -- loops

    def _for(self, s: For) -> None:
        if id(s) in self.first:
            self._shared(s)
            return
        extent = self.integer(s.extent)
        if isinstance(extent, Reg):
            turns = extent
            if s.unroll > 1:
                whole = self._turns_of(extent, s.unroll)
                self._loop(s, 0, whole, s.unroll)
                self._loop(s, whole, extent, 1)
            else:
                self._loop(s, 0, turns, 1)
            return
        if s.unroll >= extent or extent == 1:
            self._copies(s, range(extent))
            return
        rest = extent % s.unroll
        main = extent - rest
        if main == s.unroll:
            self._copies(s, range(main))
        else:
            self._loop(s, 0, main, s.unroll)
        if rest == 1:
            self._copies(s, range(main, extent))
        elif rest:
            self._loop(s, main, extent, 1)

    def _shared(self, s: For) -> None:
        """Those turns of a split loop that are this call's to run."""
        begin, end = (self._within(turn, self.first[id(s)], s.extent) for turn in self.share)
        if s.unroll > 1:
            whole = self._turns_of(self.binary("sub", end, begin), s.unroll)
            whole = self.binary("add", whole, begin)
            self._loop(s, begin, whole, s.unroll)
            begin = whole
        self._loop(s, begin, end, 1)

    def _within(self, turn: Reg, first: Poly, extent: Poly) -> Reg:
        """The turn of a loop for its number among all, kept between 0 and the loop's extent."""
        if len(self.first) == 1:
            return turn
        self.env[TURN] = turn
        here = self.integer(Poly.of(TURN) - first)
        del self.env[TURN]
        assert isinstance(here, Reg)
        most = self.integer(extent)
        most = most if isinstance(most, Reg) else self.const(most, "int64")
        return self.intrinsic("smin", self.intrinsic("smax", here, self.const(0, "int64")), most)

    def _turns_of(self, extent: Reg, unroll: int) -> Reg:
        """The largest multiple of `unroll` that is at most `extent`."""
        turns = self.binary("udiv", extent, self.const(unroll, "int64"))
        return self.binary("mul", turns, self.const(unroll, "int64"))

    def _copies(self, s: For, values: range) -> None:
        """The body once for each value of the variable."""
        outer = self._enter(s)
        for i in values:
            self.env[s.var] = i
            self.memo = {}
            self.run(s.body)
        self._leave(outer)

    def _enter(self, s: For | Lanes) -> tuple:
        """Open a scope of names."""
        state = dict(self.env), dict(self.lets), dict(self.tiles)
        self.memo = {}
        return state

    def _leave(self, state: tuple) -> None:
        self.env, self.lets, self.tiles = state
        self.memo = {}

    def _loop(self, s: For, start: Reg | int, stop: Reg | int, step: int) -> None:
        """A loop of basic blocks, `step` copies of the body in each turn. Accumulators enter
        through phis, and leave through phis where the loop may be skipped."""
        changed = self.facts.bodies[id(s)]
        carried = self._carried(changed)
        initial = [values[i] for values, i in carried]
        self._invalidate(changed.writes)
        turn = self.open_changing(s.var, start, stop, step, self._touched(changed.writes))
        outer = self._enter(s)
        for (values, i), reg in zip(carried, initial):
            values[i] = Reg(self.name(), reg.dtype, reg.vec, self.depth)
        entered = [values[i] for values, i in carried]
        for copy in range(step):
            binding: Binding = (turn.variable, copy) if copy else turn.variable
            self.env[s.var] = binding
            self.memo = {}
            self.run(s.body)
        final = [values[i] for values, i in carried]
        self.close_changing(turn)
        for phi, old, new in zip(entered, initial, final):
            turn.phis.append(self._phi(phi.ref, old, turn.entry, new, turn.latch))
        self._leave(outer)
        for (values, i), old, new in zip(carried, initial, final):
            reg = Reg(new.ref, new.dtype, new.vec, self.depth, new.number)
            if turn.skippable:
                reg = Reg(self.name(), new.dtype, new.vec, self.depth)
                self.out.append(self._phi(reg.ref, old, turn.entry, new, turn.latch))
            values[i] = reg
        self._invalidate(changed.writes)

    def open_changing(
        self, hint: str, start: Reg | int, stop: Reg | int, step: int, writes: frozenset[str]
    ) -> Turn:
        """Start a loop whose body changes the buffers `writes`."""
        turn = self.open_loop(hint, start, stop, step)
        self.loaded.append({})
        self.hoisted[-1] = 0
        self.hoisted.append(0)
        self.loops.append((writes, turn.guard))
        return turn

    def close_changing(self, turn: Turn) -> None:
        """Branch back, or out of the loop."""
        self.close_loop(turn)
        self.loaded.pop()
        self.hoisted.pop()
        self.loops.pop()

    def _phi(self, name: str, a: Reg, from_a: str, b: Reg, from_b: str) -> str:
        return f"  {name} = phi {self.type_of(a)} [ {a.ref}, %{from_a} ], [ {b.ref}, %{from_b} ]"

    def _carried(self, changed: Body) -> list[tuple[list[Reg], int]]:
        """The accumulators' registers that a body changes."""
        found = []
        for name in sorted(changed.updates):
            tile = self.tiles.get(name)
            if tile is None or tile.memory is not None:
                continue
            kinds = {lanes for _, lanes in changed.updates[name]}
            lists = [tile.values] if not tile.partial else []
            if tile.partial:
                lists += ([tile.values] if True in kinds else []) + (
                    [tile.base] if False in kinds else []
                )
            found += [(values, i) for values in lists for i in range(len(values))]
        return found

    def _touched(self, buffers: set[str]) -> frozenset[str]:
        """All names of the memory of these buffers."""
        return frozenset(a for name in buffers for a in self.aliases.get(name, (name,)))

    def _invalidate(self, buffers: set[str]) -> None:
        """Forget what was read from buffers that are written."""
        for name in self._touched(buffers):
            self.versions[name] = self.versions.get(name, 0) + 1
            if name in self.facts.reads:
                self.memo = {}

    # -- lanes

    def _lanes(self, s: Lanes) -> None:
        if self.lane is not None:
            raise EmitError("Lanes cannot contain Lanes")
        outer = self._enter(s)
        self.lane = self.env[s.var] = self.iota("int64")
        self.live = None if s.live is None else self.integer(s.live)
        self.mask = None if self.live is None else self.first_lanes(self.live)
        if self.mask is None:
            self.live = None
        self.run(s.body)
        self.lane = self.live = self.mask = None
        self._leave(outer)

    # -- accumulators

    def _declare(self, s: Declare, following: Sequence[Stmt]) -> None:
        uses = set()
        for statement in following:
            uses |= self.facts.bodies[id(statement)].updates.get(s.name, set())
        functions = {fn for fn, _ in uses}
        vec = self.lane is not None
        partial = not vec and any(lanes for _, lanes in uses)
        if partial and len(functions) > 1:
            names = " and ".join(sorted(functions))
            raise EmitError(f"{s.name} is accumulated across lanes by {names}: only one can be")
        tile = Accumulator(s.dtype, s.shape, min(functions, default="add"), vec, partial)
        count = 1
        for size in s.shape:
            count *= size
        init = self.root(s.init)
        start = self.neutral(tile.fn, s.dtype) if partial else init
        tile.values = [self.splat(start) if tile.wide else start] * count
        tile.base = [init] * count if partial else []
        if s.name in self.facts.dynamic:
            self._to_memory(tile, count)
        self.lets.pop(s.name, None)
        self.tiles[s.name] = tile
        self.memo = {}

    def _to_memory(self, tile: Accumulator, count: int) -> None:
        """Keep a tile in memory on the stack."""
        kinds = [self.memory_types[tile.wide][tile.dtype], self.memory_types[0][tile.dtype]]
        cells = []
        for kind in kinds:
            name = self.name("tile")
            self.allocas.append(f"  {name} = alloca [{count} x {kind}], align 64")
            cells.append(Reg(name, "ptr"))
        tile.memory = (cells[0], cells[1])
        for part, values in enumerate((tile.values, tile.base)):
            for i, reg in enumerate(values):
                self._set(tile, i, part, reg)

    allocas: list[str]

    def _set(self, tile: Accumulator, at: Reg | int, part: int, reg: Reg) -> None:
        if tile.memory is None:
            assert isinstance(at, int)
            (tile.base if part else tile.values)[at] = reg
            return
        kind, ref = self.to_memory(reg)
        self.line(f"store {kind} {ref}, ptr {self.cell(tile, at, part)}")

    def to_memory(self, reg: Reg) -> tuple[str, str]:
        """Type and name of a register as it is stored: a bool is a byte."""
        kind = self.memory_types[reg.vec][reg.dtype]
        if reg.dtype != "bool":
            return kind, reg.ref
        return kind, self.pure(
            f"zext {self.types[reg.vec]['bool']} {reg.ref} to {kind}", "int8", reg.vec, reg.depth
        ).ref

    def _accumulate(self, s: Accumulate) -> None:
        tile = self.tiles.get(s.name)
        if tile is None:
            raise EmitError(f"accumulator {s.name!r} is not declared here")
        at = self.subscript(tile, s.name, s.at)
        across = self.lane is not None and tile.partial
        part = int(tile.partial and not across)
        old = self.current(tile, at, part)
        v = s.value
        if s.fn == "add" and type(v) is Op and v.fn == "mul" and v.dtype == tile.dtype:
            a, b = self.root(v.args[0]), self.root(v.args[1])
            new = self.multiply_add(a, b, old)
        else:
            new = self.combine(s.fn, old, self.root(v))
        if new.vec and not old.vec:
            raise EmitError(f"{s.name} is one number, what is accumulated differs by lane")
        if across and self.mask is not None:
            new = self.select(self.mask, new, old)
        self._set(tile, at, part, new)
        self.memo = {}

    # -- memory

    def _store(self, s: Store) -> None:
        value = self.root(s.value)
        when = None if s.when is None else self.root(s.when)
        if when is not None and when.number is not None and not when.vec:
            if not when.number:
                return
            when = None
        place = self.place(s.buffer, s.index)
        dtype = self.pointers[s.buffer][1]
        if dtype != value.dtype:
            raise EmitError(f"{s.buffer} holds {dtype}, not {value.dtype}")
        mask = None if s.full else self.mask
        if when is not None and when.vec:
            mask, when = (when if self.mask is None else self.both(self.mask, when)), None
        if place.kind == "one":
            self._store_one(value, dtype, place.pointer, when, mask)
        else:
            value = self.splat(value)
            self.to_memory(value)  # in front of the branch, so that it can be used behind it
            with_branch = self._branch(when)
            self._store_vector(value, dtype, place.pointer, place.kind, mask)
            self._join(with_branch)
        self._invalidate({s.buffer})

    def _store_one(
        self, value: Reg, dtype: str, pointer: Reg, when: Reg | None, mask: Reg | None
    ) -> None:
        """All lanes to one element: the last one that stores wins."""
        if self.lane is None or (mask is None and not value.vec):
            kind, ref = self.to_memory(value)
        elif mask is None:
            kind, ref = self.to_memory(self.lane_of(value, self.lanes - 1))
        else:
            last = self._last(mask)
            some = self.binary("icmp sge", last, self.const(0, "int64"), "bool")
            when = some if when is None else self.both(when, some)
            inside = self.binary("and", last, self.const(self.lanes - 1, "int64"))
            kind, ref = self.to_memory(self.lane_of(value, inside) if value.vec else value)
        branch = self._branch(when)
        self.line(f"store {kind} {ref}, ptr {pointer.ref}, align {ITEMSIZE[dtype]}")
        self._join(branch)

    def _last(self, mask: Reg) -> Reg:
        """The highest lane of a mask, -1 if there is none."""
        wide = f"i{self.lanes}"
        bits = self.here(f"bitcast <{self.lanes} x i1> {mask.ref} to {wide}", "int64", False).ref
        extended = self.here(f"zext {wide} {bits} to i64", "int64", False)
        zeros = self.intrinsic("ctlz", extended, flag="i1 false")
        return self.binary("sub", self.const(63, "int64"), zeros)

    def _branch(self, when: Reg | None) -> str | None:
        """Skip what follows, up to `_join`, unless `when`."""
        if when is None:
            return None
        then, done = self.label("then"), self.label("end")
        self.line(f"br i1 {when.ref}, label %{then}, label %{done}")
        self.open_block(then)
        return done

    def _join(self, done: str | None) -> None:
        if done is not None:
            self.line(f"br label %{done}")
            self.open_block(done)

    def _store_vector(
        self, value: Reg, dtype: str, pointer: Reg, kind: str, mask: Reg | None
    ) -> None:
        type_, ref = self.to_memory(value)
        if kind == "each":
            kinds, bits = f"<{self.lanes} x ptr>", f"<{self.lanes} x i1>"
            name = f"llvm.masked.scatter.{self.suffix(dtype)}.v{self.lanes}p0"
            self.declare(name, f"declare void @{name}({type_}, {kinds}, i32, {bits})")
            which = mask.ref if mask is not None else "splat (i1 true)"
            self.line(
                f"call void @{name}({type_} {ref}, {kinds} {pointer.ref}, "
                f"i32 {ITEMSIZE[dtype]}, {bits} {which})"
            )
        elif mask is not None:
            self.masked_store(type_, ref, dtype, pointer, mask)
        else:
            self.line(f"store {type_} {ref}, ptr {pointer.ref}, align {ITEMSIZE[dtype]}")

    def masked_store(self, type_: str, ref: str, dtype: str, pointer: Reg, mask: Reg) -> None:
        """Consecutive elements where the mask is set."""
        name = f"llvm.masked.store.{self.suffix(dtype)}.p0"
        bits = f"<{self.lanes} x i1>"
        self.declare(name, f"declare void @{name}({type_}, ptr, i32, {bits})")
        self.line(
            f"call void @{name}({type_} {ref}, ptr {pointer.ref}, i32 {item_bytes(dtype)}, "
            f"{bits} {mask.ref})"
        )

    def _prefetch(self, s: Prefetch) -> None:
        pointer = self.place(s.buffer, s.index).pointer
        self.declare("llvm.prefetch.p0", "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        self.line(f"call void @llvm.prefetch.p0(ptr {pointer.ref}, i32 0, i32 3, i32 1)")

    def _scatter(self, s: Scatter) -> None:
        value, place = self.root(s.value), self.place(s.buffer, s.index)
        dtype = self.pointers[s.buffer][1]
        if self.lane is None:
            old = self.load(s.buffer, dtype, place.pointer, "one", None)
            kind, ref = self.to_memory(self.combine("add", old, value))
            self.line(f"store {kind} {ref}, ptr {place.pointer.ref}, align {ITEMSIZE[dtype]}")
        elif place.kind == "row":
            old = self.load(s.buffer, dtype, place.pointer, "row", self.mask)
            new = self.combine("add", old, self.splat(value))
            self._store_vector(new, dtype, place.pointer, "row", self.mask)
        else:
            self._scatter_each(value, dtype, place.pointer)
        self._invalidate({s.buffer})

    def _scatter_each(self, value: Reg, dtype: str, pointer: Reg) -> None:
        """A loop over the live lanes: vectors are put in memory, to be read by element."""
        scalar, count = self.memory_types[0][dtype], self.lanes
        values = self._spill(f"[{count} x {scalar}]", value) if value.vec else None
        pointers = self._spill(f"[{count} x ptr]", pointer) if pointer.vec else None
        live = count if self.live is None else self.live
        single = self.to_memory(value)[1]
        stop = str(live) if isinstance(live, int) else live.ref
        head, done, entry = self.label("lane"), self.label("end_lane"), self.block
        test, lane, following = self.name(), self.name("lane"), self.name()
        bounded, clamped = self.name(), self.name()
        self.line(f"{bounded} = icmp slt i64 {stop}, {count}")
        self.line(f"{clamped} = select i1 {bounded}, i64 {stop}, i64 {count}")
        self.line(f"{test} = icmp sgt i64 {stop}, 0")
        self.line(f"br i1 {test}, label %{head}, label %{done}")
        self.open_block(head)
        self.line(f"{lane} = phi i64 [ 0, %{entry} ], [ {following}, %{head} ]")
        to = pointer.ref if pointers is None else self._element("ptr", pointers, lane)
        new = single if values is None else self._element(scalar, values, lane)
        old, total = self.name(), self.name()
        opcode = "or" if dtype == "bool" else "fadd" if dtype.startswith("f") else "add"
        self.line(f"{old} = load {scalar}, ptr {to}, align {ITEMSIZE[dtype]}")
        self.line(f"{total} = {opcode} {scalar} {old}, {new}")
        self.line(f"store {scalar} {total}, ptr {to}, align {ITEMSIZE[dtype]}")
        self.line(f"{following} = add nuw nsw i64 {lane}, 1")
        more = self.name()
        self.line(f"{more} = icmp slt i64 {following}, {clamped}")
        self.line(f"br i1 {more}, label %{head}, label %{done}")
        self.open_block(done)

    def _spill(self, kind: str, reg: Reg) -> str:
        name = self.name("spill")
        self.allocas.append(f"  {name} = alloca {kind}, align 64")
        if reg.dtype == "ptr":
            type_, ref = f"<{self.lanes} x ptr>", reg.ref
        else:
            type_, ref = self.to_memory(reg)
        self.line(f"store {type_} {ref}, ptr {name}, align 64")
        return name

    def _element(self, kind: str, base: str, index: str) -> str:
        pointer, value = self.name(), self.name()
        self.line(f"{pointer} = getelementptr {kind}, ptr {base}, i64 {index}")
        self.line(f"{value} = load {kind}, ptr {pointer}")
        return value
