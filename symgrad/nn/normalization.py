"""Layers that normalise: LayerNorm, GroupNorm, BatchNorm.

>>> [p.name for p in BatchNorm(8, name="bn").states()]
['bn.running_mean', 'bn.running_var']
"""

from __future__ import annotations

from typing import Any, Sequence

from symgrad import init as initialisers
from symgrad import source
from symgrad.checks import flag, number
from symgrad.errors import ShapeError
from symgrad.nn import functional
from symgrad.nn.linear import check_sizes
from symgrad.nn.module import Module, declared
from symgrad.node import Expr, Parameter, State
from symgrad.ops.core import as_expr
from symgrad.sizes import show


class _Affine(Module):
    """A normalisation with a learned scale (`weight`, ones) and shift (`bias`, zeros)."""

    shape: tuple[int, ...]
    affine: bool
    eps: float

    @declared
    def weight(self) -> Parameter | None:
        if not self.affine:
            return None
        return self._parameter("weight", self.shape, initialisers.ones(), role="scale")

    @declared
    def bias(self) -> Parameter | None:
        if not self.affine:
            return None
        return self._parameter("bias", self.shape, initialisers.zeros(), role="bias")


class LayerNorm(_Affine):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axes, sample by sample."""

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        affine: bool = True,
        *,
        name: str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(name, dtype)
        one = isinstance(normalized_shape, int)
        self.shape = (normalized_shape,) if one else tuple(normalized_shape)  # type: ignore
        check_sizes(self.label, **{f"axis {i}": s for i, s in enumerate(self.shape)})
        if not self.shape:
            raise ShapeError(
                f"{self.label}: the normalized shape () has no axis" + source.quote(source.here())
            )
        self.eps = number(self.label, "eps", eps)
        self.affine = flag(self.label, "affine", affine)

    def __call__(self, x: Expr) -> Expr:
        return functional.layer_norm(x, self.shape, self.weight, self.bias, self.eps)


class GroupNorm(_Affine):
    """Every sample normalised over groups of neighbouring channels (axis 1) and later axes."""

    def __init__(
        self,
        groups: int,
        channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        name: str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(name, dtype)
        check_sizes(self.label, groups=groups, channels=channels)
        if channels % groups:
            raise ShapeError(
                f"{self.label}: {channels} channels do not make {groups} groups"
                + source.quote(source.here())
            )
        self.groups, self.shape = groups, (channels,)
        self.eps = number(self.label, "eps", eps)
        self.affine = flag(self.label, "affine", affine)

    def __call__(self, x: Expr) -> Expr:
        x = as_expr(self.label, x)
        return functional.group_norm(x, self.groups, self.weight, self.bias, self.eps)


class BatchNorm(_Affine):
    """Every channel (axis 1) normalised over the batch and all later axes, e.g. (n, c) or NCHW.

    With `training=True` by the batch's own statistics, and the running ones (states) move towards
    them by `momentum` each step; otherwise by the running ones.
    """

    def __init__(
        self,
        features: int,
        momentum: float = 0.1,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        name: str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(name, dtype)
        check_sizes(self.label, features=features)
        self.shape = (features,)
        self.momentum = number(self.label, "momentum", momentum, "[0, 1]")
        self.eps = number(self.label, "eps", eps)
        self.affine = flag(self.label, "affine", affine)

    @declared
    def running_mean(self) -> State:
        return self._state("running_mean", self.shape, initialisers.zeros())

    @declared
    def running_var(self) -> State:
        return self._state("running_var", self.shape, initialisers.ones())

    def __call__(self, x: Expr, training: bool = False) -> Expr:
        x = as_expr(self.label, x)
        if x.ndim < 2 or x.shape[1] != self.shape[0]:
            raise ShapeError(
                f"{self.label}: takes (n, {self.shape[0]}, ...), got {show(x.shape)}"
                + source.quote(source.here())
            )
        return functional.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training,
            self.momentum,
            self.eps,
        )
