# ruff: noqa: E501, B002 - a table: one rule per line
"""Factor: the order of products, the place of sums, no transposed copies.

In: normal forms with all derivatives taken. Out: contractions of one or two operands, in the order
that multiplies least at the planned maximum of run-time sizes.

    sums move inward              sum_j (x @ W)_ij        -> x @ sum_j W_kj
    chains are ordered            (A @ B) @ v             -> A @ (B @ v)
    broadcast products become contractions      sum_k spread(a_ik) * spread(b_kj) -> a @ b
    a map of a product, summed over taps, is a product over windows
    a transpose of a product is the product written in that order
    a c spread(u) / spread(s)     a * spread(c u / s), where s is never near 0
    x / spread(s)                 x * spread(1 / s), where s is never near 0

A value used elsewhere as well is never computed a second time: chains are only opened where the
inner product has one user. Orders of more than three operands come from opt_einsum.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Sequence

from symgrad import dtypes
from symgrad.node import Constant, Contract, Expr, Map, Reindex
from symgrad.rewrite.engine import Rule, Run, Table
from symgrad.rewrite.indexmaps import mapped_product, product_without_units
from symgrad.rewrite.patterns import node, tag, var, view
from symgrad.rewrite.rowfactors import pull_inner_rows, rows_together
from symgrad.rewrite.stabilise import positive, shifted
from symgrad.rewrite.structure import Operand, places
from symgrad.sizes import Size, maximum

x, y = var("x"), var("y")
LONGEST = 12  # operands of one chain
WORTH = 0.9  # a new order must cost less than this part of the old one


def multiplications(labels: set[int], extents: dict[int, Size]) -> int:
    return math.prod(maximum(extents[k]) for k in labels)


def _elements(e: Expr) -> int:
    return math.prod(map(maximum, e.shape))


def _single(e: Expr, run: Run) -> bool:
    return run.uses.get(e, 1) <= 1


def _chain(n: Contract, run: Run) -> tuple[list[Operand], dict[int, Size], int]:
    """The operands of a product of products, their sizes, and the cost as it is written."""
    extents: dict[int, Size] = dict(n.extents)
    fresh = itertools.count(max(extents, default=-1) + 1)
    cost = multiplications(set(extents), extents) * (len(n.args) - 1)
    found: list[Operand] = []
    pending: list[Operand] = list(zip(n.ins, n.args))
    while pending:
        labels, arg = pending.pop(0)
        if (
            isinstance(arg, Contract)
            and len(arg.args) > 1
            and arg.free == n.free  # what does not change in a loop stays outside of it
            and _single(arg, run)
            and len(found) + len(pending) + len(arg.args) <= LONGEST
        ):
            names = dict(zip(arg.out, labels))
            own = arg.extents
            for k in arg.summed:
                names[k] = next(fresh)
            extents.update((names[k], size) for k, size in own.items())
            cost += multiplications(set(own), own) * (len(arg.args) - 1)
            inner = [(tuple(names[k] for k in lab), a) for lab, a in zip(arg.ins, arg.args)]
            pending = [*inner, *pending]
        else:
            found.append((labels, arg))
    return found, extents, cost


def order_products(n: Expr, run: Run) -> Expr | None:
    """A product of three or more operands, nested or not, in the cheapest order of pairs."""
    assert isinstance(n, Contract)
    if len(n.args) < 2 or not dtypes.is_float(n.dtype):
        return None
    operands, extents, cost = _chain(n, run)
    if len(operands) < 3:
        return None
    path = _path(operands, n.out, extents)
    best, made = _follow(path, operands, n.out, extents)
    if len(n.args) == 2 and best >= WORTH * cost:
        return None
    return made


def _path(
    operands: Sequence[Operand], out: Sequence[int], extents: dict[int, Size]
) -> list[tuple[int, int]]:
    """Which two operands to multiply, step by step; the product goes to the end of the list."""
    if len(operands) == 3:
        pairs = [(0, 1), (0, 2), (1, 2)]
        return min(
            ([pair, (0, 1)] for pair in pairs),
            key=lambda path: _follow(path, operands, out, extents, build=False)[0],
        )
    import opt_einsum

    # An index that one operand alone has (`sum_first` leaves those of size 1) would be a step of
    # that operand alone.
    times = Counter(k for labels in (*(set(labels) for labels, _ in operands), out) for k in labels)
    shared = [[k for k in labels if times[k] > 1] for labels, _ in operands]
    spec = ",".join("".join(map(opt_einsum.get_symbol, labels)) for labels in shared)
    spec += "->" + "".join(map(opt_einsum.get_symbol, out))
    shapes = [tuple(maximum(extents[k]) for k in labels) for labels in shared]
    steps, _ = opt_einsum.contract_path(spec, *shapes, shapes=True, optimize="dp")
    return [(min(step), max(step)) for step in steps]


def _follow(
    path: Sequence[tuple[int, int]],
    operands: Sequence[Operand],
    out: Sequence[int],
    extents: dict[int, Size],
    build: bool = True,
) -> tuple[int, Expr]:
    """The cost of a path and, if asked, the expression."""
    left = list(operands)
    cost = 0
    for i, j in path:
        b, a = left.pop(j), left.pop(i)
        every = set(a[0]) | set(b[0])
        cost += multiplications(every, extents)
        later = set(out).union(*(labels for labels, _ in left)) if left else set(out)
        kept = (
            tuple(out) if not left else tuple(k for k in dict.fromkeys(a[0] + b[0]) if k in later)
        )
        made = Contract.of([a[0], b[0]], kept, a[1], b[1]) if build else a[1]
        left.append((kept, made))
    return cost, left[0][1]


def sum_first(n: Expr) -> Expr | None:
    """An index that one operand alone has is summed in that operand.

    One of size 1 stays: there is nothing to sum, and the operand is read as it is stored.
    """
    assert isinstance(n, Contract)
    if len(n.args) < 2 or n.dtype != n.args[0].dtype:
        return None
    extents = n.extents
    times: dict[int, int] = {}
    for labels in n.ins:
        for k in labels:
            times[k] = times.get(k, 0) + 1
    alone = {k for k in n.summed if times[k] == 1 and extents[k] != 1}
    if not alone:
        return None
    ins, args = [], []
    for labels, arg in zip(n.ins, n.args):
        kept = tuple(k for k in labels if k not in alone)
        args.append(arg if kept == labels else Contract.of([labels], kept, arg))
        ins.append(kept)
    return Contract.of(ins, n.out, *args)


def sum_inside(n: Expr, run: Run) -> Expr | None:
    """The sum of a product, as a product with fewer results: where nobody else reads the product."""
    assert isinstance(n, Contract)
    inner = n.args[0]
    if not isinstance(inner, Contract) or len(inner.args) < 2 or not _single(inner, run):
        return None
    return Contract.of(inner.ins, [inner.out[p] for p in n.out], *inner.args)


def sum_of_added(n: Expr, run: Run) -> Expr | None:
    """The sum of products that are added, as products with fewer results that are added."""
    both = n.args[0]
    if not _added_products(both, run):
        return None
    return Map.of(both.attrs[0], *[n.with_args([a]) for a in both.args])


def _added_products(e: Expr, run: Run, depth: int = 0) -> bool:
    if not _single(e, run) or depth > LONGEST:
        return False
    if isinstance(e, Map) and e.op in ("add", "sub"):
        return all(_added_products(a, run, depth + 1) for a in e.args)
    return isinstance(e, Contract) and len(e.args) > 1


def broadcast_product(n: Expr) -> Expr | None:
    """sum(spread(a) * spread(b)) -> a @ b, where the product would be larger than both.

    Windows of an image count as smaller: they are read in place.
    """
    assert isinstance(n, Contract)
    factors: list[Operand] = []
    pending = [n.args[0]]
    while pending:
        f = pending.pop()
        if isinstance(f, Map) and f.op == "mul" and len(factors) + len(pending) < LONGEST:
            pending.extend(reversed(f.args))
        elif f.shape and tag(f) == "view":
            factors.append((tuple(places(f)), f.args[0]))
        elif isinstance(f, Reindex):
            factors.append((tuple(range(f.ndim)), f))
        else:
            return None
    axes = set(range(n.args[0].ndim))
    full = [f for labels, f in factors if set(labels) == axes]
    if len(factors) < 2 or len(full) == len(factors):
        return None
    if not all(isinstance(f, Reindex) and _elements(f) > _elements(f.args[0]) for f in full):
        return None
    if set().union(*(labels for labels, _ in factors)) != axes:
        return None
    return Contract.of([labels for labels, _ in factors], n.out, *[a for _, a in factors])


def transposed_product(n: Expr, run: Run) -> Expr | None:
    """A permutation of a product's axes is the product in that order of axes."""
    inner = n.args[0]
    if not isinstance(inner, Contract) or len(inner.args) < 2 or not _single(inner, run):
        return None
    if len(n.shape) != len(inner.shape):
        return None
    return Contract.of(inner.ins, [inner.out[k] for k in n.attrs[1]], *inner.args)


def bounded_below(s: Expr) -> bool:
    """Never near 0, whatever the inputs: 1/s does not overflow."""
    if tag(s) == "sum" and tag(s.args[0]) == "exp":
        return shifted(s.args[0].args[0], s)  # one of the terms is exp(0)
    if tag(s) == "sqrt":
        return bounded_below(s.args[0])
    if tag(s) == "add" and isinstance(s.args[0], Constant):
        return bool((s.args[0].value >= 1e-20).all()) and positive(s.args[1])
    return False


def one_division_per_row(x: Expr, y: Expr) -> bool:
    return len(y.shape) < len(x.shape) and bounded_below(y)


# fmt: off
TABLE = Table("factor", [
    Rule("broadcast product", node("n", "sum"), broadcast_product, only=lambda t: t[1:] == ("mul",)),  # sum_k b(a_ik) b(b_kj) -> a @ b
    Rule("sum of a map", node("n", "sum"), lambda n, run: mapped_product(n, run), only=lambda t: t[1:] == ("reindex",)),  # sum_k (dy w)[i - k, k] -> sum_k dy[i - k] w[k]
    Rule("sum inside product", node("n", "sum"), lambda n, run: sum_inside(n, run), only=lambda t: t[1:] == ("contract",)),  # sum_j x_ik w_kj -> x_ik (sum_j w_kj)
    Rule("sum of added products", node("n", "sum"), lambda n, run: sum_of_added(n, run), only=lambda t: t[1:] in (("add",), ("sub",))),  # sum_j (x w + y v)_ij -> sum_j (x w)_ij + sum_j (y v)_ij
    Rule("sum of added products", node("n", "sum"), lambda n, run: sum_of_added(n, run), only=lambda t: t[1:] in (("add",), ("sub",))),  # sum_j (x w + y v)_ij -> sum_j (x w)_ij + sum_j (y v)_ij
    Rule("sum of added products", node("n", "sum"), lambda n, run: sum_of_added(n, run), only=lambda t: t[1:] in (("add",), ("sub",))),  # sum_j (x w + y v)_ij -> sum_j (x w)_ij + sum_j (y v)_ij
    Rule("sum first", node("n", "contract"), sum_first),  # sum_jk x_ik w_kj -> sum_k x_ik (sum_j w_kj)
    Rule("order of products", node("n", "contract"), order_products),  # (A B) v -> A (B v)
    Rule("product without axes of size 1", node("n", "reshape"), lambda n, run: product_without_units(n, run), only=lambda t: t[1:] == ("contract",)),  # reshape (x w)_ij1 -> (x w)_ij
    Rule("sum beside inner rows", node("n", "sum"), lambda n, run: pull_inner_rows(n, run), only=lambda t: t[1:] in (("mul",), ("div",))),  # sum_j x_ij (r_i y_ij) -> r_i sum_j x_ij y_ij
    Rule("transpose of product", node("n", "view"), lambda n, run: transposed_product(n, run),
         only=lambda t: t[1:] == ("contract",)),  # (A B)^T -> contraction written transposed
])

# After the rules above, which take many a product's other readers away.
ROWS = Table("factor", [
    Rule("row factors together", node("n", "mul", "div"), lambda n, run: rows_together(n, run, bounded_below),
         only=lambda t: "view" in t[1:] or "mul" in t[1:] or "div" in t[1:]),  # (x b(u)) / b(s) -> x b(u / s)
])

# Last of all, on its own: canonicalise would take it back.
DIVISIONS = Table("factor", [
    Rule("one division per row", x / view(y), x * view(1 / y), one_division_per_row),  # x / b(s) -> x b(1/s)
])
# fmt: on
