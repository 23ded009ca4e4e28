"""Bad input: one clear error naming operation, shapes, names and line; parameters unchanged."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symgrad as sg
from symgrad.errors import (
    DisconnectedWarning,
    DTypeError,
    GraphError,
    InputError,
    NonFiniteError,
    ShapeError,
)

X = np.ones((4, 3), np.float32)
Y = np.array([0, 1, 2, 3], np.int32)


@pytest.fixture(scope="module", params=["interpret", "native"])
def step(request: pytest.FixtureRequest) -> Any:
    n = sg.dim("batch", 8)
    x, y = sg.input("x", (n, 3)), sg.input("y", (n,), dtype="int32")
    rows = sg.input("rows", (n,), dtype="int64")
    w, table = sg.parameter("w", (3, 4), init=sg.init.he_normal()), sg.parameter("table", (5, 4))
    logits = x @ w + sg.take(table, rows, axis=0)
    loss = sg.losses.cross_entropy(logits, y)
    return sg.train_step(loss, sg.optim.SGD(0.1), target=request.param)


R = np.array([0, 1, 2, 4])
INTS = {"y": np.zeros(20, int)}
BAD: dict[str, tuple[Callable[[Any], Any], str]] = {
    "missing": (lambda f: f(X, Y), r"missing input 'rows'"),
    "too many": (lambda f: f(X, Y, R, R), r"4 inputs given, takes 3"),
    "unknown": (lambda f: f(X, Y, R, z=X), r"no input is named 'z'.*'x', 'y', 'rows'"),
    "twice": (lambda f: f(X, Y, R, x=X), r"'x' is given twice"),
    "rank": (lambda f: f(X[0], Y, R), r"'x' has shape \(batch, 3\), the value given \(3,\)"),
    "size": (lambda f: f(X[:, :2], Y, R), r"'x' has shape \(batch, 3\), .* \(4, 2\)"),
    "over max": (
        lambda f: f(np.ones((9, 3)), np.zeros(9, int), np.zeros(9, int)),
        r"batch = 9 is outside 1..8.*sg.dim\('batch', max=8\)",
    ),
    "empty": (lambda f: f(X[:0], Y[:0], R[:0]), r"batch = 0 is outside 1..8"),
    "disagree": (lambda f: f(X, Y[:3], R), r"'x' and 'y' disagree about batch: 4 and 3"),
    "dtype": (lambda f: f(X, Y.astype(float), R), r"'y' is int32, the value given float64"),
    "complex": (lambda f: f(X.astype(complex), Y, R), r"'x' is float32, .* complex128"),
    "text": (lambda f: f([["a"] * 3] * 4, Y, R), r"'x' is float32"),
    "ragged": (lambda f: f([[1, 2, 3], [4]], Y, R), r"input 'x': not an array"),
    "expression": (lambda f: f(sg.input("q", (4, 3)), Y, R), r"expected an array"),
    "label": (lambda f: f(X, [0, 4, 1, 2], R), r"'y'\[1\] is 4: .* 0..3\n  at test_errors.py:"),
    "negative label": (lambda f: f(X, [0, 1, -1, 2], R), r"'y'\[2\] is -1"),
    "index": (lambda f: f(X, Y, [0, 1, 5, 2]), r"'rows'\[2\] is 5: .* 0..4\n  at test_errors.py:"),
    "large label": (lambda f: f(X, np.full(4, 2**40), R), r"int32, which cannot hold \d+"),
    "run name": (lambda f: f.run({"x": X, "y": Y}, 2), r"missing input 'rows'"),
    "run rows": (
        lambda f: f.run({"x": X, "y": Y[:2], "rows": R}, 2),
        r"'x' has 4 samples and 'y' has 2",
    ),
    "run label": (lambda f: f.run({"x": X, "y": Y + 1, "rows": R}, 2), r"'y'\[3\] is 4"),
    "run shape": (lambda f: f.run({"x": X[0], "y": Y, "rows": R}, 2), r"'x' must have shape"),
    "run batch": (
        lambda f: f.run({"x": np.ones((20, 3)), "rows": [0] * 20} | INTS, 9),
        r"batch_size 9 is over the largest batch",
    ),
    "run batch 0": (lambda f: f.run({"x": X, "y": Y, "rows": R}, 0), r"batch_size must be"),
    "run epochs": (lambda f: f.run({"x": X, "y": Y, "rows": R}, 2, epochs=-1), r"epochs must be"),
    "run no dict": (lambda f: f.run(X, 2), r"expected a dict"),
    "run empty": (lambda f: f.run({"x": X[:0], "y": Y[:0], "rows": R[:0]}, 2), r"no samples"),
    "lr nan": (lambda f: setattr(f, "lr", float("nan")), r"learning rate must be finite"),
    "lr negative": (lambda f: setattr(f, "lr", -1.0), r"learning rate must be"),
    "lr text": (lambda f: setattr(f, "lr", "fast"), r"learning rate"),
    "state name": (lambda f: f.state["v"], r"no parameter named 'v'.*w, table"),
    "state shape": (lambda f: f.state.update(w=np.ones(3)), r"'w' has shape \(3, 4\), .* \(3,\)"),
    "state dtype": (lambda f: f.state.update(w=np.ones((3, 4), complex)), r"'w' is float32"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_call_says_so_and_changes_nothing(step: Any, case: str) -> None:
    step.run({"x": X, "y": Y, "rows": R}, batch_size=4)
    before = {name: step.state[name] for name in step.state}
    act, message = BAD[case]
    with pytest.raises(InputError, match=message):
        act(step)
    assert all(np.array_equal(before[name], step.state[name]) for name in before)
    assert np.isfinite(step(X, Y, R))  # still works
    for name, value in before.items():
        step.state[name] = value


# -- building and compiling -------------------------------------------------------------------


def test_a_loss_that_is_no_scalar() -> None:
    x = sg.input("x", (4, 3))
    w = sg.parameter("w", (3,))
    with pytest.raises(GraphError, match=r"must be a scalar.*shape \(4,\)(.|\n)*test_errors.py"):
        sg.train_step(x @ w, sg.optim.SGD(0.1))


def test_a_loss_without_parameters_or_of_integers() -> None:
    x = sg.input("x", (4,))
    with pytest.raises(GraphError, match="no parameter"):
        sg.train_step(sg.sum(x), sg.optim.SGD(0.1))
    k = sg.input("k", (4,), dtype="int32")
    with pytest.raises(GraphError, match="must be float"):
        sg.train_step(sg.sum(k), sg.optim.SGD(0.1))
    with pytest.raises(GraphError, match="must be an expression"):
        sg.train_step(3.0, sg.optim.SGD(0.1))  # type: ignore[arg-type]


def test_two_parameters_of_one_name() -> None:
    x = sg.input("x", (3,))
    a, b = sg.parameter("w", (3,)), sg.parameter("w", (3,))
    with pytest.raises(GraphError, match=r"two parameters are named 'w'(.|\n)*a, b = sg.parameter"):
        sg.function([x], x * a + x * b)
    with pytest.raises(GraphError, match="two parameters are named 'w'"):
        sg.train_step(sg.sum(x * a + x * b), sg.optim.SGD(0.1))


def test_a_second_parameter_of_a_name_in_a_shared_state() -> None:
    a, b = sg.parameter("w", (3,)), sg.parameter("w", (3,))
    f = sg.function([], a, target="interpret")
    with pytest.raises(GraphError, match="two parameters are named 'w'"):
        sg.function([], b, state=f.state, target="interpret")


def test_names_shared_by_inputs() -> None:
    x, again = sg.input("x", (3,)), sg.input("x", (3,))
    w = sg.parameter("x", (3,))
    with pytest.raises(GraphError, match="two inputs are named 'x'"):
        sg.function([x, again], x + again)
    with pytest.raises(GraphError, match="'x' is twice among the inputs"):
        sg.function([x, x], x)
    with pytest.raises(GraphError, match="input and parameter are named 'x'"):
        sg.function([x], x + w)


def test_inputs_that_are_not_given() -> None:
    x, y = sg.input("x", (3,)), sg.input("y", (3,))
    with pytest.raises(GraphError, match=r"depend on input 'y'(.|\n)*at test_errors.py"):
        sg.function([x], x + y)
    with pytest.raises(InputError, match="neither sg.input nor sg.parameter"):
        sg.function([x + y], x + y)
    with pytest.raises(InputError, match="expected an expression"):
        sg.function([x], "x")


def test_a_run_time_size_that_nothing_gives() -> None:
    n = sg.dim("n", 4)
    w = sg.parameter("w", ())
    with pytest.raises(GraphError, match="run-time size 'n'"):
        sg.function([], w * n)


def test_updates_that_do_not_fit() -> None:
    w, k = sg.parameter("w", (3,)), sg.state("k", (), dtype="int64")
    with pytest.raises(ShapeError, match=r"'w' has shape \(2,\), the parameter \(3,\)"):
        sg.function([], w, updates={w: w[:2]})
    with pytest.raises(DTypeError, match="'k' is float32, the state int64"):
        sg.function([], w, updates={k: sg.sum(w)})
    with pytest.raises(InputError, match="neither sg.parameter nor sg.state"):
        sg.function([], w, updates={w + 1: w})
    with pytest.raises(GraphError, match="both an input and updated"):
        sg.function([w], w, updates={w: w + 1})


def test_options_are_checked() -> None:
    w = sg.parameter("w", (3,))
    for bad in ({"target": "gpu"}, {"threads": 0}, {"check": "all"}, {"seed": -1}, {"state": {}}):
        with pytest.raises(InputError, match=next(iter(bad))):
            sg.function([], w, **bad)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="optimizer must have"):
        sg.train_step(sg.sum(w), 0.1)
    with pytest.raises(InputError, match="the loss itself"):
        sg.train_step(sg.sum(w), sg.optim.SGD(0.1), outputs={"loss": w})
    with pytest.raises(InputError, match="expected a dict"):
        sg.train_step(sg.sum(w), sg.optim.SGD(0.1), outputs=[w])  # type: ignore[arg-type]


def test_a_non_finite_learning_rate() -> None:
    with pytest.raises(InputError, match="learning rate must be finite"):
        sg.optim.SGD(float("inf"))


def test_a_parameter_the_loss_does_not_depend_on() -> None:
    x = sg.input("x", (3,))
    w, other = sg.parameter("w", (3,)), sg.parameter("other", (3,))
    loss = sg.sum(x * w)
    with pytest.warns(DisconnectedWarning, match="'other'"):
        g = sg.grad(loss, other)
    assert sg.function([], g, target="interpret")().tolist() == [0, 0, 0]
    with pytest.raises(GraphError, match="does not depend on 'other'"):
        sg.train_step(loss, sg.optim.SGD(0.1), parameters=[other])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sg.train_step(loss, sg.optim.SGD(0.1), target="interpret")


# -- check="finite" ---------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["interpret", "native"])
def test_the_first_term_that_is_not_finite(target: str) -> None:
    x = sg.input("x", (4,))
    w = sg.parameter("w", (4,), init=np.ones(4))
    root = sg.log(x * w)  # the line that is to blame
    step = sg.train_step(sg.sum(root), sg.optim.Adam(0.1), check="finite", target=target)
    assert np.isclose(step(np.full(4, 2, np.float32)), 4 * np.log(2))
    before = {name: step.state[name] for name in step.state}
    with pytest.raises(
        NonFiniteError, match=r"log\(.*\) is -inf in 1 of 4 elements, first at \[2\]"
    ):
        step(np.array([1, 1, 0, 1], np.float32))
    with pytest.raises(NonFiniteError, match="the line that is to blame"):
        step(np.array([1, 1, -1, 1], np.float32))
    with pytest.raises(NonFiniteError, match="input 'x' is nan"):
        step(np.array([1, np.nan, 1, 1], np.float32))
    assert all(np.array_equal(before[name], step.state[name]) for name in before)
    assert np.isfinite(step(np.ones(4, np.float32)))
