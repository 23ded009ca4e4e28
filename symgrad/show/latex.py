r"""Terms as LaTeX mathematics, in commands that LaTeX, KaTeX and matplotlib's mathtext all know.

In: a term of `symgrad.show.notation`. Out: the body of a formula.

>>> latex(term)
'\\mathbf{x}^{\\top} \\left(\\mathbf{p} - \\operatorname{onehot}\\left(\\mathbf{y}\\right)\\right)'
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from symgrad.show.indices import resolved
from symgrad.show.notation import (
    ADD,
    ATOM,
    HADAMARD,
    JUXTAPOSED,
    Big,
    Call,
    Cases,
    Enclosed,
    Fraction,
    Indexed,
    Indicator,
    Mapped,
    Name,
    Number,
    Power,
    Product,
    Relation,
    Slice,
    Spread,
    Sum,
    Term,
    Transpose,
    apart,
    sum_behind,
)
from symgrad.show.notation import BIG as BIG_SUM
from symgrad.show.symbols import FUNCTIONS, GREEK, LETTERS, NAMED, split

SIGNS = {
    "≤": r"\leq",
    "≥": r"\geq",
    "≠": r"\neq",
    "∈": r"\in",
    "←": r"\leftarrow",
    "and": r"\wedge",
    "or": r"\vee",
    "mod": r"\; \mathrm{mod} \;",
}
SPACE = "\\ "
BIG = {"Σ": r"\sum", "Π": r"\prod", "max": r"\max", "min": r"\min"}
ENCLOSED = {
    "abs": ("|", "|"),
    "norm": (r"\|", r"\|"),
    "floor": (r"\lfloor", r"\rfloor"),
    "ceil": (r"\lceil", r"\rceil"),
}


def latex(term: Term) -> str:
    """A whole term."""
    return plain(resolved(term))


def plain(term: Term) -> str:
    """A term whose indices have letters."""
    return PRINTERS[type(term)](term)


def within(term: Term, level: int) -> str:
    """In brackets when it binds less tightly than `level`."""
    if isinstance(term, Fraction) and level > BIG_SUM and sum_behind(term):
        return rf"\frac{{{plain(term.top)}}}{{{plain(term.bottom)}}}"  # so that the sum ends there
    shown = plain(term)
    own = ATOM if isinstance(term, (Fraction, Cases)) and level <= JUXTAPOSED + 1 else term.level
    return shown if own >= level else brackets(shown)


def brackets(shown: str, left: str = "(", right: str = ")") -> str:
    return (
        rf"\left{left}{shown}\right{right}"
        if right == ")"
        else rf"\left{left} {shown} \right{right}"
    )


# -- names, numbers ---------------------------------------------------------------------------


def symbol(name: str, rank: int) -> str:
    r"""A name as a symbol: `W1` is \mathbf{W}_{1}, `lambda` is \lambda, arrays are bold."""
    if name.startswith("∂"):  # the gradient itself, ∂L/∂W
        return _gradient(name)
    head, below = split(name)
    head = LETTERS.get(head, head)
    if head in GREEK:
        shown = rf"\{head}" if not rank else rf"\boldsymbol{{\{head}}}"
    elif len(head) == 1 and not rank:
        shown = head
    else:
        shown = rf"\{'mathbf' if rank else 'mathrm'}{{{_escaped(head)}}}"
    return f"{shown}_{{{_below(below)}}}" if below else shown


def _below(index: str) -> str:
    if re.fullmatch(r"[\d,]+", index):
        return index
    head, digits = split(index)
    if digits and len(head) == 1:
        return f"{head}_{{{digits}}}"
    return index if len(index) == 1 else rf"\mathrm{{{_escaped(index)}}}"


def _escaped(name: str) -> str:
    for sign in "&%#$_":
        name = name.replace(sign, "\\" + sign)
    return name.replace("'", r"{}^{\prime}") if name != name.strip("'") else name


def _gradient(name: str) -> str:
    top, _, bottom = name.partition("/")
    return rf"\frac{{\partial {symbol(top[1:], 0)}}}{{\partial {symbol(bottom[1:], 1)}}}"


def _name(term: Name) -> str:
    if term.role == "constant":
        return rf"\mathrm{{{_escaped(term.text)}}}".replace(" ", r"\ ")
    return symbol(term.text, term.rank)


def _number(term: Number) -> str:
    shown = {"∞": r"\infty", "-∞": r"-\infty", "NaN": r"\mathrm{NaN}"}.get(term.text, term.text)
    if shown in ("true", "false"):
        return rf"\mathrm{{{shown}}}"
    shown = re.sub(r"e([+-]?)0*(\d+)$", lambda m: _exponent(m[1], m[2]), shown)
    return shown.removeprefix(r"1 \cdot ") if "10^" in shown else shown


def _exponent(sign: str, digits: str) -> str:
    return rf" \cdot 10^{{{'-' if sign == '-' else ''}{digits}}}"


# -- sums and products ------------------------------------------------------------------------


def _sum(term: Sum) -> str:
    shown = ""
    for k, (negative, part) in enumerate(term.terms):
        ends = isinstance(part, Fraction) and k < len(term.terms) - 1
        piece = within(part, BIG_SUM + 1 if ends else ADD + 1)
        if not shown:
            shown = f"-{piece}" if negative else piece
        else:
            shown += f" {'-' if negative else '+'} {piece}"
    return shown


def _product(term: Product) -> str:
    if term.hadamard:
        return r" \odot ".join(within(f, HADAMARD + 1) for f in term.factors)
    shown = ""
    for k, factor in enumerate(term.factors):
        last = k == len(term.factors) - 1
        scalars = all(not f.rank for f in term.factors[:k])
        level = JUXTAPOSED + 1
        if last and k and (scalars and isinstance(factor, Product) or isinstance(factor, Big)):
            level = min(factor.level, HADAMARD)
        piece = within(factor, level)
        sign = r" \cdot " if shown and piece[:1].isdigit() else " " if shown else ""
        shown += sign + piece
    return shown


def _fraction(term: Fraction) -> str:
    found = apart(term)
    if found is None:
        return rf"\frac{{{plain(term.top)}}}{{{plain(term.bottom)}}}"
    share, behind = found  # a long product stands behind its share, as in 1/n x^T (p - y)
    return f"{plain(share)} {within(behind, min(behind.level, HADAMARD))}"


def _power(term: Power) -> str:
    return f"{{{within(term.base, ATOM)}}}^{{{plain(term.exponent)}}}"


def _transpose(term: Transpose) -> str:
    return rf"{{{within(term.base, ATOM)}}}^{{\top}}"


# -- functions ----------------------------------------------------------------------------------


def function(name: str) -> str:
    prime = "'" in name
    base = name.strip("'")
    if base in FUNCTIONS:
        shown = rf"\{FUNCTIONS[base]}"
    elif base in NAMED:
        shown = rf"\{base}"
    else:
        shown = rf"\operatorname{{{base.replace('_', SPACE)}}}"
    return shown + (r"^{\prime}" if prime else "")


def _call(term: Call) -> str:
    args = ", ".join(plain(a) for a in term.args)
    if term.name == "sqrt":
        return rf"\sqrt{{{args}}}"
    if term.name == "not ":
        return rf"\neg {within(term.args[0], ATOM)}"
    below = rf"_{{\mathrm{{{', '.join(term.below)}}}}}".replace(" ", r"\ ") if term.below else ""
    return function(term.name) + below + brackets(args)


def _relation(term: Relation) -> str:
    left, right = within(term.left, term.level + 1), within(term.right, term.level + 1)
    if term.sign == "//":
        return rf"\left\lfloor \frac{{{plain(term.left)}}}{{{plain(term.right)}}} \right\rfloor"
    return f"{left} {SIGNS.get(term.sign, term.sign)} {right}"


def _enclosed(term: Enclosed) -> str:
    left, right = ENCLOSED[term.kind]
    return brackets(plain(term.base), left, right)


def _cases(term: Cases) -> str:
    value, condition, otherwise = map(plain, (term.value, term.condition, term.otherwise))
    middle = rf"\; \mathrm{{if}} \; {condition}, \; \mathrm{{else}} \;"
    return rf"\left\{{ {value} {middle} {otherwise} \right\}}"


def _slice(term: Slice) -> str:
    index = ", ".join(term.index)
    return rf"{{{within(term.base, ATOM)}}}_{{[{index}]}}"


def _mapped(term: Mapped) -> str:
    shown = _escaped(term.shown).replace(" ", r"\ ")
    return function("reindex") + brackets(rf"{plain(term.base)}, \mathrm{{{shown}}}")


def _spread(term: Spread) -> str:
    if term.plain:
        return plain(term.base)
    if term.kept == (True, False):
        return rf"{within(term.base, JUXTAPOSED)} {{\mathbf{{1}}}}^{{\top}}"
    index = ", ".join(":" if k else r"\ast" for k in term.kept)
    return rf"{{{within(term.base, ATOM)}}}_{{[{index}]}}"


def _big(term: Big) -> str:
    body = plain(term.body) if isinstance(term.body, Big) else within(term.body, HADAMARD)
    sign = BIG.get(term.symbol, rf"\operatorname{{{term.symbol}}}")
    return rf"{sign}_{{{_letters(term.indices)}}} {body}"


def _indexed(term: Indexed) -> str:
    if term.rank:
        return rf"\left[{plain(term.base)}\right]_{{{_letters(term.indices)}}}"
    return rf"{{{within(term.base, ATOM)}}}_{{{_letters(term.indices)}}}"


def _letters(indices: tuple[str, ...]) -> str:
    shown = [f"i_{{{i[1:]}}}" if re.fullmatch(r"i\d+", i) else i for i in indices]
    return (" " if all(map(str.isalpha, indices)) else ", ").join(shown)


PRINTERS: dict[type[Term], Callable[[Any], str]] = {
    Name: _name,
    Number: _number,
    Sum: _sum,
    Product: _product,
    Fraction: _fraction,
    Power: _power,
    Transpose: _transpose,
    Call: _call,
    Relation: _relation,
    Indicator: lambda t: rf"\mathbf{{1}}\left[{plain(t.condition)}\right]",
    Enclosed: _enclosed,
    Cases: _cases,
    Slice: _slice,
    Mapped: _mapped,
    Spread: _spread,
    Big: _big,
    Indexed: _indexed,
}
