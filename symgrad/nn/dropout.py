"""Dropout as a layer."""

from __future__ import annotations

from symgrad.nn import functional
from symgrad.nn.module import Module
from symgrad.node import Expr


class Dropout(Module):
    """With `training=True` each element is zero with probability p, the others times 1/(1 - p).

    The identity otherwise. Called with `training=True` at test time it gives Monte-Carlo dropout.
    """

    def __init__(self, p: float = 0.5, *, name: str | None = None) -> None:
        super().__init__(name)
        self.p = functional.check_probability(self.label, p)

    def __call__(self, x: Expr, training: bool = False) -> Expr:
        return functional.dropout(x, self.p, training)
