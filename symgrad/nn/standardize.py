"""Inputs of zero mean and unit variance, by statistics that are stored with the model.

>>> scaled = Standardize(X_train, name="scale")
>>> model = Sequential(scaled, Linear(64, 10))      # sg.save keeps scale.mean and scale.std
"""

from __future__ import annotations

from typing import Any

import numpy as np

from symgrad import source
from symgrad.errors import InputError, ShapeError
from symgrad.nn.linear import check_sizes
from symgrad.nn.module import Module, declared
from symgrad.node import Expr, State
from symgrad.ops.core import as_expr
from symgrad.sizes import show


class Standardize(Module):
    """(x - mean) / std, with the mean and standard deviation of `data`, the training set alone.

    Statistics are taken over `axis`, 0 for each feature of (n, features), (0, 2, 3) for each
    channel of images; a feature that is constant has std 1. They are states, never trained: `mean`
    and `std`, of the shape of one sample with 1 along the axes. `data` may be the shape of a sample
    instead, for a model whose state is then loaded.

    Raises ShapeError for axes the data lack and inputs that do not fit, InputError for data that
    hold no samples or no finite numbers.
    """

    def __init__(
        self, data: Any, axis: Any = 0, *, name: str | None = None, dtype: Any = "float32"
    ) -> None:
        super().__init__(name, dtype)
        axes = (axis,) if isinstance(axis, int) else tuple(axis)
        self._start: tuple[Any, Any] = (0.0, 1.0)
        if isinstance(data, (int, tuple)):
            whole = (data,) if isinstance(data, int) else data
            check_sizes(self.label, **{f"axis {i + 1}": s for i, s in enumerate(whole)})
            whole = (1, *whole)
        else:
            array = np.asarray(data)
            whole = array.shape
        if 0 not in axes or not all(isinstance(a, int) and 0 <= a < len(whole) for a in axes):
            raise ShapeError(
                f"{self.label}: axis must be 0, the samples, and axes of {show(whole)}, got "
                f"{axis!r}" + source.quote(source.here())
            )
        self.shape = tuple(1 if i in axes else s for i, s in enumerate(whole))[1:]
        if not isinstance(data, (int, tuple)):
            self._start = self._statistics(array, axes)

    def _statistics(self, array: Any, axes: tuple[int, ...]) -> tuple[Any, Any]:
        if array.dtype.kind not in "biuf" or not array.size or not np.isfinite(array).all():
            raise InputError(
                f"{self.label}: the data, {array.dtype} of shape {show(array.shape)}, must be "
                "finite numbers of one sample or more" + source.quote(source.here())
            )
        mean = array.mean(axis=axes, dtype="float64").reshape(self.shape)
        std = array.std(axis=axes, dtype="float64").reshape(self.shape)
        return mean, np.where(std > 1e-12 * np.abs(mean), std, 1.0)

    @declared
    def mean(self) -> State:
        return self._state("mean", self.shape, self._start[0])

    @declared
    def std(self) -> State:
        return self._state("std", self.shape, self._start[1])

    def __call__(self, x: Expr) -> Expr:
        x = as_expr(self.label, x)
        fits = len(self.shape) == x.ndim - 1
        if not fits or any(s not in (1, e) for s, e in zip(self.shape, x.shape[1:])):
            raise ShapeError(
                f"{self.label}: the input {show(x.shape)} does not fit the statistics "
                f"{show(self.shape)} of one sample" + source.quote(source.here())
            )
        return (x - self.mean) / self.std
