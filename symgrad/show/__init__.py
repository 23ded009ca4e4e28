"""Expressions as something to read: text, LaTeX, SymPy.

In: an expression, or several by name. Out: `str(e)`, `e.latex()`, `e.sympy()`, and the listings
that `step.stage("expression")` gives. Each is loaded when it is first asked for.

>>> print(sg.exp(x) / sg.exp(x).sum())
t1 = exp(x)
t1 / sum(t1)
"""

from __future__ import annotations

from typing import Any

from symgrad.node import OPERATORS, Expr


def _show(e: Expr) -> str:
    from symgrad.show.text import text

    return text(e)


def _latex(e: Expr) -> str:
    from symgrad.show.latex import latex

    return latex(e)


def _sympy(e: Expr) -> Any:
    from symgrad.show.sympy import sympy

    return sympy(e)


OPERATORS.update(show=_show, latex=_latex, sympy=_sympy)
