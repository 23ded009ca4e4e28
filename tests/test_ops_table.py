"""One walk over the op table: every line's meaning, accuracy, derivatives and dtypes.

A new line of the table is covered here without a change. References are found by its name in
NumPy, SciPy and PyTorch; exact values and derivatives come from real arithmetic (tests/real.py).
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpmath import mp
from real import Undefined, value

import symgrad as sg
from symgrad import dtypes, scalar
from symgrad.errors import DTypeError
from symgrad.interpret import evaluate
from symgrad.node import Expr, Input, Map

OPS = scalar.OPS
FLOAT = [n for n, op in OPS.items() if op.rule in ("float", "number", "any") and not op.user]
SMOOTH = [n for n in FLOAT if OPS[n].derivative is not scalar.step]
COMPOSITE = [n for n in FLOAT if not OPS[n].primitive]
ORDINARY = (-2.6, -1.3, -0.7, -0.3, 0.2, 0.45, 0.8, 1.4, 1.9, 2.9)
EXTREME = (-1000.0, -87.5, -30.0, -1e-6, 1e-6, 30.0, 88.5, 1000.0)
# Differences of numbers that nearly cancel: accurate to the last digit of the argument, not of a
# result much smaller than it.
CANCELLING = ("gelu", "gelu_tanh", "logaddexp")


def points(op: str, values: tuple[float, ...]) -> list[tuple[float, ...]]:
    """Arguments for an op: every value, with the others beside it."""
    arity = OPS[op].arity
    if arity == 1:
        return [(v,) for v in values]
    shifted = [tuple(values[(i + 2 * k) % len(values)] for k in range(arity)) for i in range(99)]
    return list(dict.fromkeys(shifted[: len(values)] + [s[::-1] for s in shifted[: len(values)]]))


def leaves(op: str, dtype: str = "float64") -> list[Input]:
    return [Input(f"x{i}", (), dtype) for i in range(OPS[op].arity)]


def run(e: Expr, args: list[Input], at: tuple[float, ...]) -> float:
    return float(evaluate([e], dict(zip(args, at)))[0])


def real(e: Expr, args: list[Input], at: tuple[Any, ...]) -> Any:
    return value(e, dict(zip(args, map(mp.mpf, at))))


def domain(op: str, values: tuple[float, ...]) -> list[tuple[float, ...]]:
    """The points at which the function is defined and finite in float64."""
    args = leaves(op)
    e = Map.of(op, *args)
    found = []
    for at in points(op, values):
        try:
            if abs(real(e, args, at)) < 1e300:
                found.append(at)
        except Undefined:
            pass
    return found


@pytest.fixture(autouse=True)
def digits() -> Any:
    with mp.workdps(60):
        yield


# -- meaning -------------------------------------------------------------------------------------


def reference(name: str) -> Callable[..., Any] | None:
    """The function of that name in NumPy, SciPy or PyTorch."""
    other = {
        "div": "divide",
        "mul": "multiply",
        "sub": "subtract",
        "neg": "negative",
        "round": "rint",
        "sigmoid": "expit",
        "log_sigmoid": "log_expit",
        "hard_silu": "hardswish",
        "sqrt_or_zero": "sqrt",
        "pow": "power",
        "atan2": "arctan2",
    }
    if name == "rsqrt":
        return lambda x: x**-0.5
    names = [name, other.get(name, name), "arc" + name[1:], name.replace("_", "")]
    import scipy.special

    if not hasattr(np, name) and hasattr(mp, name):
        return getattr(mp, name)  # type: ignore[no-any-return]
    for module, n in itertools.product((np, scipy.special), names[:3]):
        if hasattr(module, n):
            return getattr(module, n)  # type: ignore[no-any-return]
    torch = pytest.importorskip("torch")
    for n in names:
        if hasattr(torch.nn.functional, n):
            function = getattr(torch.nn.functional, n)
            return lambda *a: function(*(torch.tensor(v, dtype=torch.float64) for v in a)).numpy()
    return None


@pytest.mark.parametrize("name", FLOAT)
def test_means_what_its_name_means_elsewhere(name: str) -> None:
    function = None if name in ("where", "elu", "leaky_relu") else reference(name)
    if name == "gelu_tanh" or function is None:
        pytest.skip("no function of that name elsewhere")
    args = leaves(name)
    e = Map.of(name, *args)
    at = [p for p in domain(name, ORDINARY) if name != "clip" or p[1] <= p[2]]
    assert len(at) >= 3
    for p in at:
        expected = float(function(*p))
        assert run(e, args, p) == pytest.approx(expected, rel=1e-12, abs=1e-15), p


def test_activations_with_a_parameter_against_torch() -> None:
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    cases = {
        "elu": lambda x: f.elu(x, 0.7),
        "leaky_relu": lambda x: f.leaky_relu(x, 0.7),
        "gelu_tanh": lambda x: f.gelu(x, approximate="tanh"),
    }
    for name, function in cases.items():
        args = leaves(name)
        for v in ORDINARY + EXTREME:
            at = (v, 0.7)[: len(args)]
            expected = float(function(torch.tensor(v, dtype=torch.float64)))
            assert run(Map.of(name, *args), args, at) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", COMPOSITE)
def test_a_body_is_made_of_primitives(name: str) -> None:
    from symgrad.node import toposort

    args = leaves(name)
    body = OPS[name].expand(*args)
    assert all(OPS[n.op].primitive for n in toposort([body]) if isinstance(n, Map))
    assert body.dtype == Map.of(name, *args).dtype


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FLOAT)
def test_accuracy_at_ordinary_and_extreme_points(name: str, dtype: str) -> None:
    """Within 4 ULP of the exact value, and finite wherever that is."""
    args = leaves(name, dtype)
    e = Map.of(name, *args)
    real_type = np.dtype(dtype).type
    limits = np.finfo(dtype)
    for p in points(name, ORDINARY + EXTREME):
        at = tuple(float(real_type(v)) for v in p)
        try:
            exact = real(e, args, at)
        except Undefined:
            continue
        if abs(exact) > float(limits.max):
            continue
        got = run(e, args, at)
        error = abs(mp.mpf(got) - exact)
        unit = float(limits.eps) * max(abs(exact), mp.mpf(float(limits.tiny)))
        if name in CANCELLING:
            unit = max(unit, mp.mpf(float(limits.eps)) * max(map(abs, at)))
        assert np.isfinite(got) and error <= 4 * unit, (at, got, exact)


@pytest.mark.parametrize("name", ["relu", "sigmoid", "softplus", "maximum", "minimum", "clip"])
def test_nan_is_kept(name: str) -> None:
    args = leaves(name, "float32")
    assert np.isnan(run(Map.of(name, *args), args, (np.nan, 0.0, 1.0)[: len(args)]))


def test_infinities() -> None:
    def at(name: str, *values: float) -> float:
        args = leaves(name, "float32")
        return run(Map.of(name, *args), args, values)

    inf = np.inf
    assert at("softplus", inf) == inf and at("softplus", -inf) == 0
    assert at("sigmoid", inf) == 1 and at("sigmoid", -inf) == 0
    assert at("log_sigmoid", -inf) == -inf and at("log_sigmoid", inf) == 0
    assert at("logaddexp", inf, inf) == inf and at("logaddexp", -inf, -inf) == -inf
    assert at("logaddexp", -inf, 2.0) == 2 and at("hypot", -inf, 2.0) == inf
    assert at("hypot", 3e30, 4e30) == pytest.approx(5e30, rel=1e-6) and at("hypot", 0, 0) == 0
    assert at("asinh", 1e30) == pytest.approx(np.arcsinh(1e30), rel=1e-6)
    assert at("elu", inf, 1.0) == inf and at("elu", -inf, 1.0) == -1


# -- derivatives ---------------------------------------------------------------------------------


def slope(e: Expr, args: list[Input], at: tuple[float, ...], k: int, order: int = 1) -> Any:
    """The exact derivative by argument k; Undefined at a kink or the edge of the domain."""
    h = mp.mpf(10) ** -15 * max(1, abs(mp.mpf(at[k])))

    def f(t: Any) -> Any:
        return real(e, args, (*at[:k], t, *at[k + 1 :]))

    x = mp.mpf(at[k])
    low, mid, high = f(x - h), f(x), f(x + h)
    if order == 2:
        far = (f(x + 2 * h) - 2 * f(x + h) + mid) / h**2
        near = (mid - 2 * f(x - h) + f(x - 2 * h)) / h**2
        result = (high - 2 * mid + low) / h**2
        if abs(far - near) > 1e-6 * (1 + abs(result)):
            raise Undefined("kink")
        return result
    right, left = (high - mid) / h, (mid - low) / h
    if abs(right - left) > 1e-6 * (1 + abs(right)):
        raise Undefined("kink")
    return (high - low) / (2 * h)


@pytest.mark.parametrize("name", SMOOTH)
def test_first_derivative(name: str) -> None:
    """The declared partials against central differences of the exact function."""
    args = leaves(name)
    out = Map.of(name, *args)
    partials = OPS[name].partials(args, out)
    assert len(partials) == len(args)
    compared = 0
    for p in domain(name, ORDINARY + EXTREME):
        for k, partial in enumerate(partials):
            try:
                exact = slope(out, args, p, k)
            except Undefined:
                continue
            got = 0.0 if partial is None else run(partial, args, p)
            if abs(exact) < 1e300:
                assert got == pytest.approx(float(exact), rel=1e-6, abs=1e-14), (p, k)
                compared += 1
    assert compared >= 3


@pytest.mark.filterwarnings("ignore::symgrad.errors.DisconnectedWarning")
@pytest.mark.parametrize("name", SMOOTH)
def test_second_derivative(name: str) -> None:
    """Through `sg.grad` of the derivative, which is an expression like any other."""
    args = leaves(name)
    out = Map.of(name, *args)
    compared = 0
    for k, x in enumerate(args):
        second = sg.grad(sg.grad(out, x), x) if depends(sg.grad(out, x), x) else None
        for p in domain(name, ORDINARY + EXTREME):
            try:
                exact = slope(out, args, p, k, order=2)
            except Undefined:
                continue
            got = 0.0 if second is None else run(second, args, p)
            if abs(exact) < 1e300:
                assert got == pytest.approx(float(exact), rel=1e-4, abs=1e-12), (p, k)
                compared += 1
    assert compared >= 3


def depends(e: Expr, x: Input) -> bool:
    from symgrad.node import toposort

    return any(n is x for n in toposort([e]))


@pytest.mark.parametrize("name", SMOOTH)
def test_given_and_found_derivatives_agree(name: str) -> None:
    """What the table states against what SymPy finds from the body."""
    op = OPS[name]
    args = leaves(name)
    out = Map.of(name, *args)
    given = op.partials(args, out)
    found = scalar.Formula.of(op).partials(args, out)
    for p in domain(name, ORDINARY):
        for k, (a, b) in enumerate(zip(given, found)):
            try:
                slope(out, args, p, k)
            except Undefined:
                continue
            expected = 0.0 if a is None else run(a, args, p)
            assert run(b, args, p) == pytest.approx(expected, rel=1e-9, abs=1e-14), (p, k)


def test_derivatives_at_kinks_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    unary = {
        "relu": f.relu,
        "relu6": f.relu6,
        "abs": torch.abs,
        "hard_sigmoid": f.hardsigmoid,
        "hard_tanh": f.hardtanh,
        "selu": f.selu,
        "softsign": f.softsign,
        "leaky_relu": lambda x: f.leaky_relu(x, 0.3),
        "elu": lambda x: f.elu(x, 0.3),
        "clip": lambda x: torch.clamp(x, 0.3, 0.5),
        "maximum": lambda x: torch.maximum(x, torch.full_like(x, 0.3)),
        "minimum": lambda x: torch.minimum(x, torch.full_like(x, 0.3)),
    }
    values = np.array([-3.0, -1.0, -0.0, 0.0, 0.3, 0.5, 1.0, 3.0, 6.0, -1000.0, 1000.0])
    for name, function in unary.items():
        t = torch.tensor(values, requires_grad=True)
        function(t).sum().backward()
        x = Input("x", values.shape, "float64")
        others = (0.3, 0.5)[: OPS[name].arity - 1]
        got = evaluate([sg.grad(sg.sum(getattr(sg, name)(x, *others)), x)], {x: values})[0]
        np.testing.assert_allclose(got, t.grad.numpy(), rtol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    "name, at, expected",
    [
        ("relu", (0.0,), [0]),
        ("relu6", (6.0,), [0]),
        ("abs", (0.0,), [0]),
        ("maximum", (2.0, 2.0), [0.5, 0.5]),
        ("minimum", (2.0, 2.0), [0.5, 0.5]),
        ("leaky_relu", (0.0, 0.3), [0.3, 0]),
        ("elu", (0.0, 0.3), [0.3, 0]),
        ("selu", (0.0,), [1.0507009873554805 * 1.6732632423543772]),
        ("hard_sigmoid", (3.0,), [0]),
        ("hard_tanh", (-1.0,), [0]),
        ("hard_silu", (3.0,), [1.5]),
        ("hard_silu", (-3.0,), [-0.5]),
        ("clip", (1.0, 1.0, 2.0), [1, 0, 0]),
        ("clip", (2.0, 1.0, 2.0), [1, 0, 0]),
        ("clip", (0.0, 3.0, 2.0), [0, 0, 1]),
        ("hypot", (0.0, 0.0), [0, 0]),
        ("sqrt_or_zero", (0.0,), [0]),
        ("xlogy", (0.0, 0.0), [-np.inf, 0]),
        ("pow", (0.0, 2.0), [0, 0]),
        ("pow", (0.0, 1.0), [1, 0]),
        ("pow", (3.0, 0.0), [0, np.log(3.0)]),
        ("pow", (0.0, 0.0), [0, 0]),
    ],
)
def test_derivatives_at_kinks(name: str, at: tuple[float, ...], expected: list[float]) -> None:
    args = leaves(name)
    found = OPS[name].partials(args, Map.of(name, *args))
    got = [0.0 if d is None else run(d, args, at) for d in found]
    assert got == pytest.approx(expected, rel=1e-15)


def test_zero_has_a_finite_gradient() -> None:
    x = Input("x", (3,), "float64")
    for e in (sg.norm(x), sg.sum(sg.hypot(x, x)), sg.sum(x**3.5), sg.sum(sg.sqrt(x * x + 1))):
        assert evaluate([sg.grad(e, x)], {x: np.zeros(3)})[0].tolist() == [0, 0, 0]


def test_derivatives_of_the_table_need_no_sympy() -> None:
    code = """
import sys
from symgrad.node import Input, Map
from symgrad.scalar import OPS
for name, op in OPS.items():
    if op.rule in ("float", "number"):
        args = [Input(f"x{i}", ()) for i in range(op.arity)]
        op.expand(*args), op.partials(args, Map.of(name, *args))
sys.exit("sympy" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# -- dtypes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in OPS if not OPS[n].user])
def test_dtype_rule(name: str) -> None:
    op = OPS[name]
    allowed = scalar.RULES[op.rule]
    for dtype in dtypes.ORDER:
        given = [dtype] * op.arity
        if op.rule == "where":
            given[0] = "bool"
        if dtype not in allowed:
            with pytest.raises(DTypeError, match=name):
                op.result_dtype(name, given)
            continue
        result = op.result_dtype(name, given)
        expected = {"compare": "bool", "cast": name.removeprefix("to_")}.get(op.rule, dtype)
        assert result == expected
        args = [Input(f"x{i}", (2,), d) for i, d in enumerate(given)]
        values = [np.ones(2) for _ in args]
        assert evaluate([Map.of(name, *args)], dict(zip(args, values)))[0].dtype == expected
    if op.arity > 1:
        with pytest.raises(DTypeError, match=name):
            op.result_dtype(name, ["float32"] * (op.arity - 1) + ["float64"])


def test_casts_of_floats_to_integers() -> None:
    x = Input("x", (5,))
    at = {x: [1.9, -1.9, np.nan, np.inf, -3e9]}
    low = np.iinfo(np.int32).min
    assert evaluate([sg.cast(x, "int32")], at)[0].tolist() == [1, -1, low, low, low]
    assert evaluate([sg.cast(x, "bool")], {x: [0, 0.5, np.nan, -1, 0]})[0].tolist() == [
        False,
        True,
        True,
        True,
        False,
    ]
