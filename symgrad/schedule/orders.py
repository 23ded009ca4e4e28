"""In which order the axes of values lie: channels innermost where windows slide.

In: the nodes of a graph and their lane axes. Out: the layout of every node that has rows, and of
images without. Where a window slides over an image, its places lie before its channels,
`[rows/16][H][W][C][16]`, or `[N][H][W][C]` where no rows run in lanes: a window is then a few
stretches of memory. What is combined elementwise lies alike, and a view of a value (a pooling
window, a transposition) is laid out as the value it shows.

>>> lane_layouts(toposort([conv2d(x, w)]), lane_axes)[x]
Layout(order=(0, 2, 3, 1), lane=0)
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Callable, Collection, Mapping, Sequence

from symgrad.node import Contract, Expr, Map, Reduce, Reindex, Reshape
from symgrad.schedule.bodies import Looped
from symgrad.schedule.kept import is_product
from symgrad.schedule.layout import Layout, lane_layout
from symgrad.schedule.windows import Windows, pointwise, windows
from symgrad.sizes import Shape, Size

Order = tuple[int, ...]


def unfolded(nodes: Sequence[Expr]) -> frozenset[Expr]:
    """Reshapes that make an image of something else (the gradient of a flattened image) and are
    read by a product over windows: worth a copy, since no loop over places could follow them."""
    consumers: dict[Expr, list[Expr]] = {}
    for n in nodes:
        for a in n.args:
            consumers.setdefault(a, []).append(n)
    found = set()
    for n in nodes:
        if isinstance(n, Reshape):
            through = {new[0] for old, new in groups_of(n.args[0].shape, n.shape) or ()
                       if len(old) == len(new) == 1}  # fmt: skip
            if any(not _places(n, c) <= through for c in consumers.get(n, ())):
                found.add(n)
    return frozenset(found)


def _places(view: Expr, reader: Expr) -> set[int]:
    """The axes along which a reader slides over a view, or sums what slides beside it."""
    if isinstance(reader, Reindex):
        maps = enumerate(reader.maps)
        return {
            a for a, (offset, terms, divisor) in maps if offset or divisor > 1 or len(terms) > 1
        }
    if is_product(reader):
        assert isinstance(reader, Contract)
        if any(isinstance(a, Reindex) for a in reader.args if a is not view):
            labels = next(ls for ls, a in zip(reader.ins, reader.args) if a is view)
            return {i for i, k in enumerate(labels) if k in reader.summed}
    return set()


def window_products(
    nodes: Sequence[Expr], in_memory: Callable[[Expr], bool]
) -> dict[Contract, Windows]:
    """Every product over windows of an image."""
    found = {}
    for n in nodes:
        if is_product(n):
            assert isinstance(n, Contract)
            w = windows(n, in_memory)
            if w is not None:
                found[n] = w
    return found


def pointwise_products(
    nodes: Sequence[Expr], in_memory: Callable[[Expr], bool]
) -> dict[Contract, Windows]:
    """Every product of images that slides along nothing: convolutions of a single tap."""
    found = {}
    for n in nodes:
        if is_product(n):
            assert isinstance(n, Contract)
            w = pointwise(n, in_memory)
            if w is not None:
                found[n] = w
    return found


def lane_layouts(
    nodes: Sequence[Expr],
    lane_axes: Mapping[Expr, int | None],
    products: Mapping[Contract, Windows],
    steps: Mapping[Expr, Collection[int]] = MappingProxyType({}),
) -> dict[Expr, Layout]:
    """The layout of every node with a lane axis, and of every other one whose order is known. Axes
    that are `steps` of loops lie outermost."""
    result: dict[Expr, Layout] = {}
    orders = _Orders(nodes, lane_axes).spread(products) if products else {}
    for n in nodes:
        axis, found = lane_axes[n], orders.get(n)
        if isinstance(n, Looped):
            known = result.get(n.value if n.carry is None else n.carry)
            if known is not None and axis is not None:
                result[n] = known.stacked if n.carry is None else known
        elif steps.get(n) and axis is not None:
            first = sorted(a for a in steps[n] if a != axis)
            order = found or lane_layout(n.ndim, axis).order
            result[n] = Layout((*first, *(a for a in order if a not in first)), axis)
        elif found is not None:
            result[n] = Layout(found, axis)
        elif axis is not None:
            result[n] = lane_layout(n.ndim, axis)
    return result


def image_order(w: Windows, lane: int | None) -> Order:
    """Lanes, or samples where nothing runs in lanes; then the axes that windows slide along, then
    the others."""
    if lane is None:
        return samples_first(w.base.shape, w.samples, [a.axis for a in w.spatial])
    sliding = [a.axis for a in w.axes]
    rest = [a for a in range(w.base.ndim) if a not in sliding and a != lane]
    return (lane, *sliding, *rest)


def result_order(n: Contract, w: Windows, lane: int | None) -> Order:
    """The same of the product."""
    if lane is None:
        labels = [w.forms[a].label for a in w.samples]
        first = [n.out.index(k) for k in labels if k is not None and k in n.out]
        then = [n.out.index(a.place) for a in w.spatial if a.place is not None]
        return samples_first(n.shape, first, then)
    slid = [n.out.index(k) for k in w.places]
    rest = [a for a in range(n.ndim) if a not in slid and a != lane]
    return (lane, *slid, *rest)


def samples_first(shape: Shape, samples: Sequence[int], places: Sequence[int]) -> Order:
    """Samples, places, channels; axes of size 1 where no other one is innermost."""
    rest = [a for a in range(len(shape)) if a not in samples and a not in places]
    short = [a for a in rest if shape[a] == 1 and a != rest[-1]]
    if rest and shape[rest[-1]] == 1 and len(short) < len(rest) - 1:
        short.append(rest[-1])
    return (*samples, *short, *places, *(a for a in rest if a not in short))


class _Orders:
    """Classes of nodes that lie alike, and what is known of each."""

    def __init__(self, nodes: Sequence[Expr], lane_axes: Mapping[Expr, int | None]) -> None:
        self.nodes, self.lane_axes = nodes, lane_axes
        self.parent = {n: n for n in nodes}
        self.known: dict[Expr, Order] = {}
        for n in nodes:
            for a in _alike(n):
                if a.shape == n.shape and lane_axes[a] == lane_axes[n]:
                    self.parent[self._root(a)] = self._root(n)

    def _root(self, n: Expr) -> Expr:
        while self.parent[n] is not n:
            self.parent[n] = self.parent[self.parent[n]]
            n = self.parent[n]
        return n

    def spread(self, products: Mapping[Contract, Windows]) -> dict[Expr, Order]:
        """Orders of all nodes that have one, the first product's word first."""
        for n, w in products.items():
            axis = self.lane_axes[w.base]
            self._tell(w.base, image_order(w, axis))
            ours = self.lane_axes[n]
            if len(w.places) == len(w.axes) and (ours is None) == (axis is None):
                if not w.over_samples:
                    self._tell(n, result_order(n, w, ours))
        changed = True
        while changed:
            changed = False
            for m in self.nodes:
                if len(m.args) == 1:
                    changed |= self._through(m, m.args[0])
        return {n: self.known[r] for n in self.nodes if (r := self._root(n)) in self.known}

    def _tell(self, n: Expr, order: Order) -> bool:
        root = self._root(n)
        axis = self.lane_axes[n]
        if root in self.known:
            return False
        first = () if axis is None else (axis,)
        self.known[root] = (*first, *(a for a in order if a != axis))
        return True

    def _through(self, n: Expr, arg: Expr) -> bool:
        """What the order of a value says about a view or a reduction of it, and the reverse."""
        if (self.lane_axes[n] is None) != (self.lane_axes[arg] is None):
            return False
        ours, theirs = self.known.get(self._root(n)), self.known.get(self._root(arg))
        if (ours is None) == (theirs is None):
            return False
        found: Order | None = None
        if theirs is not None:
            found = _forward(n, theirs)
            return found is not None and self._tell(n, found)
        assert ours is not None
        found = _backward(n, ours)
        return found is not None and self._tell(arg, found)


def _alike(n: Expr) -> Sequence[Expr]:
    """Operands that are read at the very index of the result."""
    if isinstance(n, Contract) and not n.summed and len(n.args) > 1:
        return [a for labels, a in zip(n.ins, n.args) if labels == n.out]
    return n.args if isinstance(n, Map) else ()


def _forward(n: Expr, order: Order) -> Order | None:
    """The order of a result from its operand's."""
    if isinstance(n, Contract):
        labels = [n.ins[0][a] for a in order if n.ins[0][a] in n.out]
        if len(labels) < n.ndim:
            return None
        return tuple(n.out.index(k) for k in labels)
    if isinstance(n, Reduce):
        if n.law == "cumsum":
            return order
        kept = [a for a in range(n.args[0].ndim) if a not in n.axes]
        return tuple(kept.index(a) for a in order if a in kept)
    if isinstance(n, Reindex):
        seen = [axis for a in order if (axis := _followed(n)[a]) is not None]
        return (*seen, *(a for a in range(n.ndim) if a not in seen))
    return reshaped(n.args[0].shape, n.shape, order) if isinstance(n, Reshape) else None


def _backward(n: Expr, order: Order) -> Order | None:
    if isinstance(n, Contract):
        labels = [n.out[a] for a in order if n.out[a] in n.ins[0]]
        if len(labels) < n.args[0].ndim:
            return None
        return tuple(n.ins[0].index(k) for k in labels)
    if isinstance(n, Reindex):
        follows = _followed(n)
        if None in follows:
            return None
        return tuple(follows.index(a) for a in order if a in follows)
    return reshaped(n.shape, n.args[0].shape, order) if isinstance(n, Reshape) else None


def _followed(n: Reindex) -> list[int | None]:
    """For every axis of the operand the axis of a view that walks along it: a part, a border, the
    places of windows (their taps are further axes); None where the view stands still."""
    return [terms[0][0] if terms else None for _, terms, _ in n.maps]


def reshaped(before: Shape, after: Shape, order: Order) -> Order | None:
    """The order after a reshape that cuts axes or joins neighbours; None for any other.

    >>> reshaped((2, 8, 4, 4), (2, 8, 2, 2, 4), (0, 2, 3, 1))
    (0, 2, 3, 4, 1)
    """
    groups = groups_of(before, after)
    if groups is None:
        return None
    result: list[int] = []
    pending = list(order)
    while pending:
        axis = pending.pop(0)
        old, new = next(g for g in groups if axis in g[0])
        if tuple(pending[: len(old) - 1]) != old[1:] or axis != old[0]:
            return None
        del pending[: len(old) - 1]
        result += new
    placed = set(result)
    return (*result, *(a for a in range(len(after)) if a not in placed))


def groups_of(before: Shape, after: Shape) -> list[tuple[Order, Order]] | None:
    """Axes that hold the same elements before and after: one to several, or several to one."""
    groups: list[tuple[Order, Order]] = []
    i = j = 0
    while i < len(before) and j < len(after):
        old, new = [i], [j]
        while before[old[0] : i + 1] != after[new[0] : j + 1]:
            here, there = _amount(before[old[0] : i + 1]), _amount(after[new[0] : j + 1])
            if here is None or there is None:
                return None
            if here == there:
                break
            if here < there:
                i += 1
                if i == len(before):
                    return None
                old.append(i)
            else:
                j += 1
                if j == len(after):
                    return None
                new.append(j)
        if len(old) > 1 and len(new) > 1:
            return None
        groups.append((tuple(old), tuple(new)))
        i, j = i + 1, j + 1
    if any(s != 1 for s in (*before[i:], *after[j:])):
        return None
    groups += [((k,), ()) for k in range(i, len(before))]
    return groups


def _amount(sizes: Sequence[Size]) -> int | None:
    total = 1
    for s in sizes:
        if not isinstance(s, int):
            return None
        total *= s
    return total
