"""The table of scalar functions: dtype rules, and meanings that NumPy does not have as they are."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from codegen.functions import ALL, FLOATS, FUNCTIONS, INTS, evaluate, result_dtype

F, D, W, L, B = "float32", "float64", "int32", "int64", "bool"


@pytest.mark.parametrize(
    "fn, dtypes, result",
    [
        ("add", (F, F), F),
        ("mul", (L, L), L),
        ("less", (W, W), B),
        ("equal", (B, B), B),
        ("where", (B, D, D), D),
        ("fma", (D, D, D), D),
        ("bitcast", (F,), W),
        ("bitcast", (L,), D),
        ("umul_high", (W, W), W),
        ("philox2", (W,) * 6, W),
        ("minimum", (B, B), B),
    ],
)
def test_result_dtype(fn: str, dtypes: tuple[str, ...], result: str) -> None:
    assert result_dtype(fn, dtypes) == result


@pytest.mark.parametrize(
    "fn, dtypes, message",
    [
        ("sinc", (F,), "no scalar function 'sinc'"),
        ("add", (F,), "takes 2 arguments, got 1"),
        ("add", (F, D), r"add\(float32, float64\): arguments differ"),
        ("add", (B, B), "must be int32 or int64 or float32 or float64"),
        ("div", (W, W), "must be float32 or float64"),
        ("where", (F, F, F), "condition must be bool"),
        ("cast", (F,), "cannot cast to None"),
        ("umul_high", (L, L), "must be int32"),
    ],
)
def test_wrong_dtypes(fn: str, dtypes: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        result_dtype(fn, dtypes)


@pytest.mark.parametrize("fn", FUNCTIONS)
def test_every_meaning_has_the_dtype_of_its_rule(fn: str) -> None:
    f = FUNCTIONS[fn]
    for dtype in ALL:
        dtypes = (B,) + (dtype,) * (f.arity - 1) if fn == "where" else (dtype,) * f.arity
        try:
            wanted = result_dtype(fn, dtypes, "int64")
        except ValueError:
            continue
        vector = [np.ones(3, d) for d in dtypes]
        out = evaluate(fn, vector, wanted)
        assert out.dtype == wanted and out.shape == (3,)
        assert evaluate(fn, [v[0] for v in vector], wanted).dtype == wanted
    assert f.primitive or fn not in ("add", "cast")


def _nearest(x: Fraction, dtype: str) -> float:
    """The float nearest to x, ties to even."""
    guess = np.dtype(dtype).type(float(x))
    near = [np.nextafter(guess, np.array(s, dtype)) for s in (-math.inf, math.inf)] + [guess]
    bits = {F: np.int32, D: np.int64}[dtype]
    return float(min(near, key=lambda v: (abs(Fraction(float(v)) - x), v.view(bits) & 1)))


@pytest.mark.parametrize("dtype", FLOATS)
def test_fma_rounds_once(dtype: str) -> None:
    random = np.random.default_rng(1)
    a, b = (random.standard_normal(3000).astype(dtype) for _ in range(2))
    c = (
        -a * b * (1 + random.standard_normal(3000) * 10.0 ** -random.integers(0, 17, 3000))
    ).astype(dtype)
    tiny = np.finfo(dtype).tiny
    a[:200] *= tiny  # denormal products and sums
    c[:100] *= tiny
    out = evaluate("fma", (a, b, c), dtype)
    for i in range(a.size):
        exact = Fraction(float(a[i])) * Fraction(float(b[i])) + Fraction(float(c[i]))
        assert float(out[i]) == _nearest(exact, dtype)


@pytest.mark.parametrize("dtype", FLOATS)
def test_fma_of_special_numbers(dtype: str) -> None:
    inf, nan = math.inf, math.nan
    a = np.array([inf, 0, -0.0, 1, inf, 1e30, nan, 1], dtype)
    b = np.array([1, inf, 1, -0.0, 1, -1e30, 1, 1], dtype)
    c = np.array([-inf, 1, -0.0, -0.0, 5, inf, 1, -1], dtype)
    out = evaluate("fma", (a, b, c), dtype)
    np.testing.assert_array_equal(out, np.array([nan, nan, -0.0, -0.0, inf, inf, nan, 0], dtype))
    assert np.signbit(out[2:4]).all() and not np.signbit(out[7])


def test_extremes_keep_nan_and_order_zeros() -> None:
    a, b = np.float32([-0.0, 0.0, np.nan, 1]), np.float32([0.0, -0.0, 1, np.nan])
    high, low = evaluate("maximum", (a, b), F), evaluate("minimum", (a, b), F)
    assert not np.signbit(high[:2]).any() and np.signbit(low[:2]).all()
    assert np.isnan(high[2:]).all() and np.isnan(low[2:]).all()


@pytest.mark.parametrize("dtype", INTS)
def test_integers(dtype: str) -> None:
    info = np.iinfo(dtype)
    x = np.array([info.min, info.max, -7, 7, 5], dtype)
    y = np.array([1, 1, 2, -2, 0], dtype)
    assert evaluate("div_int", (x[:4], y[:4]), dtype).tolist() == [info.min, info.max, -3, -3]
    assert evaluate("add", (x, y), dtype)[1] == info.min  # wraps
    one = np.array([1], dtype)
    assert evaluate("shift_right", (x[:1], one), dtype)[0] == -(info.min // 2)
    assert evaluate("shift_right_arithmetic", (x[:1], one), dtype)[0] == info.min // 2
    assert evaluate("floor_divide", (x[4:], y[4:]), dtype)[0] == 0


def test_high_words() -> None:
    random = np.random.default_rng(2)
    a, b = (random.integers(-(2**31), 2**31, 500, np.int32) for _ in range(2))
    wanted = [((int(p) % 2**32) * (int(q) % 2**32)) >> 32 for p, q in zip(a, b)]
    assert (evaluate("umul_high", (a, b), W).view(np.uint32) == np.array(wanted)).all()


def test_casts() -> None:
    x = np.array([-3.7, 3.7, np.nan, 1e30, -1e30, 2147483648.0, -2147483648.0])
    low = -(2**31)
    assert evaluate("cast", (x,), W).tolist() == [-3, 3, low, low, low, low, low]
    assert evaluate("cast", (x[:3],), B).tolist() == [True, True, True]
    assert evaluate("cast", (np.array([True, False]),), F).tolist() == [1, 0]
    assert evaluate("cast", (np.array([2**32 + 5]),), W).tolist() == [5]
    assert evaluate("bitcast", (np.float32([1]),), W).tolist() == [0x3F800000]
