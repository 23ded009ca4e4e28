"""Activations that have parameters.

>>> [p.name for p in PReLU(name="act").parameters()]
['act.weight']
"""

from __future__ import annotations

from typing import Any

from symgrad import init as initialisers
from symgrad.checks import number
from symgrad.nn import functional
from symgrad.nn.linear import check_sizes
from symgrad.nn.module import Module, declared
from symgrad.node import Expr, Parameter


class PReLU(Module):
    """x where x > 0, weight * x elsewhere; one learned slope, or one for each channel (axis 1)."""

    def __init__(
        self,
        num_parameters: int = 1,
        init: float = 0.25,
        *,
        name: str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(name, dtype)
        check_sizes(self.label, num_parameters=num_parameters)
        self.num_parameters = num_parameters
        self.init = number(self.label, "init", init, "(-inf, inf)")

    @classmethod
    def _kind(cls) -> str:
        return "prelu"

    @declared
    def weight(self) -> Parameter:
        start = initialisers.constant(self.init)
        return self._parameter("weight", (self.num_parameters,), start, role="slope")

    def __call__(self, x: Expr) -> Expr:
        return functional.prelu(x, self.weight)
