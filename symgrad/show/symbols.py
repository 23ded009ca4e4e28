"""Names as symbols: `W1` is a W with index 1, `lambda` a Greek letter, `fc1.weight` upright.

In: a name. Out: its letter and what is below it, for LaTeX and MathML.

>>> split("a3"), split("x_max"), split("fc1.weight")
(('a', '3'), ('x', 'max'), ('fc1.weight', ''))
"""

from __future__ import annotations

import re

GREEK = dict(
    zip(
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau "
        "upsilon phi chi psi omega".split(),
        "αβγδεζηθικλμνξπρστυφχψω",
    )
)
LETTERS = {v: k for k, v in GREEK.items()}  # δ is delta
# The same sign for what text, LaTeX and MathML write for a function.
FUNCTIONS = {"σ": "sigma"}
NAMED = {"exp", "log", "sin", "cos", "tan", "sinh", "cosh", "tanh", "max", "min"}  # in LaTeX too


def split(name: str) -> tuple[str, str]:
    """The letter or word of a name, and its index."""
    head, _, below = name.partition("_")
    if not head:
        return name, ""
    found = re.fullmatch(r"([^\W\d]+)(\d+)", head)
    if found and (len(found[1]) <= 2 or found[1] in GREEK):
        return found[1], found[2] + ("," + below if below else "")
    return head, below
