"""What text and LaTeX have in common: which parts get a name, and what a node means to a reader.

In: expressions by name. Out: `lines(...)`, one `Line` per named part in the order needed; and
`meaning(contract)`, the everyday operation that an index string stands for.

>>> meaning(Contract.parse("ki,kj->ij", a, b))
Product(left_transposed=True, right_transposed=False)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Union

from symgrad.node import Contract, Custom, Expr, Indices, Iota, Leaf, Map, Reindex, toposort

WIDTH = 72  # a part longer than this gets a name of its own even when it is used once


@dataclass(frozen=True)
class Piece:
    """Rendered mathematics, and how tightly its outermost operator binds."""

    text: str
    level: int = 100

    def within(self, level: int, left: str = "(", right: str = ")") -> str:
        """In brackets when it binds less tightly than `level`."""
        return self.text if self.level >= level else f"{left}{self.text}{right}"


@dataclass(frozen=True)
class Line:
    """`name = text`; the name is empty for what was asked for itself."""

    name: str
    text: str
    node: Expr


Render = Callable[[Expr, Sequence[Piece], Callable[[Expr], Piece]], Piece]


def lines(
    outputs: Mapping[str, Expr], render: Render, name: Callable[[int], str], width: int = WIDTH
) -> list[Line]:
    """Every output as a line, behind the shared and the long parts it is made of.

    `render(node, operands, look)` gives a node's piece; `look` gives the piece of any part below.
    """
    order = toposort(outputs.values())
    uses = _uses(order)
    label_of = {id(e): label for label, e in reversed(list(outputs.items())) if label}
    pieces: dict[int, Piece] = {}
    found: list[Line] = []
    counter = 0
    for node in order:
        piece = render(node, [pieces[id(a)] for a in node.args], lambda e: pieces[id(e)])
        label = label_of.get(id(node), "")
        plain = isinstance(node, Leaf) or (transparent(node) and not label)
        if not plain and (label or uses[id(node)] > 1 or len(piece.text) > width):
            if not label:
                counter += 1
                label = name(counter)
            found.append(Line(label, piece.text, node))
            piece = Piece(label)
        pieces[id(node)] = piece
    for label, node in outputs.items():
        if isinstance(node, Leaf) or label_of.get(id(node)) != label:
            found.append(Line(label, pieces[id(node)].text, node))
    return found


def _uses(order: Sequence[Expr]) -> dict[int, int]:
    """How many places show each node; a transparent node passes its own uses on."""
    uses = {id(node): 0 for node in order}
    for node in reversed(order):
        if isinstance(node, Custom):
            uses[id(node.args[0])] += max(uses[id(node)], 1)
            continue
        for a in node.args:
            uses[id(a)] += max(uses[id(node)], 1) if transparent(node) else 1
    return uses


def transparent(node: Expr) -> bool:
    """Nodes that readers do not need to see as a step: broadcasts, and marks for derivatives."""
    if isinstance(node, Custom) or isinstance(meaning(node), Broadcast):
        return True
    return labels_of(node) is not None


def labels_of(node: Expr) -> Expr | None:
    """The labels of `labels[..., None] == arange(classes)`, the heart of a one-hot code."""
    if not isinstance(node, Map) or node.op != "equal" or not node.ndim:
        return None
    for labels, classes in (node.args, node.args[::-1]):
        spread, count = meaning(labels), meaning(classes)
        if not isinstance(spread, Broadcast) or spread.index != (True,) * (node.ndim - 1) + (
            False,
        ):
            continue
        if isinstance(classes, Iota) and node.ndim == 1:
            return labels.args[0]
        if isinstance(count, Broadcast) and isinstance(classes.args[0], Iota):
            if count.index == (False,) * (node.ndim - 1) + (True,):
                return labels.args[0]
    return None


def one_hot(node: Expr) -> Expr | None:
    """The labels that a node is the one-hot code of, one class for each place of its last axis."""
    if isinstance(node, Map) and node.op.startswith("to_"):
        return labels_of(node.args[0])
    return None


# -- contractions -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Product:
    """A matrix product of the last axes, `a @ b`, either side possibly transposed; `swapped` when
    the left factor is the second operand."""

    left_transposed: bool
    right_transposed: bool
    swapped: bool = False


@dataclass(frozen=True)
class Dot:
    """The sum over all elements of a product of equal shapes."""


@dataclass(frozen=True)
class Sum:
    """A sum over axes, perhaps of a product; `keeps` are the labels of the output."""

    axes: tuple[int, ...]
    everything: bool


@dataclass(frozen=True)
class Transpose:
    axes: tuple[int, ...]


@dataclass(frozen=True)
class Broadcast:
    """One operand repeated along new axes; `index` is its NumPy index, `[:, None]`, or empty."""

    index: tuple[bool, ...]  # for each axis of the result: does the operand have it?

    @property
    def implied(self) -> bool:
        """Whether NumPy would do it unasked: all new axes are in front."""
        first = next((i for i, has in enumerate(self.index) if has), len(self.index))
        return all(self.index[first:])


@dataclass(frozen=True)
class Elementwise:
    """A product without a sum, operands broadcast."""

    operands: tuple[Broadcast, ...]


@dataclass(frozen=True)
class Einsum:
    """Anything else."""


Meaning = Union[Product, Dot, Sum, Transpose, Broadcast, Elementwise, Einsum]


def meaning(node: Expr) -> Meaning | None:
    """What a contraction is called in everyday terms; None for other nodes."""
    if not isinstance(node, Contract):
        return None
    ins, out, summed = node.ins, node.out, node.summed
    if not summed:
        spread = [_broadcast(labels, out) for labels in ins]
        if len(ins) == 1 and sorted(ins[0]) == sorted(out):
            return Transpose(tuple(ins[0].index(k) for k in out))
        if any(s is None for s in spread):
            return Einsum()
        operands = tuple(s for s in spread if s is not None)
        return operands[0] if len(ins) == 1 else Elementwise(operands)
    if all(labels == ins[0] for labels in ins):
        kept = tuple(k for k in ins[0] if k in out)
        if kept != out:
            return Einsum()
        if not out and len(ins) == 2 and len(ins[0]) == 1:
            return Dot()
        axes = tuple(i for i, k in enumerate(ins[0]) if k not in out)
        return Sum(axes, not out)
    if len(ins) == 2 and len(summed) == 1:
        straight = _product(ins[0], ins[1], out, summed[0])
        if isinstance(straight, Product):
            return straight
        turned = _product(ins[1], ins[0], out, summed[0])
        if isinstance(turned, Product):
            return Product(turned.left_transposed, turned.right_transposed, swapped=True)
    return Einsum()


def _broadcast(labels: Indices, out: Indices) -> Broadcast | None:
    """How an operand is spread over the output; None when its axes come in another order."""
    if tuple(k for k in out if k in labels) != labels:
        return None
    return Broadcast(tuple(k in labels for k in out))


def _product(a: Indices, b: Indices, out: Indices, summed: int) -> Meaning:
    """`a @ b` when the index string is one, batch axes in front and shared."""
    shared = tuple(k for k in a if k in b and k != summed)
    n = len(shared)
    if a[:n] != shared or b[:n] != shared:
        return Einsum()
    left, right = a[n:], b[n:]
    if len(left) > 2 or len(right) > 2 or not left or not right:
        return Einsum()
    rest = tuple(k for k in (*left, *right) if k != summed)
    if out != shared + rest:
        return Einsum()
    if n and (len(left) < 2 or len(right) < 2):
        return Einsum()  # NumPy reads a stack of vectors as matrices
    return Product(len(left) == 2 and left[0] == summed, len(right) == 2 and right[1] == summed)


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
