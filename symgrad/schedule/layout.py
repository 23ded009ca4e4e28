"""How a value lies in memory. The scheduler gives every value a layout; users see plain arrays.

`ROW_MAJOR` is NumPy's C order. `Layout(order, lane)` puts `lanes` consecutive elements of axis
`lane` innermost, the blocks of that axis where `order` names it, all other axes as `order` says:

    activations (rows, features)   order (0, 1), lane 0    [rows/16][features][16]
    weights     (in, out)          order (1, 0), lane 1    [out/16][in][16]   (panels)
    a transposed copy              order (0, 1), lane 1    [rows][features/16][16]

>>> Layout((1, 0), 1).pack(np.ones((3, 20), "float32"), 16).shape
(2, 3, 16)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from symgrad.sizes import Shape, maximum


@dataclass(frozen=True)
class Layout:
    """An order of axes, outermost first, and the axis that is cut into lanes (None: no cut)."""

    order: tuple[int, ...]
    lane: int | None = None

    @property
    def plain(self) -> bool:
        """NumPy's C order."""
        return self.lane is None and self.order == tuple(range(len(self.order)))

    @property
    def stacked(self) -> Layout:
        """That of values in this layout, one behind the other along a new leading axis."""
        lane = None if self.lane is None else self.lane + 1
        return Layout((0, *(a + 1 for a in self.order)), lane)

    @property
    def slice(self) -> Layout | None:
        """That of one index of the leading axis, where it lies in one piece."""
        if self.lane == 0 or self.order[:1] != (0,):
            return None
        lane = None if self.lane is None else self.lane - 1
        return Layout(tuple(a - 1 for a in self.order[1:]), lane)

    def stored(self, shape: Shape, lanes: int) -> tuple[int, ...]:
        """The shape in memory at the planned maximum."""
        sizes = [maximum(s) for s in shape]
        if self.lane is None:
            return tuple(sizes[a] for a in self.order)
        sizes[self.lane] = math.ceil(sizes[self.lane] / lanes)
        return (*(sizes[a] for a in self.order), lanes)

    def elements(self, shape: Shape, lanes: int) -> int:
        """Elements in memory at the planned maximum, padding included."""
        return math.prod(self.stored(shape, lanes))

    def pack(self, array: np.ndarray[Any, Any], lanes: int) -> np.ndarray[Any, Any]:
        """A plain array in this layout, idle lanes zero."""
        memory = np.zeros(self.stored(array.shape, lanes), array.dtype)
        self.fill(memory, array, lanes)
        return memory

    def fill(self, memory: np.ndarray[Any, Any], array: np.ndarray[Any, Any], lanes: int) -> None:
        """Writes a plain array into memory of this layout; idle lanes stay as they are."""
        stored = memory.reshape(self.stored(array.shape, lanes))
        if self.lane is None:
            stored[...] = array.transpose(self.order)
            return
        full = array.shape[self.lane] // lanes
        shape = list(array.shape)
        shape[self.lane : self.lane + 1] = [full, lanes]
        whole, rest = np.split(array, [full * lanes], axis=self.lane)
        axes = [a if a <= self.lane else a + 1 for a in self.order]
        place = self.order.index(self.lane)
        blocks = np.moveaxis(stored, place, 0)  # a view: the blocks of the lane axis first
        np.moveaxis(blocks[:full], 0, place)[...] = whole.reshape(shape).transpose(
            *axes, self.lane + 1
        )
        if rest.size:
            others = [a for a in self.order if a != self.lane]
            blocks[full, ..., : rest.shape[self.lane]] = rest.transpose(*others, self.lane)

    def unpack(
        self, memory: np.ndarray[Any, Any], shape: tuple[int, ...], lanes: int
    ) -> np.ndarray[Any, Any]:
        """The plain array that memory in this layout holds (a copy)."""
        stored = memory.reshape(self.stored(shape, lanes))
        if self.lane is None:
            return np.array(stored.transpose(np.argsort(self.order)), order="C")
        rank = len(shape)
        position = {axis: i for i, axis in enumerate(self.order)}
        axes: list[int] = []
        for a in range(rank):
            axes.append(position[a])
            if a == self.lane:
                axes.append(rank)
        full = stored.transpose(axes).reshape(
            [math.ceil(s / lanes) * lanes if a == self.lane else s for a, s in enumerate(shape)]
        )
        return np.array(full[tuple(slice(s) for s in shape)], order="C")


def row_major(rank: int) -> Layout:
    """NumPy's C order."""
    return Layout(tuple(range(rank)))


def lane_layout(rank: int, axis: int) -> Layout:
    """Blocks of the lane axis outermost, lanes innermost: `[rows/16][...][16]`."""
    return Layout((axis, *(a for a in range(rank) if a != axis)), axis)
