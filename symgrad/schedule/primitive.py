"""The graph in the vocabulary of the machine: composite functions opened up.

In: expressions. Out: the same values in primitive Maps; argmax and argmin as a maximum and the
first index that reaches it; derivative rules of users removed.

>>> primitive([Map.of("relu", x)])
[maximum(x, 0)]
"""

from __future__ import annotations

from typing import Sequence

from symgrad import dtypes, scalar, source
from symgrad.node import Constant, Contract, Custom, Expr, Iota, Map, Reduce


def primitive(outputs: Sequence[Expr]) -> list[Expr]:
    """The outputs, rebuilt."""
    new = images(outputs)
    return [new[n] for n in outputs]


def images(outputs: Sequence[Expr]) -> dict[Expr, Expr]:
    """What every node that the outputs need becomes."""
    new: dict[Expr, Expr] = {}
    for n in outputs:
        _rebuild(n, new)
    return new


def _rebuild(root: Expr, new: dict[Expr, Expr]) -> Expr:
    """A node in primitives. `new` has what is rebuilt already, and the results themselves: what a
    function is opened into is walked down to its arguments only."""
    stack = [root]
    while stack:
        n = stack[-1]
        if n in new:
            stack.pop()
            continue
        below = [a for a in n.args if a not in new]
        if below:
            stack += below[::-1]
            continue
        stack.pop()
        with source.at(n.where):
            result = _open(n.with_args([new[a] for a in n.args]), new)
        new[n] = result
        new.setdefault(result, result)
    return new[root]


def _open(n: Expr, new: dict[Expr, Expr]) -> Expr:
    if isinstance(n, Custom):
        return n.args[0]
    if isinstance(n, Map) and not scalar.OPS[n.op].primitive:
        return _rebuild(scalar.OPS[n.op].expand(*n.args), new)
    if isinstance(n, Reduce) and n.law in ("argmax", "argmin"):
        return _first_index(n)
    return n


def _first_index(n: Reduce) -> Expr:
    """The smallest index at which the extreme (or a NaN) stands."""
    arg, axis = n.args[0], n.axes[0]
    rank, size = arg.ndim, arg.shape[axis]
    if arg.dtype == "bool":
        arg = Map.of("to_int32", arg)
    best = Reduce.of("max" if n.law == "argmax" else "min", arg, n.axes)
    out = [i for i in range(rank) if i != axis]
    sizes = dict(enumerate(arg.shape))
    spread = Contract.of([out], range(rank), best, sizes=sizes)
    index = Contract.of([[axis]], range(rank), Iota.of(size, "int32"), sizes=sizes)
    found = Map.of("equal", arg, spread)
    if dtypes.is_float(arg.dtype):
        found = Map.of("logical_or", found, Map.of("not_equal", arg, arg))
    beyond = Constant.of(2**31 - 1, "int32")
    return Map.of("to_int64", Reduce.of("min", Map.of("where", found, index, beyond), n.axes))
