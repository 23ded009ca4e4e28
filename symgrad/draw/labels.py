"""What is written on the nodes of a picture: an operation's sign or name, a gate's behaviour.

In: an expression, the terms of its operands. Out: short texts.

    add distributes     the cotangent goes to every operand
    multiply switches   each operand gets it times the others
    max routes          only the operand that was chosen gets it

>>> label(sg.relu(z), [DOT], 1)
'relu'
"""

from __future__ import annotations

from collections.abc import Sequence

from symgrad.loop import Scan
from symgrad.node import (
    Contract,
    Custom,
    Expr,
    Gather,
    Leaf,
    Map,
    Random,
    Reduce,
    Reindex,
    Reshape,
    ScatterAdd,
    Slot,
)
from symgrad.show.build import RENAMED, term
from symgrad.show.forms import form
from symgrad.show.meaning import Broadcast, Sum, Transpose, meaning, padding
from symgrad.show.notation import Name, Term
from symgrad.show.text import text

LONGEST = 24
SCALINGS = ("mul", "div", "neg")
SIGNS = {
    "add": "+",
    "sub": "−",
    "neg": "−",
    "mul": "⊙",
    "div": "÷",
    "square": "( )²",
    "sqrt": "√",
    "sqrt_or_zero": "√",
    "less": "<",
    "less_equal": "≤",
    "greater": ">",
    "greater_equal": "≥",
    "equal": "=",
    "not_equal": "≠",
    "where": "choose",
}
ROUTING = ("max", "maximum", "min", "minimum", "relu", "relu6", "leaky_relu", "where", "clip")


def leaf_role(e: Expr) -> str:
    if isinstance(e, Leaf):
        return e.kind if e.kind in ("parameter", "state", "input", "random", "slot") else "constant"
    return "op"


def label(e: Expr, args: Sequence[Term], sources: int = 2, windowed: bool = False) -> str:
    """The first line of a node: `args` are the terms of its operands, those that are nodes of their
    own being dots, of which there are `sources`."""
    if isinstance(e, Leaf):
        return e.label if isinstance(e, Random) else e.name
    found = form(e)
    if found is not None:
        return found.name
    if isinstance(e, Map):
        plain = all(getattr(a, "text", "") == "·" for a in args)
        if plain:
            name = SIGNS.get(e.op, RENAMED.get(e.op, e.op))
            return "×" if e.op == "mul" and not e.ndim else name
        shown = text(term(e, args))
        return shown if len(shown) <= LONGEST else SIGNS.get(e.op, e.op)
    if isinstance(e, Contract):
        return _contraction(e, windowed)
    if isinstance(e, Reduce):
        return f"{e.law} pool" if windowed else e.law
    return _moved(e)


def _contraction(e: Contract, windowed: bool) -> str:
    kind = meaning(e)
    if isinstance(kind, Sum):
        return "sum windows" if windowed else "Σ"
    if isinstance(kind, Transpose):
        return "transpose"
    if isinstance(kind, Broadcast):
        return "repeat"
    if len(e.args) == 1:
        return "diagonal" if not e.summed else "trace"
    if windowed:
        return "conv"
    if not e.summed:
        shared = any(set(a) & set(b) for a, b in zip(e.ins, e.ins[1:]))
        return "⊙" if shared or not all(e.ins) else "outer"
    return "matmul" if e.ndim else "dot"


def windows(e: Expr) -> bool:
    """Whether an index map takes windows, or puts them back."""
    return isinstance(e, Reindex) and any(len(terms) > 1 for _, terms, _ in e.maps)


def _moved(e: Expr) -> str:
    if isinstance(e, Reindex):
        if windows(e) or padding(e) is not None:
            return "windows" if windows(e) else "pad"
        shown = text(term(e, [Name("", e.args[0].ndim)]))
        return shown if len(shown) <= LONGEST else "slice"
    if isinstance(e, Reshape):
        return "reshape"
    if isinstance(e, Gather):
        return "rows" if e.axis == 0 and not e.batch else "pick"
    if isinstance(e, ScatterAdd):
        return "scatter +"
    if isinstance(e, Scan):
        if e.position is None:
            return "every step"
        return f"last {e.loop.carries[e.position].name}"
    if isinstance(e, Custom):
        return "own derivative"
    return e.name if isinstance(e, Slot) else e.kind


def gate(e: Expr, sources: int = 2) -> str:
    """How a node hands on the cotangent it gets: nothing for functions of one operand that scale
    it by their slope. `sources` are its operands that are no numbers."""
    if isinstance(e, Reduce):
        return "routes" if e.law in ("max", "min") else ""
    if isinstance(e, Leaf) or form(e) is not None:
        return ""
    if isinstance(e, Contract):
        return "switches" if sources > 1 else "distributes"
    if isinstance(e, Map):
        if e.op in ROUTING:
            return "routes"
        if sources > 1:
            return {"add": "distributes", "sub": "distributes"}.get(
                e.op, "switches" if e.op in ("mul", "div") else ""
            )
    return ""
