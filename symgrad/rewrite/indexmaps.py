"""Index maps: their normal form, and how they pass through products.

In: a `Reindex`, or a sum over one, whose operand is in normal form. Out: a simpler node, or None.

A convolution is a product over windows; its derivative by the image arrives as

    sum_kl reindex(sum_o dy[n,o,x,y] w[o,c,k,l])[n,c,(i-k)/s,(j-l)/s,k,l]

a product larger than all its operands, read through a map, summed over the taps. `mapped_product`
lets the map pass to the operands. What is left is a convolution of dy again, one contraction that
stores no product:

    sum_okl dy[n,o,(i-k)/s,(j-l)/s] w[o,c,k,l]

>>> mapped_product(that sum, run).spec
'ijklmn,jomn->iokl'
"""

from __future__ import annotations

import math
from typing import Sequence

from symgrad import dtypes
from symgrad.node import AxisMap, Constant, Contract, Expr, Map, Reindex, Reshape
from symgrad.rewrite.engine import Run
from symgrad.rewrite.patterns import tag
from symgrad.rewrite.structure import Operand, places, view_into
from symgrad.sizes import Shape, Size, maximum


# -- the normal form of one map -----------------------------------------------------------------
def copies(m: AxisMap, size: Size, shape: Shape) -> bool:
    """Whether an axis of this size goes into an axis of the result as it is."""
    offset, terms, divisor = m
    return offset == 0 and divisor == 1 and _unit(terms) and shape[terms[0][0]] == size


def _unit(terms: Sequence[tuple[int, int]]) -> bool:
    return len(terms) == 1 and terms[0][1] == 1


def normal_reindex(n: Expr) -> Expr | None:
    """One map, in lowest terms, of what no view spreads; one that moves nothing is a view."""
    assert isinstance(n, Reindex)
    x = n.args[0]
    maps = tuple(_lowest(n, k) for k in range(x.ndim))
    if maps != n.maps:
        return Reindex.of(x, maps, n.shape, n.fill)
    read = {axis for _, terms, _ in maps for axis, _ in terms}
    if len(read) < n.ndim:
        return _without(n, sorted(read))
    if all(copies(m, size, n.shape) for m, size in zip(maps, x.shape)):
        labels = [terms[0][0] for _, terms, _ in maps]
        if len(set(labels)) == len(labels):
            return view_into(x, labels, n.shape)
    rest = [k for k in range(x.ndim) if maps[k] != (0, (), 1) or x.shape[k] != 1]
    if len(rest) < x.ndim and [maps[k][1] for k in rest] == [((i, 1),) for i in range(n.ndim)]:
        if n.shape == tuple(x.shape[k] for k in rest) and all(maps[k][::2] == (0, 1) for k in rest):
            return Reshape.of(x, n.shape)  # only axes of size 1 are left out
    if isinstance(x, Reindex):
        return _map_of_map(n, x)
    return _map_of_view(n, x) if tag(x) == "view" else None


def _lowest(n: Reindex, axis: int) -> AxisMap:
    """A map without result axes that are always 0, in lowest terms."""
    m = n.maps[axis]
    size = n.args[0].shape[axis]
    if copies(m, size, n.shape):
        return m
    offset, terms, divisor = m
    coefficients: dict[int, int] = {}
    for k, c in terms:
        coefficients[k] = coefficients.get(k, 0) + c
    left = tuple((k, c) for k, c in coefficients.items() if c and n.shape[k] != 1)
    if not left and size == 1 and offset == 0:
        # index 0 of the only one: read by an axis of size 1 that nothing else reads, if there is
        others = {k for i, (_, t, _) in enumerate(n.maps) if i != axis for k, _ in t}
        kept = next((k for k in coefficients if n.shape[k] == 1 and k not in others), None)
        return (0, () if kept is None else ((kept, 1),), 1)
    common = math.gcd(offset, divisor, *(c for _, c in left))
    return offset // common, tuple((k, c // common) for k, c in left), divisor // common


def _without(n: Reindex, read: Sequence[int]) -> Expr:
    """Axes of the result that no map reads are spread afterwards."""
    where = {axis: i for i, axis in enumerate(read)}
    maps = [(o, tuple((where[a], c) for a, c in terms), d) for o, terms, d in n.maps]
    inner = Reindex.of(n.args[0], maps, tuple(n.shape[a] for a in read), n.fill)
    return Contract.of([read], range(n.ndim), inner, sizes=dict(enumerate(n.shape)))


def _map_of_map(n: Reindex, x: Reindex) -> Expr | None:
    """Where the outer map fills nothing, both are one."""
    if not all(n.inside(k) for k in range(x.ndim)):
        return None
    maps = []
    for offset, terms, divisor in x.maps:
        coefficients: dict[int, int] = {}
        for axis, c in terms:
            inner_offset, inner_terms, _ = n.maps[axis]
            offset += c * inner_offset
            for k, d in inner_terms:
                coefficients[k] = coefficients.get(k, 0) + c * d
        maps.append((offset, tuple((k, c) for k, c in coefficients.items() if c), divisor))
    return Reindex.of(x.args[0], maps, n.shape, x.fill)


def _map_of_view(n: Reindex, x: Expr) -> Expr | None:
    """A map of a view is one of its operand: along a spread axis all elements are equal."""
    inner = x.args[0]
    own = places(x)
    if not own and isinstance(inner, Constant) and inner.scalar == n.fill:
        return inner
    # where the map leaves a spread axis it still fills: such an axis stays
    kept = [k for k in range(x.ndim) if k in own or not n.inside(k)]
    if len(kept) == x.ndim and own == sorted(own):
        return None
    if len(kept) == len(own):
        kept, source = own, inner
    else:
        kept_shape = tuple(x.shape[k] for k in kept)
        source = view_into(inner, [kept.index(k) for k in own], kept_shape)
    if not kept:
        return inner
    return Reindex.of(source, [n.maps[k] for k in kept], n.shape, n.fill)


# -- maps and products --------------------------------------------------------------------------
def mapped_product(n: Expr, run: Run) -> Expr | None:
    """sum_t reindex(a b) -> the contraction of the reindexed operands, term by term of a sum.

    A choice (the gradient of a maximum over windows) is read through the map as well.
    """
    assert isinstance(n, Contract)
    r = n.args[0]
    assert isinstance(r, Reindex)
    if r.fill != 0 or not dtypes.is_float(r.dtype) or run.uses.get(r, 1) > 1:
        return None
    return _passed(n, r, r.args[0], run)


def _passed(n: Contract, r: Reindex, e: Expr, run: Run) -> Expr | None:
    """The sum `n` over the map `r` of e, where e is a product or a sum of products."""
    if run.uses.get(e, 1) > 1:
        return None
    if isinstance(e, Map) and e.op in ("add", "sub", "neg"):
        parts = [_passed(n, r, a, run) if a.shape else None for a in e.args]
        if all(p is None for p in parts) or not all(a.shape for a in e.args):
            return None
        done = [_of(n, r, a) if p is None else p for p, a in zip(parts, e.args)]
        return Map.of(e.op, *done)
    if isinstance(e, Map) and e.op == "mul" and isinstance(e.args[0], Constant):
        part = _passed(n, r, e.args[1], run) if not e.args[0].shape else None
        return None if part is None else Map.of("mul", e.args[0], part)
    if tag(e) == "where" and tag(e.args[2]) == "constant" and e.args[2].scalar == 0:  # type: ignore
        return _chosen(n, r, e)
    return _pushed(n, r, e)


def _of(n: Contract, r: Reindex, e: Expr) -> Expr:
    return n.with_args([r.with_args([e])])


def _pushed(n: Contract, r: Reindex, e: Expr) -> Expr | None:
    product = _product(e)
    if product is None or r.ndim > e.ndim or not _worthwhile(r, e):
        return None
    operands, out = product
    maps = dict(zip(out, r.maps))
    sizes = dict(zip(out, e.shape))
    held = {k for labels, _ in operands for k in labels}
    if any(not r.inside(p) for p, k in enumerate(out) if k not in held):
        return None  # nobody would fill
    fresh = {k: r.ndim + i for i, k in enumerate(sorted(held - set(out)))}
    ins, args = [], []
    for labels, arg in operands:
        shape = dict(enumerate(r.shape))
        shape.update((fresh[k], size) for k, size in zip(labels, arg.shape) if k in fresh)
        own = [maps[k] if k in maps else (0, ((fresh[k], 1),), 1) for k in labels]
        plain = all(k in fresh or copies(maps[k], sizes[k], r.shape) for k in labels)
        # the operand's own axes in its own order, then the taps
        axes = [terms[0][0] for _, terms, _ in own if terms]
        axes = list(dict.fromkeys(axes + [a for _, terms, _ in own for a, _ in terms]))
        if plain and len(axes) == len(labels):
            ins.append(axes)
            args.append(arg)
            continue
        where = {a: i for i, a in enumerate(axes)}
        moved = [(o, tuple((where[a], c) for a, c in terms), d) for o, terms, d in own]
        ins.append(axes)
        args.append(Reindex.of(arg, moved, tuple(shape[a] for a in axes)))
    return Contract.of(ins, n.out, *args, sizes=dict(zip(n.out, n.shape)))


def _product(e: Expr) -> tuple[list[Operand], Sequence[int]] | None:
    """The operands of a product with the labels of their axes, and those of the result."""
    if isinstance(e, Contract):
        return (list(zip(e.ins, e.args)), e.out) if len(e.args) > 1 else None
    factors: list[Operand] = []
    pending = [e]
    while pending:
        f = pending.pop()
        if isinstance(f, Map) and f.op == "mul" and f.args[0].shape and f.args[1].shape:
            pending.extend(reversed(f.args))
        elif f.shape and tag(f) == "view":
            factors.append((tuple(places(f)), f.args[0]))
        else:
            return None  # an operand as large as the product: nothing is saved
    return (factors, range(e.ndim)) if len(factors) > 1 else None


def _worthwhile(r: Reindex, e: Expr) -> bool:
    """The map is one of a convolution's derivative, or takes only a part of the product."""
    if any(len(terms) > 1 or divisor > 1 for _, terms, divisor in r.maps):
        return True
    return math.prod(map(maximum, r.shape)) <= math.prod(map(maximum, e.shape))


# -- maps and choices ---------------------------------------------------------------------------
def _chosen(n: Contract, r: Reindex, e: Expr) -> Expr | None:
    """reindex(where(p, v, 0)) -> where(p', reindex(v), 0): where the map fills, v is 0 already, so
    that p' is free there. The windows in p are then read at the place they came from."""
    condition, value, zero = e.args
    read = _anyhow(condition, r)
    if read is None or not condition.shape or not value.shape:
        return None
    chosen = Map.of("where", read, r.with_args([value]), zero)
    return Contract.of(n.ins, n.out, chosen)


def _anyhow(e: Expr, r: Reindex) -> Expr | None:
    """`e` read through the maps of `r`; anything where they leave it. None where that is no gain:
    no window in it is undone."""
    if not e.shape:
        return None
    if isinstance(e, Reindex):
        maps = [_composed(m, r) for m in e.maps]
        if any(divisor != 1 for _, _, divisor in maps):
            return None
        return Reindex.of(e.args[0], maps, r.shape, e.fill)
    if isinstance(e, Map):
        parts = [_anyhow(a, r) for a in e.args]
        if all(p is None for p in parts):
            return None
        return Map.of(e.op, *[_read(a, r) if p is None else p for p, a in zip(parts, e.args)])
    return None


def _read(e: Expr, r: Reindex) -> Expr:
    return Reindex.of(e, r.maps, r.shape) if e.shape else e


def _composed(m: AxisMap, r: Reindex) -> AxisMap:
    """The map `m` after those of `r`, as fractions: right wherever those leave no remainder."""
    offset, terms, divisor = m
    common = divisor * math.lcm(1, *(r.maps[axis][2] for axis, _ in terms))
    constant = offset * (common // divisor)
    coefficients: dict[int, int] = {}
    for axis, c in terms:
        inner_offset, inner_terms, inner_divisor = r.maps[axis]
        factor = c * (common // (divisor * inner_divisor))
        constant += factor * inner_offset
        for k, d in inner_terms:
            coefficients[k] = coefficients.get(k, 0) + factor * d
    left = tuple((k, c) for k, c in coefficients.items() if c)
    shared = math.gcd(common, constant, *(c for _, c in left))
    return constant // shared, tuple((k, c // shared) for k, c in left), common // shared


def product_without_units(n: Expr, run: Run) -> Expr | None:
    """A product's axes of size 1 that a Reshape takes off are none of its result's."""
    x = n.args[0]
    if not isinstance(x, Contract) or len(x.args) < 2 or run.uses.get(x, 1) > 1:
        return None
    kept = [p for p, size in enumerate(x.shape) if size != 1]
    if [x.shape[p] for p in kept] != list(n.shape):
        return None
    return Contract.of(x.ins, [x.out[p] for p in kept], *x.args)
