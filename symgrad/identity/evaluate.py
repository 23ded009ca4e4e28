"""The value of a graph at one random point, mod primes and in real numbers at once.

In: outputs, a seed, the kind of arithmetic. Out: one `Value` per output. The walk is a table of
rules by node kind, like the interpreter's; leaves get random values that depend on the seed and on
the leaf alone, so two graphs over the same leaves are evaluated at the same point.

>>> x = Input("x", (3,))
>>> run([x + x, 2 * x], Context(Tower(0, (7,)))).pop().residues
"""

from __future__ import annotations

from typing import Any, Callable, Sequence

import numpy as np

from symgrad import dtypes, scalar
from symgrad.identity import maps
from symgrad.identity.field import PRIMES, contractmod, cumsummod, mulmod, summod, text_key
from symgrad.identity.values import Array, Context, Value, number, point
from symgrad.loop import body, captured, results
from symgrad.node import (
    Constant,
    Contract,
    Custom,
    Expr,
    Gather,
    Iota,
    Map,
    Random,
    Reduce,
    Reindex,
    Scan,
    ScatterAdd,
    SizeOf,
    toposort,
)
from symgrad.sizes import Dim, Shape, value

HINT_LIMIT = 1e6  # constants larger than this are no thresholds


# -- preparation -----------------------------------------------------------------------------------
def primitives(outputs: Sequence[Expr]) -> list[Expr]:
    """The outputs with composite ops written out, custom derivatives dropped, and the inverse
    functions undone whose law the fields do not have: exp(log x), sqrt(x) * sqrt(x)."""
    new: dict[int, Expr] = {}
    for node in toposort(outputs):
        args = [new[id(a)] for a in node.args]
        if isinstance(node, Custom):
            new[id(node)] = args[0]
        elif isinstance(node, Map):
            op = scalar.OPS[node.op]
            made = node.with_args(args) if op.primitive else _same_shape(op.expand(*args), node)
            new[id(node)] = _undone(made)
        else:
            new[id(node)] = node.with_args(args)
    return [new[id(y)] for y in outputs]


def _same_shape(made: Expr, node: Expr) -> Expr:
    """A body that does not use every argument may have lost the shape of one."""
    if made.shape == node.shape:
        return made
    every = range(len(node.shape))
    return Contract.of([()], every, made, sizes=dict(zip(every, node.shape)))


def _undone(e: Expr) -> Expr:
    if not isinstance(e, Map) or not e.args:
        return e
    inner = e.args[0]
    if not isinstance(inner, Map):
        return e
    if (e.op, inner.op) in (("exp", "log"), ("log", "exp"), ("expm1", "log1p"), ("log1p", "expm1")):
        return inner.args[0]
    if e.op == "mul" and inner.op == "sqrt" and e.args[1] is inner:
        return inner.args[0]
    return e


def levels_needed(order: Sequence[Expr]) -> tuple[int, bool]:
    """How many levels of the tower the graph climbs and falls through, and whether it has logs.

    The body of a loop may climb at every step, and needs all there are."""
    low: dict[int, int] = {}
    high: dict[int, int] = {}
    need, logs = 0, False
    for node in order:
        a = max((low[id(x)] for x in node.args), default=0)
        b = max((high[id(x)] for x in node.args), default=0)
        if isinstance(node, Map) and node.op in maps.LIFTS:
            a, b = a + 1, max(0, b - 1)
        elif isinstance(node, Map) and node.op in maps.DROPS:
            a, b, logs = max(0, a - 1), b + 1, True
        low[id(node)], high[id(node)] = a, b
        need = max(need, a + b)
        if (a or b) and node.free:
            need = len(PRIMES)
    return need, logs


def tower_levels(outputs: Sequence[Expr]) -> tuple[int, ...]:
    """The levels to carry: the highest ones, but the lowest where logarithms are searched."""
    need, logs = levels_needed(toposort(outputs))
    count = min(need + 1, len(PRIMES))
    return tuple(range(count)) if logs else tuple(range(len(PRIMES) - count, len(PRIMES)))


def index_bounds(order: Sequence[Expr]) -> dict[int, int | Dim]:
    """For integer leaves the number of values they may take: what they index, or compare with."""
    bounds: dict[int, Any] = {}
    smallest: Any = None
    for node in order:
        if isinstance(node, Iota) and not isinstance(node.attrs[0], Dim):
            smallest = node.attrs[0] if smallest is None else min(smallest, node.attrs[0])
    for node in order:
        if not isinstance(node, (Gather, ScatterAdd)):
            continue
        size = node.args[0].shape[node.axis] if isinstance(node, Gather) else node.attrs[2]
        for leaf in toposort([node.args[1]]):
            if not leaf.args and dtypes.is_integer(leaf.dtype):
                before = bounds.get(id(leaf), size)
                smaller = not isinstance(size, Dim) and (isinstance(before, Dim) or size < before)
                bounds[id(leaf)] = size if smaller else before
    for node in reversed(order):  # what slices index, their sequence does
        for slot, sequence in zip(node.slots, node.sequences) if isinstance(node, Scan) else ():
            for leaf in toposort([sequence]) if id(slot) in bounds else ():
                if not leaf.args and dtypes.is_integer(leaf.dtype):
                    bounds.setdefault(id(leaf), bounds[id(slot)])
    for node in order:
        if not node.args and dtypes.is_integer(node.dtype):
            bounds.setdefault(id(node), smallest or 3)
    return bounds


# -- the walk --------------------------------------------------------------------------------------
class Walk:
    """One evaluation of one graph."""

    def __init__(self, context: Context, order: Sequence[Expr]) -> None:
        self.context = context
        self.bounds = index_bounds(order)
        self.loops = results(order)

    def shape(self, shape: Shape) -> tuple[int, ...]:
        return tuple(value(s, self.context.dims) for s in shape)


def _leaf(walk: Walk, node: Expr, args: list[Value]) -> Value:
    shape = walk.shape(node.shape)
    order = getattr(node, "order", None)
    key = 2 * order if order is not None else 2 * int.from_bytes(node.digest[:7], "big") + 1
    seed = walk.context.tower.seed
    if dtypes.is_float(node.dtype):
        unit = isinstance(node, Random) and node.law == "uniform"
        return point(walk.context, key, shape, unit)
    rng = np.random.default_rng((seed, key))
    if node.dtype == "bool":
        return Value(rng.integers(0, 2, shape).astype(bool), None)
    bound = value(walk.bounds.get(id(node), 3), walk.context.dims)
    return Value(rng.integers(0, max(1, bound), shape), None)


def _constant(walk: Walk, node: Constant, args: list[Value]) -> Value:
    return number(walk.context, node.value, node.dtype)


def _size(walk: Walk, node: SizeOf, args: list[Value]) -> Value:
    return Value(np.asarray(value(node.of_size, walk.context.dims)), None)


def _iota(walk: Walk, node: Iota, args: list[Value]) -> Value:
    return Value(np.arange(walk.shape(node.shape)[0]), None)


def _map(walk: Walk, node: Map, args: list[Value]) -> Value:
    result = maps.apply(walk.context, node.op, args)
    shape = walk.shape(node.shape)
    return (
        result
        if np.shape(result.real) == shape
        else result.each(lambda plane: np.broadcast_to(plane, shape))
    )


def _pair(
    walk: Walk, a: Value, left: list[int], b: Value, right: list[int], out: list[int]
) -> Value:
    """The contraction of two operands."""
    context = walk.context
    if a.residues is None and b.residues is None:
        plane = np.einsum(_number(a.real), left, _number(b.real), right, out)
        return Value(plane, None)
    if context.digits:
        plane = _object_pair(maps.to_mp(a.real), left, maps.to_mp(b.real), right, out)
    else:
        plane = np.einsum(maps.as_float(a.real), left, maps.as_float(b.real), right, out)
    found = {}
    for k in context.common(a, b):
        x, y = a.residue(k, context.tower), b.residue(k, context.tower)
        found[k] = contractmod(x, left, y, right, out, PRIMES[k])
    return Value(plane, found)


def _number(plane: Array) -> Array:
    return plane.astype(np.int64) if plane.dtype == bool else plane


def _object_pair(a: Array, left: list[int], b: Array, right: list[int], out: list[int]) -> Array:
    """einsum for object arrays: one broadcast product, then sums."""
    every = list(dict.fromkeys([*out, *left, *right]))

    def spread(plane: Array, labels: list[int]) -> Array:
        plane = plane.transpose([labels.index(k) for k in every if k in labels])
        return plane.reshape(
            [
                plane.shape[sum(j in labels for j in every[:i])] if k in labels else 1
                for i, k in enumerate(every)
            ]
        )

    product = np.asarray(spread(a, left) * spread(b, right), object)
    summed = tuple(range(len(out), len(every)))
    return np.asarray(product.sum(axis=summed), object) if summed else product


def _sum(walk: Walk, v: Value, axes: list[int]) -> Value:
    if not axes:
        return v
    plane = np.asarray(_number(v.real).sum(axis=tuple(axes)))
    if v.residues is None:
        return Value(plane, None)
    return Value(plane, {k: summod(r, axes, PRIMES[k]) for k, r in v.residues.items()})


def _contract(walk: Walk, node: Contract, args: list[Value]) -> Value:
    """Operand after operand; an index goes as soon as nothing needs it any more."""
    labels: list[list[int]] = [list(s) for s in node.ins]
    current, have = args[0], labels[0]
    for position in range(1, len(args)):
        later = {k for s in labels[position + 1 :] for k in s} | set(node.out)
        out = [k for k in dict.fromkeys([*have, *labels[position]]) if k in later]
        current = _pair(walk, current, have, args[position], labels[position], out)
        have = out
    gone = [i for i, k in enumerate(have) if k not in node.out]
    current = _sum(walk, current, gone)
    have = [k for k in have if k in node.out]
    shape = walk.shape(node.shape)
    order = [have.index(k) for k in node.out if k in have]
    inner = [shape[i] if k in have else 1 for i, k in enumerate(node.out)]
    return current.each(
        lambda plane: np.broadcast_to(np.asarray(plane).transpose(order).reshape(inner), shape)
    )


def _reduce(walk: Walk, node: Reduce, args: list[Value]) -> Value:
    v, law, axes = args[0], node.law, node.axes
    if law in ("argmax", "argmin"):
        plane = maps.as_float(v.real)
        return Value(np.asarray(getattr(np, law)(plane, axis=axes[0])), None)
    if law == "cumsum":
        plane = np.cumsum(_number(v.real), axes[0])
        if v.residues is None:
            return Value(plane, None)
        return Value(plane, {k: cumsummod(r, axes[0], PRIMES[k]) for k, r in v.residues.items()})
    flat = _flattened(v, axes)
    if law == "prod":
        return _product(flat)
    plane = maps.as_float(flat.real)
    best = (np.argmax if law == "max" else np.argmin)(plane, axis=-1)[..., None]
    return flat.each(lambda p: np.take_along_axis(p, best, -1)[..., 0])


def _flattened(v: Value, axes: tuple[int, ...]) -> Value:
    """The reduced axes as one last axis."""
    kept = [k for k in range(v.real.ndim) if k not in axes]

    def move(plane: Array) -> Array:
        plane = plane.transpose([*kept, *axes])
        return plane.reshape(
            [*plane.shape[: len(kept)], -1] if plane.size else _joined(plane.shape, len(kept))
        )

    return v.each(move)


def _joined(shape: tuple[int, ...], kept: int) -> list[int]:
    return [*shape[:kept], int(np.prod(shape[kept:]))]


def _product(v: Value) -> Value:
    plane = np.prod(_number(v.real), axis=-1)
    if v.residues is None:
        return Value(np.asarray(plane), None)
    found = {}
    for k, r in v.residues.items():
        total = np.ones(r.shape[:-1], np.int64)
        for i in range(r.shape[-1]):
            total = mulmod(total, r[..., i], PRIMES[k])
        found[k] = total
    return Value(np.asarray(plane, v.real.dtype), found)


def _reindex(walk: Walk, node: Reindex, args: list[Value]) -> Value:
    """Where the maps point into the operand its element, elsewhere the fill."""
    shape = walk.shape(node.shape)
    sizes = walk.shape(node.args[0].shape)
    inside: Array = np.ones(shape, bool)
    picks = []
    for (offset, terms, divisor), size in zip(node.maps, sizes):
        index: Array = np.full(shape, offset)
        for axis, coef in terms:
            along = [1] * len(shape)
            along[axis] = shape[axis]
            index = index + coef * np.arange(shape[axis]).reshape(along)
        whole = index // divisor
        inside = inside & (index % divisor == 0) & (whole >= 0) & (whole < size)
        picks.append(np.clip(whole, 0, max(0, size - 1)))
    if min(sizes, default=1) == 0:
        filler = number(walk.context, np.asarray(node.fill), node.dtype)
        return filler.each(lambda plane: np.broadcast_to(plane, shape))
    picked = args[0].each(
        lambda plane: plane[tuple(picks)] if picks else np.broadcast_to(plane, shape)
    )
    if inside.all():
        return picked
    filler = number(walk.context, np.asarray(node.fill), node.dtype)
    return maps.choose(walk.context, inside, picked, filler)


def _reshape(walk: Walk, node: Expr, args: list[Value]) -> Value:
    shape = walk.shape(node.shape)
    return args[0].each(lambda plane: plane.reshape(shape))


def _indices(v: Value, size: int) -> Array:
    return np.clip(np.asarray(v.real).astype(np.int64), 0, size - 1)


def _gather(walk: Walk, node: Gather, args: list[Value]) -> Value:
    index = _indices(args[1], args[0].real.shape[node.axis])
    picks = _index_grid(args[0].real.shape, index, node.axis, node.batch)
    return args[0].each(lambda plane: plane[picks])


def _index_grid(shape: tuple[int, ...], index: Array, axis: int, batch: int) -> tuple[Array, ...]:
    """Index arrays that pick, or add to, what a gather along `axis` touches."""
    spread = index.ndim - batch
    out_ndim = len(shape) - 1 + spread
    grid = []
    for k, size in enumerate(shape):
        along = [1] * out_ndim
        if k == axis:
            along[:batch] = index.shape[:batch]
            along[axis : axis + spread] = index.shape[batch:]
            grid.append(index.reshape(along))
        else:
            along[k if k < axis else k - 1 + spread] = size
            grid.append(np.arange(size).reshape(along))
    return tuple(grid)


def _scatter(walk: Walk, node: ScatterAdd, args: list[Value]) -> Value:
    shape = walk.shape(node.shape)
    values = args[0]
    picks = _index_grid(shape, _indices(args[1], shape[node.axis]), node.axis, node.batch)

    def added(plane: Array, p: int | None) -> Array:
        total = np.zeros(shape, plane.dtype)
        if p is None:
            np.add.at(total, picks, plane)
            return total
        low, high = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        np.add.at(low, picks, plane & ((1 << 25) - 1))
        np.add.at(high, picks, plane >> 25)
        return (mulmod(high % p, np.int64(1 << 25), p) + low) % p

    plane = added(_number(values.real), None)
    if values.residues is None:
        return Value(plane, None)
    return Value(plane, {k: added(r, PRIMES[k]) for k, r in values.residues.items()})


RULES: dict[str, Callable[..., Value]] = {
    "input": _leaf,
    "parameter": _leaf,
    "state": _leaf,
    "random": _leaf,
    "constant": _constant,
    "size": _size,
    "iota": _iota,
    "map": _map,
    "contract": _contract,
    "reduce": _reduce,
    "reindex": _reindex,
    "reshape": _reshape,
    "gather": _gather,
    "scatter": _scatter,
}


def run(
    outputs: Sequence[Expr], context: Context, given: dict[int, Value] | None = None
) -> list[Value]:
    """The outputs (of primitive ops) at the point of the context; `given` values by node id."""
    order = toposort(outputs)
    walk = Walk(context, order)
    found: dict[int, Value] = dict(given or {})
    with np.errstate(all="ignore"):
        _evaluate(walk, [n for n in order if not n.free], found, {id(y) for y in outputs})
    return [found[id(y)] for y in outputs]


def _evaluate(walk: Walk, order: Sequence[Expr], found: dict[int, Value], keep: set[int]) -> None:
    """Add the values of nodes in order; what was last used is dropped unless it is to be kept."""
    reads = [_operands(walk, node) for node in order]
    last_use = {id(a): i for i, operands in enumerate(reads) for a in operands}
    for i, (node, operands) in enumerate(zip(order, reads)):
        if id(node) not in found and isinstance(node, Scan):
            found.update(_repeat(walk, walk.loops[node.loop], found))
        elif id(node) not in found:
            found[id(node)] = RULES[node.kind](walk, node, [found[id(a)] for a in operands])
        for a in operands:
            if last_use[id(a)] == i and id(a) not in keep:
                found.pop(id(a), None)


def _operands(walk: Walk, node: Expr) -> Sequence[Expr]:
    if isinstance(node, Scan):
        return [*node.sequences, *node.initials, *captured(walk.loops[node.loop])]
    return node.args


def _repeat(walk: Walk, results: list[Scan], found: dict[int, Value]) -> dict[int, Value]:
    """All results of a loop, step by step."""
    loop, order = results[0].loop, body(results)
    steps = range(value(loop.length, walk.context.dims))
    carries = [found[id(e)] for e in loop.initials]
    stacks: dict[int, list[Value]] = {id(n): [] for n in results if n.output is not None}
    outside = {id(e): found[id(e)] for e in captured(results)}
    keep = {id(e) for e in (*loop.news, *(n.output for n in results if n.output is not None))}
    for t in steps[::-1] if loop.reverse else steps:
        slices = [found[id(e)].each(lambda plane: plane[t]) for e in loop.sequences]  # noqa: B023
        inner = dict(outside)
        inner.update(zip(map(id, loop.slots), [*slices, *carries]))
        _evaluate(walk, order, inner, keep | outside.keys())
        carries = [inner[id(e)] for e in loop.news]
        for n in results:
            if n.output is not None:
                stacks[id(n)].append(inner[id(n.output)])
    made = {}
    for n in results:
        if n.position is not None:
            made[id(n)] = carries[n.position]
        else:
            parts = stacks[id(n)]
            made[id(n)] = _stacked(walk, parts[::-1] if loop.reverse else parts)
    return made


def _stacked(walk: Walk, parts: list[Value]) -> Value:
    """Along a new leading axis, at the levels that all are known at."""
    context = walk.context
    plane = np.stack([np.asarray(v.real) for v in parts])
    if all(v.residues is None for v in parts):
        return Value(plane, None)
    tower = context.tower
    return Value(
        plane, {k: np.stack([v.residue(k, tower) for v in parts]) for k in context.common(*parts)}
    )


def hints(outputs: Sequence[Expr]) -> tuple[float, ...]:
    """Magnitudes of the scalar constants: a function may change its behaviour there."""
    found: set[float] = set()
    for node in toposort(outputs):
        if isinstance(node, Constant) and dtypes.is_float(node.dtype):
            number = node.scalar
            if number is not None and 1e-3 < abs(number) < HINT_LIMIT:
                found.add(abs(float(number)))
    return tuple(sorted(found))


def random_dims(outputs: Sequence[Expr], seed: int) -> dict[str, int]:
    """A small value for every run-time size, another for every seed."""
    dims: dict[str, Dim] = {}
    for node in toposort(outputs):
        sizes = [node.attrs[0]] if isinstance(node, SizeOf) else node.shape
        dims.update({s.name: s for s in sizes if isinstance(s, Dim)})
    choices = (3, 2, 5, 1)
    return {
        name: min(d.max, choices[(seed + text_key(name)) % len(choices)])
        for name, d in sorted(dims.items())
    }
