"""A table of vectors looked up by integer.

>>> Embedding(100, 16, name="tokens")(Input("t", (8, 12), "int32")).shape
(8, 12, 16)
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from symgrad import init as initialisers
from symgrad import ops
from symgrad.checks import bad
from symgrad.nn.linear import check_sizes
from symgrad.nn.module import Module, declared
from symgrad.node import Expr, Map, Parameter


class Embedding(Module):
    """Row i of `weight` (count, width) for every index i: (...) to (..., width).

    Starts normal(0, 1). The row `padding_idx` starts at 0 and gets no gradient. PyTorch's
    Embedding. ShapeError for sizes that are no positive ints, InputError for a padding_idx (and,
    when called, an index) outside 0..count-1.
    """

    def __init__(
        self,
        count: int,
        width: int,
        padding_idx: int | None = None,
        *,
        init: Any = None,
        name: str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(name, dtype)
        check_sizes(self.label, count=count, width=width)
        self.count, self.width = count, width
        self.init = initialisers.normal() if init is None else init
        self.padding_idx = padding_idx
        whole = isinstance(padding_idx, int) and not isinstance(padding_idx, bool)
        if padding_idx is not None and not (whole and 0 <= padding_idx < count):
            raise bad(
                self.label, f"padding_idx must be an int in 0..{count - 1}, got {padding_idx!r}"
            )

    @declared
    def weight(self) -> Parameter:
        start = self.init
        if self.padding_idx is not None:
            start = functools.partial(_without_row, initial=self.init, row=self.padding_idx)
        return self._parameter("weight", (self.count, self.width), start)

    def __call__(self, indices: Expr) -> Expr:
        found = ops.take(self.weight, indices, axis=0)
        if self.padding_idx is None:
            return found
        padding = ops.expand_dims(ops.equal(indices, self.padding_idx), -1)
        return ops.where(padding, Map.of("stop_gradient", found), found)


def _without_row(shape: Any, rng: Any, initial: Any, row: int) -> Any:
    """An initial value with zeros in one row."""
    value = np.array(initial(shape, rng) if callable(initial) else initial, "float64")
    value = np.broadcast_to(value, shape).copy()
    value[row] = 0
    return value
