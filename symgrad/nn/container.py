"""Layers made of layers: Sequential, Residual; and Flatten.

>>> model = Sequential(Linear(64, 32), relu, Dropout(0.2), Linear(32, 10))
>>> model(x, training=True) is not model(x)
True
"""

from __future__ import annotations

from typing import Any, Callable, Iterator

from symgrad import ops, source
from symgrad.errors import InputError, ShapeError
from symgrad.nn.module import Module, apply
from symgrad.node import Expr
from symgrad.ops.core import as_expr
from symgrad.sizes import product, show


class Sequential(Module):
    """Layers and functions applied in turn; `training=` goes to those that take it.

    With a name, its layers' names start with it: `encoder.0.weight`, `encoder.fc1.weight`.
    """

    _attributes_name = False

    def __init__(self, *layers: Callable[..., Any], name: str | None = None) -> None:
        super().__init__(name)
        if len(layers) == 1 and isinstance(layers[0], (list, tuple)):
            layers = tuple(layers[0])
        for i, layer in enumerate(layers):
            if not callable(layer) or isinstance(layer, type):
                raise InputError(
                    f"{self.label}: element {i} is no layer or function: {layer!r}"
                    + source.quote(source.here())
                )
            if isinstance(layer, Module):
                self._adopt(layer, str(i))
        self.stages = layers

    def __call__(self, x: Expr, training: bool = False) -> Expr:
        for layer in self.stages:
            x = apply(layer, x, training)
        return x

    def __len__(self) -> int:
        return len(self.stages)

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        return iter(self.stages)

    def __getitem__(self, index: int) -> Callable[..., Any]:
        return self.stages[index]


class Residual(Sequential):
    """x + layers(x), or shortcut(x) + layers(x) where the shapes differ."""

    def __init__(
        self,
        *layers: Callable[..., Any],
        shortcut: Callable[..., Any] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(*layers, name=name)
        self.shortcut = shortcut

    def __call__(self, x: Expr, training: bool = False) -> Expr:
        y = super().__call__(x, training)
        short = x if self.shortcut is None else apply(self.shortcut, x, training)
        if short.shape != y.shape:
            raise ShapeError(
                f"{self.label}: the shortcut {show(short.shape)} and the branch {show(y.shape)} "
                "cannot be added" + source.quote(source.here())
            )
        return short + y


class Flatten(Module):
    """All axes from `start` on as one: (n, c, h, w) to (n, c*h*w)."""

    def __init__(self, start: int = 1, *, name: str | None = None) -> None:
        super().__init__(name)
        self.start = start

    def __call__(self, x: Expr) -> Expr:
        x = as_expr(self.label, x)
        if not 0 <= self.start <= x.ndim:
            raise ShapeError(
                f"{self.label}: no axis {self.start} in {show(x.shape)}"
                + source.quote(source.here())
            )
        kept = x.shape[: self.start]
        return ops.reshape(x, (*kept, product(x.shape[self.start :])))
