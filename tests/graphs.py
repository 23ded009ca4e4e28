"""Expressions evaluated by the graph interpreter, for tests of what is built from them.

>>> evaluate(x + 1, {x: np.zeros(3)})
array([1., 1., 1.])
"""

from __future__ import annotations

from typing import Any

import numpy as np

from symgrad import interpret
from symgrad.node import Expr, Parameter, toposort
from symgrad.state import initial


def initial_values(*outputs: Expr, seed: int = 0) -> dict[Expr, Any]:
    """The initial value of every parameter and state that the expressions depend on."""
    return {e: initial(e, seed) for e in toposort(outputs) if isinstance(e, Parameter)}


def evaluate(form: Any, values: dict[Expr, Any]) -> Any:
    """The value of an expression, or of a list or dict of them; parameters default to initial."""
    if isinstance(form, Expr):
        return evaluate([form], values)[0]
    if isinstance(form, dict):
        return dict(zip(form, evaluate(list(form.values()), values)))
    known = {**initial_values(*form), **values}
    known = {e: np.asarray(v, e.dtype) for e, v in known.items()}
    return interpret.evaluate(list(form), known)
