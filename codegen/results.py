"""Memory of large outputs: handed out as it is, and written again when nobody holds it any more.

In: a `Function` and the name of an output. Out: a `Place`: `choose()` before each call,
`hand(shape)` after it. A caller who keeps a result keeps its memory, and the next call writes into
another piece; a result that was dropped costs neither a copy nor fresh pages.

>>> place = Place(function, "y")
>>> place.choose(); function.call(x); y = place.hand((64, 10))
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from codegen.call import Function

Array = np.ndarray[Any, Any]
LARGE = 4096  # bytes: below, a copy takes no longer


class Piece:
    """One piece of memory: `owner` is what every view of it refers to."""

    __slots__ = ("owner", "memory", "address")

    def __init__(self, size: int, dtype: Any) -> None:
        from codegen.call import address, aligned

        self.memory = aligned(size * np.dtype(dtype).itemsize).view(dtype)
        self.owner = self.memory.base
        self.address = address(self.memory)

    def held(self) -> int:
        """How many refer to it."""
        return sys.getrefcount(self.owner)


class Place:
    """Pieces of memory for one output, taken in turns."""

    def __init__(self, function: Function, name: str) -> None:
        buffer = function.buffers[name]
        self.size, self.dtype = buffer.size, function.output(name).dtype
        self.pointers, self.index = function.pointers, function.table[name]
        self.pieces: list[Piece] = []
        self._take(self._new())

    def choose(self) -> None:
        """Before a call: let it write where nobody else looks."""
        if self.piece.held() == ALONE:
            return
        for piece in self.pieces:
            if piece.held() == ALONE:
                return self._take(piece)
        # Pieces that callers keep are theirs alone from now on: they may keep any number.
        self.pieces = self.pieces[-1:]
        self._take(self._new())

    def hand(self, shape: tuple[int, ...]) -> Array:
        """After a call: the result, as the caller's own."""
        count = math.prod(shape)
        result = self.piece.memory[:count].reshape(shape)
        # A small part of it would keep all of the memory.
        return result if 2 * count >= self.size else result.copy()

    def _new(self) -> Piece:
        piece = Piece(self.size, self.dtype)
        self.pieces.append(piece)
        return piece

    def _take(self, piece: Piece) -> None:
        self.piece = piece
        self.pointers[self.index] = piece.address


def counted() -> bool:
    """Whether this Python counts references so that a piece's holders can be told."""
    free = not getattr(sys, "_is_gil_enabled", lambda: True)()
    return sys.implementation.name == "cpython" and not free


ALONE = Piece(1, "float32").held() if counted() else -1
