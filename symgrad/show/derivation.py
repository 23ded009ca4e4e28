"""The chain rule as a person writes it, read off the sweep that is compiled.

In: a scalar loss and what to differentiate by. Out: a `Derivation`: the forward definitions, the
paths from the loss, every cotangent with its name, shape and contributions, the rewrites, and the
gradient in closed form. Nothing in it knows any network: the cotangents are those that the reverse
sweep builds, recorded as it goes, and the rewrites are the log of the rewriter.

>>> print(derivation(loss, W))
∂L/∂W by the chain rule
...
Result
  ∂L/∂W = xᵀ (p - onehot(y)) / n            (784, 10)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from symgrad.grad import scalar_loss, target_leaves
from symgrad.node import Expr
from symgrad.show.notation import Name, Term
from symgrad.show.parts import Line, lines
from symgrad.sizes import Shape
from symgrad.source import Source

CLOSED = 160  # a closed form longer than this is written in parts


def mentions(term: Term, name: str) -> bool:
    if isinstance(term, Name):
        return term.text == name
    return any(mentions(part, name) for part in term.children())


def fits(term: Term) -> bool:
    """Whether a term is short enough for one line, nothing of it cut off."""
    return term.weight <= CLOSED and not mentions(term, "…")


@dataclass(frozen=True)
class Through:
    """What one reader of a value contributes to its cotangent."""

    name: Name  # of the value whose cotangent is passed on
    term: Term
    local: Term | None  # the derivative of that value by this one, where it is a factor


@dataclass(frozen=True)
class Step:
    """A cotangent: δ_z = ∂L/∂z, as swept and simplified; `parts` define what it is too long for."""

    name: Name
    of: Name
    shape: Shape
    where: Source
    swept: Term
    simplified: Term
    parts: tuple[Line, ...]
    through: tuple[Through, ...]
    rules: tuple[str, ...]

    @property
    def forms(self) -> tuple[Term, ...]:
        """What stands behind the signs of equality: as swept, where that fits a line."""
        return (self.swept, self.simplified) if fits(self.swept) else (self.simplified,)


OFTEN = 4  # a rule that is used as often as this is shown by its shortest example


@dataclass(frozen=True)
class Applied:
    """A rewrite, with both sides as they are read."""

    rule: str
    stage: str
    before: Term
    after: Term
    where: Source


def grouped(log: Sequence[Applied]) -> list[list[Applied]]:
    """Rewrites in their order, each alone; those of a rule that is used often together, the
    shortest first."""
    rules: dict[tuple[str, str], list[Applied]] = {}
    for r in log:
        rules.setdefault((r.stage, r.rule), []).append(r)
    found: list[list[Applied]] = []
    for r in log:
        group = rules[r.stage, r.rule]
        if len(group) < OFTEN:
            found.append([r])
        elif group[0] is r:
            found.append(sorted(group, key=lambda r: r.before.weight + r.after.weight))
    return found


@dataclass(frozen=True)
class Prime:
    """The derivative of an activation that is defined by cases: elu'(z)."""

    call: Term
    term: Term
    shape: Shape


@dataclass(frozen=True)
class Result:
    """The gradient by one target."""

    name: Name
    shape: Shape
    local: Step
    closed: tuple[Line, ...]  # parts first, the gradient last
    gradient: Expr  # what is compiled
    read: Expr  # what is printed, the same function
    paths: tuple[tuple[Name, ...], ...]
    more_paths: int


@dataclass(frozen=True)
class Derivation:
    """How a gradient comes about; print it, or ask for `text()`, `latex()` or `html()`."""

    loss: Name
    forward: tuple[Line, ...]
    prepared: tuple[Applied, ...]
    primes: tuple[Prime, ...]
    steps: tuple[Step, ...]
    results: tuple[Result, ...]
    rewrites: tuple[Applied, ...]
    known: Mapping[int, Term] = field(repr=False)
    alive: tuple[Expr, ...] = field(repr=False)  # what `known` names by id

    def write(self, e: Expr) -> tuple[Line, ...]:
        """Another expression in the names of this derivation: parts first, itself last."""
        return tuple(lines({"": e}, self.known, width=CLOSED))

    def text(self) -> str:
        """Plain text."""
        from symgrad.show.steps_text import text

        return text(self)

    def latex(self) -> str:
        """LaTeX: an `aligned` block for each part."""
        from symgrad.show.steps_latex import latex

        return latex(self)

    def html(self) -> str:
        """A page of its own, in MathML; it needs no network."""
        from symgrad.show.steps_html import page

        return page(self)

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        from symgrad.show.steps_html import fragment

        return fragment(self)

    def _repr_latex_(self) -> str:
        return f"$$\n{self.latex()}\n$$"


def derivation(loss: Expr, wrt: Any) -> Derivation:
    """The derivation of the gradient of a scalar by `wrt`: one expression, a list or a dict.

    The loss is called as the model's own line calls it, values likewise; values without a name get
    the usual letters: z before an activation, h behind it, p for probabilities. δ_z is ∂L/∂z.
    """
    loss = scalar_loss("derivation", loss)
    targets = target_leaves("derivation", wrt)
    from symgrad.show.chain import Chain

    return Chain(loss, targets).result()
