"""The vocabulary of expressions: NumPy's names and meanings, one module for each group.

In: expressions, arrays and numbers. Out: expressions. Importing this package gives Python's
operators on expressions their meaning. What the op table declares and no module defines in its own
way (`exp`, `maximum`, `gelu`, ...) is found by its name.

>>> from symgrad.node import Input
>>> x = Input("x", (2, 3))
>>> (x * 2 + 1).shape
(2, 3)
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from symgrad import scalar
from symgrad.ops import core, elementwise, indexing, linear, random, reductions, shaping
from symgrad.ops.core import cast

_MODULES = (elementwise, reductions, shaping, linear, indexing)
# Ops whose public name is another (`+`, `sg.subtract`), or that only formulas use.
_INNER = {"sub", "mul", "div", "neg", "sqrt_or_zero"}
_ALIASES = {"abs": "absolute", "pow": "power"}
# What other modules of symgrad use, no part of the vocabulary.
_TOOLS = {"as_indices", "contract", "domains", "getitem", "reindex"}


def _public(module: ModuleType) -> dict[str, Any]:
    """The functions that a module defines."""
    return {
        name: value
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__
        and not name.startswith("_")
        and not isinstance(value, type)
        and callable(value)
    }


_DEFINED = {name: f for module in _MODULES for name, f in _public(module).items()}
_DEFINED.update({alias: _DEFINED[name] for alias, name in _ALIASES.items()})


def names() -> list[str]:
    """The vocabulary: what `symgrad` offers under the same names."""
    table = {n for n in scalar.OPS if n not in _INNER and not n.startswith("to_")}
    return sorted({"cast", *_DEFINED, *table} - _TOOLS)


def __getattr__(name: str) -> Any:
    if name in _DEFINED:
        found = _DEFINED[name]
    elif name in scalar.OPS and name not in _INNER and not name.startswith("to_"):
        found = scalar.function(name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


__all__ = ["cast", "core", "elementwise", "indexing", "linear", "random", "reductions", "shaping"]
