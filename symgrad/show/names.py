"""Names from the model: the variable that the user's own line assigns an expression to.

In: the nodes of a graph and who reads them. Out: `h` for the node that `h = sg.tanh(x @ W)` built.
The variable is known from the node's `where`; the line is parsed when it is printed. Of several
nodes that one call built, the variable has the one that others read, or that is the operation of
the line; nodes that derivatives built have no names of their own.

>>> assigned(where_of_h)
Assignment(name='h', first=12, last=12, outermost='tanh')
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from symgrad.node import Constant, Contract, Expr, Leaf, Map, SizeOf
from symgrad.scalar import OPS
from symgrad.show.forms import form, operands
from symgrad.source import Source

# What an operator, or a function of no other name, may have become by canonical form.
_SPELLED: dict[str, tuple[str, ...]] = {
    "Add": ("add", "sub", "softplus", "logsumexp"),
    "Sub": ("add", "sub", "log softmax"),
    "Mult": ("mul", "contract", "neg", "square", "div"),
    "Div": ("div", "mul", "softmax", "contract", "sigmoid", "tanh", "neg"),
    "MatMult": ("contract",),
    "Pow": ("square", "pow", "mul", "sqrt", "div", "sqrt_or_zero"),
    "USub": ("neg", "mul", "contract"),
    "softmax": ("softmax", "div"),
    "log_softmax": ("log softmax",),
    "logsumexp": ("logsumexp", "add"),
    "sum": ("contract",),
    "mean": ("mul", "div", "contract"),
    "relu": ("relu", "maximum"),
    "prelu": ("where", "leaky_relu"),
    "matmul": ("contract",),
    "dot": ("contract",),
    "einsum": ("contract",),
}


@dataclass(frozen=True)
class Assignment:
    """A statement `name = ...`: its lines, and the outermost operation of its value."""

    name: str
    first: int
    last: int
    outermost: str


_files: dict[str, tuple[list[str], dict[tuple[int, str], Assignment]]] = {}


def assigned(where: Source) -> Assignment | None:
    """The assignment that gives a variable what was built there; None where no variable has it."""
    if not where.stored:
        return None
    lines = linecache.getlines(where.file)
    known = _files.get(where.file)
    if known is None or known[0] is not lines:  # the list is the same while the file is
        _files[where.file] = known = lines, _statements("".join(lines))
    found = known[1].get((where.line, where.stored))
    return found or Assignment(where.stored, where.line, where.line, "")


def _statements(text: str) -> dict[tuple[int, str], Assignment]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return {}
    found: dict[tuple[int, str], Assignment] = {}
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.NamedExpr)):
            continue
        name, last = _target(node), node.end_lineno or node.lineno
        for line in range(node.lineno, last + 1):
            found[line, name] = Assignment(name, node.lineno, last, _outermost(node))
    return found


_Statement = ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr


def _target(node: _Statement) -> str:
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    if isinstance(target, ast.Name):
        return target.id
    return target.attr if isinstance(target, ast.Attribute) else ""


def _outermost(node: _Statement) -> str:
    value = node.value
    if isinstance(node, ast.AugAssign):
        return type(node.op).__name__
    if isinstance(value, (ast.BinOp, ast.UnaryOp)):
        return type(value.op).__name__
    if isinstance(value, ast.Call):
        called = value.func
        return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return ""


def _kind(node: Expr) -> str:
    found = form(node)
    if found is not None:
        return found.name
    return node.op if isinstance(node, Map) else node.kind


def _fits(node: Expr, line: Assignment) -> bool | None:
    """Whether the outermost operation of the line is the node's; None when that says nothing."""
    spelled = _SPELLED.get(line.outermost)
    if spelled is None and line.outermost in OPS:
        spelled = (line.outermost,)
    return None if spelled is None else _kind(node) in spelled


def fits(node: Expr) -> bool:
    """Whether a node is the operation that its line assigns, as far as the line itself says."""
    line = assigned(node.where)
    return line is not None and bool(_fits(node, line))


def from_model(order: Sequence[Expr], roots: Iterable[Expr] = ()) -> dict[int, str]:
    """The user's name of each node that has one, by id; `order` is all of a graph, `roots` what is
    known to be the value of its line. Two nodes of one name are numbered."""
    groups: dict[tuple[str, int, str], list[Expr]] = {}
    lines: dict[int, Assignment] = {}
    outside = {id(e) for e in roots}
    for node in order:
        if isinstance(node, Leaf) or node.where.derivative or not _varies(node):
            continue
        line = assigned(node.where)
        if line is not None:
            lines[id(node)] = line
            groups.setdefault((node.where.file, line.first, line.name), []).append(node)
    for node in order:
        here = lines.get(id(node))
        for a in operands(node):
            there = lines.get(id(a))
            if there is not None and _reads_from_outside(node, here, a, there):
                outside.add(id(a))
    chosen: list[tuple[Expr, str]] = []
    for group in groups.values():
        line = lines[id(group[0])]
        fits = {id(e): _fits(e, line) for e in group}
        found = [e for e in group if fits[id(e)] is not False and id(e) in outside]
        if not found:
            found = [e for e in group if fits[id(e)]][-1:]
        if len(found) > 1 and not any(fits[id(e)] for e in found):
            found = []  # a function of many operations, most of them gone: it could be any
        chosen += [(e, line.name) for e in found]
    at = {id(e): k for k, e in enumerate(order)}
    chosen.sort(key=lambda pair: at[id(pair[0])])
    return _numbered(chosen, {e.name for e in order if isinstance(e, Leaf)})


def _varies(node: Expr) -> bool:
    """Whether a node is a value of the model: no share of a size, no code of labels."""
    found = form(node)
    if found is not None and found.name in ("onehot", "classes", "identity"):
        return False
    return not all(isinstance(a, (Constant, SizeOf)) for a in operands(node))


def _reads_from_outside(node: Expr, here: Assignment | None, a: Expr, there: Assignment) -> bool:
    """Whether a reader of `a` is no part of the value that the line of `a` assigns."""
    own = node.where.file, node.where.line if here is None else here.first
    if own != (a.where.file, there.first):
        return True
    if here is None:  # the next turn of a loop, or another statement of the line
        return node.where.stored == ""
    return here.name != there.name


def _numbered(chosen: Sequence[tuple[Expr, str]], taken: set[str]) -> dict[int, str]:
    count: dict[str, int] = {}
    for _, name in chosen:
        count[name] = count.get(name, 0) + 1
    names: dict[int, str] = {}
    used = set(taken) | {name for name, k in count.items() if k == 1}
    for node, name in chosen:
        if count[name] > 1 or name in taken:
            name = fresh(name, used)
        used.add(name)
        names[id(node)] = name
    return names


def fresh(letter: str, used: set[str] | Mapping[str, object]) -> str:
    """A letter with the first number that makes it new."""
    k = 1
    while f"{letter}{k}" in used:
        k += 1
    return f"{letter}{k}"


# -- letters ----------------------------------------------------------------------------------

ACTIVATIONS = (
    "relu relu6 leaky_relu elu selu sigmoid hard_sigmoid tanh hard_tanh softplus softsign silu "
    "mish gelu gelu_tanh hard_silu log_sigmoid"
).split()


def letter(node: Expr) -> str:
    """The letter that lectures use for such a value: h of an activation, p of a softmax, z of what
    an activation takes, d of what derivatives compute."""
    if isinstance(node, Constant):
        return "c"
    kind = _kind(node)
    if kind == "softmax":
        return "p"
    if node.where.derivative:
        return "d" if node.ndim else "t"
    if kind in ACTIVATIONS:
        return "h"
    if isinstance(node, Contract) and len(node.args) == 2:
        return "z" if node.summed and node.ndim else "t"
    if kind == "add" and any(isinstance(a, Contract) and len(a.args) == 2 for a in node.args):
        return "z"
    return "t"
