"""Fully connected layers.

>>> Linear(64, 10, name="fc")(Input("x", (32, 64))).shape
(32, 10)
"""

from __future__ import annotations

from typing import Any

from symgrad import init as initialisers
from symgrad import ops, source
from symgrad.errors import ShapeError
from symgrad.nn.module import Module, declared
from symgrad.node import Expr, Parameter
from symgrad.ops.core import as_expr
from symgrad.sizes import show


class Linear(Module):
    """x @ weight + bias on the last axis: (..., in) to (..., out).

    `weight` has shape (in, out): the transpose of PyTorch's. Both start uniform in
    (-1/sqrt(in), 1/sqrt(in)), PyTorch's default, unless `init` or `bias_init` say otherwise.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        init: Any = None,
        bias_init: Any = None,
        name: str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(name, dtype)
        check_sizes(self.label, in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        self.has_bias = bias
        bound = in_features**-0.5
        default = initialisers.uniform(-bound, bound)
        self.init = default if init is None else init
        self.bias_init = default if bias_init is None else bias_init

    @declared
    def weight(self) -> Parameter:
        return self._parameter("weight", (self.in_features, self.out_features), self.init)

    @declared
    def bias(self) -> Parameter | None:
        if not self.has_bias:
            return None
        return self._parameter("bias", (self.out_features,), self.bias_init, role="bias")

    def __call__(self, x: Expr) -> Expr:
        x = as_expr(self.label, x)
        if not x.ndim or x.shape[-1] != self.in_features:
            raise ShapeError(
                f"{self.label}: the input {show(x.shape)} must end in {self.in_features} features"
                + source.quote(source.here())
            )
        y = ops.matmul(x, self.weight)
        return y if self.bias is None else y + self.bias


def check_sizes(label: str, **sizes: Any) -> None:
    """Sizes of a layer must be positive ints."""
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ShapeError(
                f"{label}: {name} must be a positive int, got {size!r}"
                + source.quote(source.here())
            )
