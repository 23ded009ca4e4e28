"""What several nodes mean together: a softmax, a one-hot code, the identity matrix.

In: a node. Out: a `Form` with its name and the expressions a reader sees as its operands; None for
a node that is read by itself. What lies between a form and its operands is not shown.

    exp(z - max z) / sum exp(z - max z)                 softmax(z)
    (z - max z) - log sum exp(z - max z)                log softmax(z)
    max z + log sum exp(z - max z)                      logsumexp(z)
    equal(y, 0..9) as numbers                           onehot(y)
    equal(0..n-1, 0..n-1) as numbers                    I

>>> form(nn.softmax(z))
Form(name='softmax', operands=(<z (32, 10) float32>,), axes=(1,))
"""

from __future__ import annotations

from dataclasses import dataclass

from symgrad.node import Constant, Contract, Custom, Expr, Iota, Map, Reduce, ScatterAdd
from symgrad.rewrite.reading import is_identity
from symgrad.show.meaning import Broadcast, Sum, meaning


@dataclass(frozen=True)
class Form:
    name: str
    operands: tuple[Expr, ...]
    axes: tuple[int, ...] = ()


def form(node: Expr) -> Form | None:
    """The form that a node is the root of."""
    if isinstance(node, Custom):
        return Form("value", (node.args[0],))
    if isinstance(node, ScatterAdd):
        return _scattered(node)
    if not isinstance(node, Map):
        return None
    if node.op in ("div", "mul"):
        return _softmax(node)
    if node.op == "sub":
        return _log_softmax(node)
    if node.op == "add":
        return _logsumexp(node)
    if node.op.startswith("to_") or node.op == "equal":
        inner = node if node.op == "equal" else node.args[0]
        if is_identity(inner):
            return Form("identity", ())
        labels = labels_of(inner)
        if labels is not None:
            return Form("onehot" if inner is not node else "classes", (labels,))
    return None


def operands(node: Expr) -> tuple[Expr, ...]:
    """The expressions that a reader sees as a node's operands."""
    found = form(node)
    return node.args if found is None else found.operands


# -- one-hot codes, the identity ----------------------------------------------------------------


def _spread(e: Expr) -> tuple[Expr, tuple[bool, ...]]:
    """What is repeated, and which axes it has of its own."""
    kind = meaning(e)
    if isinstance(kind, Broadcast):
        return e.args[0], kind.index
    return e, (True,) * e.ndim


def labels_of(node: Expr) -> Expr | None:
    """The labels of `labels[..., None] == arange(classes)`, the heart of a one-hot code."""
    if not isinstance(node, Map) or node.op != "equal" or not node.ndim:
        return None
    lead = (True,) * (node.ndim - 1)
    for one, other in (node.args, node.args[::-1]):
        labels, own = _spread(one)
        classes, last = _spread(other)
        if not isinstance(classes, Iota) or last != (False,) * (node.ndim - 1) + (True,):
            continue
        if labels.ndim == node.ndim - 1 and (own == (*lead, False) or not labels.ndim):
            return labels
    return None


def _scattered(node: ScatterAdd) -> Form | None:
    """A number at the place of a label is that number times a one-hot code."""
    values, labels = node.args
    number = values
    while isinstance(meaning(number), Broadcast):
        number = number.args[0]
    if isinstance(number, Constant) and number.scalar == 1 and node.axis == node.ndim - 1:
        if node.batch == labels.ndim == node.axis:
            return Form("onehot", (labels,))
    return None


# -- softmax and its relatives ------------------------------------------------------------------


def _shifted(e: Expr) -> tuple[Expr, tuple[int, ...]] | None:
    """z and the axes of its maximum when e is `z - max z`."""
    if not isinstance(e, Map) or e.op != "sub":
        return None
    top = _peak(e.args[1])
    if top is None or top.args[0] is not e.args[0]:
        return None
    _, kept = _spread(e.args[1])
    axes = tuple(a for a, k in enumerate(kept) if not k) if top.ndim else top.axes
    return (e.args[0], top.axes) if axes == top.axes else None


def _peak(e: Expr) -> Reduce | None:
    """The maximum behind a broadcast and a `stop_gradient`."""
    e, _ = _spread(e)
    if isinstance(e, Map) and e.op == "stop_gradient":
        e = e.args[0]
    return e if isinstance(e, Reduce) and e.law == "max" else None


def _sum_of_exp(e: Expr) -> tuple[Expr, tuple[int, ...], Expr] | None:
    """z, the axes and `exp(z - max z)` when e is the sum of the last over these axes."""
    kind = meaning(e)
    if not isinstance(e, Contract) or not isinstance(kind, Sum) or len(e.args) != 1:
        return None
    powers = e.args[0]
    if not isinstance(powers, Map) or powers.op != "exp":
        return None
    found = _shifted(powers.args[0])
    return None if found is None or found[1] != kind.axes else (*found, powers)


def _softmax(node: Map) -> Form | None:
    top, bottom = node.args
    if node.op == "mul":  # by the reciprocal of the sum
        for top, bottom in (node.args, node.args[::-1]):
            inner, kept = _spread(bottom)
            if isinstance(inner, Map) and inner.op == "div" and not isinstance(top, Constant):
                one = inner.args[0]
                found = _sum_of_exp(inner.args[1])
                if isinstance(one, Constant) and one.scalar == 1 and _is_row(found, top, kept):
                    assert found is not None
                    return Form("softmax", (found[0],), found[1])
        return None
    inner, kept = _spread(bottom)
    found = _sum_of_exp(inner)
    if _is_row(found, top, kept):
        assert found is not None
        return Form("softmax", (found[0],), found[1])
    return None


def _is_row(
    found: tuple[Expr, tuple[int, ...], Expr] | None, top: Expr, kept: tuple[bool, ...]
) -> bool:
    """The exponentials divided by their own sum, row by row."""
    if found is None or found[2] is not top:
        return False
    return not any(kept) or found[1] == tuple(a for a, k in enumerate(kept) if not k)


def _log_softmax(node: Map) -> Form | None:
    found = _shifted(node.args[0])
    inner, kept = _spread(node.args[1])
    if found is None or not isinstance(inner, Map) or inner.op != "log":
        return None
    of = inner.args[0]
    if inner is node.args[1]:  # the logarithm of what is repeated already
        of, kept = _spread(of)
    rows = _sum_of_exp(of)
    if rows is None or rows[0] is not found[0] or rows[1] != found[1]:
        return None
    if any(kept) and found[1] != tuple(a for a, k in enumerate(kept) if not k):
        return None
    return Form("log softmax", (found[0],), found[1])


def _logsumexp(node: Map) -> Form | None:
    for top, rest in (node.args, node.args[::-1]):
        if isinstance(rest, Map) and rest.op == "log":
            found = _sum_of_exp(rest.args[0])
            peak = _peak(top)
            if found is not None and peak is not None and peak.args[0] is found[0]:
                if peak.axes == found[1] and top.ndim == node.ndim:
                    return Form("logsumexp", (found[0],), found[1])
    return None
