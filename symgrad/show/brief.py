"""An expression in a few words, for messages and logs: its outermost operations.

In: an expression of any depth. Out: one line. What the model gives a name is called by it, what
lies deeper than a few operations by the usual letter.

>>> brief(sg.log(sg.sum(sg.exp(logits), axis=1)))
'log(Σ_j exp(logits_ij))'
"""

from __future__ import annotations

from symgrad.node import Expr, Leaf
from symgrad.show import names as naming
from symgrad.show.forms import operands
from symgrad.show.notation import Name, Term
from symgrad.show.parts import lines, role, transparent
from symgrad.show.text import text

DEPTH = 6  # operations that are written out
LONGEST = 88


def brief(e: Expr, longest: int = LONGEST) -> str:
    """At most so many letters; deeper parts get names the sooner, the longer it is."""
    shown = ""
    for depth in range(DEPTH, 0, -1):
        *parts, line = lines({"": e}, _known(e, depth))
        shown = text(line.term)
        if not parts and len(shown) <= longest:
            return shown
    return shown if len(shown) <= longest else f"{shown[: longest - 3]}..."


def _known(e: Expr, depth: int) -> dict[int, Term]:
    """Names for what is not written out."""
    seen = {id(e): e}
    level, found = [e], {}
    for step in range(depth):
        below = []
        for n in level:
            for a in operands(n):
                if id(a) not in seen and not isinstance(a, Leaf):
                    seen[id(a)] = a
                    below.append(a)
        level = below
        if step == depth - 1:
            found = {id(n): n for n in level if not transparent(n)}
    named = naming.from_model(list(reversed(seen.values())), [])
    used = set(named.values())
    known: dict[int, Term] = {}
    for n in seen.values():
        name = named.get(id(n))
        if n is e or (name is None and id(n) not in found):
            continue
        if name is None:
            letter = naming.letter(n)
            name = letter if letter not in used else naming.fresh(letter, used)
            used.add(name)
        known[id(n)] = Name(name, n.ndim, role(n))
    return known
