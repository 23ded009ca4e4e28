"""The vocabulary of expressions: NumPy's names and meanings, one module for each group.

In: expressions, arrays and numbers. Out: expressions. Importing this package gives Python's
operators on expressions their meaning. What the op table declares and no module defines in its own
way (`exp`, `maximum`, `gelu`, ...) is found by its name.

>>> from symgrad.node import Input
>>> x = Input("x", (2, 3))
>>> (exp(x) + 1).shape
(2, 3)
"""

from __future__ import annotations

from typing import Any

from symgrad import scalar
from symgrad.ops import core, elementwise
from symgrad.ops.core import cast

_PRIVATE = {"sub", "div", "neg", "mul", "add", "sqrt_or_zero"}  # under their NumPy names below
_MODULES = (elementwise,)

subtract, divide, negative = elementwise.subtract, elementwise.divide, elementwise.negative


def __getattr__(name: str) -> Any:
    for module in _MODULES:
        if (
            not name.startswith("_")
            and getattr(getattr(module, name, None), "__module__", None) == module.__name__
        ):
            found = getattr(module, name)
            break
    else:
        if name not in scalar.OPS or name.startswith("to_"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = scalar.function(name)
    globals()[name] = found
    return found
