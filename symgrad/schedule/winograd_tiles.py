"""What all kernels of Winograd's convolutions have in common: tiles and transformed patches.

In: a `Plan`, what follows the convolution elementwise, where operands lie and results go. Out:
loops over the tiles of an image, some at a time, and over the channels of each of them, which put
transformed patches of the image into memory of the kernel's own:

    for t in tiles, for c:        V[:, t, c] = B^T d B                       of the inputs d of t

Tiles are numbered through the whole image, whatever its width is. Samples are in lanes.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Iterator, Mapping, Sequence

from codegen.loops import Const, Index, Op, Poly, Store, Value
from codegen.target import Target
from symgrad.node import Expr
from symgrad.schedule.layout import Layout
from symgrad.schedule.symbols import divide
from symgrad.schedule.winograd import Plan
from symgrad.schedule.winograd_transforms import apply_both
from symgrad.schedule.writer import At, Memory, Writer

LIGHT = 4  # operations of an epilogue that is written out for every result of a transform
Tests = Sequence["Value | None"]  # one for each of some elements; None: it is always there
Place = tuple[Poly, Poly]  # row and column


@dataclass
class Tiles:
    """Writes the part that reads the image."""

    plan: Plan
    epilogue: Sequence[Expr]  # elementwise nodes after it, operands first
    cost: int  # operations of the epilogue
    stored: Mapping[Expr, tuple[str, Layout]]  # what of it goes to memory
    memory: Memory
    target: Target
    copies: Mapping[Expr, tuple[str, Layout]]  # operands in the layout they are read in

    def __post_init__(self) -> None:
        plan = self.plan
        self.w = self._writer()
        self.s, self.lanes = self.memory.symbols, self.memory.symbols.lanes
        self.n, self.dtype, self.algorithm = plan.n, plan.n.dtype, plan.algorithm
        self.inner, self.outer = plan.size(plan.inner), plan.size(plan.outer)
        self.batch = self.n.extents[plan.batch]
        self.count = plan.tiles[0] * plan.tiles[1]
        self.light = self.cost <= LIGHT
        self.width = self._width()  # tiles at a time
        self.block, self.first = Poly(), Poly()  # of samples; number of the first tile
        self.rows = self._odd(self.width * self._channels())  # vectors of a position
        self.v = self._scratch("patches", (self.algorithm.positions + self._spare()) * self.rows)

    def _writer(self) -> Writer:
        w = Writer(self.memory)
        w.copies = dict(self.copies)
        return w

    def _width(self) -> int:
        raise NotImplementedError

    def _channels(self) -> int:
        """Vectors that a tile takes at each position."""
        return self.inner

    def _spare(self) -> int:
        """Positions for which there is memory besides those of a patch."""
        return 0

    def _odd(self, vectors: int) -> int:
        """Vectors of a position, made odd: positions then start in different cache sets."""
        return vectors | 1

    def _scratch(self, name: str, vectors: int) -> str:
        """Memory that is used within a turn of the outermost loop only."""
        return self.memory.fresh_buffer(name, self.dtype, vectors * self.lanes, "private")

    # -- tiles ----------------------------------------------------------------------------------
    def _live_tiles(self) -> Poly:
        """How many tiles there are from the first on: at the end they may be fewer."""
        if self.count % self.width == 0:
            return Poly.of(self.width)
        return self._least(Poly.of(self.count) - self.first, self.width)

    def _least(self, number: Poly, most: int) -> Poly:
        found = Op("minimum", (Index(number, "int64"), Const(most, "int64")), "int64")
        return self.w.integer(found, most + 1, "least")

    def _divided(self, number: Poly, by: int, below: int) -> tuple[Poly, Poly]:
        """Quotient, which is smaller than `below`, and remainder."""
        found = divide(number, by, self.w.bounds)
        if found is not None:
            return found
        q = Op("div_int", (Index(number, "int64"), Const(by, "int64")), "int64")
        quotient = self.w.integer(q, below, "q")
        return quotient, number - quotient * by

    @contextmanager
    def _tiles(self, live: Poly) -> Iterator[tuple[Poly, Place]]:
        """The loop over tiles: the number among those at hand, the first place."""
        m, (down, across) = self.algorithm.outputs, self.plan.tiles
        with self.w.loop("t", live) as t:
            row, column = self._divided(self.first + t, across, down)
            yield t, (row * m, column * m)

    def _turns(self, condition: Value) -> Poly:
        """1 where the condition holds, else 0: the turns of a loop over what depends on it."""
        one, zero = Const(1, "int64"), Const(0, "int64")
        return self.w.integer(Op("where", (condition, one, zero), "int64"), 2, "turns")

    def _places_there(self, place: Place) -> tuple[list[Poly], list[Poly]]:
        """For the rows and the columns of a tile 1 where they exist, else 0."""
        return self._there(0, place[0]), self._there(1, place[1])

    def _there(self, axis: int, first: Poly) -> list[Poly]:
        m, size = self.algorithm.outputs, self.plan.size(self.plan.places[axis])
        found = []
        for i in range(m):
            inside = Op("less", (Index(first + i, "int64"), Const(size, "int64")), "bool")
            found.append(Poly.of(1) if i < (size % m or m) else self._turns(inside))
        return found

    # -- patches of the image -------------------------------------------------------------------
    def _transform_inputs(self, live: Poly) -> None:
        """Patches inside of the image are read as they are; at its border every input is asked
        for."""
        with self._tiles(live) as (t, place):
            first = (place[0] + self.plan.shift[0], place[1] + self.plan.shift[1])
            tests = [self._inside(axis, first[axis]) for axis in (0, 1)]
            within = every([*tests[0], *tests[1]])
            anywhere: Tests = [None] * self.algorithm.size
            if within is None:
                self._patch(t, first, (anywhere, anywhere))
                return
            turns = self._turns(within)
            with self.w.loop("if", turns):
                self._patch(t, first, (anywhere, anywhere))
            with self.w.loop("if", 1 - turns):
                self._patch(t, first, (tests[0], tests[1]))

    def _inside(self, axis: int, first: Poly) -> Tests:
        """For each input of a patch along an axis, whether it is in the image."""
        size, low = self.plan.windows.axes[axis].size, self.plan.shift[axis]
        high = low + (self.plan.tiles[axis] - 1) * self.algorithm.outputs
        found: list[Value | None] = []
        for i in range(self.algorithm.size):
            here = Index(first + i, "int64")
            tests: list[Value] = []
            if low + i < 0:
                tests.append(Op("greater_equal", (here, Const(0, "int64")), "bool"))
            if high + i >= size:
                tests.append(Op("less", (here, Const(size, "int64")), "bool"))
            test = every(tests)
            found.append(test and self.w.let(test, "inside"))
        return found

    def _patch(self, t: Poly, first: Place, tests: tuple[Tests, Tests]) -> None:
        """The transformed inputs of a tile, channel after channel."""
        w, size = self.w, range(self.algorithm.size)
        name = w.touch(self.v, "w")
        with w.loop("c", self.inner) as c, w.vector(None) as lane:

            def load(i: int, j: int) -> Value:
                at = self._image_index((first[0] + i, first[1] + j), c, lane)
                return w.load(self.plan.windows.base, at, every([tests[0][i], tests[1][j]]))

            patch = [[load(i, j) for j in size] for i in size]
            result = apply_both(self.algorithm.inputs, patch, w.let)
            for p, value in enumerate(v for row in result for v in row):
                row = t * self.inner + c + self._kept_at(p) * self.rows
                w.body.append(Store(name, row * self.lanes + lane, value, None, True))

    def _image_index(self, place: Place, c: Poly, lane: Poly) -> At:
        found = self.plan.windows
        known = {self.plan.batch: self.block * self.lanes + lane, self.plan.inner: c}
        index = [known.get(f.label, Poly()) if f.label is not None else Poly() for f in found.forms]
        for slide, poly in zip(found.axes, place):
            index[slide.axis] = poly
        return tuple(index)

    def _kept_at(self, position: int) -> int:
        """Where a position of the transformed patch is kept."""
        return position

    # -- results --------------------------------------------------------------------------------
    def _finish(self, w: Writer, index: At, value: Value, live: Value | None) -> None:
        """The epilogue and the stores of one result. Plain operands of the epilogue end before
        lanes that are idle."""
        if self.epilogue:
            value = w.let(value, "v")
            w.live = live
        w.bind(self.n, index, value)
        for node in self.epilogue:
            w.bind(node, index, w.let(w.compute(node, index), "e"))
        for node in [self.n, *self.epilogue]:  # after all loads: a state may be overwritten
            if node in self.stored:
                name, layout = self.stored[node]
                w.store(name, layout, node, index, w.value(node, index))
        w.live = None


def every(tests: Tests) -> Value | None:
    """All of the tests there are."""
    found: Value | None = None
    for test in tests:
        if test is not None:
            found = test if found is None else Op("logical_and", (found, test), "bool")
    return found
