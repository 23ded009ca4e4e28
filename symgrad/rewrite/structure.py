"""Normal forms of nodes that no pattern describes well: folding, views, contractions, layouts.

In: one node whose operands are in normal form. Out: a simpler node, or None.

A *view* is a Contract with one operand and nothing summed: a transpose, a broadcast, or both.
Views move towards the outputs (a scalar function is then computed on the smaller operand) and into
the contractions that read them (which then read the operand itself).
"""

from __future__ import annotations

import math
from typing import Any, Sequence

import numpy as np

from symgrad import dtypes
from symgrad.node import Constant, Contract, Expr, Map, Reshape, SizeOf
from symgrad.rewrite.patterns import COMMUTATIVE, tag
from symgrad.sizes import Shape, Size

Operand = tuple[tuple[int, ...], Expr]  # the labels of its axes, and what it is
LARGEST_FOLD = 65536  # elements of an array constant computed while rewriting


# -- scalar functions ---------------------------------------------------------------------------
def order_key(e: Expr) -> tuple[int, int, bytes, int]:
    """Where a commutative function has this operand: constants, 0-d, then the lower tree first."""
    rank = 0 if isinstance(e, Constant) and not e.shape else 1 if not e.shape else 2
    return rank, e.height, e.digest, getattr(e, "order", 0)


def sort_operands(n: Expr) -> Expr | None:
    a, b = n.args
    return Map.of(n.attrs[0], b, a) if order_key(b) < order_key(a) else None


def fold(n: Expr) -> Expr | None:
    """A function of constants is a constant, computed in its own dtype by NumPy."""
    from symgrad.scalar import OPS

    count = math.prod(s for s in n.shape if isinstance(s, int))
    if count > LARGEST_FOLD:
        return None
    numpy = OPS[n.attrs[0]].numpy
    if numpy is None:
        return OPS[n.attrs[0]].expand(*n.args)
    arguments = [a.value for a in n.args if isinstance(a, Constant)]
    with np.errstate(all="ignore"):
        value = numpy(*arguments)
    shape = tuple(s for s in n.shape if isinstance(s, int))
    return Constant.of(np.broadcast_to(np.asarray(value, n.dtype), shape))


def uniform(n: Expr) -> Expr | None:
    """An array of one value everywhere is that value, spread."""
    if not isinstance(n, Constant) or n.value.size < 2 or n.scalar is None:
        return None
    value = n.scalar
    if value == 0 and math.copysign(1, value) < 0 or value != value:
        return None
    return Constant.of(value, n.dtype)  # the engine spreads a 0-d result


def lift_view(n: Expr) -> Expr | None:
    """f(view(a), view(b), s) -> view(f(a, b, s)): on the operands before they are spread."""
    arrays = [a for a in n.args if a.shape]
    if not all(tag(a) == "view" for a in arrays):
        # an operand that spreads a 0-d value among others that do not is that 0-d value
        flat = [_unspread(a) for a in n.args]
        if any(a.shape for a in flat):
            made = Map.of(n.attrs[0], *flat)
            return made if made is not n else None
        return None
    first = arrays[0]
    if all(a.attrs == first.attrs for a in arrays):
        inner = Map.of(n.attrs[0], *[a.args[0] if a.shape else a for a in n.args])
        return _view(inner, first.attrs[1], n.shape)  # type: ignore[arg-type]
    used = sorted({p for a in arrays for p in places(a)})
    if len(used) == n.ndim:
        flat = [_unspread(a) for a in n.args]
        if any(f is not a for f, a in zip(flat, n.args)):
            return Map.of(n.attrs[0], *flat)
        return _lift_order(n, arrays)
    return _lift_partly(n, used)


def _lift_order(n: Expr, arrays: Sequence[Expr]) -> Expr | None:
    """One operand is in another order, the others are spread: put the result in that order."""
    turned = [a for a in arrays if a.args[0].ndim == n.ndim]
    if not turned or any(a.attrs != turned[0].attrs for a in turned):
        return None
    order = places(turned[0])  # axis of the operand -> axis of the result
    shape = turned[0].args[0].shape
    inner = []
    for a in n.args:
        if not a.shape or a.args[0].ndim == n.ndim:
            inner.append(a.args[0] if a.shape else a)
            continue
        inner.append(view_into(a.args[0], [order.index(p) for p in places(a)], shape))
    made = Map.of(n.attrs[0], *inner)
    return Contract.of([order], range(n.ndim), made)


def _lift_partly(n: Expr, used: Sequence[int]) -> Expr:
    """All operands are spread along an axis that none of them has: spread the result instead."""
    shape = tuple(n.shape[p] for p in used)
    inner = []
    for a in n.args:
        if not a.shape:
            inner.append(a)
            continue
        labels = [used.index(p) for p in places(a)]
        x = a.args[0]
        inner.append(x if not x.shape else view_into(x, labels, shape))
    made = Map.of(n.attrs[0], *inner)
    return Contract.of([used], range(n.ndim), made, sizes=dict(enumerate(n.shape)))


def places(view: Expr) -> list[int]:
    """For each axis of a view's operand its axis in the view."""
    where = {k: p for p, k in enumerate(view.attrs[1])}
    return [where[k] for k in view.attrs[0][0]]


def view_into(x: Expr, labels: Sequence[int], shape: Shape) -> Expr:
    """An operand spread into a shape: its axis i becomes axis `labels[i]`."""
    if list(labels) == list(range(len(shape))):
        return x
    return Contract.of([labels], range(len(shape)), x, sizes=dict(enumerate(shape)))


def _view(x: Expr, out: Sequence[int], shape: Shape) -> Expr:
    if not x.shape:
        return x
    return Contract.of([range(x.ndim)], out, x, sizes=dict(zip(out, shape)))


def _unspread(a: Expr) -> Expr:
    if a.shape and tag(a) == "view" and not a.args[0].shape:
        return a.args[0]
    return a


# -- contractions -------------------------------------------------------------------------------
def normal_contract(n: Expr) -> Expr | None:
    """The normal form of one contraction.

    Its operands are no views and no scalars, every index it sums is in some operand, and every
    index of its result is in the operands; what remains is written around it: a product with
    scalars, with operands that need no sum, a view.
    """
    assert isinstance(n, Contract)
    if n.dtype != n.args[0].dtype:
        return None  # it counts truth values
    extents = n.extents
    if len(n.args) == 1 and not n.args[0].args and n.summed:
        if n.out == tuple(k for k in n.ins[0] if extents[k] != 1) and _units(n, extents):
            return Reshape.of(n.args[0], n.shape)
    operands: list[Operand] = []
    scalars: list[Expr] = []
    changed = False
    for labels, arg in zip(n.ins, n.args):
        while tag(arg) == "view" and arg.shape:
            changed = True
            place = dict(zip(arg.attrs[1], labels))
            labels, arg = tuple(place[k] for k in arg.attrs[0][0]), arg.args[0]
        if arg.shape or len(n.args) == 1:
            operands.append((labels, arg))
        else:
            scalars.append(arg)
            changed = True
    if len(operands) == 1 and not operands[0][1].shape:
        if not n.summed and not scalars:  # a 0-d value, spread: nothing to gain but identity
            return n.args[0] if not n.shape else (operands[0][1] if changed else None)
        scalars, operands = [*scalars, operands[0][1]], []
    held = {k for labels, _ in operands for k in labels}
    counted = [extents[k] for k in n.summed if k not in held]
    outer = [k for k in n.out if k not in held]
    kept = set(n.out)
    if len(operands) > 1 and all(set(labels) <= kept for labels, _ in operands):
        return _times(scalars, counted, _elementwise(operands, n.out, n.shape), n)
    loose = [o for o in operands if set(o[0]) <= kept] if len(operands) > 1 else []
    core = [o for o in operands if not any(o is p for p in loose)]
    inner_out = tuple(k for k in n.out if any(k in labels for labels, _ in core))
    if len(core) > 1:
        ordered_core = sorted(core, key=lambda o: _product_key(o, core, n.out))
        changed |= any(a is not b for a, b in zip(core, ordered_core))
        core = ordered_core
    if len(core) > 1 and len({frozenset(labels) for labels, _ in core}) == 1:
        # an elementwise product, then a sum: one pass over memory, no contraction
        labels = core[0][0]
        product = _elementwise(core, labels, tuple(extents[k] for k in labels))
        core, changed = [(labels, product)], True
    if len(core) == 1:  # a sum keeps the order of the axes, a view permutes them
        ((labels, arg),) = core
        ordered = tuple(k for k in labels if k in kept)
        if ordered == labels and ordered == n.out and not scalars and not counted and not loose:
            return arg if arg is not n else None
        if ordered == labels and not (scalars or counted or loose):
            return Contract.of([labels], n.out, arg, sizes=extents) if changed else None
        if ordered != n.out:
            changed = True
        made = arg if ordered == labels else Contract.of([labels], ordered, arg)
        inner_out = ordered
    elif core:
        if not (scalars or counted or outer or loose):
            if not changed:
                return None
            return Contract.of([o[0] for o in core], n.out, *[o[1] for o in core])
        made = Contract.of([o[0] for o in core], inner_out, *[o[1] for o in core])
    else:
        return _times(scalars, counted, None, n)
    if not (changed or scalars or counted or outer or loose):
        return None
    if loose:
        parts = [(inner_out, made), *loose]
        return _times(scalars, counted, _elementwise(parts, n.out, n.shape), n)
    if scalars or counted:
        made = _times(scalars, counted, made, n)
    if inner_out == n.out:
        return made
    return Contract.of([inner_out], n.out, made, sizes=extents)


def _units(n: Contract, extents: dict[int, Size]) -> bool:
    return all(extents[k] == 1 for k in n.summed)


def _product_key(
    operand: Operand, among: Sequence[Operand], out: Sequence[int]
) -> tuple[int, tuple[int, int, bytes, int]]:
    """Operands in the order of the result's axes that they alone have: `x @ W`, not `W, x`."""
    others = {k for o in among if o is not operand for k in o[0]}
    own = [p for p, k in enumerate(out) if k in operand[0] and k not in others]
    return (own[0] if own else len(out)), order_key(operand[1])


def _elementwise(parts: Sequence[Operand], out: Sequence[int], shape: Shape) -> Expr:
    """The product of operands that need no sum, as multiplications of views."""
    result: Expr | None = None
    for labels, arg in parts:
        seen = arg
        if tuple(labels) != tuple(out):
            seen = Contract.of([labels], out, arg, sizes=dict(zip(out, shape)))
        result = seen if result is None else Map.of("mul", result, seen)
    assert result is not None
    return result


def _times(scalars: Sequence[Expr], counted: Sequence[Size], made: Expr | None, n: Expr) -> Expr:
    """The product of scalars and sizes with `made`."""
    factors = [*scalars]
    constant = 1
    for size in counted:
        if isinstance(size, int):
            constant *= size
        else:
            factors.append(SizeOf.of(size, n.dtype))
    if constant != 1:
        factors.append(Constant.of(constant, n.dtype))
    result = made
    product: Expr | None = None
    for f in factors:
        product = f if product is None else Map.of("mul", product, f)
    if product is not None:
        result = product if result is None else Map.of("mul", product, result)
    return Constant.of(1, n.dtype) if result is None else result


def merge_sums(n: Expr) -> Expr | None:
    """sum(sum(x)) -> sum(x), over the axes of both."""
    inner = n.args[0]
    kept = inner.attrs[1]
    return Contract.of(inner.attrs[0], [kept[p] for p in n.attrs[1]], inner.args[0])


def aligned(S: Expr, B: Expr | None) -> bool:
    """Whether B spreads what S sums back along the summed axes (as `keepdims` does)."""
    if B is None:
        return not S.shape
    return bool(
        S.shape
        and B.shape == S.args[0].shape
        and [B.attrs[1].index(k) for k in B.attrs[0][0]] == list(S.attrs[1])
    )


def spread_sum(S: Expr) -> Any:
    """The attributes of the view that `aligned` asks for: a function of what S summed."""
    shape = S.args[0].shape

    def back(x: Expr) -> Expr:
        if not x.shape:
            return x
        return Contract.of([S.attrs[1]], range(len(shape)), x, sizes=dict(enumerate(shape)))

    return back


def summed_axes(S: Expr) -> tuple[int, ...]:
    return tuple(k for k in range(S.args[0].ndim) if k not in S.attrs[1])


def count(S: Expr) -> list[Size]:
    """The sizes of the axes that a sum sums."""
    return [S.args[0].shape[k] for k in summed_axes(S)]


# -- layout -------------------------------------------------------------------------------------
def normal_reshape(n: Expr) -> Expr | None:
    """Reshapes merge; one that only adds axes of size 1 is a view, and takes them off a view."""
    x = n.args[0]
    if isinstance(x, Reshape):
        return Reshape.of(x.args[0], n.shape)
    added = _added_units(x.shape, n.shape)
    if added is not None:
        return view_into(x, [p for p in range(n.ndim) if p not in added], n.shape)
    removed = _added_units(n.shape, x.shape)
    if removed is not None and tag(x) == "view":
        if not set(places(x)) & set(removed):
            left = [p for p in range(x.ndim) if p not in removed]
            inner = x.args[0]
            return view_into(inner, [left.index(p) for p in places(x)], n.shape)
    if tag(x) == "view" and not x.args[0].shape:
        return x.args[0]  # every element is one 0-d value
    return None


def _added_units(shape: Shape, longer: Shape) -> list[int] | None:
    """The axes of size 1 that make `longer` out of `shape`, None when that is not so."""
    added, i = [], 0
    for p, size in enumerate(longer):
        if i < len(shape) and shape[i] == size and (size != 1 or len(longer) - p <= len(shape) - i):
            i += 1
        elif size == 1 and isinstance(size, int):
            added.append(p)
        else:
            return None
    return added if i == len(shape) and added else None


def is_commutative_map(signature: tuple[str, ...]) -> bool:
    return signature[0] in COMMUTATIVE


def is_float_node(n: Expr) -> bool:
    return dtypes.is_float(n.dtype)
