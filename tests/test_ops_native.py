"""Every line of the op table compiled: native code against the interpreter, derivatives too."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import sympy

import symgrad as sg
from symgrad import scalar
from symgrad.interpret import evaluate
from symgrad.node import Expr, Input, Map

OPS = scalar.OPS
inf, nan = np.inf, np.nan
POINTS = (-1000, -87.5, -30, -2.6, -1.3, -0.7, -0.3, -1e-6, 0, 1e-6, 0.2, 0.45, 0.8, 1.4, 1.9)
POINTS += (2.9, 30, 88.5, 1000, inf, -inf, nan)
WHOLE = (-7, -3, -2, -1, 0, 1, 2, 3, 5, 100)
# Compiling may rewrite these into something better than the interpreter computes: exp(x) for
# expm1(x) + 1. They agree to the last digit of the largest term, not of a small result.
CANCELLING = ("gelu", "gelu_tanh", "logaddexp", "expm1_d0", "tanh_d0", "tan_d0", "mish", "cot_d0")


def grid(values: tuple[float, ...], arity: int, dtype: str) -> list[Any]:
    columns = zip(*itertools.product(values, repeat=arity))
    return [np.array(c).astype(dtype) for c in columns]


def compiled_and_interpreted(
    args: list[Input], outputs: dict[str, Expr], arrays: list[Any]
) -> list[tuple[str, Any, Any]]:
    expected = evaluate(list(outputs.values()), dict(zip(args, arrays)))
    got = sg.function(args, outputs)(*arrays)
    return [(name, got[name], e) for name, e in zip(outputs, expected)]


@pytest.mark.parametrize("arity", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats(dtype: str, arity: int) -> None:
    arrays = grid(POINTS if arity < 3 else POINTS[::3], arity, dtype)
    args = [sg.input(f"x{i}", a.shape, dtype) for i, a in enumerate(arrays)]
    outputs: dict[str, Expr] = {}
    for name, op in OPS.items():
        if op.arity != arity or op.rule not in ("float", "number", "any", "compare"):
            continue
        outputs[name] = Map.of(name, *args)
        for k, d in enumerate(op.partials(args, outputs[name])):
            if d is not None:
                outputs[f"{name}_d{k}"] = sg.broadcast_to(d, arrays[0].shape)
    for name, got, expected in compiled_and_interpreted(args, outputs, arrays):
        eps = float(np.finfo(dtype).eps)
        loose = 8 * eps if name.startswith(CANCELLING) else float(np.finfo(dtype).tiny)
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, rtol=8 * eps, atol=loose, err_msg=name)


@pytest.mark.parametrize("arity", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["int32", "int64", "bool"])
def test_integers_and_bools(dtype: str, arity: int) -> None:
    arrays = grid(WHOLE if dtype != "bool" else (0, 1), arity, dtype)
    args = [sg.input(f"x{i}", a.shape, dtype) for i, a in enumerate(arrays)]
    outputs = {
        name: Map.of(name, *args)
        for name, op in OPS.items()
        if op.arity == arity
        and dtype in scalar.RULES[op.rule]
        and op.rule != "where"
        and name not in ("isnan", "isinf", "isfinite")
    }
    assert outputs or arity == 3
    for name, got, expected in compiled_and_interpreted(args, outputs, arrays) if outputs else []:
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected, err_msg=name)


@pytest.mark.parametrize("dtype", ["int32", "float32", "float64", "bool"])
def test_where_and_casts(dtype: str) -> None:
    arrays = grid((-2.7, 0, 1.5, 3.2), 2, dtype)
    x, y = (sg.input(f"x{i}", a.shape, dtype) for i, a in enumerate(arrays))
    outputs = {"where": sg.where(x > y, x, y)}
    outputs.update({n: Map.of(n, x) for n, op in OPS.items() if op.rule == "cast"})
    for name, got, expected in compiled_and_interpreted([x, y], outputs, arrays):
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected, err_msg=name)


def test_an_op_of_a_user() -> None:
    known = dict(OPS)
    op = sg.elementwise("swoosh", lambda t, u: t / (1 + sympy.exp(-u * t)))
    try:
        arrays = grid(POINTS[:-3], 2, "float32")
        args = [sg.input(f"x{i}", a.shape) for i, a in enumerate(arrays)]
        y = op(*args)
        outputs = {"y": y, "d": sg.grad(sg.sum(y), args[0])}
        for name, got, expected in compiled_and_interpreted(args, outputs, arrays):
            assert np.isfinite(got).all()
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6, err_msg=name)
    finally:
        OPS.clear()
        OPS.update(known)
