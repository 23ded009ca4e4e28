"""Graphs made by hand for what random ones rarely meet: each run in every way and compared.

Kernels that differ in one number only, states that exchange values, states read beside updates.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from fuzz_graphs import Case
from fuzzing import check_case

import symgrad as sg
from symgrad.node import Expr, Input, Parameter, State

Outputs = dict[str, Expr]
Updates = dict[Parameter, Expr]


def apart(f: Callable[..., Expr], g: Callable[..., Expr], shape: tuple[int, ...] = (6, 5)) -> Case:
    """Two functions of two inputs: two kernels, with nothing in common but their form."""
    a, b = Input("a", shape), Input("b", shape)
    rng = np.random.default_rng(0)
    env = {x: rng.normal(size=shape) for x in (a, b)}
    return Case(0, [a, b], {"f": f(a), "g": g(b)}, {}, env, {})


PAIRS: dict[str, Callable[[], Case]] = {
    "constants": lambda: apart(lambda x: x * 2.0, lambda x: x * 3.0),
    "signs of zero": lambda: apart(lambda x: x * 0.0, lambda x: x * -0.0),
    "functions": lambda: apart(sg.sin, sg.cos),
    "orders": lambda: apart(lambda x: x - x[::-1], lambda x: x[::-1] - x),
    "laws": lambda: apart(lambda x: sg.max(x, axis=1), lambda x: sg.min(x, axis=1)),
    "first values": lambda: apart(lambda x: sg.sum(x, axis=0), lambda x: sg.prod(x, axis=0)),
    "offsets": lambda: apart(lambda x: x[1:-1] + 1, lambda x: x[2:] + 1),
    "strides": lambda: apart(lambda x: x[:, ::2] + 1, lambda x: x[:, :3] + 1),
    "directions": lambda: apart(lambda x: sg.flip(x, 1) + 1, lambda x: sg.flip(x, 0) + 1),
    "fills": lambda: apart(
        lambda x: sg.pad(x, 1, constant_values=2.0) * 2,
        lambda x: sg.pad(x, 1, constant_values=3.0) * 2,
    ),
    "axes": lambda: apart(
        lambda x: sg.cumsum(x, axis=0), lambda x: sg.cumsum(x, axis=1), shape=(5, 5)
    ),
    "streams": lambda: apart(
        lambda x: x + sg.random.uniform(x.shape, stream=1),
        lambda x: x + sg.random.uniform(x.shape, stream=2),
    ),
    "dtypes": lambda: apart(
        lambda x: sg.cast(x * 1.5, "float64"),
        lambda x: sg.cast(sg.cast(x * 1.5, "int32"), "float64"),
    ),
    "rows of a table": lambda: apart(
        lambda x: sg.take(x, [0, 3], axis=0) * 2, lambda x: sg.take(x, [3, 0], axis=0) * 2
    ),
    "products": lambda: apart(lambda x: x @ x.T, lambda x: x @ (2.0 * x).T),
}


@pytest.mark.parametrize("name", PAIRS)
def test_kernels_that_differ_in_one_thing(name: str) -> None:
    check_case(PAIRS[name]())


def states(count: int, shape: tuple[int, ...]) -> list[Parameter]:
    return [State(f"s{i}", shape) for i in range(count)]


def moved(updates: Callable[..., list[Expr]], shape: tuple[int, ...], count: int = 3) -> Case:
    """Updates of states from each other."""
    s = states(count, shape)
    rng = np.random.default_rng(1)
    x = Input("x", (4, shape[0] if shape else 1))
    env = {n: rng.normal(size=n.shape) for n in (x, *s)}
    outputs: Outputs = {"old": s[0], "twice": s[0], "used": sg.sum(x) * sg.sum(s[0] * 3)}
    return Case(1, [x], outputs, dict(zip(s, updates(*s))), env, {})


EXCHANGES: dict[str, Callable[..., list[Expr]]] = {
    "two exchanged": lambda a, b, c: [b, a, c + 1],
    "three in a circle": lambda a, b, c: [b, c, a],
    "one from the other": lambda a, b, c: [b, b + 1, a],
    "all the same": lambda a, b, c: [a + b, a + b, a + b],
    "old and new": lambda a, b, c: [0.5 * a, 0.9 * b + 0.5 * a, c - (0.9 * b + 0.5 * a)],
    "nothing new": lambda a, b, c: [a, b, c],
    "reversed": lambda a, b, c: [sg.flip(a), sg.flip(b) + a, sg.cumsum(c, axis=0)],
}


@pytest.mark.parametrize("shape", [(1,), (5,), (40,), (7, 20)], ids=str)
@pytest.mark.parametrize("name", EXCHANGES)
def test_states_from_states(name: str, shape: tuple[int, ...]) -> None:
    check_case(moved(EXCHANGES[name], shape))


def test_a_value_read_along_another_axis() -> None:
    """Within a row, but not element by element: no common loop may go around both."""
    x = Input("x", (6, 5, 5))
    deep = sg.exp(sg.sin(sg.tanh(x)))
    turned = sg.swapaxes(deep, 1, 2)
    env = {x: np.random.default_rng(0).normal(size=x.shape)}
    outputs = {"sum": deep - turned, "largest": sg.max(deep * turned, axis=2)}
    check_case(Case(0, [x], outputs, {}, env, {}))
