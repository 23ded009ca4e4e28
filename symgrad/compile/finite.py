"""`check="finite"`: the first term that is NaN or infinite, by name and line.

In: a call. Out: its results, or NonFiniteError, the parameters being what they were before. The
call runs as always; only when something is not finite is it computed again, node by node.

>>> step = sg.train_step(loss, optimizer, check="finite")
>>> step(X, Y)
Traceback (most recent call last):
symgrad.errors.NonFiniteError: log(p) is -inf in 3 of 64 elements, first at [0, 4]
  at model.py:12: loss = -(y * sg.log(p)).mean()
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from symgrad import dtypes, source
from symgrad.compile.graph import Graph
from symgrad.errors import NonFiniteError
from symgrad.loop import Scan, body
from symgrad.node import Expr, Input, Leaf, Parameter
from symgrad.sizes import show
from symgrad.state import Store

if TYPE_CHECKING:
    from symgrad.compile.backend import Backend
    from symgrad.compile.pipeline import Pipeline

Array = np.ndarray[Any, Any]


def call(
    pipeline: Pipeline,
    backend: Backend,
    store: Store,
    arrays: Sequence[Array],
    sizes: Mapping[str, int],
) -> dict[str, Array]:
    """Run the backend; raise and go back if an output or a parameter is not finite."""
    saved = store.snapshot()
    try:
        results = backend.call(arrays, sizes)
    except BaseException:
        store.restore(saved)
        raise
    moved = {p.name: store.slots[p.name].read() for p in pipeline.request.graph.updates}
    bad = [name for name, value in {**moved, **results}.items() if not _finite(value)]
    if bad:
        store.restore(saved)
        raise NonFiniteError(_explain(pipeline.rewritten, store, arrays, sizes, bad[-1]))
    return results


def _finite(value: Array) -> bool:
    return value.dtype.kind != "f" or bool(np.isfinite(value).all())


def _explain(
    graph: Graph, store: Store, arrays: Sequence[Array], sizes: Mapping[str, int], name: str
) -> str:
    """The first node that is not finite although all of its operands are."""
    from symgrad.compile.interpreted import leaves, run

    values = leaves(graph, store, arrays)
    for leaf, value in values.items():
        if not _finite(value):
            return f"{leaf.kind} {leaf.name!r} {_where(value)}"
    nodes = [n for n in graph.nodes if dtypes.is_float(n.dtype) and not _fixed(n)]
    closed = [n for n in nodes if not n.free]
    found = run(Graph(graph.inputs, _numbered(closed), {}), values, sizes, store.rng)
    for node, value in zip(closed, found):
        if not _finite(value):
            inner = _within(graph, node, values, sizes, store) if isinstance(node, Scan) else ""
            return inner or f"{_term(graph, node)} {_where(value)}{source.quote(node.where)}"
    # Native code differs in rounding: the interpreter may stay just within range.
    return f"{name!r} is not finite, though every term of it is when computed one by one"


def _within(
    graph: Graph,
    result: Scan,
    values: Mapping[Expr, Array],
    sizes: Mapping[str, int],
    store: Store,
) -> str:
    """The first term of a loop's body that is not finite, and the step at which it is not."""
    from symgrad.compile.interpreted import run

    loop = result.loop
    terms = [n for n in body([result]) if dtypes.is_float(n.dtype) and not isinstance(n, Leaf)]
    stacks = _numbered([Scan.stacked(loop, n) for n in terms])
    found = run(Graph(graph.inputs, stacks, {}), values, sizes, store.rng)
    steps = range(len(found[0]) if found else 0)
    for t in steps[:: -1 if loop.reverse else 1]:
        for term, stack in zip(terms, found):
            if not _finite(stack[t]):
                at = f" at step {t} of the scan"
                return f"{_term(graph, term)} {_where(stack[t])}{at}{source.quote(term.where)}"
    return ""


def _numbered(nodes: Sequence[Expr]) -> dict[str, Expr]:
    return {str(i): n for i, n in enumerate(nodes)}


def _fixed(node: Expr) -> bool:
    """What depends on nothing given: the infinity that a mask is made of is not a fault."""
    if isinstance(node, Leaf):
        return not isinstance(node, (Input, Parameter))
    return all(isinstance(a, Leaf) and _fixed(a) for a in node.args)


def _term(graph: Graph, node: Expr) -> str:
    """The node as mathematics, in a few words, with the names that the model gives its values."""
    from symgrad.show.names import from_model
    from symgrad.show.notation import Name
    from symgrad.show.parts import lines, role, visible
    from symgrad.show.text import text

    order = visible(graph.roots)
    at = {id(n): n for n in order}
    names = from_model(order)
    known = {i: Name(name, at[i].ndim, role(at[i])) for i, name in names.items() if i != id(node)}
    *parts, line = lines({"": node}, known)
    shown = text(line.term)
    own = names.get(id(node))
    if parts or len(shown) > 80:
        shown = own or (shown if len(shown) <= 80 else f"{node.name} of shape {show(node.shape)}")
    return shown


def _where(value: Array) -> str:
    bad = ~np.isfinite(value)
    first = tuple(int(i) for i in np.argwhere(bad)[0])
    kind = str(value[first])
    if not value.ndim:
        return f"is {kind}"
    where = ", ".join(map(str, first))
    return f"is {kind} in {int(bad.sum())} of {value.size} elements, first at [{where}]"
