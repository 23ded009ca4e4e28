"""Arguments and references for the accuracy of scalar functions, and the error in ULP.

>>> worst, where = max_ulp(np.float32([1.0]), reference("exp", [np.float32([0.0])]))
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import mpmath as mp
import numpy as np

MP = {
    "exp": mp.exp,
    "expm1": mp.expm1,
    "log": mp.log,
    "log1p": mp.log1p,
    "sin": mp.sin,
    "cos": mp.cos,
    "tan": mp.tan,
    "asin": mp.asin,
    "acos": mp.acos,
    "atan": mp.atan,
    "atan2": mp.atan2,
    "sinh": mp.sinh,
    "cosh": mp.cosh,
    "tanh": mp.tanh,
    "erf": mp.erf,
    "pow": mp.power,
}
# Where the interesting arguments are, beside random bit patterns: exponents of two
SCALES = {
    "exp": (-30, 10),
    "expm1": (-60, 10),
    "log1p": (-60, 10),
    "sin": (-30, 17),
    "cos": (-30, 17),
    "tan": (-30, 17),
    "asin": (-30, 0),
    "acos": (-30, 0),
    "atan": (-30, 10),
    "sinh": (-30, 10),
    "cosh": (-30, 10),
    "tanh": (-30, 6),
    "erf": (-30, 4),
    "log": (-3, 3),
    "pow": (-8, 8),
    "atan2": (-4, 4),
    "mod": (-12, 12),
    "floor_divide": (-12, 12),
}


def extremes(dtype: str) -> np.ndarray:
    info = np.finfo(dtype)
    pi = [k * math.pi / 4 for k in range(1, 9)] + [22.0, 1e5, 1e4 * math.pi]
    logs = [float(np.log(info.max)), float(np.log(info.tiny)), float(np.log(info.tiny)) - 14]
    plain = [0.0, info.tiny, info.smallest_subnormal, info.max, info.eps, math.inf, math.nan]
    plain += [0.25, 0.4142135, 0.5, 0.75, 0.927, 1.0, 1.25, 1.5, 2.0, 2.414, 3.0, 7.0]
    plain += [9.01, 89.2, 100.0, 710.1]
    values = np.array(plain + pi + logs, dtype)
    with np.errstate(all="ignore"):
        near = [values, np.nextafter(values, np.array(0, dtype))]
        near.append(np.nextafter(values, np.array(math.inf, dtype)))
    values = np.concatenate(near)
    return np.concatenate([values, -values])


def arguments(fn: str, arity: int, dtype: str, count: int, seed: int = 0) -> list[np.ndarray]:
    """Random bit patterns, values spread over `SCALES`, and the extremes (all pairs for two)."""
    random = np.random.default_rng(seed)
    unsigned = {"float32": np.uint32, "float64": np.uint64}[dtype]
    low, high = SCALES[fn]
    parts: list[list[np.ndarray]] = [[] for _ in range(arity)]
    special = extremes(dtype)
    grids = [special]
    if arity == 2:
        x, y = np.meshgrid(special, special)
        most = random.permutation(x.size)[: 2 * count]
        few = np.array([0, 0.5, 1, 2, 3, np.finfo(dtype).max, np.finfo(dtype).tiny, np.inf], dtype)
        few = np.concatenate([few, -few, np.array([math.nan], dtype)])
        a, b = np.meshgrid(few, few)
        grids = [np.append(x.flat[most], a), np.append(y.flat[most], b)]
    for part, grid in zip(parts, grids):
        bits = random.integers(0, np.iinfo(unsigned).max, count // 2, unsigned, endpoint=True)
        spread = 2.0 ** random.uniform(low, high, count - count // 2)
        spread *= np.where(random.random(spread.size) < 0.5, -1, 1)
        part += [grid.reshape(-1), bits.view(dtype), spread.astype(dtype)]
    if fn == "pow":
        whole = np.round(parts[1][2] * 4)
        parts[0].append(np.abs(parts[0][2]))
        parts[1].append(whole.astype(dtype))
        near_one = 1 + 2.0 ** random.uniform(-20, -3, count // 2)
        parts[0].append(near_one.astype(dtype))
        parts[1].append((random.uniform(-700, 700, count // 2) / np.log(near_one)).astype(dtype))
    return [np.concatenate(p) for p in parts]


def reference(fn: str, args: list[np.ndarray]) -> list[Any]:
    """Exact or nearly exact results: mpf, or a float where it is a limit, a zero or NaN."""
    return [_one(fn, [float(a[i]) for a in args]) for i in range(len(args[0]))]


def _numpy(fn: str, args: list[float]) -> float:
    names = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "atan2": "arctan2"}
    with np.errstate(all="ignore"):
        if fn == "erf":
            return math.erf(args[0])
        if fn == "pow":  # NumPy takes a root for 1/2, which is wrong for -inf
            return float(np.power(*(np.array([a, a]) for a in args))[0])
        return float(
            getattr(np, names.get(fn, {"pow": "power"}.get(fn, fn)))(*map(np.float64, args))
        )


def _one(fn: str, args: list[float]) -> Any:
    plain = _numpy(fn, args)  # float64: right wherever it is not a number
    if any(not math.isfinite(a) for a in args) or math.isnan(plain):
        return plain
    if fn == "atan2" and 0.0 in args or _far(fn, args):
        return plain
    if fn in ("mod", "floor_divide"):
        return _division(fn, *args) if args[1] else plain
    if (fn in ("log", "pow", "log1p") and math.isinf(plain) and args[0] in (0.0, -1.0)) or (
        plain == 0 and (0.0 in args or fn in ("log", "acos"))
    ):
        return plain
    with mp.workprec(100 if abs(args[0]) < 1e20 else 1200):
        return MP[fn](*map(mp.mpf, args))


def _far(fn: str, args: list[float]) -> bool:
    """Far beyond overflow or underflow, where mpmath would compute millions of digits."""
    if fn == "pow":
        return args[0] != 0 and abs(args[1] * math.log(abs(args[0]))) > 2000
    return fn in ("exp", "expm1", "sinh", "cosh", "tanh") and abs(args[0]) > 2000


def _division(fn: str, x: float, y: float) -> Any:
    quotient = Fraction(x) // Fraction(y)
    if fn == "floor_divide":
        return mp.mpf(quotient) if quotient else math.copysign(0.0, x) * math.copysign(1, y)
    rest = Fraction(x) - quotient * Fraction(y)
    with mp.workprec(3000):
        return mp.mpf(rest.numerator) / rest.denominator if rest else math.copysign(0.0, y)


def ulp_errors(got: np.ndarray, wanted: list[Any]) -> np.ndarray:
    """|got - wanted| in units of the last place of `wanted`; inf where the kind differs."""
    dtype = got.dtype
    info = np.finfo(dtype)
    smallest, digits, top = float(info.smallest_subnormal), info.nmant + 1, float(info.max)
    out = np.zeros(got.size)
    for i, (g, w) in enumerate(zip(got.tolist(), wanted)):
        if isinstance(w, float) and (w == 0 or not math.isfinite(w)):
            same = math.isnan(g) if math.isnan(w) else g == w
            if w == 0 and math.copysign(1, g) != math.copysign(1, w):
                same = False
            out[i] = 0 if same else math.inf
            continue
        size = abs(w)
        place = max(mp.ldexp(1, mp.frexp(size)[1] - digits), smallest) if size else smallest
        if math.isinf(g):  # as if the range went on
            g = mp.ldexp(math.copysign(1, g), info.maxexp)
        if size > top:
            w = mp.sign(w) * mp.ldexp(1, info.maxexp)
            place = mp.ldexp(1, info.maxexp - digits)
        out[i] = math.inf if math.isnan(g) else float(abs(mp.mpf(g) - w) / place)
    return out
