"""Expressions as something to read: text, LaTeX, MathML, SymPy, and derivations.

In: an expression, or several by name. Out: `str(e)`, `e.latex()`, `e.sympy()`, the listings that
`step.stage("expression")` gives, and `sg.derivation(loss, W)`. Each is loaded when it is first
asked for.

    expression --build--> notation tree --text, latex, mathml--> what is read
               parts.py says what gets a name, names.py finds the name in the model's source

>>> print(sg.simplify(sg.grad(sg.losses.cross_entropy(z, y), z)))
(softmax(z) - onehot(y)) / batch
"""

from __future__ import annotations

from typing import Any

from symgrad.node import OPERATORS, Expr


def _show(e: Expr) -> str:
    from symgrad.show.listing import text

    return text(e)


def _latex(e: Expr) -> str:
    from symgrad.show.listing import latex

    return latex(e)


def _mathml(e: Expr) -> str:
    from symgrad.show.listing import mathml

    return mathml(e)


def _sympy(e: Expr) -> Any:
    from symgrad.show.sympy import sympy

    return sympy(e)


OPERATORS.update(show=_show, latex=_latex, mathml=_mathml, sympy=_sympy)
