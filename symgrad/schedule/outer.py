"""Axes that all values of a pass over rows run along together, element by element.

In: the nodes of a group of kind "rows". Out: for each such axis, which axis of every node it is. A
loop over it can go around everything: queries of a softmax over keys, tokens of a normalisation
over features. What later loops read is then kept for one token instead of all of them.

>>> outer_axes(fusion, [mean, centred, variance], row_axis)     # of x (batch, tokens, features)
[{mean: 1, centred: 1, variance: 1}]
"""

from __future__ import annotations

from typing import Callable, Iterator, Mapping, Sequence

from symgrad.node import Contract, Expr, Reduce
from symgrad.schedule.groups import Fusion
from symgrad.schedule.kept import is_leaf_in_memory, is_reduction, space_of

Label = dict[Expr, int]  # an axis of each node: of its result, or of its space if that is 0-d
Reads = dict[tuple[Expr, int], dict[Expr, set["int | None"]]]


def outer_axes(
    fusion: Fusion, nodes: Sequence[Expr], row_axis: Callable[[Expr], int]
) -> list[Label]:
    """Every label, in the order of the axes of the first node."""
    reads = {(m, x): _reads(fusion, m, x, nodes) for m in nodes for x in _axes(m)}
    first = nodes[0]
    found: list[Label] = []
    for axis in _axes(first):
        label = _spread(nodes, reads, first, axis)
        if label is None or any(space_axis(n, x) == row_axis(n) for n, x in label.items()):
            continue
        if all(other[n] != label[n] for other in found for n in nodes):
            found.append(label)
    return found


def _axes(n: Expr) -> range:
    return range(n.ndim) if n.shape else range(len(space_of(n)))


def space_axis(n: Expr, axis: int) -> int:
    """The axis of `space_of(n)` that an axis of the result is."""
    if not n.shape or not is_reduction(n):
        return axis
    if isinstance(n, Contract):
        return sorted(n.extents).index(n.out[axis])
    assert isinstance(n, Reduce)
    return [i for i in range(n.args[0].ndim) if n.law == "cumsum" or i not in n.axes][axis]


def size_along(n: Expr, axis: int) -> object:
    return space_of(n)[space_axis(n, axis)]


def _reads(
    fusion: Fusion, m: Expr, axis: int, nodes: Sequence[Expr]
) -> dict[Expr, set[int | None]]:
    """For the nodes that `m` reads: their axes that run with this one, None where none does."""
    mine = set(nodes)
    found: dict[Expr, set[int | None]] = {}
    stack: list[tuple[Expr, int | None]] = [*_operands(fusion, m, axis)]
    seen: set[tuple[int, int | None]] = set()
    while stack:
        a, at = stack.pop()
        if a in mine:
            found.setdefault(a, set()).add(at)
        if (id(a), at) in seen or a in fusion.named or is_leaf_in_memory(a):
            continue
        seen.add((id(a), at))
        stack.extend(fusion.operand_axes(a, at))
    return found


def _operands(fusion: Fusion, m: Expr, axis: int) -> Iterator[tuple[Expr, int | None]]:
    if m.shape or not is_reduction(m):
        yield from fusion.operand_axes(m, axis)
    elif isinstance(m, Contract):
        label = sorted(m.extents)[axis]
        for labels, a in zip(m.ins, m.args):
            yield a, labels.index(label) if label in labels else None
    else:
        yield m.args[0], axis


def _spread(
    nodes: Sequence[Expr], reads: Mapping[tuple[Expr, int], dict[Expr, set[int | None]]],
    first: Expr, axis: int,
) -> Label | None:  # fmt: skip
    """The axis of every node that runs with this one of the first; None where one has no such."""
    size = size_along(first, axis)
    label: Label = {first: axis}
    for n in nodes:
        if n not in label:
            known = _known(n, nodes, reads, label)
            if known is None and not _linked(n, nodes, reads, label):
                alike = [x for x in _axes(n) if size_along(n, x) == size]
                known = axis if axis in alike else next(iter(alike), None)
            if known is None or size_along(n, known) != size:
                return None
            label[n] = known
    for m in nodes:
        for n, axes in reads[m, label[m]].items():
            if axes != {label[n]}:
                return None
    return label


def _known(
    n: Expr, nodes: Sequence[Expr], reads: Mapping[tuple[Expr, int], dict[Expr, set[int | None]]],
    label: Label,
) -> int | None:  # fmt: skip
    """The axis of `n` that what it reads, or is read by, makes it."""
    for x in _axes(n):
        for m, axes in reads[n, x].items():
            if m in label and axes == {label[m]}:
                return x
    return next((x for m in label for x in reads[m, label[m]].get(n, ()) if x is not None), None)


def _linked(
    n: Expr, nodes: Sequence[Expr], reads: Mapping[tuple[Expr, int], dict[Expr, set[int | None]]],
    label: Label,
) -> bool:  # fmt: skip
    """Whether `n` reads, or is read by, a node that has its axis already."""
    axes = _axes(n)
    reading = any(m in label for x in axes for m in reads[n, x])
    return reading or any(n in reads[m, label[m]] for m in label)
