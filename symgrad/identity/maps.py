"""Scalar functions on values: NumPy or mpmath on the real plane, field laws on the residues.

In: the name of a primitive op and values of one shape. Out: a value. Comparisons, choices and
roundings are decided by the real plane (residues settle ties exactly); add, sub, mul, div and
whole powers are exact in the fields; exp and the functions made of it (sinh, cosh, tanh, expm1, by
Euler sin, cos, tan) keep their laws through the tower; log is the discrete logarithm. The others
(erf, sqrt, inverse circular functions, powers of variable exponent) are atoms: unknown functions
with random but consistent values.

>>> apply(context, "exp", [v]).residues
"""

from __future__ import annotations

import math
from typing import Any, Callable, Sequence

import numpy as np

from symgrad.identity.field import PRIMES, invmod, mulmod, powmod
from symgrad.identity.values import Array, Context, Value

LIFTS = ("exp", "expm1", "sinh", "cosh", "tanh", "sin", "cos", "tan")  # result one level higher
DROPS = ("log", "log1p")  # result one level lower
ODD = ("erf", "asin", "atan")


# -- the real plane --------------------------------------------------------------------------------
def _mp_functions() -> dict[str, Callable[..., Any]]:
    import mpmath as mp

    nan = mp.mpf("nan")

    def guarded(f: Callable[..., Any]) -> Callable[..., Any]:
        def call(*xs: Any) -> Any:
            try:
                value = f(*xs)
            except (ZeroDivisionError, ValueError, OverflowError):
                return nan
            return value if isinstance(value, mp.mpf) else nan  # a complex value is out of domain

        return call

    named = {
        "add": lambda a, b: a + b,
        "sub": lambda a, b: a - b,
        "mul": lambda a, b: a * b,
        "div": _mp_divide,
        "neg": lambda a: -a,
        "abs": abs,
        "pow": lambda a, b: mp.exp(_bounded(b * mp.log(a))) if a > 0 else mp.power(a, b),
        "sqrt": mp.sqrt,
        "floor": mp.floor,
        "ceil": mp.ceil,
        "round": mp.nint,
        "trunc": lambda a: mp.floor(a) if a >= 0 else mp.ceil(a),
        "log1p": lambda a: mp.log(1 + a),
        "log": lambda a: mp.log(a) if a else -mp.inf,
        "mod": lambda a, b: a - b * mp.floor(a / b),
        "floor_divide": lambda a, b: mp.floor(a / b),
    }
    for name in "sin cos tan asin acos atan atan2 erf".split():
        named[name] = getattr(mp, name)
    for name in "exp expm1 sinh cosh tanh".split():
        named[name] = _of_bounded(getattr(mp, name))
    return {name: guarded(f) for name, f in named.items()}


def _bounded(x: Any) -> Any:
    """An exponent beyond which exp would take all memory is infinite."""
    import mpmath as mp

    return x if abs(x) < 1e9 or mp.isnan(x) else (mp.inf if x > 0 else -mp.inf)


def _of_bounded(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x: f(_bounded(x))


def _mp_divide(a: Any, b: Any) -> Any:
    import mpmath as mp

    if b == 0:
        return mp.nan if a == 0 or mp.isnan(a) else (mp.inf if a > 0 else -mp.inf)
    return a / b


_mp: dict[str, Callable[..., Any]] = {}


def _numpy(op: str) -> Callable[..., Any]:
    if op == "erf":
        return np.vectorize(math.erf, otypes=[np.float64])
    names = {
        "sub": "subtract",
        "mul": "multiply",
        "div": "true_divide",
        "neg": "negative",
        "asin": "arcsin",
        "acos": "arccos",
        "atan": "arctan",
        "atan2": "arctan2",
        "pow": "power",
        "round": "rint",
    }
    return getattr(np, names.get(op, op))  # type: ignore[no-any-return]


def real(context: Context, op: str, planes: Sequence[Array]) -> Array:
    """The op on real planes: whole numbers stay whole, others are float64 or mpf."""
    if not context.digits:
        with np.errstate(all="ignore"):
            return _numpy(op)(*planes)
    if not _mp:
        _mp.update(_mp_functions())
    result = np.frompyfunc(_mp[op], len(planes), 1)(*map(to_mp, planes))
    return np.asarray(result, object)


def to_mp(plane: Array) -> Array:
    import mpmath as mp

    plane = np.asarray(plane)
    if plane.dtype == object:
        return plane
    return np.asarray(
        np.frompyfunc(lambda e: mp.mpf(e.item() if hasattr(e, "item") else e), 1, 1)(plane), object
    )


def as_float(plane: Array) -> Array:
    """A float64 copy of a real plane, to decide with."""
    return np.asarray(plane, np.float64)


# -- comparisons, choices, roundings ---------------------------------------------------------------
def _whole(plane: Array) -> Value:
    return Value(np.asarray(plane), None)


def _doubt(context: Context, a: Value, b: Value, same: Array) -> None:
    """A comparison that the real values cannot decide makes differences no proof."""
    if not context.modular or (a.residues is None and b.residues is None):
        return
    x, y = as_float(a.real), as_float(b.real)
    with np.errstate(invalid="ignore"):
        near = np.abs(x - y) <= 1e-9 * np.maximum(np.abs(x), np.abs(y))
    if np.any(~same & (near | ~np.isfinite(x) | ~np.isfinite(y))):
        context.exact = False


def compare(context: Context, op: str, a: Value, b: Value) -> Value:
    same = np.asarray(context.same(a, b), bool)
    _doubt(context, a, b, same)
    with np.errstate(invalid="ignore"):
        below, above = a.real < b.real, a.real > b.real
    nan = (a.real != a.real) | (b.real != b.real)
    answer = {
        "equal": same,
        "not_equal": ~same | nan,
        "less": below & ~same,
        "less_equal": below | same,
        "greater": above & ~same,
        "greater_equal": above | same,
    }[op]
    return _whole(np.asarray(answer, bool))


def choose(context: Context, mask: Array, a: Value, b: Value) -> Value:
    """`a` where the mask holds, `b` elsewhere."""
    mask = np.asarray(mask, bool)
    plane = np.where(mask, a.real, b.real)
    if a.residues is None and b.residues is None:
        return Value(plane, None)
    levels = context.common(a, b)
    pairs = {k: (a.residue(k, context.tower), b.residue(k, context.tower)) for k in levels}
    return Value(plane, {k: np.where(mask, x, y) for k, (x, y) in pairs.items()})


def _extreme(context: Context, op: str, a: Value, b: Value) -> Value:
    _doubt(context, a, b, np.asarray(context.same(a, b), bool))
    with np.errstate(invalid="ignore"):
        mask = a.real <= b.real if op == "minimum" else a.real >= b.real
    return choose(context, mask | (a.real != a.real), a, b)


def _integer_part(context: Context, op: str, v: Value) -> Value:
    """Rounding, with the residues deciding whether a value next to an integer is that integer."""
    if v.residues is None and v.real.dtype != object:
        return v
    plane = as_float(v.real)
    with np.errstate(invalid="ignore"):
        nearest = np.rint(plane)
        near = np.abs(plane - nearest) < 1e-9 * (1 + np.abs(plane))
        is_whole = near & context.same(v, _whole(np.nan_to_num(nearest)))
        rounded = np.where(is_whole, nearest, _numpy(op)(plane))
    return _whole(rounded)


# -- exact arithmetic ------------------------------------------------------------------------------
def _residues(
    context: Context, values: Sequence[Value], f: Callable[..., Array]
) -> dict[int, Array]:
    """`f(p, *residues)` at every level that all values have."""
    return {
        k: f(PRIMES[k], *(v.residue(k, context.tower) for v in values))
        for k in context.common(*values)
    }


def _arithmetic(context: Context, op: str, *values: Value) -> Value:
    plane = real(context, op, [v.real for v in values])
    if op != "div" and all(v.residues is None and v.real.dtype != object for v in values):
        return _whole(plane)
    rules: dict[str, Callable[..., Array]] = {
        "add": lambda p, a, b: (a + b) % p,
        "sub": lambda p, a, b: (a - b) % p,
        "mul": lambda p, a, b: mulmod(a, b, p),
        "neg": lambda p, a: (-a) % p,
        "div": lambda p, a, b: _quotient(context, a, b, p),
    }
    return Value(plane, _residues(context, values, rules[op]))


def _quotient(context: Context, a: Array, b: Array, p: int) -> Array:
    """A pole gets the value of an atom: the same for the same numerator."""
    pole = b == 0
    if np.any(pole):
        context.exact = False
        b = np.where(pole, 0x5EED5, b)
    return mulmod(a, invmod(b, p), p)


def _power(context: Context, a: Value, b: Value) -> Value:
    plane = real(context, "pow", [a.real, b.real])
    if a.residues is None and b.residues is None and plane.dtype.kind in "iu":
        return _whole(plane)
    if not context.modular:
        return Value(plane, {})
    exponent = np.nan_to_num(as_float(b.real))
    twice = np.rint(2 * exponent)
    exact = np.abs(twice) < 1 << 20
    exact = exact & context.same(
        _arithmetic(context, "add", b, b), _whole(np.where(exact, twice, 0))
    )
    if np.all(exact & (twice % 2 == 0)):
        whole = (twice / 2).astype(np.int64)
        return Value(plane, _whole_power(context, a, whole))
    if np.all(exact):  # half-integers, by way of the root
        return Value(
            plane, _whole_power(context, _atom(context, "sqrt", a), twice.astype(np.int64))
        )
    return Value(plane, _atom(context, "pow", a, b).residues)


def _whole_power(context: Context, base: Value, n: Array) -> dict[int, Array]:
    def at_level(p: int, r: Array) -> Array:
        if np.any((r == 0) & (n < 0)):
            context.exact = False
        return powmod(np.where(n < 0, invmod(r, p), r), np.abs(n), p)

    return _residues(context, [base], at_level)


# -- functions with laws in the tower --------------------------------------------------------------
def _lifted(context: Context, op: str, v: Value) -> Value:
    """exp and its kin: level k from level k - 1."""
    plane = real(context, op, [v.real])
    if not context.modular:
        return Value(plane, {})
    tower = context.tower
    found = {}
    known = v.levels(tower)
    for k in tower.levels:
        if k > 0 and k - 1 in known:
            found[k] = _exponential(context, op, k, v.residue(k - 1, tower))
    if not found:  # nested deeper than the tower is high
        return Value(plane, _atom(context, op, v).residues)
    return Value(plane, found)


def _exponential(context: Context, op: str, k: int, r: Array) -> Array:
    tower, p, order = context.tower, PRIMES[k], PRIMES[k - 1]
    circular = op in ("sin", "cos", "tan")
    if circular:
        r = mulmod(r, np.int64(tower.imaginary(k - 1)), order)
    e = tower.exp(k, r)
    if op == "exp":
        return e
    if op == "expm1":
        return (e - 1) % p
    inverse = invmod(e, p)
    sine, cosine = (e - inverse) % p, (e + inverse) % p
    half = np.int64(pow(2, -1, p))
    turn = np.int64(pow(tower.imaginary(k), -1, p) if circular else 1)
    if op in ("sinh", "sin"):
        return mulmod(mulmod(sine, half, p), turn, p)
    if op in ("cosh", "cos"):
        return mulmod(cosine, half, p)
    return mulmod(_quotient(context, sine, cosine, p), turn, p)


def _logarithm(context: Context, op: str, v: Value) -> Value:
    plane = real(context, op, [v.real])
    if not context.modular:
        return Value(plane, {})
    tower = context.tower
    context.exact = False  # exp(log(v)) is v in the reals, not in the tower
    found = {}
    for k in v.levels(tower):
        r = v.residue(k, tower)
        if op == "log1p":
            r = (r + 1) % PRIMES[k]
        result = tower.log(k, r) if k else None
        if result is not None:
            found[k - 1] = result
    if not found:
        return Value(plane, _atom(context, op, v).residues)
    return Value(plane, found)


def _atom(context: Context, name: str, *values: Value) -> Value:
    """An unknown function: equal arguments give equal values, and nothing else is known."""
    context.exact = False
    plane = values[0].real
    tower = context.tower
    found = {}
    for k in context.common(*values):
        parts = [v.residue(k, tower) for v in values]
        if name in ODD:  # f(-x) = -f(x)
            p = PRIMES[k]
            flipped = parts[0] > p // 2
            base = tower.atom(k, name, np.where(flipped, p - parts[0], parts[0]))
            found[k] = np.where(parts[0] == 0, 0, np.where(flipped, p - base, base) % p)
        else:
            found[k] = tower.atom(k, name, *parts)
    return Value(plane, found)


def _unknown(context: Context, op: str, *values: Value) -> Value:
    plane = real(context, op, [v.real for v in values])
    if not context.modular:
        return Value(plane, {})
    return Value(plane, _atom(context, op, *values).residues)


# -- all together ----------------------------------------------------------------------------------
COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
_ZERO = Value(np.float64(0), None)


def _absolute(context: Context, v: Value) -> Value:
    if v.residues is None and v.real.dtype != object:
        return _whole(np.abs(v.real))
    _doubt(context, v, _ZERO, np.asarray(context.same(v, _ZERO), bool))
    with np.errstate(invalid="ignore"):
        return choose(context, v.real >= 0, v, _arithmetic(context, "neg", v))


def _logical(context: Context, op: str, *values: Value) -> Value:
    return _whole(_numpy(op)(*(np.asarray(v.real, bool) for v in values)))


def _modulo(context: Context, op: str, a: Value, b: Value) -> Value:
    """Floor division and its remainder."""
    if a.residues is None and b.residues is None and a.real.dtype != object:
        with np.errstate(all="ignore"):
            return _whole(_numpy(op)(a.real, b.real))
    quotient = _integer_part(context, "floor", _arithmetic(context, "div", a, b))
    if op == "floor_divide":
        return quotient
    return _arithmetic(context, "sub", a, _arithmetic(context, "mul", b, quotient))


def cast(context: Context, dtype: str, v: Value) -> Value:
    if dtype == "bool":
        return compare(context, "not_equal", v, _ZERO)
    if dtype in ("int32", "int64"):
        plane = _integer_part(context, "trunc", v).real
        return _whole(np.nan_to_num(as_float(plane)).astype(np.int64))
    if v.residues is None and v.real.dtype == bool:
        return _whole(v.real.astype(np.int64))
    return v


def apply(context: Context, op: str, values: Sequence[Value]) -> Value:
    """A primitive op of the table on values."""
    if op in ("add", "sub", "mul", "div", "neg"):
        return _arithmetic(context, op, *values)
    if op in COMPARISONS:
        return compare(context, op, *values)
    if op == "where":
        return choose(context, values[0].real, *values[1:])
    if op in ("minimum", "maximum"):
        return _extreme(context, op, *values)
    if op == "abs":
        return _absolute(context, *values)
    if op == "pow":
        return _power(context, *values)
    if op in ("mod", "floor_divide"):
        return _modulo(context, op, *values)
    if op in ("floor", "ceil", "round", "trunc"):
        return _integer_part(context, "rint" if op == "round" else op, *values)
    if op.startswith("logical_"):
        return _logical(context, op, *values)
    if op.startswith("to_"):
        return cast(context, op[3:], *values)
    if op in LIFTS:
        return _lifted(context, op, *values)
    if op in DROPS:
        return _logarithm(context, op, *values)
    return _unknown(context, op, *values)
