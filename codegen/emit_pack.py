"""Many scalars at once: what is done with sums across lanes, element after element, by vectors.

In: an unrolled loop nest outside of `Lanes` that reads a tile of accumulators kept per lane, and
stores what it makes of them. Out: vectors with one element of the tile per lane. The tile's sums
share one butterfly of shuffles, and an optimizer's update of 16 weights is 16 lanes wide.

    for i in 0..3: for j in 0..3: w[4*i + j] -= rate * acc[i, j]
    ->  w[0:16] -= rate * butterfly(acc)
"""

from __future__ import annotations

from typing import Iterator, Sequence

from codegen import vecmath
from codegen.emit_address import Binding, Place
from codegen.emit_builder import EmitError, Reg
from codegen.emit_transpose import Transposes
from codegen.functions import FUNCTIONS
from codegen.loops import ITEMSIZE, For, Get, Index, Let, Load, Op, Poly, Stmt, Store, Value

Point = dict[str, Binding]  # the bindings of one element


class Packing(Transposes):
    """Replaces the writing out of such loops."""

    points: list[Point]
    packed: dict[int, Reg]
    packed_lets: dict[str, Reg]

    def _copies(self, s: For, values: range) -> None:
        nest = _nest(s) if self.lane is None and s.unroll > 1 else None
        if nest is None or not self._worthwhile(nest):
            super()._copies(s, values)
            return
        loops, leaves = nest
        outer = self._enter(s)
        points = list(self._points(loops, values))
        for first in range(0, len(points), self.lanes):
            self.points = points[first : first + self.lanes]
            self.packed_lets = {}
            for leaf in leaves:
                self.packed = {}
                if isinstance(leaf, Let):
                    self.packed_lets[leaf.name] = self._pack(leaf.value)
                else:
                    self._store_packed(leaf)
        self._leave(outer)

    def _points(self, loops: Sequence[For], values: range) -> Iterator[Point]:
        points: list[Point] = [{**self.env, loops[0].var: i} for i in values]
        for loop in loops[1:]:
            extent = loop.extent.constant or 0
            points = [{**p, loop.var: i} for p in points for i in range(extent)]
        return iter(points)

    def _worthwhile(self, nest: tuple[list[For], list[Let | Store]]) -> bool:
        """Whether the nest reads sums across lanes, and elements do not depend on each other: what
        it stores it reads at the same index only."""
        loops, leaves = nest
        values = [v for leaf in leaves for v in _walk(leaf.value)]
        tiles = [self.tiles.get(v.name) for v in values if isinstance(v, Get)]
        if not any(t is not None and t.partial and t.memory is None for t in tiles):
            return False
        names = {leaf.name for leaf in leaves if isinstance(leaf, Let)}
        stores = [leaf for leaf in leaves if isinstance(leaf, Store)]
        loads = [v for v in values if isinstance(v, Load)]
        accesses: list[Store | Load] = [*stores, *loads]
        for access in accesses:
            if access.when is not None or access.index.names & names:
                return False
        for store in stores:
            same = self._touched({store.buffer})
            others = [a for a in accesses if a.buffer in same]
            if any(other.index != store.index for other in others):
                return False
        return not any(isinstance(v, Index) and v.poly.names & names for v in values)

    # -- values

    def _pack(self, v: Value) -> Reg:
        """One element per lane; a scalar where all are the same."""
        found = self.packed.get(id(v))
        if found is None:
            found = self.packed[id(v)] = self._pack_new(v)
        return found

    def _pack_new(self, v: Value) -> Reg:
        if isinstance(v, Get):
            if v.name in self.packed_lets:
                return self.packed_lets[v.name]
            if v.name in self.tiles and v.name not in self.lets:
                return self._pack_tile(v)
        elif isinstance(v, Op):
            if not FUNCTIONS[v.fn].primitive:
                lowered = self.lowered.get(id(v))
                if lowered is None:
                    lowered = self.lowered[id(v)] = vecmath.lower(v, self.target)
                return self._pack(lowered)
            return self.apply(v.fn, [self._pack(a) for a in v.args], v.dtype)
        elif isinstance(v, Load):
            return self._pack_load(v)
        return self._join_lanes([self._at(p, v) for p in self.points])

    def _at(self, point: Point, v: Value) -> Reg:
        """The value of one element."""
        self.env, self.memo = point, {}
        return self.value(v)

    def _pack_tile(self, v: Get) -> Reg:
        tile = self.tiles[v.name]
        at = []
        for point in self.points:
            self.env = point
            at.append(self.subscript(tile, v.name, v.at))
        if not tile.partial or tile.memory is not None:
            return self._join_lanes([self.read(tile, i) for i in at])
        sums = self.reduce_many([self.current(tile, i, 0) for i in at], tile.fn)
        return self.fold(tile, self._join_lanes([self.current(tile, i, 1) for i in at]), sums)

    def _pack_load(self, v: Load) -> Reg:
        dtype = self.pointers[v.buffer][1] if v.buffer in self.pointers else v.dtype
        place = self._packed_place(v.buffer, v.index)
        if place is None or dtype != v.dtype:
            return self._join_lanes([self._at(p, v) for p in self.points])
        return self.load(v.buffer, dtype, place.pointer, place.kind, self._used(place))

    def _join_lanes(self, regs: Sequence[Reg]) -> Reg:
        """Scalars as a vector."""
        if all(r is regs[0] for r in regs):
            return regs[0]
        kind = self.types[1][regs[0].dtype]
        total = Reg("poison", regs[0].dtype, True)
        for i, reg in enumerate(regs):
            total = self.pure(
                f"insertelement {kind} {total.ref}, {self.type_of(reg)} {reg.ref}, i64 {i}",
                reg.dtype,
                True,
                max(total.depth, reg.depth),
            )
        return total

    # -- memory

    def _packed_place(self, buffer: str, index: Poly) -> Place | None:
        """Where the elements are, if they are all one or follow each other."""
        places = []
        for point in self.points:
            self.env = point
            places.append(self._terms(index))
        constant, terms = places[0]
        self.env = self.points[0]
        if any(t != terms for _, t in places):
            return None
        steps = {c - constant - i for i, (c, _) in enumerate(places)}
        if steps == {0} and len(self.points) > 1:
            return Place(self.place(buffer, index).pointer, "row")
        if all(c == constant for c, _ in places):
            return Place(self.place(buffer, index).pointer, "one")
        return None

    def _used(self, place: Place) -> Reg | None:
        """The mask of the elements there are."""
        return self.first_lanes(len(self.points)) if place.kind == "row" else None

    def _store_packed(self, s: Store) -> None:
        value = self._pack(s.value)
        dtype = self.pointers[s.buffer][1] if s.buffer in self.pointers else value.dtype
        if dtype != value.dtype:
            raise EmitError(f"{s.buffer} holds {dtype}, not {value.dtype}")
        place = self._packed_place(s.buffer, s.index)
        if place is not None and place.kind == "row":
            mask = self._used(place)
            self._store_vector(self.splat(value), dtype, place.pointer, "row", mask)
        else:
            for i, point in enumerate(self.points):
                self.env = point
                pointer = self.place(s.buffer, s.index).pointer
                kind, ref = self.to_memory(self.lane_of(value, i) if value.vec else value)
                self.line(f"store {kind} {ref}, ptr {pointer.ref}, align {ITEMSIZE[dtype]}")
        self._invalidate({s.buffer})


def _nest(s: For) -> tuple[list[For], list[Let | Store]] | None:
    """Loops to be written out around nothing but names and stores."""
    loops = [s]
    body: Sequence[Stmt] = s.body
    while len(body) == 1 and isinstance(body[0], For):
        loop = body[0]
        extent = loop.extent.constant
        if extent is None or loop.unroll < extent or loop.extent.names:
            return None
        loops.append(loop)
        body = loop.body
    leaves = [leaf for leaf in body if isinstance(leaf, (Let, Store))]
    if len(leaves) < len(body):
        return None
    return loops, leaves


def _walk(root: Value) -> Iterator[Value]:
    stack, seen = [root], set()
    while stack:
        v = stack.pop()
        if id(v) in seen:
            continue
        seen.add(id(v))
        yield v
        if isinstance(v, Op):
            stack.extend(v.args)
        elif isinstance(v, Load) and v.when is not None:
            stack.append(v.when)
