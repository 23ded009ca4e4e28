"""What a user is promised about memory, repetition and errors, kept by compiled code.

The report predicts the arena exactly, memory does not grow, the same seed gives the same bits,
equal work is done once, and bad input is one clear error that changes nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgrad as sg
from symgrad.node import toposort

ROOT = Path(__file__).parent.parent
RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 12)).astype(np.float32)
Y = RNG.integers(0, 5, 96).astype(np.int32)


def model(layers: int = 1, dropout: float = 0.0) -> Any:
    """Loss of a network over a run-time batch, built anew at every call."""
    n = sg.dim("batch", max=32)
    x, y = sg.input("x", (n, 12)), sg.input("y", (n,), dtype="int32")
    parts: list[Any] = []
    width = 12
    for i in range(layers):
        parts += [sg.nn.Linear(width, 16, name=f"fc{i}"), sg.nn.tanh]
        parts += [sg.nn.Dropout(dropout)] if dropout else []
        width = 16
    net = sg.nn.Sequential(*parts, sg.nn.Linear(width, 5, name="out"))
    return sg.losses.cross_entropy(net(x, training=dropout > 0), y)


def bits(step: Any) -> str:
    digest = hashlib.sha256()
    for name in sorted(step.state):
        digest.update(name.encode() + np.ascontiguousarray(step.state[name]).tobytes())
    return digest.hexdigest()


# -- memory ------------------------------------------------------------------------------------


def reported(step: Any) -> int:
    """The arena's bytes in the report."""
    found = re.search(r"^memory: arena (?:.*?\(([\d,]+) bytes\)|(\d+) bytes)", step.report(), re.M)
    assert found, step.report()
    return int((found[1] or found[2]).replace(",", ""))


@pytest.mark.parametrize("layers", [1, 2, 6])
def test_the_report_predicts_the_arena_to_the_byte(layers: int) -> None:
    """Native code gets a block of that size, writes into it, and nowhere outside of it."""
    step = sg.train_step(model(layers), sg.optim.Adam(1e-3))
    function = step._backend.function
    predicted = reported(step)
    outputs = sum(-(-o.memory.nbytes // 64) * 64 for o in step._backend.outputs)
    assert predicted > 0 and predicted % 64 == 0
    assert function.bytes == predicted + outputs
    arena = np.frombuffer(function._memory.data, np.uint8)[:predicted]
    outside = np.zeros(predicted + 8192, np.uint8)
    begin = -outside.ctypes.data % 64 + 1024
    moved = outside[begin : begin + predicted]
    outside[:] = 0xA5
    before = int(function.pointers[0])
    function.pointers[0] = moved.ctypes.data  # the same work in a block with guards around it
    try:
        loss = step(X[:32], Y[:32])
    finally:
        function.pointers[0] = before
    assert np.isfinite(loss)
    assert (outside[:begin] == 0xA5).all() and (outside[begin + predicted :] == 0xA5).all()
    assert (moved != 0xA5).any() and not (moved == arena).all()
    assert (moved[-4096:] != 0xA5).any(), "the end of the arena is not used"


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_is_flat_over_a_hundred_thousand_steps() -> None:
    step = sg.train_step(model(), sg.optim.SGD(1e-3, momentum=0.9))
    predict = sg.train_step(
        model(), sg.optim.SGD(1e-3), outputs={"twice": sg.parameter("p", (), 1.0) * 2}
    )
    x, y = X[:4], Y[:4]

    def work(times: int) -> None:
        for _ in range(times):
            step(x, y)
        for _ in range(times // 10):
            predict(x=x, y=y)
        step.run({"x": X, "y": Y}, batch_size=3, epochs=times // 32)

    work(2_000)
    before = resident()
    work(50_000)  # calls, and as many steps of whole passes
    assert resident() - before < 1 << 20


# -- repetition --------------------------------------------------------------------------------


def trained(seed: int, target: str | None = None, others: int = 0) -> str:
    for _ in range(others):
        sg.random.uniform((3,))
        model(2, dropout=0.1)
    step = sg.train_step(model(2, dropout=0.3), sg.optim.Adam(1e-2), seed=seed, target=target)
    step.run({"x": X, "y": Y}, batch_size=20, epochs=2, shuffle=True)
    for i in range(3):
        step(X[i : i + 7], Y[i : i + 7])
    return bits(step)


def test_the_same_seed_gives_the_same_bits() -> None:
    """In two steps, whatever was built in between, and in another process."""
    first = trained(3)
    assert trained(3, others=3) == first
    assert trained(4) != first
    code = "import test_promises as t; print(t.trained(3))"
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), *sys.path])
    env = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "77"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == first


def test_dropout_is_the_same_in_numpy_and_native_code() -> None:
    losses = []
    for target in (None, "interpret"):
        step = sg.train_step(
            model(2, dropout=0.5), sg.optim.SGD(1e-2), seed=9, target=target, outputs={}
        )
        losses.append([step(X[:8], Y[:8]) for _ in range(3)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    assert len(set(losses[0])) == 3  # other numbers in every step


def test_streams_of_a_users_own_stay() -> None:
    a, b = sg.random.uniform((64,), stream=5), sg.random.uniform((64,))
    c = sg.random.uniform((64,))
    first, second = (sg.function([], e, seed=1)() for e in ([a, b, c], [c, a]))
    assert (first[0] == second[1]).all()
    assert (first[1] == second[0]).all()  # the first of its graph
    assert (first[1] != first[2]).any() and (first[0] != first[1]).any()


def test_shuffling_is_reproducible_and_by_epoch() -> None:
    """An optimizer that writes down the rows it sees tells the order in which they came."""
    n = sg.dim("n", max=1)

    def order(seed: int, epochs: int, shuffle: bool = True) -> list[float]:
        x, w = sg.input("x", (n,)), sg.parameter("w", ())
        seen = sg.state("seen", (64,))

        class Notes:
            def updates(self, params: Any, grads: Any) -> Any:  # the gradient of x w is x
                return {w: w, seen: sg.concatenate([seen[1:], sg.reshape(grads[0], (1,))])}

        step = sg.train_step((x * w).sum(), Notes(), seed=seed)
        step.run({"x": np.arange(64, dtype=np.float32)}, 1, epochs=epochs, shuffle=shuffle)
        return list(step.state["seen"])

    first = order(0, 1)
    assert sorted(first) == list(range(64)) and first != sorted(first)
    assert order(0, 1) == first
    assert order(1, 1) != first and order(0, 2) != first
    assert order(0, 2, shuffle=False) == sorted(first)


# -- errors: whatever happens, parameters stay ---------------------------------------------------


def bad_steps() -> dict[str, tuple[Callable[[Any], Any], list[str]]]:
    ok, many = (X[:4], Y[:4]), (X[:33], Y[:33])
    return {
        "unknown name": (lambda f: f(x=ok[0], labels=ok[1]), ["'labels'", "'x'", "'y'"]),
        "shape": (lambda f: f(X[:4, :5], ok[1]), ["'x'", "(batch, 12)", "(4, 5)"]),
        "rank": (lambda f: f(ok[0], ok[1][:, None]), ["'y'", "(batch,)", "(4, 1)"]),
        "dtype": (lambda f: f(ok[0], ok[1] * 1.0), ["'y'", "int32", "float64"]),
        "complex": (lambda f: f(ok[0] * 1j, ok[1]), ["'x'", "float32", "complex"]),
        "label": (lambda f: f(ok[0], np.array([0, 1, 5, 2])), ["'y'[2]", "5", "0..4"]),
        "negative label": (lambda f: f(ok[0], np.array([0, -3, 1, 2])), ["'y'[1]", "-3"]),
        "over max": (lambda f: f(*many), ["'x'", "batch = 33", "1..32"]),
        "disagree": (lambda f: f(ok[0], Y[:3]), ["'x'", "'y'", "batch", "4", "3"]),
        "missing": (lambda f: f(ok[0]), ["'y'"]),
        "learning rate": (lambda f: setattr(f, "lr", float("nan")), ["learning rate", "nan"]),
        "label in a pass": (lambda f: f.run({"x": X, "y": Y + 1}, 8), ["'y'", "5", "0..4"]),
        "name in a pass": (lambda f: f.run({"x": X, "z": Y}, 8), ["'z'", "'y'"]),
        "rows in a pass": (lambda f: f.run({"x": X, "y": Y[:50]}, 8), ["96", "50", "'x'", "'y'"]),
        "batch in a pass": (lambda f: f.run({"x": X, "y": Y}, 33), ["33", "32"]),
    }


@pytest.mark.parametrize("case", bad_steps())
def test_bad_input_is_one_error_and_changes_nothing(case: str) -> None:
    step = sg.train_step(model(), sg.optim.Adam(1e-2))
    step(X[:8], Y[:8])
    before = bits(step)
    act, parts = bad_steps()[case]
    with pytest.raises(sg.errors.SymgradError) as caught:
        act(step)
    message = str(caught.value)
    for part in parts:
        assert part in message, message
    assert "test_promises.py:" in message, message
    assert caught.value.__cause__ is None and caught.value.__suppress_context__ is not None
    assert bits(step) == before
    assert np.isfinite(step(X[:8], Y[:8]))


def test_an_index_out_of_range_changes_nothing() -> None:
    n = sg.dim("n", 16)
    k, t = sg.input("k", (n, 2), dtype="int64"), sg.input("t", (n, 3))
    table = sg.nn.Embedding(7, 3, name="words")
    step = sg.train_step(sg.losses.mse_loss(sg.mean(table(k), axis=1), t), sg.optim.SGD(1.0))
    before = bits(step)
    good = np.zeros((4, 2), np.int64)
    for bad in (7, -1, 2**40, -(2**62)):
        wrong = good.copy()
        wrong[2, 1] = bad
        with pytest.raises(sg.errors.InputError, match=rf"'k'\[2, 1\] is {bad}.*0\.\.6"):
            step(wrong, np.zeros((4, 3), np.float32))
        assert bits(step) == before
    step(good, np.ones((4, 3), np.float32))
    assert bits(step) != before


def test_bad_models() -> None:
    x, w = sg.input("x", (4, 3)), sg.parameter("w", (5, 2))
    bad: list[tuple[Callable[[], Any], list[str]]] = [
        (lambda: x @ w, ["matmul", "(4, 3)", "(5, 2)", "'x'", "'w'"]),
        (lambda: x + w, ["add", "(4, 3)", "(5, 2)", "'x'", "'w'"]),
        (lambda: sg.nn.Linear(4, 2, name="head")(x), ["head", "(4, 3)", "4"]),
        (lambda: sg.losses.mse_loss(x, w), ["mse_loss", "(4, 3)", "(5, 2)"]),
        (lambda: sg.losses.cross_entropy(x, x[:, 0]), ["cross_entropy"]),
        (lambda: sg.take(w, x, axis=0), ["take", "float32"]),
        (lambda: sg.train_step(w, sg.optim.SGD(1)), ["scalar", "'w'", "(5, 2)"]),
        (lambda: sg.grad(w * 2, w), ["grad", "scalar", "(5, 2)"]),
        (
            lambda: sg.function([], w.sum() + sg.parameter("w", (2,)).sum()),
            ["two parameters", "'w'", "(5, 2)", "(2,)"],
        ),
        (lambda: sg.optim.AdamW(float("inf")), ["adamw", "learning rate", "inf"]),
        (lambda: sg.parameter("v", (3,), init="zeros"), ["'v'", "'zeros'"]),
    ]
    for build, parts in bad:
        with pytest.raises(sg.errors.SymgradError) as caught:
            build()
        message = str(caught.value)
        assert "test_promises.py:" in message, message
        assert all(part in message for part in parts), message


def test_a_gradient_by_something_unrelated_is_zero_with_a_warning() -> None:
    x = sg.input("x", (4, 3))
    w, other = sg.parameter("w", (3,), 1.0), sg.parameter("other", (2, 2))
    loss = (x @ w).sum()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gradients = sg.grad(loss, {"w": w, "other": other})
    assert len(caught) == 1 and "'other' (2, 2)" in str(caught[0].message)
    assert "test_promises.py:" in str(caught[0].message)
    r = sg.function([x], gradients)(X[:4, :3])
    assert r["other"].tolist() == [[0, 0], [0, 0]] and r["w"].any()


# -- equal work is done once -------------------------------------------------------------------


def tanh_network(layers: int) -> tuple[Any, list[Any]]:
    h: Any = sg.input("x", (32, 24))
    weights = []
    for i in range(layers):
        w, b = sg.parameter(f"w{i}", (24, 24)), sg.parameter(f"b{i}", (24,))
        h = sg.tanh(h @ w + b)
        weights += [w, b]
    return (h * h).mean(), weights


def test_the_joint_gradient_has_no_two_equal_nodes() -> None:
    loss, weights = tanh_network(24)
    nodes = toposort([loss, *sg.grad(loss, weights)])
    keys = {(n.kind, n.attrs, n.shape, n.dtype, tuple(map(id, n.args)), n.name) for n in nodes}
    assert len(keys) == len(nodes)
    simple = toposort(sg.simplify([loss, *sg.grad(loss, weights)]))
    assert sum(n.kind == "map" and n.attrs[0] == "tanh" for n in simple) == 24


def test_the_joint_gradient_grows_with_depth_alone() -> None:
    counts = []
    for layers in (8, 16, 24, 32):
        loss, weights = tanh_network(layers)
        simple = sg.simplify([loss, *sg.grad(loss, weights)])
        counts.append((len(toposort([loss, *sg.grad(loss, weights)])), len(toposort(simple))))
    for i in range(2):
        steps = [b[i] - a[i] for a, b in zip(counts, counts[1:])]
        assert steps[0] == steps[1] == steps[2], counts


def test_the_gradient_of_24_layers_as_text(golden: Callable[[str, str], None]) -> None:
    loss, weights = tanh_network(24)
    step = sg.train_step(loss, sg.optim.SGD(0.1), target="avx2")
    text = step.stage("rewritten")
    text = re.sub(r" +test_promises\.py:\d+$", "", text, flags=re.M)
    golden("gradient_of_24_tanh_layers.txt", text)
    kernels = re.findall(r"^kernel (\w+)", step.stage("loops"), re.M)
    calls = step.stage("loops").split("\ncalls\n")[1].strip().splitlines()
    golden("kernels_of_24_tanh_layers.txt", f"{len(kernels)} kernels\n{len(calls)} calls\n")
