"""What is known of each node and kernel of a picture: its mathematics, its line, its values, time.

In: a graph, values of a run, the kernels of a compiled function. Out: plain dictionaries, which a
page holds as JSON.

>>> details(graph)["n3"]["where"]
'model.py:12'
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from symgrad.compile.provenance import KernelFacts
from symgrad.draw.graph import Graph, Node, operands
from symgrad.node import Expr, Leaf, Scan
from symgrad.show import names as naming
from symgrad.show.build import term
from symgrad.show.indices import resolved
from symgrad.show.mathml import plain, symbol, wrapped
from symgrad.show.notation import Call, Name, Term
from symgrad.sizes import show

BINS = 24
LONGEST = 90  # a value of a longer term is called by its name


def details(graph: Graph) -> dict[str, dict[str, Any]]:
    """Of every node: its formula as MathML, shape, dtype, part, source line, neighbours."""
    maths = formulas(graph)
    found: dict[str, dict[str, Any]] = {}
    for node in graph.nodes:
        e = node.expr
        found[node.key] = {
            "label": node.label,
            "name": node.name,
            "math": maths[node.key],
            "shape": show(e.shape) if e.shape else "scalar",
            "dtype": e.dtype,
            "part": node.part,
            "role": node.role,
            "gate": node.gate,
            "where": str(e.where),
            "line": e.where.text,
            "reads": [],
            "readers": [],
            "kernels": [],
        }
    for edge in graph.edges:
        found[edge.source]["readers"].append(edge.target)
        found[edge.target]["reads"].append(edge.source)
    return found


def formulas(graph: Graph) -> dict[str, str]:
    """`h = relu(z)` for every node: what is named by its name, the rest written out."""
    called = _names(graph)
    terms: dict[int, Term] = {}

    def read(e: Expr) -> Term:
        node = graph.by_expr.get(id(e))
        if node is not None:
            return terms[id(e)]
        if id(e) not in terms:
            terms[id(e)] = term(e, [read(a) for a in operands(e, False)])
        return terms[id(e)]

    shown: dict[str, str] = {}
    for node in graph.nodes:
        e = node.expr
        name = called[node.key]
        if node.role == "reference":
            shown[node.key] = wrapped(symbol(node.name or node.label, e.ndim))
            continue
        if isinstance(e, Leaf):
            terms[id(e)] = term(e, [])
            shown[node.key] = wrapped(plain(resolved(terms[id(e)])), block=True)
            continue
        definition = _definition(e, lambda a: _read(a, graph, terms, read))
        body = plain(resolved(definition))
        shown[node.key] = wrapped(
            f"<mrow>{symbol(name, e.ndim)}<mo>=</mo>{body}</mrow>", block=True
        )
        brief = not node.name and definition.weight <= LONGEST // 3
        terms[id(e)] = definition if brief else Name(name, e.ndim)
    return shown


def _definition(e: Expr, read: Callable[[Expr], Term]) -> Term:
    """What a node computes, in terms of its operands; of a loop only what it hands out."""
    if isinstance(e, Scan):
        value = e.output if e.position is None else e.news[e.position]
        assert value is not None
        return Call("steps" if e.position is None else "last", (read(value),), e.ndim)
    return term(e, [read(a) for a in operands(e, False)])


def _read(e: Expr, graph: Graph, terms: Mapping[int, Term], read: Any) -> Term:
    """The term of an operand; one that comes later (a step of a loop before) by its name."""
    node = graph.by_expr.get(id(e))
    if node is not None and id(e) not in terms:
        return Name(node.name or node.key, e.ndim)
    return read(e)  # type: ignore[no-any-return]


def _names(graph: Graph) -> dict[str, str]:
    used = {n.name or n.label for n in graph.nodes if n.name or n.role != "op"}
    found: dict[str, str] = {}
    for node in graph.nodes:
        if node.name or node.role != "op":
            name = node.name or node.label
            found[node.key] = f"∂L/{name}" if name.startswith("∂") and "/" not in name else name
        else:
            found[node.key] = naming.fresh(naming.letter(node.expr), used)
            used.add(found[node.key])
    return found


# -- values ---------------------------------------------------------------------------------------


def statistics(value: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Minimum, maximum, mean, standard deviation, NaNs, and a small histogram."""
    flat = np.asarray(value).reshape(-1)
    if flat.dtype.kind == "f":
        good = flat[np.isfinite(flat)].astype(np.float64)
    else:
        good = flat.astype(np.float64)
    found: dict[str, Any] = {
        "count": int(flat.size),
        "nan": int(np.isnan(flat).sum()) if flat.dtype.kind == "f" else 0,
        "inf": int(np.isinf(flat).sum()) if flat.dtype.kind == "f" else 0,
    }
    if good.size:
        low, high = float(good.min()), float(good.max())
        found.update(min=low, max=high, mean=float(good.mean()), std=float(good.std()))
        if high > low and np.isfinite(high - low):
            found["histogram"] = np.histogram(good, BINS, (low, high))[0].tolist()
    return found


# -- kernels --------------------------------------------------------------------------------------


def kernels(
    graph: Graph, known: Sequence[KernelFacts], nodes: Mapping[str, dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Every kernel with the nodes it computes, and apart from it its code; nodes learn of it."""
    owner: dict[int, Node] = {}
    for node in graph.nodes:
        if node.role != "reference":
            for e in node.covers:
                owner.setdefault(id(e), node)
    owner.update((id(n.expr), n) for n in graph.nodes if n.role != "reference")
    found, texts = [], []
    for k, kernel in enumerate(known):
        mine = [owner[id(e)].key for e in kernel.expressions if id(e) in owner]
        mine = [key for key in dict.fromkeys(mine) if nodes[key]["role"] == "op"]
        for key in mine:
            nodes[key]["kernels"].append(k)
        found.append(
            {
                "name": kernel.name,
                "nodes": mine,
                "sources": [f"{s}: {s.text}" if s.text else str(s) for s in kernel.sources],
                "calls": kernel.calls,
                "seconds": kernel.seconds,
                "flops": kernel.flops,
                "bytes": kernel.bytes,
            }
        )
        code = {"loops": kernel.loops, "llvm": kernel.llvm, "assembly": kernel.assembly}
        texts.append(code)
    return found, texts
