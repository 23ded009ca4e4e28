"""Loops as native code, against the interpreter of graphs."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import pytest

import symgrad as sg
from symgrad.node import Parameter, toposort

Array = np.ndarray[Any, Any]
Case = Callable[[str], tuple[dict[str, Any], list[Any]]]
T, B, F, H = 7, 20, 5, 12


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def values(leaves: list[Any], dims: dict[str, int]) -> list[Array]:
    """Random arrays for inputs."""
    found = []
    r = rng()
    for leaf in leaves:
        shape = tuple(s if isinstance(s, int) else dims[s.name] * s.factor for s in leaf.shape)
        found.append(r.standard_normal(shape).astype(leaf.dtype))
    return found


def weight(name: str, shape: tuple[int, ...], dtype: str) -> Any:
    scale = 1 / np.sqrt(shape[0])
    array = np.random.default_rng(len(name) + sum(shape)).standard_normal(shape) * scale
    return sg.parameter(name, shape, init=array.astype(dtype), dtype=dtype)


def zeros(shape: tuple[Any, ...], dtype: str) -> Any:
    return sg.broadcast_to(sg.constant(0.0, dtype), shape)


def ones(shape: tuple[Any, ...], dtype: str) -> Any:
    return sg.broadcast_to(sg.constant(1.0, dtype), shape)


# -- loops -----------------------------------------------------------------------------------------


def cumulative(dtype: str) -> Any:
    xs = sg.input("xs", (T, B, F), dtype)
    total, sums = sg.scan(lambda c, x: (c + x, c + x), zeros((B, F), dtype), xs)
    return [xs], {"total": total, "sums": sums}


def scalars(dtype: str) -> Any:
    xs = sg.input("xs", (T,), dtype)
    total, sums = sg.scan(lambda c, x: (0.9 * c + x, c * x), zeros((), dtype), xs)
    return [xs], {"total": total, "sums": sums}


def vectors(dtype: str) -> Any:
    xs, w = sg.input("xs", (T, F), dtype), weight("w", (F, F), dtype)
    last, seen = sg.scan(lambda c, x: (sg.tanh(c @ w + x), c), zeros((F,), dtype), xs)
    return [xs], {"last": last, "seen": seen}


def integrator(dtype: str) -> Any:
    """Heun's method for an oscillator: no sequence, a length."""
    start = sg.input("start", (2,), dtype)
    m = sg.constant(np.array([[0.0, 1.0], [-1.0, -0.1]]), dtype)

    def step(y: Any, _: Any) -> Any:
        a = m @ y
        b = m @ (y + 0.1 * a)
        new = y + 0.05 * (a + b)
        return new, new

    last, path = sg.scan(step, start, length=25)
    return [start], {"last": last, "path": path}


def rnn(dtype: str, reverse: bool = False, batch: Any = B, steps: Any = T) -> Any:
    xs, h0 = sg.input("xs", (steps, batch, F), dtype), sg.input("h0", (batch, H), dtype)
    wx, wh = weight("wx", (F, H), dtype), weight("wh", (H, H), dtype)

    def step(h: Any, x: Any) -> Any:
        new = sg.tanh(x @ wx + h @ wh)
        return new, new

    last, hs = sg.scan(step, h0, xs, reverse=reverse)
    return [xs, h0], {"last": last, "hs": hs}


def hoisted(dtype: str) -> Any:
    """The input's projection outside; samples first."""
    x = sg.input("x", (B, T, F), dtype)
    wx, wh = weight("wx", (F, H), dtype), weight("wh", (H, H), dtype)

    def step(h: Any, p: Any) -> Any:
        new = sg.tanh(p + h @ wh)
        return new, new

    last, hs = sg.scan(step, zeros((B, H), dtype), sg.transpose(x @ wx, (1, 0, 2)))
    return [x], {"last": last, "hs": sg.transpose(hs, (1, 0, 2))}


def exchange(dtype: str) -> Any:
    """Carries that take each other's places."""
    xs = sg.input("xs", (T, B, F), dtype)
    (a, b), seen = sg.scan(
        lambda c, x: ((c[1], c[0] + x), c[0]), (zeros((B, F), dtype), ones((B, F), dtype)), xs
    )
    (p, q), _ = sg.scan(
        lambda c, x: ((c[1], c[0] * x), None), (ones((B, F), dtype), ones((B, F), dtype)), xs
    )
    (u, v), _ = sg.scan(  # one is read after the other has its next value
        lambda c, x: ((0.5 * c[0] + x, c[1] + c[0] * sg.sum(x, axis=1, keepdims=True)), None),
        (zeros((B, F), dtype), zeros((B, F), dtype)), xs,
    )  # fmt: skip
    return [xs], {"a": a, "b": b, "seen": seen, "p": p, "q": q, "u": u, "v": v}


def nested(dtype: str) -> Any:
    xs = sg.input("xs", (T, 3, B, F), dtype)
    w = weight("w", (F, F), dtype)

    def outer(c: Any, rows: Any) -> Any:
        inner, path = sg.scan(lambda d, x: (sg.tanh(d @ w + x + c), d), c, rows)
        return inner + c, path

    last, paths = sg.scan(outer, zeros((B, F), dtype), xs)
    return [xs], {"last": last, "paths": paths}


def attention(dtype: str) -> Any:
    """What the body reads from outside has steps of its own."""
    xs, memory = sg.input("xs", (T, B, F), dtype), sg.input("memory", (9, B, F), dtype)
    w = weight("w", (F, F), dtype)

    def step(h: Any, x: Any) -> Any:
        scores = sg.sum(memory * (h @ w), axis=2)
        weights = sg.exp(scores)
        context = sg.sum(memory * sg.reshape(weights / sg.sum(weights, axis=0), (9, B, 1)), axis=0)
        new = sg.tanh(x + context)
        return new, context

    last, seen = sg.scan(step, zeros((B, F), dtype), xs)
    return [xs, memory], {"last": last, "seen": seen}


LOOPS = {
    f.__name__: f
    for f in (cumulative, scalars, vectors, integrator, rnn, hoisted, exchange, nested, attention)
}
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


def compare(leaves: list[Any], outputs: dict[str, Any], dims: Any = (), **options: Any) -> None:
    arrays = values(leaves, dict(dims))
    dtype = leaves[0].dtype
    expected = sg.function(leaves, outputs, target="interpret")(*arrays)
    found = sg.function(leaves, outputs, **options)(*arrays)
    for name in outputs:
        np.testing.assert_allclose(
            found[name], expected[name], rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * 5,
            err_msg=name,
        )  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LOOPS)
def test_loops(name: str, dtype: str) -> None:
    compare(*LOOPS[name](dtype))


@pytest.mark.parametrize("name", LOOPS)
def test_gradients(name: str) -> None:
    leaves, outputs = LOOPS[name]("float64")
    loss = sum(sg.sum(sg.sin(e)) for e in outputs.values())
    used = [n for n in toposort([loss]) if isinstance(n, Parameter)]
    targets = [*leaves, *used]
    gradients = sg.grad(loss, targets)
    compare(leaves, {f"g{i}": g for i, g in enumerate(gradients)})


def test_reverse() -> None:
    compare(*rnn("float32", reverse=True))


@pytest.mark.parametrize("batch", [1, 3, 16, 37])
@pytest.mark.parametrize("steps", [1, 2, 11])
def test_sizes_at_run_time(batch: int, steps: int) -> None:
    leaves, outputs = rnn("float32", batch=sg.dim("batch", 37), steps=sg.dim("t", 11))
    compare(leaves, outputs, dims={"batch": batch, "t": steps})


@pytest.mark.parametrize("name", ["rnn", "hoisted", "nested", "attention"])
def test_threads_do_not_matter(name: str) -> None:
    leaves, outputs = LOOPS[name]("float32")
    arrays = values(leaves, {})
    one, two = (sg.function(leaves, outputs, threads=n)(*arrays) for n in (1, 2))
    for key in outputs:
        np.testing.assert_array_equal(one[key], two[key])


def sequence_loss(batch: Any, steps: Any, hidden: int = H) -> tuple[list[Any], Any]:
    """A network with an LSTM by hand between two dense layers; samples first."""
    x, y = sg.input("x", (batch, steps, F)), sg.input("y", (batch, steps, 3))
    wx, wh = weight("wx", (F, 4 * hidden), "float32"), weight("wh", (hidden, 4 * hidden), "float32")
    out, start = weight("out", (hidden, 3), "float32"), zeros((batch, hidden), "float32")

    def step(state: Any, p: Any) -> Any:
        h, c = state
        i, f, g, o = sg.split(p + h @ wh, 4, axis=1)
        c = sg.sigmoid(f) * c + sg.sigmoid(i) * sg.tanh(g)
        h = sg.sigmoid(o) * sg.tanh(c)
        return (h, c), h

    _, hs = sg.scan(step, (start, start), sg.transpose(x @ wx, (1, 0, 2)))
    return [x, y], sg.mean((sg.transpose(hs, (1, 0, 2)) @ out - y) ** 2)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_training(optimizer: str) -> None:
    """Parameters after some steps, with several sizes in one compiled step."""
    batch, steps = sg.dim("batch", 20), sg.dim("t", 9)
    found = {}
    for target in ("interpret", None):
        leaves, loss = sequence_loss(batch, steps)
        step = sg.train_step(loss, getattr(sg.optim, optimizer)(0.01), target=target)
        r = rng()
        losses = []
        for b, t in ((20, 9), (3, 9), (17, 1), (1, 4), (16, 8), (20, 9)):
            x, y = r.standard_normal((b, t, F)), r.standard_normal((b, t, 3))
            losses.append(float(step(x.astype("float32"), y.astype("float32"))))
        used = [n for n in toposort([loss]) if isinstance(n, Parameter)]
        found[target] = losses, {p.name: step.state[p] for p in used}
    np.testing.assert_allclose(found[None][0], found["interpret"][0], rtol=1e-4)
    for name, array in found["interpret"][1].items():
        np.testing.assert_allclose(found[None][1][name], array, rtol=1e-3, atol=1e-5, err_msg=name)


def test_epochs_run_natively() -> None:
    leaves, loss = sequence_loss(sg.dim("batch", 16), 6)
    r = rng()
    data = {
        "x": r.standard_normal((50, 6, F)).astype("float32"),
        "y": r.standard_normal((50, 6, 3)).astype("float32"),
    }
    found = {}
    for target in ("interpret", None):
        step = sg.train_step(loss, sg.optim.SGD(0.1), target=target)
        found[target] = step.run(data, batch_size=16, epochs=3, shuffle=False)
    np.testing.assert_allclose(found[None], found["interpret"], rtol=1e-4)


def test_the_schedule_shows_the_loop() -> None:
    leaves, outputs = rnn("float32")
    step = sg.function(leaves, outputs)
    lines = step.stage("schedule").splitlines()
    where = lines.index("for t of 7, in order:")
    assert lines[where + 1].startswith("  ")
    assert "repeat t in" in step.stage("loops")


def test_nothing_is_copied_from_step_to_step() -> None:
    """A carry that is stacked lives in its stack; what the body reads is converted before."""
    leaves, outputs = rnn("float32")
    entries = sg.function(leaves, outputs)._pipeline.schedule.entries
    assert [e.kernel for e in entries if e.depth and e.kind in ("copy", "convert")] == []


def test_equal_kernels_are_shared_by_loops() -> None:
    xs = sg.input("xs", (T, B, F))
    a, _ = sg.scan(lambda c, x: (sg.tanh(c + x), None), zeros((B, F), "float32"), xs)
    b, _ = sg.scan(lambda c, x: (sg.tanh(c + x), None), a, xs)
    step = sg.function([xs], {"b": b})
    repeated = [e.kernel for e in step._pipeline.schedule.entries if e.depth]
    assert len(repeated) == 2 and len(set(repeated)) == 1


@pytest.mark.parametrize(
    "batch, idle",
    [(8, True), (9, False), (sg.dim("batch", 8), True), (sg.dim("batch", 9), False)],
    ids=str,
)
def test_few_rows_leave_the_lanes_to_features(batch: Any, idle: bool) -> None:
    """Where half of the lanes would be idle, at any size, nothing has rows in lanes."""
    from symgrad.schedule.rows import row_size

    x = sg.input("x", (batch, F))
    nodes = toposort([sg.nn.Sequential(sg.nn.Linear(F, H), sg.nn.tanh, sg.nn.Linear(H, F))(x)])
    assert row_size(nodes, {}, 16) == (None if idle else batch)
