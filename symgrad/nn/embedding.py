"""A table of vectors looked up by integer.

>>> Embedding(100, 16, name="tokens")(Input("t", (8, 12), "int32")).shape
(8, 12, 16)
"""

from __future__ import annotations

from typing import Any

from symgrad import init as initialisers
from symgrad import ops
from symgrad.nn.linear import check_sizes
from symgrad.nn.module import Module, declared
from symgrad.node import Expr, Parameter


class Embedding(Module):
    """Row `i` of `weight` (count, width) for every index i; starts normal(0, 1), as in PyTorch."""

    def __init__(
        self,
        count: int,
        width: int,
        *,
        init: Any = None,
        name: str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(name, dtype)
        check_sizes(self.label, count=count, width=width)
        self.count, self.width = count, width
        self.init = initialisers.normal() if init is None else init

    @declared
    def weight(self) -> Parameter:
        return self._parameter("weight", (self.count, self.width), self.init)

    def __call__(self, indices: Expr) -> Expr:
        return ops.take(self.weight, indices, axis=0)
