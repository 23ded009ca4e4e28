# ruff: noqa: E501 - a table: one rule per line
"""Rules for reading: equal expressions that a person recognises. They change nothing compiled.

In: an expression. Out: the expression in the simplest form (`symgrad.rewrite`), and then by the
table below as a lecture writes it. Every rule is an identity, proved by `sg.equivalent`.

>>> Reader().read(W - eps * (alpha * W + g))
(1 - eps alpha) W - eps g
"""

from __future__ import annotations

import functools

from symgrad.node import Expr
from symgrad.rewrite import SIMPLIFY, Rewrite, Rule, RuleSet, Table, rules
from symgrad.rewrite.engine import Run
from symgrad.rewrite.patterns import scalar, var

x, y, z = (var(name) for name in "xyz")
u, v = scalar("u"), scalar("v")


def array(x: Expr) -> bool:
    return x.ndim > 0


# fmt: off
TABLE = Table("reading", [
    Rule("decay", x - u * (v * x + y), (1 - u * v) * x - u * y, array),  # w - e (a w + g) -> (1 - e a) w - e g
])
# fmt: on


@functools.cache
def _reading() -> RuleSet:
    return RuleSet([TABLE, *rules(SIMPLIFY).tables])


class Reader:
    """Simplifies and reads expressions, parts they share once; `log` says what was done."""

    def __init__(self) -> None:
        self.simplify, self.reading = (
            Run(rules(SIMPLIFY), rules(SIMPLIFY)),
            Run(_reading(), _reading()),
        )

    def read(self, e: Expr) -> Expr:
        return self.reading.rewrite(self.simplify.rewrite(e))

    @property
    def log(self) -> list[Rewrite]:
        return self.simplify.log + self.reading.log
