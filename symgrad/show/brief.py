"""An expression in a few words, for messages and logs: its outermost operations.

In: an expression of any depth. Out: one line. What the model gives a name is called by it, what
lies deeper than a few operations by the usual letter.

>>> brief(sg.log(sg.sum(sg.exp(logits), axis=1)))
'log(Σ_j exp(logits_ij))'
"""

from __future__ import annotations

from collections.abc import Mapping

from symgrad.node import Expr, Leaf
from symgrad.show import names as naming
from symgrad.show.forms import operands
from symgrad.show.notation import Name, Term
from symgrad.show.parts import lines, role, transparent
from symgrad.show.text import text

DEPTHS = (6, 4, 2, 1)  # operations that are written out: fewer where that is too long
LONGEST = 88


def brief(e: Expr, longest: int = LONGEST, names: Mapping[int, str] | None = None) -> str:
    """At most so many letters; deeper parts get names the sooner, the longer it is. `names` by id
    are those that are known of the whole model."""
    shown = ""
    for depth in DEPTHS:
        *parts, line = lines({"": e}, _known(e, depth, names or {}))
        shown = text(line.term)
        if not parts and len(shown) <= longest:
            return shown
    return shown if len(shown) <= longest else f"{shown[: longest - 3]}..."


def _known(e: Expr, depth: int, names: Mapping[int, str]) -> dict[int, Term]:
    """Names for what is not written out."""
    seen = {id(e): e}
    level = [e]
    for _ in range(depth):
        level = _below(level, seen)
    found = {id(n) for n in level}
    # without the rest of the graph a line's name is only sure for the line's own operation
    own = naming.from_model(list(reversed(seen.values())))
    sure = {i: name for i, name in own.items() if naming.fits(seen[i])}
    taken = set(names.values())
    named = {i: name for i, name in sure.items() if name not in taken} | dict(names)
    used = {named[i] for i in seen if i in named}
    known: dict[int, Term] = {}
    for n in seen.values():
        name = named.get(id(n))
        if n is e or (name is None and id(n) not in found) or transparent(n):
            continue
        if name is None:
            letter = naming.letter(n)
            name = letter if letter not in used else naming.fresh(letter, used)
            used.add(name)
        known[id(n)] = Name(name, n.ndim, role(n))
    return known


def _below(level: list[Expr], seen: dict[int, Expr]) -> list[Expr]:
    """The operands of a level that are new; what is no step to a reader is looked through."""
    found: list[Expr] = []
    stack = list(level)
    while stack:
        for a in operands(stack.pop()):
            if id(a) in seen or isinstance(a, Leaf):
                continue
            seen[id(a)] = a
            (stack if transparent(a) else found).append(a)
    return found
