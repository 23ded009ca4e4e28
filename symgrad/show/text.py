"""Expressions as text that reads like NumPy.

In: an expression. Out: lines; shared parts are named once, in the order in which they are needed.

>>> print(text(sg.tanh(x @ W + b)))
tanh(x @ W + b)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from symgrad.node import (
    Constant,
    Contract,
    Custom,
    Expr,
    Gather,
    Iota,
    Leaf,
    Map,
    Random,
    Reduce,
    Reindex,
    Reshape,
    ScatterAdd,
    SizeOf,
)
from symgrad.show import pieces
from symgrad.show.pieces import Piece
from symgrad.sizes import show

OR, AND, NOT, COMPARE, ADD = 10, 20, 30, 40, 50
DIV, MUL, MATMUL, NEG, POW, ATOM = 59, 60, 61, 70, 80, 100
INFIX = {
    "add": ("+", ADD),
    "sub": ("-", ADD),
    "mul": ("*", MUL),
    "div": ("/", DIV),
    "floor_divide": ("//", DIV),
    "mod": ("%", DIV),
    "less": ("<", COMPARE),
    "less_equal": ("<=", COMPARE),
    "greater": (">", COMPARE),
    "greater_equal": (">=", COMPARE),
    "equal": ("==", COMPARE),
    "not_equal": ("!=", COMPARE),
    "logical_and": ("and", AND),
    "logical_or": ("or", OR),
}


def text(e: Expr) -> str:
    """One expression: named parts first, then the expression itself."""
    return listing({"": e})


def listing(outputs: Mapping[str, Expr], sources: bool = False) -> str:
    """Several expressions by name; with `sources`, each line's shape and the user's own line."""
    found = pieces.lines(outputs, piece, lambda n: f"t{n}")
    shown = [f"{line.name} = {line.text}" if line.name else line.text for line in found]
    if sources:
        width = min(max(map(len, shown), default=0), 88)
        shown = [
            f"{s:<{width}}  # {show(line.node.shape)} {line.node.where}"
            for s, line in zip(shown, found)
        ]
    return "\n".join(shown)


def piece(node: Expr, args: Sequence[Piece], look: Callable[[Expr], Piece]) -> Piece:
    """One node, its operands already rendered."""
    if isinstance(node, Leaf):
        return leaf(node)
    labels = pieces.one_hot(node)
    if labels is not None:
        return _call("one_hot", look(labels).text, str(node.shape[-1]))
    if isinstance(node, Map):
        return _map(node, [_operand(node, a, p, look) for a, p in zip(node.args, args)])
    if isinstance(node, Contract):
        return _contract(node, args)
    if isinstance(node, Reduce):
        axis = node.axes[0] if len(node.axes) == 1 else node.axes
        every = len(node.axes) == node.args[0].ndim and node.law not in ("cumsum",)
        return _call(node.law, args[0].text, "" if every else f"axis={axis}")
    if isinstance(node, Reindex):
        return _reindex(node, args[0])
    if isinstance(node, Reshape):
        return _call("reshape", args[0].text, show(node.shape))
    if isinstance(node, Gather):
        return _gather(node, args)
    if isinstance(node, ScatterAdd):
        where = f"axis={node.axis}" + (f", batch={node.batch}" if node.batch else "")
        return _call("scatter_add", args[0].text, args[1].text, where, f"size={node.attrs[2]}")
    if isinstance(node, Custom):
        return args[0]
    return _call(node.kind, *(a.text for a in args))


def _call(name: str, *args: str) -> Piece:
    return Piece(f"{name}({', '.join(a for a in args if a)})")


def leaf(node: Expr) -> Piece:
    if isinstance(node, Constant):
        return constant(node)
    if isinstance(node, SizeOf):
        return Piece(node.name, ATOM if node.of_size.factor == 1 else MUL)
    if isinstance(node, Iota):
        return _call("arange", str(node.shape[0]))
    if isinstance(node, Random):
        return _call(node.label, ", ".join(map(str, node.shape)))
    return Piece(node.name)


def constant(node: Constant) -> Piece:
    number = node.scalar
    if number is not None:
        shown = digits(number, node.dtype)
        return Piece(shown, NEG if shown.startswith("-") else ATOM)
    if node.size <= 8 and node.ndim == 1:  # type: ignore[operator]  # constants have int sizes
        return Piece("[" + ", ".join(digits(v, node.dtype) for v in node.value) + "]")
    return _call("constant", ", ".join(map(str, node.shape)))


def digits(number: float | int | bool, dtype: str) -> str:
    """The shortest digits that give this number in its dtype; whole numbers without a point."""
    if dtype in ("float32", "float64") and np.isfinite(number):
        if number == int(number) and abs(number) < 1e6:
            return str(int(number)) if number or not np.signbit(number) else "-0.0"
        return str(np.dtype(dtype).type(number))
    return str(number)


# -- elementwise ------------------------------------------------------------------------------


def _operand(node: Expr, arg: Expr, own: Piece, look: Callable[[Expr], Piece]) -> Piece:
    """An operand of an elementwise node; a broadcast one as NumPy would take it."""
    kind = pieces.meaning(arg)
    if not isinstance(kind, pieces.Broadcast):
        return own
    if all(isinstance(pieces.meaning(a), pieces.Broadcast) or a.ndim == 0 for a in node.args):
        return own  # nothing else shows the shape
    return spread(kind, look(arg.args[0]))


def spread(kind: pieces.Broadcast, own: Piece) -> Piece:
    """An operand with the new axes that NumPy would not add by itself."""
    if kind.implied:
        return own
    first = kind.index.index(True)
    index = ", ".join(":" if has else "None" for has in kind.index[first:])
    return Piece(f"{own.within(ATOM)}[{index}]")


def _map(node: Map, args: Sequence[Piece]) -> Piece:
    op = node.op
    if op in INFIX:
        return _infix(*INFIX[op], *args)
    if op == "neg":
        return Piece("-" + args[0].within(NEG), NEG)
    if op == "pow":
        return Piece(f"{args[0].within(POW + 1)}**{args[1].within(NEG)}", POW)
    if op == "square":
        return Piece(f"{args[0].within(POW + 1)}**2", POW)
    if op == "logical_not":
        return Piece("not " + args[0].within(NOT), NOT)
    return _call(op.removeprefix("to_"), *(a.text for a in args))


def _infix(sign: str, level: int, a: Piece, b: Piece) -> Piece:
    if sign == "+" and b.text.startswith("-") and b.level == NEG:
        sign, b = "-", Piece(b.text[1:], NEG)
    left = a.within({COMPARE: COMPARE + 1, MUL: DIV}.get(level, level))
    tight = sign in ("-", "/", "//", "%") or level == COMPARE
    if level == DIV or b.level == MATMUL and level == MUL:  # Python reads a * b @ c as (a * b) @ c
        right = b.within(MATMUL + 1)
    else:
        right = b.within(level + 1 if tight else level)
    return Piece(f"{left} {sign} {right}", level)


# -- contractions, indices --------------------------------------------------------------------


def _contract(node: Contract, args: Sequence[Piece]) -> Piece:
    kind = pieces.meaning(node)
    if isinstance(kind, pieces.Product):
        left, right = (1, 0) if kind.swapped else (0, 1)
        a = _turned(node.args[left], args[left], kind.left_transposed)
        b = _turned(node.args[right], args[right], kind.right_transposed)
        return Piece(f"{a.within(MATMUL)} @ {b.within(MATMUL + 1)}", MATMUL)
    if isinstance(kind, pieces.Dot):
        return Piece(f"{args[0].within(MATMUL)} @ {args[1].within(MATMUL + 1)}", MATMUL)
    if isinstance(kind, pieces.Sum):
        axis = kind.axes[0] if len(kind.axes) == 1 else kind.axes
        return _call("sum", product(args).text, "" if kind.everything else f"axis={axis}")
    if isinstance(kind, pieces.Transpose):
        if node.ndim == 2:
            return Piece(f"{args[0].within(ATOM)}.T")
        return _call("transpose", args[0].text, str(kind.axes))
    if isinstance(kind, pieces.Broadcast):
        return _call("broadcast_to", spread(kind, args[0]).text, show(node.shape))
    if isinstance(kind, pieces.Elementwise):
        return product([spread(b, a) for b, a in zip(kind.operands, args)])
    return _call("einsum", repr(node.spec), *(a.text for a in args))


def _turned(operand: Expr, own: Piece, transposed: bool) -> Piece:
    if not transposed:
        return own
    return Piece(f"{own.within(ATOM)}.{'T' if operand.ndim == 2 else 'mT'}")


def product(args: Sequence[Piece]) -> Piece:
    result = args[0]
    for a in args[1:]:
        result = _infix("*", MUL, result, a)
    return result


def _reindex(node: Reindex, arg: Piece) -> Piece:
    index = pieces.slices(node)
    if index is not None:
        return Piece(f"{arg.within(ATOM)}[{', '.join(index)}]")
    widths = pieces.padding(node)
    if widths is not None:
        return _call("pad", arg.text, str(widths), f"value={node.fill}" if node.fill else "")
    return _call("reindex", arg.text, _maps(node), f"fill={node.fill}" if node.fill else "")


def _maps(node: Reindex) -> str:
    """The index map itself, `[i, 2*j + k - 1]`, in letters of the result's axes."""
    letters = "ijklmnop"
    shown = []
    for offset, terms, divisor in node.maps:
        parts = [f"{'' if c == 1 else '-' if c == -1 else f'{c}*'}{letters[a]}" for a, c in terms]
        body = " + ".join([*parts, *([str(offset)] if offset or not parts else [])])
        body = body.replace("+ -", "- ")
        shown.append(body if divisor == 1 else f"({body})/{divisor}")
    axes = ", ".join(f"{letters[a]}<{s}" for a, s in enumerate(node.shape))
    return f"[{', '.join(shown)}], {axes}"


def _gather(node: Gather, args: Sequence[Piece]) -> Piece:
    where = f"axis={node.axis}"
    if node.batch and node.axis == node.batch == node.args[1].ndim:
        return _call("pick", args[0].text, args[1].text, where)
    return _call(
        "take", *(a.text for a in args), where, f"batch={node.batch}" if node.batch else ""
    )
