"""Rules that every expression graph keeps; a broken one is a `VerifyError` naming node and line.

In: expressions. Out: nothing, or the error.

- every node is what building it from its operands gives: same shape, same dtype, same object
- a node's height is one more than its highest operand's, so there is no cycle
- run-time sizes of one name have one maximum
- slots have the shapes of what they stand for, and no output depends on one
- nothing that only differentiation needs is left, where that is asked for (`final`)

>>> verify([loss, *gradients])
"""

from __future__ import annotations

from collections.abc import Iterable

from symgrad import source
from symgrad.errors import SymgradError
from symgrad.node import Custom, Expr, Leaf, Map, rebuilt, toposort
from symgrad.sizes import Dim, show


class VerifyError(SymgradError):
    """A graph that breaks the rules: a fault of symgrad, not of the model."""


def verify(outputs: Iterable[Expr], final: bool = False) -> None:
    """Check every node; `final` for graphs that are compiled as they are."""
    dims: dict[str, Dim] = {}
    outputs = list(outputs)
    for node in outputs:
        if node.free:
            raise _fault(node, f"depends on {sorted(s.name for s in node.free)} of a loop around")
    for node in toposort(outputs):
        _check_sizes(node, dims)
        if not isinstance(node, Leaf):
            _check_built(node)
        if final and isinstance(node, Custom):
            raise _fault(node, "is left although derivatives are taken")
        if final and isinstance(node, Map) and node.op == "stop_gradient":
            raise _fault(node, "is left although derivatives are taken")


def _check_built(node: Expr) -> None:
    free = frozenset[object]().union(*(a.free for a in node.args)) - node.bound(node.attrs)
    if node.free != free:
        raise _fault(node, "has other free slots than its operands")
    if node.height != 1 + max(a.height for a in node.args):
        raise _fault(node, f"has height {node.height}, which its operands do not give")
    try:
        again, shared = rebuilt(node), node._rebuild(node.args)
    except Exception as error:
        raise _fault(node, f"cannot be built from its operands: {error}") from error
    if again.shape != node.shape or again.dtype != node.dtype:
        raise _fault(
            node, f"is {node.dtype}{show(node.shape)}, rebuilt {again.dtype}{show(again.shape)}"
        )
    if shared is not node:
        raise _fault(node, "is another object than an equal node")


def _check_sizes(node: Expr, dims: dict[str, Dim]) -> None:
    for size in node.shape:
        if isinstance(size, Dim):
            known = dims.setdefault(size.name, size.base)
            if known != size.base:
                raise _fault(node, f"has size {size} of max {size.max}, elsewhere {known.max}")


def _fault(node: Expr, what: str) -> VerifyError:
    operands = ", ".join(f"{a.name} {a.dtype}{show(a.shape)}" for a in node.args)
    return VerifyError(f"{node.kind} {node.name}({operands}) {what}" + source.quote(node.where))
