"""What a call gives back: arrays that belong to the caller.

In: an output of a compiled function. Out: an `Output`: `ready()` before each call, `take(sizes)`
after it. Small results are copied; large ones are handed out, see `codegen.results`.

>>> output.ready(); function.call(x); y = output.take({"batch": 64})
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from codegen.call import Function
from codegen.results import LARGE, Place, counted
from symgrad.node import Expr
from symgrad.sizes import Dim, value

Array = np.ndarray[Any, Any]


class Output:
    """Where a result lies and what it looks like; `alone` says that its buffer is no other
    output's too."""

    def __init__(
        self, name: str, node: Expr, function: Function, buffer: str, alone: bool = True
    ) -> None:
        self.name, self.node = name, node
        self.memory = function.output(buffer)  # one-dimensional, at the planned maximum
        self.fixed: tuple[int, ...] | None = None
        if not any(isinstance(s, Dim) for s in node.shape):
            self.fixed = tuple(int(s) for s in node.shape)  # type: ignore[arg-type]
        mine = alone and function.buffers[buffer].role == "output"
        large = self.memory.nbytes >= LARGE and counted()
        self.place = Place(function, buffer) if mine and large else None

    def ready(self) -> None:
        """Before a call: it will not write into a result that someone holds."""
        if self.place is not None:
            self.place.choose()

    def take(self, sizes: Mapping[str, int]) -> Array:
        """After a call: the result, which no later call changes."""
        if self.fixed is None:
            shape = tuple(value(s, dict(sizes)) for s in self.node.shape)
        else:
            shape = self.fixed
        if self.place is not None:
            return self.place.hand(shape)
        return self.memory[: math.prod(shape)].reshape(shape).copy()

    def taker(self, shape: tuple[int, ...]) -> Callable[[], Array]:
        """`take` for a shape that stays the same, with the view made beforehand."""
        if self.place is not None:
            return functools.partial(self.place.hand, shape)
        return self.memory[: math.prod(shape)].reshape(shape).copy
