"""Noise drawn natively at every step: on inputs, weights and labels.

In: expressions. Out: expressions with new numbers at each call, the same in every run of one seed.

>>> gaussian_noise(Input("x", (4, 3)), 0.1).shape
(4, 3)
"""

from __future__ import annotations

from typing import Any

from symgrad import dtypes, ops, source
from symgrad.checks import number
from symgrad.errors import DTypeError
from symgrad.nn.functional import check_probability, floating
from symgrad.nn.linear import check_sizes
from symgrad.nn.module import Module
from symgrad.node import Expr, Random
from symgrad.ops.core import as_expr


def gaussian_noise(x: Any, std: float = 0.1, training: bool = True) -> Expr:
    """x + std * N(0, 1), independent for each element: of inputs, hidden units or weights.

    The identity when `training` is False. Noise on inputs penalises the gradient by them (Bishop,
    1995), noise on weights makes flat minima (Goodfellow et al., 2016, 7.5).
    """
    x, std = floating("gaussian_noise", x), number("gaussian_noise", "std", std)
    if not training or std == 0:
        return x
    return x + Random.of("normal", x.shape, x.dtype) * std


def label_noise(labels: Any, classes: int, p: float = 0.1, training: bool = True) -> Expr:
    """Integer labels, each replaced with probability p by a class drawn from all of them.

    Its expectation is `label_smoothing=p` of the cross-entropy, which has no noise.
    """
    labels, p = as_expr("label_noise", labels), check_probability("label_noise", p)
    if not dtypes.is_integer(labels.dtype):
        raise DTypeError(
            f"label_noise: labels must be int32 or int64, got {labels.dtype}"
            + source.quote(source.here())
        )
    check_sizes("label_noise", classes=classes)
    if not training or p == 0:
        return labels
    replaced = Random.of("uniform", labels.shape) < p
    drawn = ops.floor(Random.of("uniform", labels.shape) * classes)
    drawn = ops.minimum(drawn, classes - 1)  # (1 - 2^-24) * classes rounds up where that is large
    return ops.where(replaced, ops.cast(drawn, labels.dtype), labels)


class GaussianNoise(Module):
    """`gaussian_noise` as a layer: noise with `training=True`, the identity otherwise."""

    def __init__(self, std: float = 0.1, *, name: str | None = None) -> None:
        super().__init__(name)
        self.std = number(self.label, "std", std)

    def __call__(self, x: Expr, training: bool = False) -> Expr:
        return gaussian_noise(x, self.std, training)
