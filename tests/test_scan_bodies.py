"""Loops over bodies of many kinds, natively: values and gradients against the interpreter."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import pytest

import symgrad as sg
from symgrad.nn.convolution import conv2d
from symgrad.node import Parameter, toposort

Case = tuple[list[Any], dict[str, Any], list[Any]]  # inputs, outputs, arrays
T, B, F, H = 6, 18, 5, 16
CASES: dict[str, Callable[[np.random.Generator], Case]] = {}


def case(f: Callable[[np.random.Generator], Case]) -> Callable[[np.random.Generator], Case]:
    CASES[f.__name__] = f
    return f


def zeros(*shape: Any) -> Any:
    return sg.broadcast_to(sg.constant(0.0, "float64"), shape)


def normal(r: np.random.Generator, leaf: Any) -> Any:
    return r.standard_normal(leaf.shape)


def weight(name: str, *shape: int) -> Any:
    array = np.random.default_rng(sum(shape)).standard_normal(shape) / np.sqrt(shape[0])
    return sg.parameter(name, shape, init=array, dtype="float64")


def twice(value: Any) -> tuple[Any, Any]:
    return value, value


@case
def embeddings_inside(r: np.random.Generator) -> Case:
    """Rows of a table picked in the body: its gradient is scattered into a carry."""
    ids, table, w = sg.input("ids", (T, B), "int32"), weight("table", 11, H), weight("w", H, H)
    h, hs = sg.scan(lambda h, i: (sg.tanh(h @ w + sg.take(table, i, axis=0)), h), zeros(B, H), ids)
    return [ids], {"h": h, "hs": hs}, [r.integers(0, 11, (T, B)).astype("int32")]


@case
def its_own_choices_read_again(r: np.random.Generator) -> Case:
    start = sg.input("start", (B,), "int64")
    table, w, out = weight("table", 11, H), weight("w", H, H), weight("out", H, 11)

    def step(carry: Any, _: Any) -> Any:
        h, token = carry
        h = sg.tanh(h @ w + sg.take(table, token, axis=0))
        token = sg.argmax(h @ out, axis=1)
        return (h, token), token

    (h, _), tokens = sg.scan(step, (zeros(B, H), start), length=9)
    return [start], {"h": h, "tokens": tokens}, [r.integers(0, 11, (B,))]


def images(r: np.random.Generator, samples: int) -> Case:
    x, w = sg.input("x", (4, samples, 3, 8, 8), "float64"), weight("w", 6, 9, 3, 3)

    def step(h: Any, x: Any) -> Any:
        return twice(sg.tanh(conv2d(sg.concatenate([x, h], axis=1), w, padding=1)))

    h, hs = sg.scan(step, zeros(samples, 6, 8, 8), x)
    return [x], {"h": h, "hs": hs}, [normal(r, x)]


@case
def convolutions(r: np.random.Generator) -> Case:
    return images(r, B)


@case
def convolutions_of_few_images(r: np.random.Generator) -> Case:
    return images(r, 3)


def layer(xs: Any, name: str, reverse: bool = False) -> Any:
    w, u = weight(f"w{name}", F, H), weight(f"u{name}", H, H)
    return sg.scan(lambda h, p: twice(sg.tanh(p + h @ u)), zeros(B, H), xs @ w, reverse=reverse)[1]


@case
def both_directions(r: np.random.Generator) -> Case:
    xs, out = sg.input("xs", (T, B, F), "float64"), weight("out", 2 * H, 3)
    both = sg.concatenate([layer(xs, "f"), layer(xs, "b", reverse=True)], axis=2)
    return [xs], {"y": both @ out}, [normal(r, xs)]


@case
def as_many_steps_as_samples(r: np.random.Generator) -> Case:
    xs = sg.input("xs", (B, B, F), "float64")
    return [xs], {"y": layer(xs, "")}, [normal(r, xs)]


@case
def sequences_of_several_lengths(r: np.random.Generator) -> Case:
    xs, lengths = sg.input("xs", (T, B, F), "float64"), sg.input("lengths", (B,), "int32")
    w, u = weight("w", F, H), weight("u", H, H)

    def step(h: Any, now: Any) -> Any:
        p, t = now
        inside = sg.reshape(sg.less(sg.broadcast_to(sg.cast(t, "int32"), (B,)), lengths), (B, 1))
        return twice(sg.where(sg.broadcast_to(inside, (B, H)), sg.tanh(p + h @ u), h))

    h, hs = sg.scan(step, zeros(B, H), (xs @ w, sg.arange(T)))
    arrays = [normal(r, xs), r.integers(1, T + 1, (B,)).astype("int32")]
    return [xs, lengths], {"h": h, "hs": hs}, arrays


@case
def statistics_of_the_batch(r: np.random.Generator) -> Case:
    xs, w, u = sg.input("xs", (T, B, F), "float64"), weight("w", F, H), weight("u", H, H)

    def step(h: Any, p: Any) -> Any:
        a = p + h @ u
        n = (a - sg.mean(a, axis=1, keepdims=True)) / sg.std(a, axis=1, keepdims=True)
        n = sg.tanh(n - sg.mean(n, axis=0, keepdims=True))
        return n, sg.sum(n * n)

    h, energy = sg.scan(step, zeros(B, H), xs @ w)
    return [xs], {"h": h, "energy": energy}, [normal(r, xs)]


@case
def gradient_descent(r: np.random.Generator) -> Case:
    a, y = sg.input("a", (B, F), "float64"), sg.input("y", (B,), "float64")

    def step(w: Any, _: Any) -> Any:
        rest = a @ w - y
        return w - 0.1 * (sg.transpose(a, (1, 0)) @ rest) / B, sg.mean(rest * rest)

    w, losses = sg.scan(step, zeros(F), length=20)
    return [a, y], {"w": w, "losses": losses}, [r.standard_normal((B, F)), r.standard_normal(B)]


@case
def powers_of_a_matrix(r: np.random.Generator) -> Case:
    m = sg.input("m", (F, F), "float64")
    last, all_ = sg.scan(lambda c, _: (c @ m, c), sg.constant(np.eye(F)), length=5)
    return [m], {"last": last, "all": all_}, [r.standard_normal((F, F)) * 0.5]


@case
def running_extremes(r: np.random.Generator) -> Case:
    xs = sg.input("xs", (T, B, F), "float64")
    most, _ = sg.scan(lambda c, x: (sg.maximum(c, x), None), zeros(B, F), xs)
    sums, _ = sg.scan(lambda c, x: (c + sg.cumsum(x, axis=1), None), zeros(B, F), xs)
    return [xs], {"most": most, "sums": sums}, [normal(r, xs)]


@case
def steps_and_samples_of_one_size(r: np.random.Generator) -> Case:
    n = sg.dim("n", 12)
    xs = sg.input("xs", (n, n), "float64")
    last, seen = sg.scan(lambda c, x: (0.5 * c + x, c), zeros(n), xs)
    return [xs], {"last": last, "seen": seen}, [r.standard_normal((7, 7))]


@case
def vectors_of_run_time_steps(r: np.random.Generator) -> Case:
    xs = sg.input("xs", (sg.dim("n", 12), F), "float64")
    last, seen = sg.scan(lambda c, x: (0.5 * c + sg.sum(x * c) + x, c), zeros(F), xs)
    return [xs], {"last": last, "seen": seen}, [r.standard_normal((7, F))]


def with_gradients(outputs: dict[str, Any], inputs: list[Any]) -> dict[str, Any]:
    loss = sum(sg.sum(sg.sin(e)) for e in outputs.values() if e.dtype == "float64")
    targets = [n for n in toposort([loss]) if isinstance(n, Parameter)]
    targets += [i for i in inputs if i.dtype == "float64"]
    found = sg.grad(loss, targets)
    return {**outputs, **{f"d {p.name}": g for p, g in zip(targets, found)}}


@pytest.mark.filterwarnings("ignore::symgrad.errors.DisconnectedWarning")
@pytest.mark.parametrize("name", CASES)
def test_bodies(name: str) -> None:
    inputs, outputs, arrays = CASES[name](np.random.default_rng(0))
    outputs = with_gradients(outputs, inputs)
    expected = sg.function(inputs, outputs, target="interpret")(*arrays)
    found = sg.function(inputs, outputs)(*arrays)
    for key in outputs:
        np.testing.assert_allclose(found[key], expected[key], rtol=1e-9, atol=1e-9, err_msg=key)


@pytest.mark.parametrize("batch, steps", [(40, 12), (1, 12), (33, 1), (17, 5)])
def test_sizes_at_run_time_and_little_memory(batch: int, steps: int) -> None:
    n, t = sg.dim("n", 40), sg.dim("t", 12)
    x, w, u = sg.input("x", (n, t, F), "float64"), weight("w", F, H), weight("u", H, H)
    _, hs = sg.scan(
        lambda h, p: twice(sg.tanh(p + h @ u)), zeros(n, H), sg.transpose(x @ w, (1, 0, 2))
    )
    outputs = with_gradients({"y": sg.mean(hs * hs)}, [x])
    array = np.random.default_rng(1).standard_normal((batch, steps, F))
    expected = sg.function([x], outputs, target="interpret")(array)
    for limit in (None, 1 << 20):
        found = sg.function([x], outputs, max_bytes=limit)(array)
        for key in outputs:
            np.testing.assert_allclose(found[key], expected[key], rtol=1e-9, atol=1e-11)
