"""Expressions as lines of definitions, in every alphabet.

In: expressions, alone or by name. Out: text, LaTeX or MathML: the parts that have names first, in
the order in which they are needed, then the expressions themselves.

>>> print(text(sg.tanh(x @ W + b)))
tanh(x W + b)
"""

from __future__ import annotations

from collections.abc import Mapping

from symgrad.node import Expr
from symgrad.show.notation import Name
from symgrad.show.parts import Line, lines
from symgrad.show.text import symbol
from symgrad.show.text import text as in_text
from symgrad.sizes import show


def text(e: Expr) -> str:
    """One expression: named parts first, then the expression itself."""
    return listing({"": e})


def listing(outputs: Mapping[str, Expr], sources: bool = False) -> str:
    """Several expressions by name; with `sources`, each line's shape and the user's own line."""
    found = lines(outputs)
    shown = [text_line(line) for line in found]
    if sources:
        width = min(max(map(len, shown), default=0), 88)
        shown = [
            f"{s:<{width}}  # {show(line.node.shape)} {line.node.where}"
            for s, line in zip(shown, found)
        ]
    return "\n".join(shown)


def text_line(line: Line) -> str:
    shown = in_text(line.term)
    return f"{symbol(line.name)} = {shown}" if line.name else shown


def latex(e: Expr) -> str:
    """One expression; named parts come first, in an `aligned` block."""
    return equations({"": e})


def equations(outputs: Mapping[str, Expr]) -> str:
    """Several expressions by name as LaTeX."""
    from symgrad.show.latex import latex as in_latex

    found = lines(outputs, width=120)
    rows = [
        (
            in_latex(Name(line.name, line.node.ndim, "part")) if line.name else "",
            in_latex(line.term),
        )
        for line in found
    ]
    if len(rows) == 1:
        name, body = rows[0]
        return f"{name} = {body}" if name else body
    shown = [f"{name} &= {body}" if name else f"& {body}" for name, body in rows]
    return "\\begin{aligned}\n" + " \\\\\n".join(shown) + "\n\\end{aligned}"


def mathml(e: Expr) -> str:
    """One expression as a `<math>` element; named parts in rows of a table before it."""
    from symgrad.show.mathml import equations as in_mathml

    return in_mathml(lines({"": e}, width=120))
