"""symgrad: neural networks as mathematics, trained by one native step.

A network is an expression, its gradient is another one that can be read, and both are compiled into
one native function.

>>> import symgrad as sg
>>> x, W = sg.input("x", (8, 3)), sg.parameter("W", (3, 2))
>>> loss = sg.mean(sg.square(x @ W))
>>> sg.grad(loss, W).shape
(3, 2)

Everything is found under `sg.`: what declares (`input parameter state constant dim elementwise`),
NumPy's vocabulary (`exp sum matmul where ...`), derivatives (`grad vjp jvp hessian ...`),
`function` and `train_step`, loops (`scan`), and the modules `nn losses optim init schedules
regularizers constraints random`. Parts that not every program needs are loaded when they are first
named.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from symgrad import errors, ops, show
from symgrad.declare import constant, input, parameter, state  # noqa: A004 - the public names
from symgrad.node import Expr
from symgrad.ops import random
from symgrad.scalar import elementwise
from symgrad.sizes import dim

__version__ = "0.1.0"

# Where each name that is not loaded yet lives; a module stands for itself.
_HOME = {
    **dict.fromkeys(
        "grad value_and_grad vjp jvp hvp jacobian hessian stop_gradient custom_gradient".split(),
        "symgrad.grad",
    ),
    "simplify": "symgrad.rewrite",
    "derivation": "symgrad.show.derivation",
    "draw": "symgrad.draw.drawing",
    "equivalent": "symgrad.equivalent",
    "function": "symgrad.compile",
    "train_step": "symgrad.compile",
    "scan": "symgrad.scan",
    "flatten_function": "symgrad.flat",
    "scorer": "symgrad.train.score",
    "save": "symgrad.state",
    "load": "symgrad.state",
}
_MODULES = "nn losses optim init schedules regularizers constraints callbacks augment".split()


class _Package(ModuleType):
    """Importing the module symgrad.grad must not put it in the place of the function sg.grad."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and (name in _HOME or name == "state"):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _HOME:
        found = getattr(import_module(_HOME[name]), name)
    elif name in _MODULES:
        found = import_module(f"symgrad.{name}")
    elif name in ops.names():
        found = getattr(ops, name)
    else:  # also for modules such as symgrad.names, which the import system then finds
        raise AttributeError(f"module 'symgrad' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*__all__, *_HOME, *_MODULES, *ops.names()})


__all__ = [
    "Expr",
    "constant",
    "dim",
    "elementwise",
    "errors",
    "input",
    "parameter",
    "random",
    "show",
    "state",
]
