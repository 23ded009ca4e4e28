"""Declaring what a model is made of: inputs, parameters, states, constants.

In: names, shapes, dtypes. Out: the leaves of an expression graph.

>>> x = input("x", (4, 784))
>>> W = parameter("W", (784, 10))
>>> (x @ W).shape
(4, 10)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from symgrad.checks import bad
from symgrad.errors import DTypeError
from symgrad.node import Constant, Expr, Input, Parameter, State
from symgrad.ops import core


def _name(what: str, name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise bad(what, f"the name must be a non-empty string, got {name!r}")
    return name


def input(name: str, shape: Any, dtype: Any = "float32") -> Input:  # noqa: A001 - the public name
    """An array handed in at each call.

    `shape` is made of ints and run-time sizes (`sg.dim`); `dtype` is float32, float64, int32, int64
    or bool. ShapeError and DTypeError for anything else.

    >>> input("labels", (32,), "int64")
    <labels (32,) int64>
    """
    return Input(_name("input", name), shape, dtype)


def parameter(name: str, shape: Any, init: Any = None, dtype: Any = "float32") -> Parameter:
    """An array that training changes.

    `init` is what it starts as: an array or number, a rule of `sg.init`, or any function
    `(shape, rng) -> array`; zeros when omitted. Two parameters of one name are two parameters, and
    an error once they meet in one compiled function.

    >>> parameter("W", (3, 2), init=0.5)
    <W (3, 2) float32>
    """
    return Parameter(_name("parameter", name), shape, init, dtype)


def state(name: str, shape: Any, init: Any = None, dtype: Any = "float32") -> State:
    """An array kept between calls but not trained: running statistics, counters.

    >>> state("count", (), init=0.0)
    <count () float32>
    """
    return State(_name("state", name), shape, init, dtype)


def constant(value: Any, dtype: Any = None) -> Expr:
    """A fixed array or number.

    Without `dtype` an array keeps its own; numbers and lists of them are float32 or int64.

    >>> constant([1.0, 2.0])
    <constant (2,) float32>
    """
    if isinstance(value, Expr):
        raise DTypeError("constant: takes an array or a number, got an expression" + core.here())
    found = core.as_expr("constant", value)
    if dtype is None:
        return found
    # From the value itself, so that a float64 constant has all the digits of a Python float.
    return Constant.of(np.asarray(value), dtype)
