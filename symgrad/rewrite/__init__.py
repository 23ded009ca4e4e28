"""Rewriting: tables of rules, in stages, applied until none fires.

In: expressions. Out: equal expressions that are canonical, stable, small and cheap, with a log.

    canonicalise   one form for what can be written in many ways
    stabilise      the naive formula as one that is finite at every input
    simplify       common factors and known sums: softmax with cross-entropy ends at p - y
    finish         what is only right once derivatives are taken (stop_gradient is the identity)
    factor         the order of products and the place of sums; products out of loops

`prepare` (canonicalise, stabilise) runs before differentiation, `run` on what is compiled.

>>> simplify(log(exp(x))) is x
True
"""

from __future__ import annotations

import functools
from typing import Any, Iterable, Sequence

from symgrad.node import Expr, Input, toposort
from symgrad.rewrite import canonicalise, factor, stabilise
from symgrad.rewrite import simplify as simplification
from symgrad.rewrite.engine import (
    Rewrite,
    Rule,
    RuleError,
    RuleSet,
    Table,
    rewrite,
    rewrite_where_needed,
    substitute,
)
from symgrad.rewrite.hoist import hoist

PREPARE = ("canonicalise", "stabilise")
SIMPLIFY = ("canonicalise", "stabilise", "simplify")
STAGES = ("canonicalise", "stabilise", "simplify", "finish", "factor")

TABLES: dict[str, tuple[Table, ...]] = {
    "canonicalise": canonicalise.TABLES,
    "stabilise": (stabilise.TABLE,),
    "simplify": (simplification.TABLE,),
    "finish": (simplification.FINISH,),
    "factor": (factor.TABLE, factor.ROWS, factor.DIVISIONS),
}
MAXIMA = stabilise.MAXIMA  # takes part in stabilise while derivatives are still to be taken


@functools.cache
def rules(stages: tuple[str, ...]) -> RuleSet:
    tables = [t for stage in stages for t in TABLES[stage]]
    if "stabilise" in stages and "finish" not in stages:
        tables.append(MAXIMA)
    return RuleSet(tables)


_FACTOR = RuleSet((factor.TABLE,))
_FACTOR_IN_FORM = RuleSet((factor.TABLE, *canonicalise.TABLES))
_ROWS = RuleSet((factor.ROWS,))
_ROWS_IN_FORM = RuleSet((factor.ROWS, *canonicalise.TABLES))
_DIVISIONS = RuleSet((factor.DIVISIONS,))


def run(
    outputs: Sequence[Expr], stages: Iterable[str] = STAGES, keep: Iterable[Expr] = ()
) -> tuple[list[Expr], list[Rewrite]]:
    """The outputs after these stages, and the log. Nodes in `keep` are left as they are and no
    rule looks below them.

    The stages before "factor" work together until nothing changes; "factor" then works on their
    result, and what it builds is brought into normal form.
    """
    chosen = tuple(stages)
    unknown = [s for s in chosen if s not in TABLES]
    if unknown:
        raise ValueError(f"rewrite: no stage {unknown[0]!r}: one of {', '.join(STAGES)}")
    kept = {e for e in keep if e.args}
    if kept:
        return _around(list(outputs), chosen, kept)
    result, log = list(outputs), []  # type: list[Expr], list[Rewrite]
    first = tuple(s for s in chosen if s != "factor")
    if first:
        result, log = rewrite(result, rules(first))
    if "factor" in chosen:
        result, moved = hoist(result)
        log += moved
        if moved and first:  # products of whole sequences, in normal form
            result, again = rewrite(result, rules(first))
            log += again
        result, more = rewrite(result, _FACTOR_IN_FORM, _FACTOR)
        result, rows = rewrite(result, _ROWS_IN_FORM, _ROWS)
        result, last = rewrite(result, _DIVISIONS)
        log += more + rows + last
    return result, log


def prepare(outputs: Sequence[Expr], keep: Iterable[Expr] = ()) -> tuple[list[Expr], list[Rewrite]]:
    """Canonicalise and stabilise: what runs before differentiation."""
    return run(outputs, PREPARE, keep)


def _around(
    outputs: list[Expr], stages: tuple[str, ...], kept: set[Expr]
) -> tuple[list[Expr], list[Rewrite]]:
    """Rewrite with placeholders for the nodes to keep."""
    holes = {e: Input(f"kept{i}", e.shape, e.dtype) for i, e in enumerate(sort(kept))}
    result, log = run([substitute([e], holes)[0] for e in outputs], stages)
    back = {hole: e for e, hole in holes.items()}
    pairs = substitute([e for r in log for e in (r.before, r.after)], back)
    log = [
        Rewrite(r.rule, r.stage, pairs[2 * i], pairs[2 * i + 1], r.where) for i, r in enumerate(log)
    ]
    return substitute(result, back), log


def sort(nodes: set[Expr]) -> list[Expr]:
    """Nodes in an order that does not depend on memory addresses."""
    return [n for n in toposort(sorted(nodes, key=lambda n: n.digest)) if n in nodes]


def stabilised(outputs: Sequence[Expr], keep: Sequence[Expr]) -> tuple[list[Expr], list[Expr]]:
    """Outputs prepared for differentiation by `keep`: both, rewritten.

    Only what a stable form replaces changes: everything else, and so the nodes that a derivative
    reads, stays what the user built. A kept node that is not a leaf stays one node, and the rules
    do not look through it, so that the outputs still depend on it; what is below it is prepared as
    well. The second list holds what became of the nodes of `keep`: differentiate by these.
    """
    kept = {e for e in keep if e.args}
    if not kept:
        return rewrite_where_needed(outputs, rules(PREPARE))[0], list(keep)
    order = sort(kept)
    holes: dict[Expr, Expr] = {e: Input(f"kept{i}", e.shape, e.dtype) for i, e in enumerate(order)}
    inner = []
    for e in order:
        others = {k: v for k, v in holes.items() if k is not e}
        inner += substitute([e], others)
    new, _ = rewrite_where_needed([*substitute(outputs, holes), *inner], rules(PREPARE))
    count = len(outputs)
    back: dict[Expr, Expr] = {}
    for e, value in zip(order, new[count:]):  # operands first, so later ones find earlier ones
        back[holes[e]] = substitute([value], back)[0]
    targets = [back[holes[e]] if e in holes else e for e in keep]
    return substitute(new[:count], back), targets


def simplify(e: Any, keep: Iterable[Expr] = ()) -> Any:
    """The expression in its simplest known form, as a lecture would write it; of a list, tuple or
    dict, all of them together. Nodes in `keep` are left as they are. What is compiled is simplified
    by the same rules but for those that are for reading only (`symgrad.rewrite.reading`).

    >>> simplify(grad(cross_entropy(z, y), z)) is simplify((softmax(z) - one_hot(y, 10)) / 32)
    True
    """
    from symgrad.rewrite.reading import Reader

    leaves: list[Expr] = []
    _collect(e, leaves)
    kept = {k for k in keep if k.args}
    holes: dict[Expr, Expr] = {
        k: Input(f"kept{i}", k.shape, k.dtype) for i, k in enumerate(sort(kept))
    }
    reader = Reader()
    found = [reader.read(leaf) for leaf in substitute(leaves, holes)]
    return _restore(e, iter(substitute(found, {hole: k for k, hole in holes.items()})))


def _collect(form: Any, into: list[Expr]) -> None:
    if isinstance(form, Expr):
        into.append(form)
    elif isinstance(form, dict):
        for part in form.values():
            _collect(part, into)
    elif isinstance(form, (list, tuple)):
        for part in form:
            _collect(part, into)
    else:
        raise TypeError(f"simplify: takes expressions, got {type(form).__name__}")


def _restore(form: Any, new: Any) -> Any:
    if isinstance(form, Expr):
        return next(new)
    if isinstance(form, dict):
        return {key: _restore(part, new) for key, part in form.items()}
    return type(form)(_restore(part, new) for part in form)


__all__ = [
    "PREPARE", "SIMPLIFY", "STAGES", "TABLES", "Rewrite", "Rule", "RuleError", "RuleSet", "Table",
    "prepare", "run", "simplify", "stabilised",
]  # fmt: skip
