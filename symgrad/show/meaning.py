"""What a contraction of one operand or an index map is called in everyday terms.

In: a node. Out: `meaning(contract)`: a sum, a transposition, a broadcast, or None; and `slices`,
`padding` of an index map.

>>> meaning(Contract.parse("ij->ji", a))
Transpose(axes=(1, 0))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from symgrad.node import Contract, Expr, Indices, Reindex
from symgrad.sizes import Shape


@dataclass(frozen=True)
class Sum:
    """A sum over axes of the operand; the others stay in their order."""

    axes: tuple[int, ...]


@dataclass(frozen=True)
class Transpose:
    axes: tuple[int, ...]


@dataclass(frozen=True)
class Broadcast:
    """One operand repeated along new axes."""

    index: tuple[bool, ...]  # for each axis of the result: does the operand have it?


Meaning = Union[Sum, Transpose, Broadcast]


def meaning(node: Expr) -> Meaning | None:
    """What a contraction of one operand is called; None for other nodes."""
    if not isinstance(node, Contract) or len(node.args) != 1:
        return None
    (labels,), out = node.ins, node.out
    if node.summed:
        if tuple(k for k in labels if k in out) != out:
            return None
        return Sum(tuple(i for i, k in enumerate(labels) if k not in out))
    if sorted(labels) == sorted(out):
        return Transpose(tuple(labels.index(k) for k in out))
    return Broadcast(tuple(k in labels for k in out)) if in_order(labels, out) else None


def in_order(labels: Indices, out: Indices) -> bool:
    """Whether the axes of an operand come in the order of the result's."""
    return tuple(k for k in out if k in labels) == labels


def unmistakable(shape: Shape, kept: tuple[bool, ...], result: Shape) -> bool:
    """Whether nobody could repeat an operand along other axes: NumPy would do it unasked (all new
    axes are in front), or the sizes leave no other way."""
    first = next((i for i, has in enumerate(kept) if has), len(kept))
    if all(kept[first:]):
        return True
    ways = [1] + [0] * len(shape)  # how often the first k axes are found in order
    for size in result:
        for k in range(len(shape), 0, -1):
            if shape[k - 1] == size:
                ways[k] += ways[k - 1]
    return ways[-1] == 1


# -- index maps -------------------------------------------------------------------------------


def slices(node: Reindex) -> tuple[str, ...] | None:
    """The NumPy index of each axis when the map is a slice, a flip or a stride; None otherwise."""
    shown = []
    for axis, (offset, terms, divisor) in enumerate(node.maps):
        size, extent = node.args[0].shape[axis], node.shape[axis] if axis < node.ndim else None
        if divisor != 1 or len(terms) != 1 or terms[0][0] != axis or len(node.maps) != node.ndim:
            return None
        if not node.inside(axis):
            return None
        step = terms[0][1]
        if step == 1 and offset == 0 and size == extent:
            shown.append(":")
        elif not isinstance(extent, int):
            return None
        elif step > 0:
            end = offset + step * (extent - 1) + 1
            shown.append(f"{offset or ''}:{'' if end == size else end}" + _step(step))
        elif offset == size_minus_one(size) and offset + step * (extent - 1) + step < 0:
            shown.append("::" + str(step))
        else:
            return None
    return tuple(shown)


def size_minus_one(size: object) -> int | None:
    return size - 1 if isinstance(size, int) else None


def _step(step: int) -> str:
    return "" if step == 1 else f":{step}"


def padding(node: Reindex) -> tuple[tuple[int, int], ...] | None:
    """The widths in front and behind of each axis when the map is a padding; None otherwise."""
    widths = []
    if len(node.maps) != node.ndim:
        return None
    for axis, (offset, terms, divisor) in enumerate(node.maps):
        size, extent = node.args[0].shape[axis], node.shape[axis]
        if divisor != 1 or terms != ((axis, 1),) or offset > 0:
            return None
        if size == extent and offset == 0:
            widths.append((0, 0))
        elif isinstance(size, int) and isinstance(extent, int) and extent + offset >= size:
            widths.append((-offset, extent + offset - size))
        else:
            return None
    return tuple(widths)
