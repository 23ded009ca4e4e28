"""Terms as plain text that reads like mathematics.

In: a term of `symgrad.show.notation`. Out: one line of Unicode.

>>> text(term)
'xᵀ (p - onehot(y)) / n'
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from symgrad.show.indices import resolved
from symgrad.show.notation import (
    ADD,
    ATOM,
    DIVIDE,
    HADAMARD,
    JUXTAPOSED,
    POW,
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
)
from symgrad.show.symbols import GREEK, split

RAISED = {"2": "²", "3": "³", "-1": "⁻¹", "-2": "⁻²"}
SIGNS = {"and": "and", "or": "or", "mod": "%", "//": "//", "=": "=="}


ENCLOSED = {"abs": ("|", "|"), "norm": ("‖", "‖"), "floor": ("⌊", "⌋"), "ceil": ("⌈", "⌉")}


def text(term: Term) -> str:
    """A whole term."""
    return plain(resolved(term))


def within(term: Term, level: int) -> str:
    """In brackets when it binds less tightly than `level`."""
    shown = plain(term)
    return shown if term.level >= level else f"({shown})"


def plain(term: Term) -> str:
    """A term whose indices have letters."""
    return PRINTERS[type(term)](term)


def symbol(name: str) -> str:
    """A name, Greek letters as such: `lambda_1` is λ_1."""
    head, below = split(name)
    if head in GREEK:
        return GREEK[head] + name[len(head) :]
    return f"{head}_{GREEK[below]}" if below in GREEK else name


def _sum(term: Sum) -> str:
    shown = ""
    for negative, part in term.terms:
        piece = within(part, ADD + 1)
        if not shown:
            shown = f"-{piece}" if negative else piece
        else:
            shown += f" {'-' if negative else '+'} {piece}"
    return shown


def _product(term: Product) -> str:
    if term.hadamard:
        return " ⊙ ".join(within(f, DIVIDE + 1) for f in term.factors)
    shown = ""
    for k, factor in enumerate(term.factors):
        last = k == len(term.factors) - 1
        scalars = all(not f.rank for f in term.factors[:k])
        level = HADAMARD if last and k and scalars and _is_array(factor) else JUXTAPOSED + 1
        if last and k and isinstance(factor, Big):
            level = factor.level
        piece = within(factor, level)
        sign = " · " if shown and piece[:1].isdigit() else " " if shown else ""
        shown += sign + piece
    return shown


def _is_array(term: Term) -> bool:
    return isinstance(term, Product) and term.hadamard


def _fraction(term: Fraction) -> str:
    top = term.top.base if isinstance(term.top, Spread) and term.top.plain else term.top
    shown = plain(top) if isinstance(top, Big) else within(top, HADAMARD)
    return f"{shown} / {within(term.bottom, POW)}"


def _power(term: Power) -> str:
    base = within(term.base, ATOM)
    if isinstance(term.exponent, Number) and term.exponent.text in RAISED:
        return base + RAISED[term.exponent.text]
    return f"{base}^{within(term.exponent, ATOM)}"


def _call(term: Call) -> str:
    args = ", ".join(plain(a) for a in term.args)
    if term.name == "not ":
        return f"not {within(term.args[0], ATOM)}"
    below = f"_[{', '.join(term.below)}]" if term.below else ""
    return f"{term.name}{below}({args})"


def _relation(term: Relation) -> str:
    sign = SIGNS.get(term.sign, term.sign)
    return f"{within(term.left, term.level + 1)} {sign} {within(term.right, term.level + 1)}"


def _enclosed(term: Enclosed) -> str:
    left, right = ENCLOSED[term.kind]
    return f"{left}{plain(term.base)}{right}"


def _cases(term: Cases) -> str:
    value, condition, otherwise = map(plain, (term.value, term.condition, term.otherwise))
    return f"{{{value} if {condition}, else {otherwise}}}"


def _slice(term: Slice) -> str:
    return f"{within(term.base, ATOM)}[{', '.join(term.index)}]"


def _spread(term: Spread) -> str:
    if term.plain:
        return plain(term.base)
    if term.kept == (True, False):
        return f"{within(term.base, JUXTAPOSED)} 1ᵀ"
    index = ", ".join(":" if k else "None" for k in term.kept)
    return f"{within(term.base, ATOM)}[{index}]"


def _big(term: Big) -> str:
    body = within(term.body, HADAMARD)
    if isinstance(term.body, Big):
        body = plain(term.body)
    return f"{term.symbol}_{_letters(term.indices)} {body}"


def _indexed(term: Indexed) -> str:
    base = term.base
    if term.rank or isinstance(base, Name) and "_" in base.text:
        return f"[{plain(base)}]_{_letters(term.indices)}"
    return f"{within(base, ATOM)}_{_letters(term.indices)}"


def _letters(indices: tuple[str, ...]) -> str:
    return ("" if all(len(i) == 1 for i in indices) else ",").join(indices)


PRINTERS: dict[type[Term], Callable[[Any], str]] = {
    Name: lambda t: symbol(t.text) if t.role != "constant" else t.text,
    Number: lambda t: t.text,
    Sum: _sum,
    Product: _product,
    Fraction: _fraction,
    Power: _power,
    Transpose: lambda t: within(t.base, ATOM) + "ᵀ",
    Call: _call,
    Relation: _relation,
    Indicator: lambda t: f"1[{plain(t.condition)}]",
    Enclosed: _enclosed,
    Cases: _cases,
    Slice: _slice,
    Mapped: lambda t: f"reindex({plain(t.base)}, {t.shown})",
    Spread: _spread,
    Big: _big,
    Indexed: _indexed,
}
