r"""A derivation as LaTeX: one `aligned` block, forward, backward, result.

In: a `Derivation`. Out: the body of a formula, in the commands of `symgrad.show.latex`.

>>> latex(derivation(loss, W)).splitlines()[0]
'\\begin{aligned}'
"""

from __future__ import annotations

from collections.abc import Sequence

from symgrad.show.derivation import Derivation, Result, Step
from symgrad.show.latex import latex as in_latex
from symgrad.show.latex import symbol
from symgrad.show.notation import Name, Term


def latex(d: Derivation) -> str:
    """The whole derivation as one block."""
    return "\\begin{aligned}\n" + " \\\\\n".join(rows(d)) + "\n\\end{aligned}"


def rows(d: Derivation) -> list[str]:
    """Its lines, each with one `&`."""
    found = [_title("forward")]
    for line in d.forward:
        found.append(rf"{symbol(line.name, line.node.ndim)} &= {in_latex(line.term)}")
    found += [f"{in_latex(p.call)} &= {in_latex(p.term)}" for p in d.primes]
    if d.steps:
        found.append(_title("backward"))
    for step in d.steps:
        found += _step(step, d.loss)
    found.append(_title("result"))
    for result in d.results:
        found += _result(result)
    return found


def _title(what: str) -> str:
    return rf"& \mathrm{{{what}}}"


def different(terms: Sequence[Term]) -> list[str]:
    return list(dict.fromkeys(in_latex(t) for t in terms))


def derivative(loss: Name, of: Name) -> str:
    """∂L/∂z."""
    above, below = symbol(loss.text, 0), symbol(of.text, of.rank)
    return rf"\frac{{\partial {above}}}{{\partial {below}}}"


def _step(step: Step, loss: Name) -> list[str]:
    first, *others = different(step.forms)
    left = rf"{in_latex(step.name)} = {derivative(loss, step.of)}"
    parts = [
        rf"{symbol(line.name, line.node.ndim)} &= {in_latex(line.term)}" for line in step.parts
    ]
    return [*parts, rf"{left} &= {first}", *(f"&= {t}" for t in others)]


def _result(result: Result) -> list[str]:
    name = symbol(result.name.text, len(result.shape))
    *parts, last = result.closed
    forms = [result.local.simplified] if parts else [result.local.simplified, last.term]
    first, *others = different(forms)
    found = [f"{name} &= {first}", *(f"&= {t}" for t in others)]
    for line in parts:
        found.append(rf"{symbol(line.name, line.node.ndim)} &= {in_latex(line.term)}")
    return found + ([f"{name} &= {in_latex(last.term)}"] if parts else [])
