"""Products: matmul, einsum and their relatives, all one Contract.

In: expressions whose shared sizes are equal. Out: expressions. NumPy's rules, 1-D operands and
broadcast batch axes included.

>>> from symgrad.node import Input
>>> a, b = Input("a", (5, 2, 3)), Input("b", (3, 4))
>>> matmul(a, b).shape
(5, 2, 4)
>>> einsum("bij,jk->bk", a, b).shape
(5, 4)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from symgrad.errors import ShapeError
from symgrad.node import OPERATORS, Contract, Expr, Reindex, Reshape
from symgrad.ops import core
from symgrad.sizes import Size, show


def contract(op: str, ins: Sequence[Sequence[Any]], out: Sequence[Any], *args: Expr) -> Expr:
    """A Contract of labelled axes, where size 1 fits any size and a label met twice in one operand
    means its diagonal."""
    extents: dict[Any, Size] = {}
    for labels, arg in zip(ins, args):
        for label, size in zip(labels, arg.shape):
            known = extents.get(label, 1)
            if known != 1 and size != 1 and known != size:
                raise ShapeError(
                    f"{op}: sizes {known} and {size} of one index differ, shapes "
                    f"{' and '.join(show(a.shape) for a in args)}" + core.here()
                )
            extents[label] = size if known == 1 else known
    numbers = {label: i for i, label in enumerate(extents)}
    operands, kept = [], []
    for labels, arg in zip(ins, args):
        # Drop axes of size 1 that stand for more, then read the diagonal of labels met twice.
        wide = [i for i, k in enumerate(labels) if arg.shape[i] == extents[k]]
        if len(wide) < arg.ndim:
            arg = Reshape.of(arg, tuple(arg.shape[i] for i in wide))
        names = [labels[i] for i in wide]
        unique = list(dict.fromkeys(names))
        if len(unique) < len(names):
            maps = [(0, ((unique.index(k), 1),), 1) for k in names]
            arg = Reindex.of(arg, maps, tuple(extents[k] for k in unique))
        operands.append(arg)
        kept.append([numbers[k] for k in unique])
    order = [numbers[k] for k in out]
    if len(operands) == 1 and kept[0] == order:
        return operands[0]
    sizes = {numbers[k]: extents[k] for k in out}
    return Contract.of(kept, order, *operands, sizes=sizes)


def _operands(op: str, *values: Any) -> list[Expr]:
    """Brought to one dtype; bools are counted as int64."""
    args = core.unify(op, values)
    return [core.cast(a, "int64") for a in args] if args[0].dtype == "bool" else args


def matmul(a: Any, b: Any) -> Expr:
    """The matrix product over the last axis of a and the last but one of b; a 1-D operand is a row
    (in front) or a column (behind) whose axis is then dropped; batch axes broadcast.

    >>> from symgrad.node import Input
    >>> matmul(Input("a", (2, 3)), Input("v", (3,))).shape
    (2,)
    """
    a, b = _operands("matmul", a, b)
    if a.ndim == 0 or b.ndim == 0:
        raise ShapeError(
            f"matmul: takes at least one axis, shapes {show(a.shape)} and {show(b.shape)}; use * "
            "for numbers" + core.here()
        )
    inner = a.shape[-1], b.shape[-2 if b.ndim > 1 else 0]
    if inner[0] != inner[1]:
        raise ShapeError(
            f"matmul: inner sizes {inner[0]} and {inner[1]} differ, shapes {show(a.shape)} and "
            f"{show(b.shape)}" + core.called(a, b) + core.here()
        )
    batch = max(a.ndim, b.ndim, 2) - 2
    core.broadcast_shapes("matmul", a.shape[:-2], b.shape[:-2], operands=(a, b))
    names = [f"batch{i}" for i in range(batch)]
    left = ["row", "inner"] if a.ndim > 1 else ["inner"]
    right = ["inner", "column"] if b.ndim > 1 else ["inner"]
    left = names[batch - max(a.ndim - 2, 0) :] + left
    right = names[batch - max(b.ndim - 2, 0) :] + right
    out = names + [k for k in ("row", "column") if k in left + right]
    return contract("matmul", [left, right], out, a, b)


def einsum(spec: str, *operands: Any) -> Expr:
    """Einstein's summation: `"bij,bjk->bik"`; a label met twice in one operand is its diagonal,
    `...` stands for broadcast axes, and without `->` the labels met once stay, sorted.

    >>> from symgrad.node import Input
    >>> einsum("ii", Input("a", (3, 3))).shape
    ()
    """
    args = _operands("einsum", *operands) if operands else []
    left, arrow, right = str(spec).replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(args):
        raise ShapeError(
            f"einsum {spec!r}: {len(terms)} terms for {len(args)} operands" + core.here()
        )
    ins = [_labels(spec, t, a) for t, a in zip(terms, args)]
    dots = max((k for labels in ins for k in labels if isinstance(k, int)), default=0)
    ellipsis: list[Any] = list(range(dots, 0, -1))
    if arrow:
        out = _output(spec, right, ellipsis)
    else:
        letters = sorted(c for c in left if c.isalpha())
        out = ellipsis + [c for c in letters if letters.count(c) == 1]
    for k in out:
        if not any(k in labels for labels in ins) or out.count(k) > 1:
            raise ShapeError(
                f"einsum {spec!r}: output index {k!r} is not one of the operands' or comes twice"
                + core.here()
            )
    return contract(f"einsum {spec!r}", ins, out, *args)


def _labels(spec: str, term: str, arg: Expr) -> list[Any]:
    """Letters, and for the axes of an ellipsis their number counted from its end."""
    before, dots, behind = term.partition("...")
    if not all(c.isalpha() for c in before + behind):
        raise ShapeError(f"einsum {spec!r}: {term!r} is not made of letters" + core.here())
    free = arg.ndim - len(before) - len(behind)
    if free < 0 or (free and not dots):
        raise ShapeError(
            f"einsum {spec!r}: {term!r} does not fit shape {show(arg.shape)}" + core.here()
        )
    return [*before, *range(free, 0, -1), *behind]


def _output(spec: str, term: str, ellipsis: list[Any]) -> list[Any]:
    before, dots, behind = term.partition("...")
    if not all(c.isalpha() for c in before + behind):
        raise ShapeError(f"einsum {spec!r}: {term!r} is not made of letters" + core.here())
    if ellipsis and not dots:
        raise ShapeError(f"einsum {spec!r}: the output lacks the ellipsis" + core.here())
    return [*before, *(ellipsis if dots else []), *behind]


def tensordot(a: Any, b: Any, axes: Any = 2) -> Expr:
    """The product summed over axes: the last n of a with the first n of b, or (axes of a, axes
    of b)."""
    a, b = _operands("tensordot", a, b)
    if isinstance(axes, (int, np.integer)):
        n = int(axes)
        if not 0 <= n <= min(a.ndim, b.ndim):
            raise ShapeError(
                f"tensordot: {n} axes of shapes {show(a.shape)} and {show(b.shape)}" + core.here()
            )
        first, second = list(range(a.ndim - n, a.ndim)), list(range(n))
    else:
        first, second = (
            [core.axis_of("tensordot", i, x.ndim, x.shape) for i in _listed(given)]
            for given, x in zip(axes, (a, b))
        )
    if len(first) != len(second) or any(a.shape[i] != b.shape[j] for i, j in zip(first, second)):
        raise ShapeError(
            f"tensordot: axes {first} of {show(a.shape)} do not fit axes {second} of "
            f"{show(b.shape)}" + core.here()
        )
    left = [("a", i) for i in range(a.ndim)]
    right = [("a", first[second.index(j)]) if j in second else ("b", j) for j in range(b.ndim)]
    out = [k for i, k in enumerate(left) if i not in first]
    return contract("tensordot", [left, right], out + [k for k in right if k[0] == "b"], a, b)


def _listed(axes: Any) -> list[int]:
    return list(axes) if isinstance(axes, (tuple, list)) else [axes]


def dot(a: Any, b: Any) -> Expr:
    """NumPy's dot: a number times an array, the inner product of vectors, the matrix product, and
    in general the sum over the last axis of a and the last but one of b."""
    a, b = _operands("dot", a, b)
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    if b.ndim <= 2:
        inner = b.shape[0]
        if a.shape[-1] != inner:
            raise ShapeError(
                f"dot: inner sizes {a.shape[-1]} and {inner} differ, shapes {show(a.shape)} and "
                f"{show(b.shape)}" + core.called(a, b) + core.here()
            )
    return tensordot(a, b, ([a.ndim - 1], [max(b.ndim - 2, 0)]))


def inner(a: Any, b: Any) -> Expr:
    """The sum over the last axes of both."""
    a, b = _operands("inner", a, b)
    return a * b if a.ndim == 0 or b.ndim == 0 else tensordot(a, b, ([-1], [-1]))


def outer(a: Any, b: Any) -> Expr:
    """All products of an element of a and one of b, both flattened.

    >>> from symgrad.node import Input
    >>> outer(Input("a", (2,)), Input("b", (3,))).shape
    (2, 3)
    """
    a, b = (Reshape.of(x, (x.size,)) for x in _operands("outer", a, b))
    return Contract.of([[0], [1]], [0, 1], a, b)


def kron(a: Any, b: Any) -> Expr:
    """The Kronecker product: a block a[i] * b for every element of a."""
    a, b = _operands("kron", a, b)
    ndim = max(a.ndim, b.ndim)
    a, b = (Reshape.of(x, (1,) * (ndim - x.ndim) + x.shape) for x in (a, b))
    left, right = [("a", i) for i in range(ndim)], [("b", i) for i in range(ndim)]
    pairs = [k for both in zip(left, right) for k in both]
    sizes = tuple(s * t for s, t in zip(a.shape, b.shape))
    return Reshape.of(contract("kron", [left, right], pairs, a, b), sizes)


OPERATORS.update(matmul=matmul)
