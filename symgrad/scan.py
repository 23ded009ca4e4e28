"""`sg.scan`: a function applied again and again, with values carried from one step to the next.

In: a body `(carry, slices) -> (new carry, output)`, the first carry, sequences. Out: the last carry
and the outputs of every step. The body is called once, with placeholders, to see what it computes;
derivatives go through the steps like through everything else.

>>> xs = input("xs", (10,))
>>> total, running = scan(lambda c, x: (c + x, c + x), 0.0, xs)
>>> total.shape, running.shape
((), (10,))
"""

from __future__ import annotations

import inspect
from typing import Any, Callable

from symgrad import dtypes, source
from symgrad.errors import DTypeError, InputError, ShapeError
from symgrad.loop import Loop, Scan
from symgrad.node import Expr, Slot
from symgrad.ops import core
from symgrad.sizes import Dim, Size, show

Form = Any  # an expression, None, or a list, tuple or dict of forms

_depth = 0  # of the bodies being built


def scan(
    body: Callable[[Any, Any], tuple[Any, Any]],
    carry: Form,
    sequences: Form = (),
    length: Size | None = None,
    reverse: bool = False,
) -> tuple[Form, Form]:
    """Run `carry, output = body(carry, slices)` for every step.

    `sequences` are cut along their leading axes, which all have one size; `length` gives the number
    of steps where there are none, an int or a run-time size. Each of carry, sequences and output is
    one expression, or a list, tuple or dict of them; an output may be None. Returns the carry after
    the last step, and the outputs of all steps stacked along a new leading axis. With `reverse` the
    steps go from the last slice to the first; outputs lie where the slices lay.

        c_{t+1}, y_t = body(c_t, x_t)  for t = 0 .. T-1,  c_0 = carry;  gives c_T, [y_0 .. y_{T-1}]

    The body may use anything from outside: parameters are shared by all steps, and random numbers
    are drawn once for all steps. The new carry has the form, shapes and dtypes of the carry.
    As in `jax.lax.scan`. ShapeError, DTypeError and InputError for what does not fit.

    >>> W, h0 = parameter("W", (4, 4)), np.zeros((2, 4), "float32")
    >>> h, hs = scan(lambda h, x: (tanh(x + h @ W),) * 2, h0, input("x", (7, 2, 4)))
    >>> h.shape, hs.shape
    ((2, 4), (7, 2, 4))
    """
    cut = [core.as_expr("scan: a sequence", e) for e in leaves(sequences)]
    steps = _length(cut, length)
    given = leaves(carry)
    first = [core.as_expr("scan: the carry", e) for e in given]
    of_carry, of_slice = _arguments(body)
    names = [*_names(sequences, of_slice), *_names(carry, of_carry)]
    for _ in range(len(first) + 1):  # one dtype may follow from the other
        slots = _slots(names, cut, first)
        news, outputs = _build(body, slots, carry, sequences, first)
        wider = [_widened(g, f, n) for g, f, n in zip(given, first, news)]
        if all(a is b for a, b in zip(wider, first)):
            break
        first = wider
    _check(slots[len(cut) :], news)
    loop = Loop(slots, cut, first, news, steps, bool(reverse))
    finals = [Scan.final(loop, k) for k in range(len(first))]
    stacks = [Scan.stacked(loop, e) for e in leaves(outputs)]
    return rebuild(carry, iter(finals)), rebuild(outputs, iter(stacks))


# -- forms -----------------------------------------------------------------------------------------
def leaves(form: Form) -> list[Any]:
    """The members of a form in order; None has none."""
    if form is None:
        return []
    if isinstance(form, (list, tuple)):
        return [e for part in form for e in leaves(part)]
    if isinstance(form, dict):
        return [e for part in form.values() for e in leaves(part)]
    return [form]


def rebuild(form: Form, values: Any) -> Form:
    """The values of an iterator in a form."""
    if form is None:
        return None
    if isinstance(form, (list, tuple)):
        parts = [rebuild(part, values) for part in form]
        if hasattr(form, "_fields"):
            return type(form)(*parts)
        return parts if isinstance(form, list) else tuple(parts)
    if isinstance(form, dict):
        return {key: rebuild(part, values) for key, part in form.items()}
    return next(values)


def _matched(form: Form, given: Form) -> list[Any]:
    """The members of a new carry, in the form of the carry."""
    if isinstance(form, dict) and isinstance(given, dict) and set(form) == set(given):
        return [e for key in form for e in _matched(form[key], given[key])]
    if isinstance(form, (list, tuple)) and isinstance(given, (list, tuple)):
        if len(form) == len(given):
            return [e for a, b in zip(form, given) for e in _matched(a, b)]
    elif form is None and given is None:
        return []
    elif not isinstance(form, (dict, list, tuple)) and not isinstance(given, (dict, list, tuple)):
        if form is not None and given is not None:
            return [given]
    raise InputError(
        "scan: the body must return the carry in the form it was given, "
        f"{_described(form)}, got {_described(given)}" + core.here()
    )


def _described(form: Form) -> str:
    if isinstance(form, dict):
        return "{" + ", ".join(f"{k!r}: {_described(v)}" for k, v in form.items()) + "}"
    if isinstance(form, (list, tuple)):
        inner = ", ".join(map(_described, form))
        return f"[{inner}]" if isinstance(form, list) else f"({inner})"
    return "None" if form is None else "one expression"


def _names(form: Form, name: str) -> list[str]:
    """A name for every member: its key, or the name of the whole and its position."""
    if form is None:
        return []
    if isinstance(form, dict):
        pairs = [(str(key), part) for key, part in form.items()]
    elif isinstance(form, (list, tuple)):
        pairs = [(f"{name}{i}", part) for i, part in enumerate(form)]
    else:
        return [name]
    return [n for key, part in pairs for n in _names(part, key)]


def _widened(given: Any, first: Expr, new: Expr) -> Expr:
    """The first value of a carry: a plain number takes the dtype that the body gives it."""
    plain = not isinstance(core.strong("scan", given), Expr)  # as operators see it
    if not plain or dtypes.promote([first.dtype, new.dtype]) == first.dtype:
        return first
    return core.cast(given, new.dtype)


# -- building --------------------------------------------------------------------------------------
def _length(cut: list[Expr], length: Size | None) -> Size:
    """The number of steps, which everything agrees about."""
    if length is not None and (isinstance(length, bool) or not isinstance(length, (int, Dim))):
        raise ShapeError(f"scan: length must be an int or sg.dim, got {length!r}" + core.here())
    found = length
    for e in cut:
        if not e.shape:
            raise ShapeError(
                f"scan: a sequence needs a leading axis to go along, {e.name!r} has shape ()"
                + core.here()
            )
        if found is None:
            found = e.shape[0]
        elif e.shape[0] != found:
            rest = " and ".join(show(s.shape) for s in cut)
            what = f"length is {length}" if length is not None else "lengths differ"
            raise ShapeError(f"scan: {what}, sequences of shapes {rest}" + core.here())
    if found is None:
        raise ShapeError("scan: without sequences it needs a length" + core.here())
    if isinstance(found, int) and found < 1:
        raise ShapeError(f"scan: it needs at least one step, the length is {found}" + core.here())
    return found


def _arguments(body: Callable[..., Any]) -> tuple[str, str]:
    """What the body calls carry and slices."""
    code = getattr(body, "__code__", None)
    given = code.co_varnames[: code.co_argcount] if code is not None else ()
    given = given[1:] if inspect.ismethod(body) else given
    carry, slices = [name.strip("_") for name in (*given, "", "")[:2]]
    return carry or "carry", slices or "x"


def _slots(names: list[str], cut: list[Expr], first: list[Expr]) -> tuple[Slot, ...]:
    like = [*((e.shape[1:], e.dtype) for e in cut), *((e.shape, e.dtype) for e in first)]
    return tuple(
        Slot(name, shape, dtype, position, _depth)
        for position, (name, (shape, dtype)) in enumerate(zip(names, like))
    )


def _build(
    body: Callable[[Any, Any], Any],
    slots: tuple[Slot, ...],
    carry: Form,
    sequences: Form,
    first: list[Expr],
) -> tuple[list[Expr], Form]:
    """The body at the placeholders: new carries, and the outputs in their form."""
    global _depth
    count = len(slots) - len(first)
    _depth += 1
    try:
        result = body(rebuild(carry, iter(slots[count:])), rebuild(sequences, iter(slots[:count])))
    finally:
        _depth -= 1
    if not isinstance(result, tuple) or len(result) != 2:
        raise InputError(
            "scan: the body must return a pair, the new carry and the output, got "
            f"{type(result).__name__}" + core.here()
        )
    news = []
    for slot, value in zip(slots[count:], _matched(carry, result[0])):
        news.append(_like(slot, value))
    outputs = [core.as_expr("scan: the output", e) for e in leaves(result[1])]
    return news, rebuild(result[1], iter(outputs))


def _like(slot: Slot, value: Any) -> Expr:
    """A new carry: a number stands for every element, in the dtype of the carry."""
    if isinstance(value, Expr):
        return value
    made = core.cast(core.as_expr("scan: the new carry", value), slot.dtype)
    return core.broadcast(made, slot.shape) if not made.shape else made


def _check(carries: tuple[Slot, ...], news: list[Expr]) -> None:
    for slot, new in zip(carries, news):
        if new.shape != slot.shape:
            raise ShapeError(
                f"scan: {slot.name!r} starts with shape {show(slot.shape)} and the body gives "
                f"{show(new.shape)}" + source.quote(new.where)
            )
        if new.dtype != slot.dtype:
            raise DTypeError(
                f"scan: {slot.name!r} starts as {slot.dtype} and the body gives {new.dtype}"
                + source.quote(new.where)
            )
