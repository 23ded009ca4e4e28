"""A derivation as plain text: forward, then backward from the loss, then the result.

In: a `Derivation`. Out: lines.

>>> print(text(derivation(loss, W)))
"""

from __future__ import annotations

from collections.abc import Sequence

from symgrad.show.derivation import Applied, Derivation, Prime, Result, Step, grouped
from symgrad.show.listing import text_line
from symgrad.show.notation import Name, Term
from symgrad.show.text import symbol
from symgrad.show.text import text as in_text
from symgrad.sizes import Shape, show

COLUMN = 56  # where shapes stand


def text(d: Derivation) -> str:
    """All of it; equal inputs give equal text."""
    named = ", ".join(r.name.text for r in d.results)
    blocks = [[f"{named} by the chain rule"]]
    forward = []
    for line in d.forward:
        forward += _entry(text_line(line), line.node.shape, str(line.node.where))
    blocks.append(["Forward", *forward])
    if d.prepared:
        blocks.append(["Rewritten before differentiation", *_rewrites(d.prepared)])
    blocks.append(["Paths", *(row for r in d.results for row in _paths(r))])
    if d.primes:
        blocks.append(["Local derivatives", *(row for p in d.primes for row in _prime(p))])
    if d.steps:
        blocks.append(["Backward", *(row for s in d.steps for row in _step(s, d.loss))])
    blocks.append(["Result", *(row for r in d.results for row in _result(r))])
    if d.rewrites:
        blocks.append(["Rewrites", *_rewrites(d.rewrites)])
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _entry(left: str, shape: Shape, behind: str = "") -> list[str]:
    """A line with its shape and source; on a line of their own where there is no room."""
    right = f"{show(shape)}  {behind}".rstrip()
    if len(left) + 2 > COLUMN:
        return [f"  {left}", " " * COLUMN + f"  {right}"]
    return [f"  {left:<{COLUMN - 2}}  {right}"]


def _prime(prime: Prime) -> list[str]:
    return _entry(f"{in_text(prime.call)} = {in_text(prime.term)}", prime.shape)


def _paths(result: Result) -> list[str]:
    rows = ["  " + " → ".join(symbol(n.text) for n in path) for path in result.paths]
    if result.more_paths:
        rows.append(f"  and {result.more_paths} more to {symbol(result.paths[0][-1].text)}")
    return rows


def equal_forms(forms: Sequence[Term]) -> list[str]:
    """What stands behind the signs of equality, each once."""
    return list(dict.fromkeys(in_text(t) for t in forms))


def _step(step: Step, loss: Name) -> list[str]:
    partial = f"∂{loss.text}/∂{symbol(step.of.text)}"
    rows = _entry(f"{symbol(step.name.text)} = {partial}", step.shape, str(step.where))
    if len(step.through) == 1:
        rows += _local(step)
    elif len(step.through) > 1:
        for t in step.through:
            rows.append(f"      through {symbol(t.name.text)}: {in_text(t.term)}")
    rows += [f"      = {shown}" for shown in equal_forms(step.forms)]
    rows += [f"      with {text_line(line)}" for line in step.parts]
    if step.rules:
        rows.append(f"      by {', '.join(step.rules)}")
    return rows


def _local(step: Step) -> list[str]:
    (through,) = step.through
    if through.local is None:
        return []
    return [
        f"      ∂{symbol(through.name.text)}/∂{symbol(step.of.text)} = {in_text(through.local)}"
    ]


def _result(result: Result) -> list[str]:
    step = result.local
    rows = _entry(result.name.text, result.shape)
    rows += [
        f"      through {symbol(t.name.text)}: {in_text(t.term)}"
        for t in step.through
        if _several(step)
    ]
    forms = equal_forms([step.simplified])
    *parts, last = result.closed
    if not parts:
        forms = list(dict.fromkeys([*forms, in_text(last.term)]))
    rows += [f"      = {shown}" for shown in forms]
    if parts:
        rows.append("    in terms of forward values")
        rows += [f"      {text_line(line)}" for line in result.closed]
    return rows


def _several(step: Step) -> bool:
    return len(step.through) > 1


def _rewrites(log: Sequence[Applied]) -> list[str]:
    rows = []
    for group in grouped(log):
        places = ", ".join(dict.fromkeys(str(r.where) for r in group))
        times = f", {len(group)} times" if len(group) > 1 else ""
        rows.append(f"  {group[0].stage}: {group[0].rule}{times}  ({places})")
        rows.append(f"      {in_text(group[0].before)}  →  {in_text(group[0].after)}")
    return rows
