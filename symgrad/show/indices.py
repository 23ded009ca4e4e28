"""Sums with named indices: letters for the axes of reductions and general contractions.

In: a term with `Reduction`s and `Tensor`s. Out: the same with `Big` signs and `Indexed` names;
indices go through what works element by element, so that a reader sees the elements themselves.

>>> text(resolved(Reduction("Σ", exp_z, (1,), 1)))
'Σ_j exp(z_ij)'
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from typing import Any

from symgrad.show.notation import (
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
    Reduction,
    Relation,
    Spread,
    Sum,
    Tensor,
    Term,
    Transpose,
)

LETTERS = "ijklmnpqrstuvw"
Letters = tuple[str, ...]


def resolved(term: Term) -> Term:
    """Every reduction with letters for its axes."""
    if isinstance(term, Reduction):
        count = term.rank + len(term.axes)
        return _reduced(term, fresh(count, taken(term)), ())
    if isinstance(term, Tensor):
        return _product(term, fresh(len(term.out), taken(term)), free=True)
    return _mapped(term, resolved)


def _mapped(term: Term, change: Callable[[Term], Term]) -> Term:
    """The same term of changed parts."""
    new: dict[str, Any] = {}
    for f in fields(term):
        value = getattr(term, f.name)
        after = _changed(value, change)
        if after is not value:
            new[f.name] = after
    return replace(term, **new) if new else term


def _changed(value: Any, change: Callable[[Term], Term]) -> Any:
    if isinstance(value, Term):
        return change(value)
    if isinstance(value, tuple):
        parts = tuple(_changed(v, change) for v in value)
        return parts if any(a is not b for a, b in zip(parts, value)) else value
    return value


def fresh(count: int, used: Iterable[str] = ()) -> Letters:
    """Letters that do not occur."""
    used = set(used)
    found = [c for c in LETTERS if c not in used]
    found += [f"i{k}" for k in range(count)]
    return tuple(found[:count])


def taken(term: Term) -> set[str]:
    """Names of one letter in a term: no index may look like a variable."""
    if isinstance(term, Name):
        return {term.text}
    return {name for part in term.children() for name in taken(part)}


def _reduced(term: Reduction, letters: Letters, scope: Letters) -> Term:
    """A reduction with a letter for every axis of what is reduced."""
    summed = tuple(letters[a] for a in term.axes)
    free = tuple(c for a, c in enumerate(letters) if a not in term.axes)
    body = at(term.base, letters, (*scope, *letters))
    if isinstance(body, Big) and body.symbol == term.symbol and term.symbol in "ΣΠ":
        summed, body = (*summed, *body.indices), body.body  # Σ_i Σ_j is Σ_ij
    if not scope and term.rank:
        return Big(term.symbol, summed, body, free, term.rank)
    return Big(term.symbol, summed, body)


def _product(term: Tensor, letters: Letters, scope: Letters = (), free: bool = False) -> Term:
    names = dict(zip(term.out, letters))
    used = {*scope, *letters, *taken(term)}
    summed = []
    for labels in term.labels:
        for label in labels:
            if label not in names:
                names[label] = fresh(1, used)[0]
                used.add(names[label])
                summed.append(names[label])
    inner = tuple(used)
    parts = tuple(
        at(f, tuple(names[k] for k in labels), inner)
        for f, labels in zip(term.factors, term.labels)
    )
    body = parts[0] if len(parts) == 1 else Product(parts)
    left = letters if free else ()
    if summed:
        return Big("Σ", tuple(summed), body, left, term.rank if free else 0)
    return Indexed(body, letters, term.rank) if free and len(parts) > 1 else body


def affine(of: tuple[int, tuple[tuple[int, int], ...], int], letters: Letters) -> str:
    """The index `2k+m-1` that an axis map reads."""
    offset, terms, divisor = of
    shown = ""
    for axis, factor in terms:
        letter = letters[axis]
        inner = f"({letter})" if factor not in (1, -1) and len(letter) > 1 else letter
        sign = "-" if factor < 0 else "+" if shown else ""
        shown += sign + ("" if factor in (1, -1) else str(abs(factor))) + inner
    if offset or not shown:
        shown += f"{offset:+d}" if shown else str(offset)
    return shown if divisor == 1 else f"({shown})/{divisor}"


def at(term: Term, letters: Letters, scope: Letters = ()) -> Term:
    """The element of a term at an index."""
    if not term.rank:
        return resolved(term)

    def inner(part: Term) -> Term:
        return at(part, letters, scope) if part.rank else resolved(part)

    if isinstance(term, Spread):
        return at(term.base, tuple(c for c, k in zip(letters, term.kept) if k), scope)
    if isinstance(term, Mapped):
        return at(term.base, tuple(affine(m, letters) for m in term.maps), scope)
    if isinstance(term, Reduction):
        extra = iter(fresh(len(term.axes), {*scope, *letters, *taken(term)}))
        rest = iter(letters)
        count = term.rank + len(term.axes)
        every = tuple(next(extra) if a in term.axes else next(rest) for a in range(count))
        return _reduced(term, every, (*scope, *letters))
    if isinstance(term, Tensor):
        return _product(term, letters, (*scope, *letters))
    if isinstance(term, Transpose) and term.rank == 2:
        return at(term.base, letters[::-1], scope)
    if isinstance(term, Product):
        arrays = sum(1 for f in term.factors if f.rank)
        if term.hadamard or arrays == 1:
            return Product(tuple(map(inner, term.factors)))
    elif isinstance(term, Sum):
        return Sum(tuple((sign, inner(t)) for sign, t in term.terms))
    elif isinstance(term, (Fraction, Power, Relation, Indicator, Cases)) or (
        isinstance(term, Enclosed) and term.kind != "norm"
    ):
        return replace(_mapped(term, inner), rank=0)  # type: ignore[call-arg]  # they have one
    elif isinstance(term, Call) and term.elementwise:
        return replace(term, args=tuple(map(inner, term.args)), rank=0)
    elif isinstance(term, Number):
        return term
    return Indexed(resolved(term), letters)
