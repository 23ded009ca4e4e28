"""The graph in the vocabulary of the machine: composite functions opened up.

In: expressions. Out: the same values in primitive Maps; argmax and argmin as a maximum and the
first index that reaches it; derivative rules of users removed.

>>> primitive([Map.of("relu", x)])
[maximum(x, 0)]
"""

from __future__ import annotations

from typing import Sequence

from symgrad import dtypes, scalar, source
from symgrad.node import Constant, Contract, Custom, Expr, Iota, Map, Reduce, toposort


def primitive(outputs: Sequence[Expr]) -> list[Expr]:
    """The outputs, rebuilt."""
    new: dict[Expr, Expr] = {}
    for n in toposort(outputs):
        args = tuple(new[a] for a in n.args)
        with source.at(n.where):
            new[n] = _open(n.with_args(args))
    return [new[n] for n in outputs]


def _open(n: Expr) -> Expr:
    if isinstance(n, Custom):
        return n.args[0]
    if isinstance(n, Map) and not scalar.OPS[n.op].primitive:
        return primitive([scalar.OPS[n.op].expand(*n.args)])[0]
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
