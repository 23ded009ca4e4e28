"""Derivatives: expressions in, expressions out.

    grad  value_and_grad                reverse mode: all gradients of a scalar in one joint sweep
    vjp  jvp                            products with a Jacobian, from the left and from the right
    hvp                                 a Hessian times a direction, forward over reverse
    jacobian  hessian                   whole matrices, by one sweep with the identity as tangent
    stop_gradient  custom_gradient      the identity without a derivative; a derivative of your own

`wrt` may be any float expression of the graph, an intermediate one too; a list or a dict of them
gives a list or a dict of results. What comes out is an ordinary expression: differentiate it again,
print it, compile it.

>>> x, W = Input("x", (4, 3)), Parameter("W", (3, 2))
>>> grad((x @ W).sum(), W).shape
(3, 2)
"""

from __future__ import annotations

import functools
import warnings
from typing import Any, Callable, Sequence
from weakref import WeakValueDictionary

import numpy as np

from symgrad import source
from symgrad.derive.algebra import (
    cast,
    constant,
    identity,
    is_float,
    spread,
    transpose,
    zeros,
)
from symgrad.derive.forward import push
from symgrad.derive.reverse import cotangents
from symgrad.errors import DisconnectedWarning, GraphError
from symgrad.node import Constant, Custom, Expr, Input, Map, toposort
from symgrad.rewrite import stabilised
from symgrad.rewrite.engine import substitute
from symgrad.sizes import Shape, maximum, show

Form = Any  # one expression, or a list, tuple or dict of forms


# -- forms: one expression, a list, a dict ---------------------------------------------------------
def _leaves(form: Form) -> list[Any]:
    """The members of a form in order."""
    if isinstance(form, (list, tuple)):
        return [e for part in form for e in _leaves(part)]
    if isinstance(form, dict):
        return [e for part in form.values() for e in _leaves(part)]
    return [form]


def _like(form: Form, values: list[Any]) -> Form:
    """`values` in the form of `form`; consumes the list from the front."""
    if isinstance(form, (list, tuple)):
        parts = [_like(part, values) for part in form]
        return parts if isinstance(form, list) else tuple(parts)
    if isinstance(form, dict):
        return {key: _like(part, values) for key, part in form.items()}
    return values.pop(0)


def _matched(what: str, form: Form, given: Form) -> list[Any]:
    """The members of `given`, which has the form of `form` (the same keys, the same lengths)."""
    if isinstance(form, dict) and isinstance(given, dict):
        if set(form) == set(given):
            return [e for key in form for e in _matched(what, form[key], given[key])]
    elif isinstance(form, (list, tuple)) and isinstance(given, (list, tuple)):
        if len(form) == len(given):
            return [e for a, b in zip(form, given) for e in _matched(what, a, b)]
    elif not isinstance(form, (dict, list, tuple)):
        return [given]
    raise GraphError(
        f"{what}: expected one for every expression, in the same form" + source.quote(source.here())
    )


# -- checks ----------------------------------------------------------------------------------------
def _float_expression(what: str, e: Any) -> Expr:
    if not isinstance(e, Expr):
        raise GraphError(
            f"{what} must be an expression, got {type(e).__name__} {e!r}"
            + source.quote(source.here())
        )
    if not is_float(e):
        raise GraphError(
            f"{what} must be float to have a derivative, {e.name!r} is {e.dtype}"
            + source.quote(e.where)
        )
    return e


def target_leaves(what: str, wrt: Form) -> list[Expr]:
    """The members of a form of what to differentiate by, checked."""
    return [_float_expression(f"{what}: what to differentiate by", e) for e in _leaves(wrt)]


def scalar_loss(what: str, loss: Any) -> Expr:
    """A loss that has a gradient; GraphError where it is none."""
    loss = _float_expression(f"{what}: the loss", loss)
    if loss.shape != ():
        raise GraphError(
            f"{what}: the loss must be a scalar, {loss.name!r} has shape {show(loss.shape)}; "
            "take its sum or mean" + source.quote(loss.where)
        )
    return loss


def _vector(what: str, value: Any, like: Expr) -> Expr:
    """A tangent or cotangent: an expression, array or number that fits `like`."""
    if not isinstance(value, Expr):
        try:
            value = Constant.of(np.asarray(value, like.dtype))
        except (TypeError, ValueError):
            raise GraphError(
                f"{what} of {like.name!r} must be an expression, an array or a number, got "
                f"{type(value).__name__}" + source.quote(source.here())
            ) from None
    if not is_float(value):
        value = cast(value, like.dtype)
    if value.shape == () and like.shape != ():
        value = spread(value, (), like.shape)
    if value.shape != like.shape:
        raise GraphError(
            f"{what} of {like.name!r} must have its shape {show(like.shape)}, got "
            f"{show(value.shape)}" + source.quote(source.here())
        )
    return cast(value, like.dtype)


def _label(outputs: Sequence[Expr]) -> str:
    return " and ".join(repr(y.name) for y in outputs[:3])


def _warn_disconnected(outputs: Sequence[Expr], target: Expr) -> None:
    depends = any(e is target for e in toposort(outputs))
    why = (
        "depends on it only through operations without a derivative"
        if depends
        else "does not depend on it"
    )
    warnings.warn(
        f"the derivative by {target.name!r} {show(target.shape)} is zero: {_label(outputs)} {why}"
        + source.quote(source.here()),
        DisconnectedWarning,
        stacklevel=_user_level(),
    )


def _user_level() -> int:
    """The stack level of the user's own frame, so that a warning points there."""
    import sys

    level, frame, where = 1, sys._getframe(1), source.here()
    while frame.f_back is not None and frame.f_code.co_filename != where.file:
        level, frame = level + 1, frame.f_back
    return level


# -- reverse mode ----------------------------------------------------------------------------------
def _pull(outputs: Sequence[tuple[Expr, Expr]], targets: Sequence[Expr]) -> list[Any]:
    """The cotangent of each target, zeros with a warning where there is none."""
    stable, sources = stabilised([y for y, _ in outputs], targets)
    found = cotangents([(y, c) for y, (_, c) in zip(stable, outputs)], sources)
    results = []
    for target, by in zip(targets, sources):
        result = found.get(id(by))
        if result is None:
            _warn_disconnected([y for y, _ in outputs], target)
            result = zeros(target.shape, target.dtype)
        results.append(result)
    return results


def _seeded(loss: Expr) -> tuple[Expr, Expr]:
    """A scalar and its own cotangent, 1."""
    with source.at(loss.where):
        return loss, constant(1, loss.dtype)


def grad(loss: Expr, wrt: Form) -> Form:
    """The gradient of a scalar by `wrt`: an expression, or a list or dict of them."""
    loss, targets = scalar_loss("grad", loss), target_leaves("grad", wrt)
    return _like(wrt, _pull([_seeded(loss)], targets))


def value_and_grad(loss: Expr, wrt: Form) -> tuple[Expr, Form]:
    """The loss itself and its gradient."""
    return loss, grad(loss, wrt)


def vjp(y: Form, x: Form, cotangent: Form) -> Form:
    """The cotangent of `x` from that of `y`: `cotangent @ J`, in the form of `x`."""
    outputs = [_float_expression("vjp: what is differentiated", e) for e in _leaves(y)]
    targets = target_leaves("vjp", x)
    given = _matched("vjp: the cotangent", y, cotangent)
    pairs = [(e, _vector("vjp: the cotangent", c, e)) for e, c in zip(outputs, given)]
    return _like(x, _pull(pairs, targets))


# -- forward mode ----------------------------------------------------------------------------------
def _push(
    outputs: Sequence[Expr],
    targets: Sequence[Expr],
    seeds: Sequence[Expr],
    lead: int,
    related: bool = True,
) -> list[Any]:
    """The tangent of each output, zeros where there is none.

    Warns of a target that no output depends on if they are expected to be `related`, and in any
    case when every tangent is zero.
    """
    stable, sources = stabilised(outputs, targets)
    joined: dict[int, Expr] = {}
    for by, seed in zip(sources, seeds):
        before = joined.get(id(by))
        joined[id(by)] = seed if before is None else Map.of("add", before, seed)
    tangents = push(stable, joined, lead)
    reached = {id(e) for e in toposort(outputs)} if related else {id(t) for t in targets}
    for target in targets:
        if id(target) not in reached or all(t is None for t in tangents):
            _warn_disconnected(outputs, target)
    return [
        zeros(seeds[0].shape[:lead] + y.shape, y.dtype) if t is None else t
        for y, t in zip(outputs, tangents)
    ]


def jvp(y: Form, x: Form, tangent: Form) -> Form:
    """The tangent of `y` when `x` moves along `tangent`: `J @ tangent`, in the form of `y`."""
    outputs = [_float_expression("jvp: what is differentiated", e) for e in _leaves(y)]
    targets = target_leaves("jvp", x)
    given = _matched("jvp: the tangent", x, tangent)
    seeds = [_vector("jvp: the tangent", v, e) for e, v in zip(targets, given)]
    return _like(y, _push(outputs, targets, seeds, 0))


def hvp(loss: Expr, w: Form, v: Form) -> Form:
    """The Hessian of a scalar times a direction: the gradient, pushed forward along `v`."""
    loss, targets = scalar_loss("hvp", loss), target_leaves("hvp", w)
    given = _matched("hvp: the direction", w, v)
    seeds = [_vector("hvp: the direction", d, e) for e, d in zip(targets, given)]
    gradients = _pull([_seeded(loss)], targets)
    # a loss may well be linear in some of its parameters, not in all of them
    return _like(w, _push(gradients, targets, seeds, 0, related=False))


# -- whole matrices --------------------------------------------------------------------------------
def _elements(shape: Shape) -> int:
    count = 1
    for size in shape:
        count *= maximum(size)
    return count


def _jacobian(y: Expr, x: Expr) -> Expr:
    """`d y[i..] / d x[j..]` at [i.., j..], by the cheaper of the two directions."""
    if _elements(x.shape) <= _elements(y.shape):
        columns = _push([y], [x], [identity(x.shape, x.dtype)], x.ndim)[0]
        return transpose(columns, [*range(x.ndim, x.ndim + y.ndim), *range(x.ndim)])
    # the rows: the pullback is linear in the cotangent, so pushing the identity through it gives
    # every row, and the placeholder itself drops out
    row = Input("cotangent", y.shape, y.dtype)
    (y,), (x,) = stabilised([y], [x])
    pulled = cotangents([(y, row)], [x]).get(id(x))
    if pulled is None:
        _warn_disconnected([y], x)
        return zeros(y.shape + x.shape, x.dtype)
    rows = push([pulled], {id(row): identity(y.shape, y.dtype)}, y.ndim)[0]
    order = [] if rows is None else toposort([rows])
    linear = not any(isinstance(e, Custom) for e in toposort([pulled]))
    if rows is not None and linear and any(e is row for e in order):
        # what a loop over cotangents computes beside them does not depend on these
        (rows,) = substitute([rows], {row: zeros(row.shape, row.dtype)})
        order = []
    if rows is None or any(e is row for e in order):
        raise GraphError(
            "jacobian: a custom_gradient rule is not linear in its cotangent"
            + source.quote(y.where)
        )
    return rows


def jacobian(y: Expr, x: Form) -> Form:
    """The Jacobian, of shape `y.shape + x.shape`; a list or dict `x` gives one for each."""
    y = _float_expression("jacobian: what is differentiated", y)
    return _like(x, [_jacobian(y, target) for target in target_leaves("jacobian", x)])


def hessian(loss: Expr, w: Form) -> Form:
    """The second derivatives, of shape `w.shape + w.shape`; for a list or dict, one such form per
    member: `hessian(loss, [a, b])[0][1]` is the derivative by a and then by b."""
    loss, targets = scalar_loss("hessian", loss), target_leaves("hessian", w)
    gradients = _pull([_seeded(loss)], targets)
    with warnings.catch_warnings():  # a mixed derivative that is zero is no surprise
        warnings.simplefilter("ignore", DisconnectedWarning)
        rows = [_like(w, [_jacobian(g, target) for target in targets]) for g in gradients]
    return _like(w, rows)


# -- derivatives of the user's own -----------------------------------------------------------------
def stop_gradient(e: Any) -> Expr:
    """`e` itself, a constant to every derivative."""
    if not isinstance(e, Expr):
        e = Constant.of(e)
    return Map.of("stop_gradient", e) if is_float(e) else e


def custom_gradient(
    function: Callable[..., Any], rule: Callable[..., Any] | None = None
) -> Callable[..., Expr]:
    """A function of expressions with a derivative of your own.

    As a decorator, `function(*args)` returns the value and a rule that takes the cotangent of the
    value to the cotangents of the arguments (one expression, or a tuple with one per argument):

    >>> @custom_gradient
    ... def clipped_identity(x):
    ...     return x, lambda ct: clip(ct, -1, 1)

    Called as `custom_gradient(function, rule)`, `function(*args)` returns the value alone and
    `rule(cotangent, *args)` the cotangents. Arguments that are no expressions are passed on as
    they are and have no cotangent; a rule gives None for an argument without a derivative.
    Forward mode (jvp, hvp, jacobian) works as well if the rule is linear in the cotangent.
    """
    made: WeakValueDictionary[Any, Custom] = WeakValueDictionary()

    def evaluate(args: Sequence[Any]) -> tuple[Expr, Callable[..., Any]]:
        if rule is not None:
            return function(*args), lambda cotangent: rule(cotangent, *args)
        pair = function(*args)
        if not isinstance(pair, tuple) or len(pair) != 2 or not callable(pair[1]):
            raise GraphError(
                f"custom_gradient: {_name(function)} must return (value, rule)"
                + source.quote(source.here())
            )
        return pair

    @functools.wraps(function)
    def call(*args: Any) -> Expr:
        positions = [k for k, a in enumerate(args) if isinstance(a, Expr)]
        key = tuple(("expr", id(a)) if isinstance(a, Expr) else (type(a), _key(a)) for a in args)
        found = made.get(key)  # its operands live as long as it does, so the ids are still theirs
        if found is not None:
            return found
        value, own_rule = evaluate(args)
        if not isinstance(value, Expr):
            raise GraphError(
                f"custom_gradient: {_name(function)} must return an expression, got "
                f"{type(value).__name__}" + source.quote(source.here())
            )

        def apply(cotangent: Expr, *now: Expr) -> Any:
            """The rule on the arguments as they are now: rewriting may have replaced them."""
            if all(args[k] is a for k, a in zip(positions, now)):
                parts = own_rule(cotangent)
            else:
                current = list(args)
                for k, a in zip(positions, now):
                    current[k] = a
                parts = evaluate(current)[1](cotangent)
            parts = tuple(parts) if isinstance(parts, (list, tuple)) else (parts,)
            if len(parts) == len(args) != len(positions):
                parts = tuple(parts[k] for k in positions)
            return parts

        node = Custom.of(apply, value, *(args[k] for k in positions))
        made[key] = node
        return node

    return call


def _key(value: Any) -> Any:
    """What identifies an argument that is no expression."""
    try:
        hash(value)
    except TypeError:
        return ("id", id(value))  # alive as long as the node, whose rule holds it
    return value


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", repr(function))
