"""A derivation as a page of its own: MathML, no script, nothing from a network.

In: a `Derivation`. Out: HTML. Forward definitions with their source lines, the paths, each
cotangent with what it is passed on by, the result, and the rewrites folded away below.

>>> page(derivation(loss, W)).startswith("<!doctype html>")
True
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from symgrad.show.derivation import Applied, Derivation, Result, Step, grouped
from symgrad.show.indices import resolved
from symgrad.show.mathml import mathml, plain, symbol, wrapped
from symgrad.show.notation import Name, Term
from symgrad.sizes import Shape, show
from symgrad.source import Source

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --soft: #6b6b6b; --line: #d8d8d8;
  --paper: #ffffff; --accent: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --soft: #a0a0a0; --line: #3a3a3a;
  --paper: #161616; --accent: #7db7f0; } }
.symgrad { color: var(--ink); background: var(--paper); max-width: 60rem; margin: 0 auto;
  padding: 1.5rem; font: 16px/1.5 system-ui, sans-serif; }
.symgrad h1 { font-size: 1.4rem; font-weight: 600; }
.symgrad h2 { font-size: 1.05rem; font-weight: 600; color: var(--accent); margin: 1.8rem 0 .4rem; }
.symgrad table { border-collapse: collapse; width: 100%; }
.symgrad td { padding: .3rem .6rem .3rem 0; border-top: 1px solid var(--line);
  vertical-align: baseline; }
.symgrad td.math { width: 100%; }
.symgrad td.note { color: var(--soft); font-size: .85rem; white-space: nowrap; }
.symgrad .small { color: var(--soft); font-size: .85rem; }
.symgrad math { font-size: 1.1em; }
.symgrad summary { cursor: pointer; color: var(--accent); margin-top: 1.8rem; font-weight: 600; }
""".strip()


def page(d: Derivation) -> str:
    """A whole document."""
    title = ", ".join(r.name.text for r in d.results)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{html.escape(title)}</title>\n"
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n</head>\n<body>\n'
        f"{fragment(d)}\n</body>\n</html>\n"
    )


def fragment(d: Derivation) -> str:
    """The same to be put into another page, a notebook for one."""
    named = ", ".join(wrapped(symbol(r.name.text, len(r.shape))) for r in d.results)
    parts = [f"<h1>{named} by the chain rule</h1>"]
    forward = [
        _row(_equation(line.name, line.node.ndim, [line.term]), line.node.shape, line.node.where)
        for line in d.forward
    ]
    parts.append(_section("Forward", forward))
    if d.prepared:
        rewrites = [_rewrites(group) for group in grouped(d.prepared)]
        parts.append(_section("Rewritten before differentiation", rewrites))
    parts.append(_section("Paths", (p for r in d.results for p in _paths(r))))
    if d.primes:
        rows_ = [_row(wrapped(_equal(p.call, p.term)), p.shape) for p in d.primes]
        parts.append(_section("Local derivatives", rows_))
    if d.steps:
        parts.append(_section("Backward", (_step(s, d.loss) for s in d.steps)))
    parts.append(_section("Result", (_result(r) for r in d.results)))
    if d.rewrites:
        rows = "".join(_rewrites(group) for group in grouped(d.rewrites))
        count = f"{len(d.rewrites)} rewrite{'s' if len(d.rewrites) > 1 else ''}"
        parts.append(f"<details><summary>{count}</summary><table>{rows}</table></details>")
    return f'<div class="symgrad"><style>{STYLE}</style>\n' + "\n".join(parts) + "\n</div>"


def _section(title: str, rows: Iterable[str]) -> str:
    return f"<h2>{title}</h2>\n<table>{''.join(rows)}</table>"


def _row(maths: str, shape: Shape | None = None, where: Source | None = None) -> str:
    notes = html.escape(show(shape)) if shape is not None else ""
    line = ""
    if where is not None:
        line = (
            f'<span title="{html.escape(where.text, quote=True)}">{html.escape(str(where))}</span>'
        )
    return (
        f'<tr><td class="math">{maths}</td><td class="note">{notes}</td>'
        f'<td class="note">{line}</td></tr>\n'
    )


def _equation(name: str, rank: int, terms: Sequence[Term], between: str = "") -> str:
    """name = term = term, equal ones once."""
    forms = list(dict.fromkeys(plain(resolved(t)) for t in terms))
    sides = "".join(f"<mo>=</mo>{f}" for f in forms)
    return wrapped(f"<mrow>{symbol(name, rank)}{between}{sides}</mrow>")


def _equal(left: Term, right: Term) -> str:
    return f"<mrow>{plain(resolved(left))}<mo>=</mo>{plain(resolved(right))}</mrow>"


def _derivative(loss: Name, of: Name) -> str:
    above, below = symbol(loss.text, 0), symbol(of.text, of.rank)
    return f"<mfrac><mrow><mo>∂</mo>{above}</mrow><mrow><mo>∂</mo>{below}</mrow></mfrac>"


def _paths(result: Result) -> list[str]:
    arrow = "<mo>→</mo>"
    rows = [
        _row(wrapped(f"<mrow>{arrow.join(symbol(n.text, n.rank) for n in path)}</mrow>"))
        for path in result.paths
    ]
    return rows + ([_row(f"and {result.more_paths} more")] if result.more_paths else [])


def _step(step: Step, loss: Name) -> str:
    between = f"<mo>=</mo>{_derivative(loss, step.of)}"
    maths = _equation(step.name.text, step.name.rank, step.forms, between)
    for line in step.parts:
        shown = _equation(line.name, line.node.ndim, [line.term])
        maths += f'<div class="small">with {shown}</div>'
    if len(step.through) == 1 and step.through[0].local is not None:
        maths += _local(step.through[0].name, step.of, step.through[0].local)
    elif len(step.through) > 1:
        maths += "".join(_through(t.name, t.term) for t in step.through)
    if step.rules:
        maths += f'<div class="small">by {html.escape(", ".join(step.rules))}</div>'
    return _row(maths, step.shape, step.where)


def _local(name: Name, of: Name, local: Term) -> str:
    above, below = symbol(name.text, name.rank), symbol(of.text, of.rank)
    ratio = f"<mfrac><mrow><mo>∂</mo>{above}</mrow><mrow><mo>∂</mo>{below}</mrow></mfrac>"
    shown = wrapped(f"<mrow>{ratio}<mo>=</mo>{plain(resolved(local))}</mrow>")
    return f'<div class="small">local derivative {shown}</div>'


def _through(name: Name, term: Term) -> str:
    by = wrapped(symbol(name.text, name.rank))
    return f'<div class="small">through {by}: {mathml(term)}</div>'


def _result(result: Result) -> str:
    *parts, last = result.closed
    forms = [result.local.simplified] if parts else [result.local.simplified, last.term]
    rank = len(result.shape)
    rows = [_row(_equation(result.name.text, rank, forms), result.shape)]
    if len(result.local.through) > 1:
        rows += [_row(_through(t.name, t.term)) for t in result.local.through]
    if parts:
        rows.append(_row('<span class="small">in terms of forward values</span>'))
        rows += [
            _row(_equation(line.name, line.node.ndim, [line.term]), line.node.shape)
            for line in result.closed
        ]
    return "".join(rows)


def _rewrites(group: Sequence[Applied]) -> str:
    """A rewrite; of one that is used often the shortest, and how often that is."""
    times = f'<div class="small">{len(group)} times</div>' if len(group) > 1 else ""
    return _rewrite(group[0]) + times


def _rewrite(r: Applied) -> str:
    maths = wrapped(f"<mrow>{plain(resolved(r.before))}<mo>→</mo>{plain(resolved(r.after))}</mrow>")
    rule = f'<div class="small">{html.escape(f"{r.stage}: {r.rule}")}</div>'
    return _row(maths + rule, None, r.where)
