"""Reverse rules: from the cotangent of a node to the cotangents of its operands.

In: a node, its cotangent, and which operands are wanted. Out: pairs (operand position,
contribution); an operand that is not wanted, or whose derivative is zero, has none. `ADJOINTS`
maps each node kind to its rule; kinds that are missing are leaves.

>>> ADJOINTS["contract"](matmul, ct, [0, 1])    # [(0, ct @ b.T), (1, a.T @ ct)]
"""

from __future__ import annotations

from typing import Any, Callable, Iterator, Sequence

from symgrad import source
from symgrad.derive.algebra import (
    add,
    cast,
    constant,
    flip,
    is_float,
    mul,
    shift,
    spread,
    sum_axes,
    unreduce,
)
from symgrad.derive.reindex import transposed
from symgrad.derive.scale import scaled
from symgrad.errors import GraphError
from symgrad.node import (
    Contract,
    Custom,
    Expr,
    Gather,
    Map,
    Reduce,
    Reindex,
    Reshape,
    ScatterAdd,
)
from symgrad.sizes import Dim, maximum, show

Contributions = Iterator[tuple[int, Expr]]


def _map(node: Map, cotangent: Expr, wanted: Sequence[int]) -> Contributions:
    for position in wanted:
        arg = node.args[position]
        part = scaled(node, position, cotangent)
        if part is None:
            continue
        if not arg.shape:  # it stood for every element
            part = sum_axes(part, range(part.ndim))
        yield position, cast(part, arg.dtype)


def _contract(node: Contract, cotangent: Expr, wanted: Sequence[int]) -> Contributions:
    """Swap the result and the operand; indices that only the operand had are broadcast."""
    extents = node.extents
    for position in wanted:
        others = [k for k in range(len(node.args)) if k != position]
        ins = [node.out, *(node.ins[k] for k in others)]
        args = [cotangent, *(node.args[k] for k in others)]
        out = node.ins[position]
        yield position, Contract.of(ins, out, *args, sizes={k: extents[k] for k in out})


def chosen(node: Reduce) -> tuple[Expr, Expr]:
    """Of a max or min: the mask of the elements that attain it, and their number."""
    arg = node.args[0]
    mask = Map.of("equal", arg, unreduce(node, node.axes, arg.shape))
    return mask, sum_axes(cast(mask, arg.dtype), node.axes)


def others_product(arg: Expr, axis: int) -> Expr:
    """For each element the product of the others along the axis.

    Products of everything before and of everything behind, each by doubling: no division, so a
    zero among the factors is right in every order of derivative.
    """

    def running(step: int) -> Expr:
        result, reach = shift(arg, axis, step, 1), 1
        while reach < maximum(arg.shape[axis]) - 1:
            result = mul(result, shift(result, axis, step * reach, 1))
            reach *= 2
        return result

    return mul(running(1), running(-1))


def product_stages(node: Reduce) -> list[tuple[Expr, int]]:
    """A product over several axes as one axis after the other: (operand, axis) of each."""
    stages: list[tuple[Expr, int]] = []
    current = node.args[0]
    for axis in reversed(node.axes):
        stages.append((current, axis))
        current = Reduce.of("prod", current, (axis,))
    return stages


def _reversed_cumsum(cotangent: Expr, axis: int) -> Expr:
    size = cotangent.shape[axis]
    if not isinstance(size, Dim):
        return flip(Reduce.of("cumsum", flip(cotangent, axis, size), (axis,)), axis, size)
    # a run-time size has no constant to flip around: what is not before an element is behind it
    everything = unreduce(sum_axes(cotangent, [axis]), [axis], cotangent.shape)
    before = Reduce.of("cumsum", cotangent, (axis,))
    return add(Map.of("sub", everything, before), cotangent)


def _reduce(node: Reduce, cotangent: Expr, wanted: Sequence[int]) -> Contributions:
    arg = node.args[0]
    if node.law in ("max", "min"):
        mask, count = chosen(node)
        share = unreduce(Map.of("div", cotangent, count), node.axes, arg.shape)
        yield 0, Map.of("where", mask, share, constant(0, arg.dtype))
    elif node.law == "prod":
        part = cotangent
        for operand, axis in reversed(product_stages(node)):
            part = mul(unreduce(part, [axis], operand.shape), others_product(operand, axis))
        yield 0, part
    elif node.law == "cumsum":
        yield 0, _reversed_cumsum(cotangent, node.axes[0])


def _reindex(node: Reindex, cotangent: Expr, wanted: Sequence[int]) -> Contributions:
    yield 0, transposed(node, cotangent)


def _reshape(node: Reshape, cotangent: Expr, wanted: Sequence[int]) -> Contributions:
    yield 0, Reshape.of(cotangent, node.args[0].shape)


def _gather(node: Gather, cotangent: Expr, wanted: Sequence[int]) -> Contributions:
    arg, indices = node.args
    yield 0, ScatterAdd.of(cotangent, indices, node.axis, node.batch, arg.shape[node.axis])


def _scatter(node: ScatterAdd, cotangent: Expr, wanted: Sequence[int]) -> Contributions:
    yield 0, Gather.of(cotangent, node.args[1], node.axis, node.batch)


def custom_parts(node: Custom, cotangent: Expr) -> list[Expr | None]:
    """What the user's rule gives for each argument, checked; None where it gives nothing."""
    args = node.args[1:]
    given = node.rule(cotangent, *args)
    parts: list[Any] = list(given) if isinstance(given, (list, tuple)) else [given]
    if len(parts) != len(args):
        raise GraphError(
            f"custom_gradient: the rule gave {len(parts)} cotangents for {len(args)} arguments"
            + source.quote(node.where)
        )
    return [_checked(node, arg, part) for arg, part in zip(args, parts)]


def _checked(node: Custom, arg: Expr, part: Any) -> Expr | None:
    if part is None or not is_float(arg):
        return None
    if not isinstance(part, Expr):
        part = constant(part, arg.dtype)
    if part.shape == () and arg.shape != ():
        part = spread(part, (), arg.shape)
    if part.shape != arg.shape:
        raise GraphError(
            f"custom_gradient: the rule gave a cotangent of shape {show(part.shape)} for an "
            f"argument of shape {show(arg.shape)}" + source.quote(node.where)
        )
    return cast(part, arg.dtype)


def _custom(node: Custom, cotangent: Expr, wanted: Sequence[int]) -> Contributions:
    for position, part in enumerate(custom_parts(node, cotangent), start=1):
        if part is not None and position in wanted:
            yield position, part


ADJOINTS: dict[str, Callable[..., Contributions]] = {
    "map": _map,
    "contract": _contract,
    "reduce": _reduce,
    "reindex": _reindex,
    "reshape": _reshape,
    "gather": _gather,
    "scatter": _scatter,
    "custom": _custom,
}
