"""Multi-head attention.

>>> MultiHeadAttention(64, 4, name="mha")(Input("x", (8, 16, 64)), causal=True).shape
(8, 16, 64)
"""

from __future__ import annotations

import math
from typing import Any

from symgrad import init as initialisers
from symgrad import ops, source
from symgrad.errors import ShapeError
from symgrad.nn import functional
from symgrad.nn.linear import Linear, check_sizes
from symgrad.nn.module import Module
from symgrad.node import Expr
from symgrad.ops.core import as_expr
from symgrad.sizes import show


class MultiHeadAttention(Module):
    """Attention of `heads` heads over (..., t, features), with projections before and after.

    PyTorch's `MultiheadAttention(batch_first=True)`, its initialisation included; the three input
    projections are separate layers (`query`, `key`, `value`), the last one is `out`.
    """

    def __init__(
        self,
        features: int,
        heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        *,
        name: str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(name, dtype)
        check_sizes(self.label, features=features, heads=heads)
        if features % heads:
            raise ShapeError(
                f"{self.label}: {features} features do not make {heads} heads"
                + source.quote(source.here())
            )
        self.features, self.heads = features, heads
        self.p = functional.check_probability(self.label, dropout)
        # Xavier's bound for the three projections seen as one (features, 3 features) matrix.
        bound = math.sqrt(6 / (4 * features))
        start = initialisers.uniform(-bound, bound)
        zero = initialisers.zeros()

        def projection(rule: Any) -> Linear:
            return Linear(features, features, bias, init=rule, bias_init=zero, dtype=dtype)

        self.query, self.key, self.value = projection(start), projection(start), projection(start)
        self.out = projection(None)

    def _prefix(self) -> str:
        return self.path  # also an unnamed one names its projections: multi_head_attention1.query

    def __call__(
        self,
        query: Expr,
        key: Expr | None = None,
        value: Expr | None = None,
        mask: Any = None,
        causal: bool = False,
        training: bool = False,
    ) -> Expr:
        """Self-attention when only `query` is given; the key is the value unless it is given."""
        query = as_expr(self.label, query)
        key = query if key is None else as_expr(self.label, key)
        value = key if value is None else as_expr(self.label, value)
        q = self._split(self.query(query))
        k = self._split(self.key(key))
        v = self._split(self.value(value))
        p = self.p if training else 0.0
        mixed = functional.attention(q, k, v, mask, causal, dropout_p=p)
        axes = (*range(mixed.ndim - 3), mixed.ndim - 2, mixed.ndim - 3, mixed.ndim - 1)
        joined = ops.transpose(mixed, axes)
        return self.out(ops.reshape(joined, (*joined.shape[:-2], self.features)))

    def _split(self, x: Expr) -> Expr:
        """(..., t, features) to (..., heads, t, features/heads)."""
        if x.ndim < 2:
            raise ShapeError(
                f"{self.label}: takes (..., t, {self.features}), got {show(x.shape)}"
                + source.quote(source.here())
            )
        y = ops.reshape(x, (*x.shape[:-1], self.heads, self.features // self.heads))
        return ops.transpose(y, (*range(y.ndim - 3), y.ndim - 2, y.ndim - 3, y.ndim - 1))
