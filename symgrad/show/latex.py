r"""Expressions as LaTeX mathematics.

In: an expression. Out: the body of a formula; shared parts come first, in an `aligned` block.

>>> print(latex(sg.tanh(x @ W + b)))
\tanh\left(\mathbf{x} \mathbf{W} + \mathbf{b}\right)
"""

from __future__ import annotations

import re
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
from symgrad.show.text import digits
from symgrad.sizes import Size

OR, AND, NOT, COMPARE, ADD = 10, 20, 30, 40, 50
NEG, MUL, MATMUL, POW, ATOM = 55, 60, 65, 80, 100
INFIX = {
    "add": ("+", ADD),
    "sub": ("-", ADD),
    "less": ("<", COMPARE),
    "less_equal": (r"\le", COMPARE),
    "greater": (">", COMPARE),
    "greater_equal": (r"\ge", COMPARE),
    "equal": ("=", COMPARE),
    "not_equal": (r"\ne", COMPARE),
    "logical_and": (r"\land", AND),
    "logical_or": (r"\lor", OR),
    "mod": (r"\bmod", MUL),
}
NAMED = {"exp", "log", "sin", "cos", "tan", "sinh", "cosh", "tanh", "max", "min"}
RENAMED = {
    "asin": r"\arcsin",
    "acos": r"\arccos",
    "atan": r"\arctan",
    "sigmoid": r"\sigma",
    "maximum": r"\max",
    "minimum": r"\min",
}
GREEK = set(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau "
    "upsilon phi chi psi omega".split()
)
INDICES = "ijklmnpq"


def latex(e: Expr) -> str:
    """One expression, the parts it shares named first."""
    return equations({"": e})


def equations(outputs: Mapping[str, Expr]) -> str:
    """Several expressions by name (a name is LaTeX itself)."""
    found = pieces.lines(outputs, piece, lambda n: f"t_{{{n}}}", width=240)
    if len(found) == 1:
        only = found[0]
        return f"{only.name} = {only.text}" if only.name else only.text
    rows = [f"{line.name} &= {line.text}" if line.name else f"& {line.text}" for line in found]
    return "\\begin{aligned}\n" + " \\\\\n".join(rows) + "\n\\end{aligned}"


def piece(node: Expr, args: Sequence[Piece], look: Callable[[Expr], Piece]) -> Piece:
    """One node, its operands already rendered."""
    if isinstance(node, Leaf):
        return leaf(node)
    labels = pieces.one_hot(node)
    if labels is not None:
        return Piece(rf"\mathbf{{1}}_{{{look(labels).text}}}")
    if isinstance(node, Map):
        return _map(node, [_operand(node, a, p, look) for a, p in zip(node.args, args)])
    if isinstance(node, Contract):
        return _contract(node, args)
    if isinstance(node, Reduce):
        return _reduce(node, args[0])
    if isinstance(node, Reindex):
        index = pieces.slices(node)
        if index is not None:
            return Piece(f"{{{args[0].within(ATOM, *BRACKETS)}}}_{{[{', '.join(index)}]}}")
        widths = pieces.padding(node)
        name = "pad" if widths is not None else "reindex"
        return _call(rf"\operatorname{{{name}}}", args[0].text)
    if isinstance(node, Reshape):
        shape = r" \times ".join(_size(s) for s in node.shape)
        return _call(rf"\operatorname{{reshape}}_{{{shape or '1'}}}", args[0].text)
    if isinstance(node, Gather):
        return Piece(f"{{{args[0].within(ATOM, *BRACKETS)}}}_{{{args[1].text}}}")
    if isinstance(node, ScatterAdd):
        return _call(r"\operatorname{scatter}", args[0].text, args[1].text)
    if isinstance(node, Custom):
        return args[0]
    return _call(rf"\operatorname{{{node.kind}}}", *(a.text for a in args))


BRACKETS = (r"\left(", r"\right)")


def _call(name: str, *args: str) -> Piece:
    return Piece(rf"{name}\left({', '.join(args)}\right)")


def _size(size: Size) -> str:
    if isinstance(size, int):
        return str(size)
    name = symbol(size.name, 0)
    return name if size.factor == 1 else f"{size.factor} {name}"


def leaf(node: Expr) -> Piece:
    if isinstance(node, Constant):
        number = node.scalar
        if number is None:
            shape = r" \times ".join(map(str, node.shape))
            return Piece(rf"\mathrm{{C}}_{{{shape}}}")
        return _number(number, node.dtype)
    if isinstance(node, SizeOf):
        return Piece(_size(node.of_size), MUL if node.of_size.factor != 1 else ATOM)
    if isinstance(node, Iota):
        return Piece(r"\left(0, 1, \dots\right)")
    if isinstance(node, Random):
        law = {"uniform": "U", "normal": "N", "bits": "B"}[node.law]
        return Piece(rf"\mathcal{{{law}}}_{{{node.label[len(node.law) :]}}}")
    return Piece(symbol(node.name, node.ndim))


def _number(number: float | int | bool, dtype: str) -> Piece:
    if isinstance(number, float) and not np.isfinite(number):
        shown = r"\mathrm{NaN}" if np.isnan(number) else r"\infty" if number > 0 else r"-\infty"
        return Piece(shown, NEG if shown.startswith("-") else ATOM)
    shown = digits(number, dtype)
    shown = re.sub(r"e([+-]?)0*(\d+)$", lambda m: _power(m[1], m[2]), shown)
    return Piece(shown, NEG if shown.startswith("-") else ATOM)


def _power(sign: str, exponent: str) -> str:
    return rf" \cdot 10^{{{'-' if sign == '-' else ''}{exponent}}}"


def symbol(name: str, rank: int) -> str:
    r"""A name as a symbol: `fc1.weight` is \mathbf{fc1.weight}, `x_1` has an index, arrays bold."""
    head, _, index = name.partition("_")
    if head.lower() in GREEK:
        shown = rf"\{head}" if not rank else rf"\boldsymbol{{\{head}}}"
    else:
        text = head.replace("&", r"\&").replace("%", r"\%").replace("#", r"\#")
        font = "mathbf" if rank else "mathrm"
        shown = text if len(text) == 1 and not rank else rf"\{font}{{{text}}}"
    below = index.replace("_", r"\_")
    return rf"{shown}_{{\mathrm{{{below}}}}}" if index else shown


# -- elementwise ------------------------------------------------------------------------------


def _operand(node: Expr, arg: Expr, own: Piece, look: Callable[[Expr], Piece]) -> Piece:
    kind = pieces.meaning(arg)
    if isinstance(kind, pieces.Broadcast):
        return look(arg.args[0])
    return own


def _map(node: Map, args: Sequence[Piece]) -> Piece:
    op = node.op
    first = args[0]
    if op in INFIX:
        sign, level = INFIX[op]
        tight = op == "sub" or level == COMPARE
        right = args[1].within(level + 1 if tight else level, *BRACKETS)
        if op == "add" and right.startswith("-"):
            sign, right = "-", right[1:]
        return Piece(f"{first.within(level, *BRACKETS)} {sign} {right}", level)
    if op == "mul":
        dot = r" \odot " if all(a.ndim for a in node.args) else " "
        return Piece(_joined(args, dot), MUL)
    if op in ("div", "floor_divide"):
        fraction = rf"\frac{{{first.text}}}{{{args[1].text}}}"
        return Piece(fraction if op == "div" else rf"\left\lfloor {fraction} \right\rfloor")
    if op == "neg":
        return Piece("-" + first.within(MUL, *BRACKETS), NEG)
    if op == "pow":
        return Piece(f"{{{first.within(ATOM, *BRACKETS)}}}^{{{args[1].text}}}", POW)
    if op == "square":
        return Piece(f"{{{first.within(ATOM, *BRACKETS)}}}^{{2}}", POW)
    if op == "sqrt":
        return Piece(rf"\sqrt{{{first.text}}}")
    if op == "exp" and len(first.text) <= 24:
        return Piece(f"e^{{{first.text}}}", POW)
    if op == "abs":
        return Piece(rf"\left|{first.text}\right|")
    if op in ("floor", "ceil"):
        return Piece(rf"\left\l{op} {first.text} \right\r{op}")
    if op == "logical_not":
        return Piece(rf"\lnot {first.within(ATOM, *BRACKETS)}", NOT)
    if op == "where":
        rows = rf"{args[1].text} & \text{{if }} {first.text} \\ {args[2].text} & \text{{otherwise}}"
        return Piece(rf"\begin{{cases}} {rows} \end{{cases}}")
    if op == "stop_gradient" or op.startswith("to_"):
        return first  # no mathematics in it
    return _call(_function(op), *(a.text for a in args))


def _function(op: str) -> str:
    if op in RENAMED:
        return RENAMED[op]
    return f"\\{op}" if op in NAMED else rf"\operatorname{{{op.replace('_', ' ')}}}"


def _joined(args: Sequence[Piece], sign: str) -> str:
    """Factors; a number behind another would read as one number."""
    shown = args[0].within(MUL, *BRACKETS)
    for a in args[1:]:
        text = a.within(MUL, *BRACKETS)
        digit = text[:1].isdigit() and sign == " "
        shown += (r" \cdot " if digit else sign) + text
    return shown


# -- contractions -----------------------------------------------------------------------------


def _contract(node: Contract, args: Sequence[Piece]) -> Piece:
    kind = pieces.meaning(node)
    if isinstance(kind, pieces.Product):
        left, right = (1, 0) if kind.swapped else (0, 1)
        a = _turned(args[left], kind.left_transposed or node.args[left].ndim == 1)
        return Piece(f"{a} {_turned(args[right], kind.right_transposed)}", MATMUL)
    if isinstance(kind, pieces.Dot):
        return Piece(f"{_turned(args[0], True)} {_turned(args[1], False)}", MATMUL)
    if isinstance(kind, pieces.Transpose):
        return Piece(_turned(args[0], True), POW)
    if isinstance(kind, pieces.Broadcast):
        return args[0]
    if isinstance(kind, pieces.Elementwise):
        return Piece(_joined(args, r" \odot "), MUL)
    if isinstance(kind, pieces.Sum):
        letters = ", ".join(INDICES[a] if a < len(INDICES) else f"i_{{{a}}}" for a in kind.axes)
        return Piece(rf"\sum_{{{letters}}} {_joined(args, BULLET)}", MUL)
    return _einsum(node, args)


BULLET = r" \odot "


def _turned(own: Piece, transposed: bool) -> str:
    shown = own.within(MATMUL if not transposed else ATOM, *BRACKETS)
    return rf"{{{shown}}}^{{\top}}" if transposed else shown


def _einsum(node: Contract, args: Sequence[Piece]) -> Piece:
    """Everything with its indices: a sum over those that the result lacks."""
    ins, _, _ = node.spec.partition("->")
    shown = [
        rf"{{{a.within(ATOM, *BRACKETS)}}}_{{{labels}}}" if labels else a.within(MUL, *BRACKETS)
        for labels, a in zip(ins.split(","), args)
    ]
    out = node.spec.partition("->")[2]
    summed = "".join(dict.fromkeys(c for c in ins if c.isalpha() and c not in out))
    total = rf"\sum_{{{', '.join(summed)}}} " if summed else ""
    return Piece(total + " ".join(shown), MUL)


def _reduce(node: Reduce, arg: Piece) -> Piece:
    axes = ", ".join(INDICES[a] if a < len(INDICES) else f"i_{{{a}}}" for a in node.axes)
    names = {"prod": r"\prod", "max": r"\max", "min": r"\min", "cumsum": r"\operatorname{cumsum}"}
    names |= {"argmax": r"\operatorname{arg\,max}", "argmin": r"\operatorname{arg\,min}"}
    shown = names.get(node.law, rf"\operatorname{{{node.law}}}")
    return Piece(rf"{shown}_{{{axes}}} {arg.within(MUL, *BRACKETS)}", MUL)
