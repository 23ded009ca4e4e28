"""Ops of users: one SymPy formula, used and differentiated like a built-in one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy
from mpmath import mp

import symgrad as sg
from symgrad import scalar
from symgrad.errors import GraphError
from symgrad.formulas import convert
from symgrad.interpret import evaluate

X = np.array([-1000.0, -30.0, -2.0, -0.5, 0.0, 0.3, 1.0, 30.0, 1000.0])


@pytest.fixture(autouse=True)
def forget() -> Any:
    known = dict(scalar.OPS)
    yield
    scalar.OPS.clear()
    scalar.OPS.update(known)


def values(e: sg.Expr, x: sg.Expr, at: Any = X) -> np.ndarray[Any, Any]:
    return evaluate([e], {x: at})[0]


def swish(t: Any) -> Any:
    return t / (1 + sympy.exp(-t))


def test_swish_and_its_derivatives_are_finite_everywhere() -> None:
    op = sg.elementwise("swish", swish)
    x = sg.input("x", X.shape, "float64")
    y = op(x)
    first = sg.grad(sg.sum(y), x)
    second = sg.grad(sg.sum(first), x)
    with mp.workdps(50):
        exact = [mp.diff(lambda t: t / (1 + mp.exp(-t)), mp.mpf(v), k) for k in range(3) for v in X]
    expected = np.array([float(v) for v in exact]).reshape(3, -1)
    for k, e in enumerate((y, first, second)):
        np.testing.assert_allclose(values(e, x), expected[k], rtol=1e-9, atol=1e-12)


def test_it_promotes_and_broadcasts() -> None:
    op = sg.elementwise("gap", lambda a, b: sympy.Abs(a - b))
    a, b = sg.input("a", (2, 1), "int32"), sg.input("b", (3,), "float64")
    assert op(a, b).shape == (2, 3) and op(a, b).dtype == "float64"
    assert op(a, 1).dtype == "float32" and op.__name__ == "gap"
    got = evaluate([op(a, b)], {a: [[1], [2]], b: [0.0, 1.5, 3.0]})[0]
    np.testing.assert_allclose(got, [[1, 0.5, 2], [2, 0.5, 1]])
    assert sg.gap(1.0, b).shape == (3,)


@pytest.mark.parametrize(
    "derivative",
    [lambda t: 3 * t**2 + 7, lambda t, out: 3 * out / t + 7],
    ids=["of the argument", "of the value too"],
)
def test_a_given_derivative_is_used(derivative: Any) -> None:
    op = sg.elementwise("cube", lambda t: t**3, derivative)
    x = sg.input("x", (2,), "float64")
    got = values(sg.grad(sg.sum(op(x)), x), x, np.array([2.0, -1.0]))
    np.testing.assert_allclose(got, [19.0, 10.0])  # 7 more than the truth: it is the user's


def test_derivatives_of_several_arguments() -> None:
    op = sg.elementwise("mix", lambda a, b: a * sympy.sin(b), lambda a, b: (sympy.sin(b), 5))
    a, b = sg.input("a", ()), sg.input("b", ())
    da, db = evaluate([*sg.grad(op(a, b), [a, b])], {a: 2.0, b: 1.0})
    assert da == pytest.approx(np.sin(1.0)) and db == 5


def test_names_do_not_clash() -> None:
    sg.elementwise("swish", swish)
    sg.elementwise("swish", swish)  # the same again is no error
    for name in ("swish", "tanh", "to_bool"):
        with pytest.raises(GraphError, match=f"the name '{name}' is taken.*\n  at test_ops_user"):
            sg.elementwise(name, lambda t: t + 1)
    with pytest.raises(GraphError, match="taken"):
        sg.elementwise("swish", swish, lambda t: t)
    assert evaluate([sg.swish([0.0])], {})[0].tolist() == [0]


@pytest.mark.parametrize(
    "body, text",
    [
        (lambda t: sympy.gamma(t), "'gamma' in gamma"),
        (lambda t: t + sympy.Symbol("other"), "gives .*other.*, no formula"),
        (lambda t: 1 / 0, "fails on SymPy symbols: division by zero"),
        (lambda t: "text with spaces (", "fails on SymPy symbols"),
        (lambda: 1, "takes no argument"),
        (lambda t: (t, t), "gives 2 values, not one"),
    ],
)
def test_bodies_that_are_no_formulas(body: Any, text: str) -> None:
    with pytest.raises(GraphError, match=text):
        sg.elementwise("wrong", body)
    assert "wrong" not in scalar.OPS


def test_declarations_that_are_wrong() -> None:
    with pytest.raises(GraphError, match="identifier"):
        sg.elementwise("two words", swish)
    with pytest.raises(GraphError, match="1 derivatives for 2 arguments"):
        sg.elementwise("wrong", lambda a, b: a + b, lambda a, b: a)


def test_bodies_in_symgrads_own_functions() -> None:
    op = sg.elementwise("soft", lambda t: sg.where(t > 0, t, sg.exp(t) - 1) + sg.square(t))
    x = sg.input("x", (3,), "float64")
    at = np.array([-1.0, 0.5, 2.0])
    np.testing.assert_allclose(values(op(x), x, at), np.where(at > 0, at, np.expm1(at)) + at**2)


t, u = sympy.symbols("t u", real=True)
FORMULAS = [
    t**3 - 2 * t + 1,
    t**-2 + t ** sympy.Rational(3, 2) + t ** sympy.Rational(-1, 2),
    t**0.3 * u**t,
    sympy.exp(t) * sympy.exp(u) / (1 + sympy.exp(t)) ** 2,
    sympy.exp(2 * t) / (1 + sympy.exp(t)) ** 2,
    1 / (1 + sympy.exp(-t * u)) ** 3,
    sympy.log(1 + sympy.exp(t)) + sympy.log(1 + u) + sympy.log(t + u + 1),
    sympy.exp(t) - 1 + u,
    sympy.Piecewise((t, t > u), (u**2, t < 0), (1, True)),
    sympy.Max(t, u, 1) * sympy.Min(t, 0.4) + sympy.Heaviside(t - 1) * sympy.sign(u),
    sympy.sqrt(t) * sympy.pi + sympy.E**u - sympy.Rational(1, 3),
    sympy.atan2(t, u) + sympy.sinh(t) - sympy.sech(t) + sympy.coth(u) + sympy.cot(t),
    sympy.erf(t) - sympy.erfc(u) + sympy.sinc(t) + sympy.acot(t),
    sympy.floor(t * 3) + sympy.ceiling(u) + sympy.Mod(t, u) + sympy.Abs(t - u),
    sympy.asinh(t) + sympy.acosh(1 + u) + sympy.atanh(t / 9) + sympy.asin(t / 9),
    sympy.Piecewise((t, (t > 0.2) & (u < 3) | ~(t < 1)), (u, True)),
    -t / u - 1 / t,
    sympy.Integer(3),
]


@pytest.mark.parametrize("formula", FORMULAS, ids=str)
def test_formulas_mean_what_sympy_means(formula: Any) -> None:
    a, b = sg.input("a", (), "float64"), sg.input("b", (), "float64")
    first = sympy.diff(formula, t) if not formula.has(sympy.Mod, sympy.floor) else formula
    for e in (formula, first):
        for x, y in ((0.3, 1.7), (1.9, 0.6), (2.4, 2.2)):
            expected = float(sympy.N(e.subs({t: x, u: y}, simultaneous=True).doit(), 30))
            got = float(evaluate([convert(e, {t: a, u: b})], {a: x, b: y})[0])
            assert got == pytest.approx(expected, rel=1e-12)


def test_overflow_is_avoided() -> None:
    a = sg.input("a", (), "float32")
    for formula, at, expected in (
        (sympy.exp(-t) / (1 + sympy.exp(-t)) ** 2, -1000, 0),
        (sympy.log(1 + sympy.exp(t)), 1000, 1000),
        (sympy.exp(t) / (1 + sympy.exp(t)), 1000, 1),
        (sympy.exp(t) - 1, 1e-8, 1e-8),
        (sympy.log(1 + t), 1e-8, 1e-8),
    ):
        got = evaluate([convert(formula, {t: a})], {a: at})[0]
        assert got == pytest.approx(expected, rel=1e-6, abs=1e-30)
