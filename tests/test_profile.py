"""`profile()`: rows that add up, a table to read, and a function that does not notice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgrad as sg
from codegen.machine import measure
from codegen.target import Target
from symgrad.errors import InputError
from symgrad.schedule.kept import is_product

RNG = np.random.default_rng(3)
X = RNG.normal(size=(24, 20)).astype(np.float32)
Y = RNG.integers(0, 5, 24).astype(np.int32)


def step(**options: Any) -> Any:
    n = sg.dim("batch", max=32)
    x, y = sg.input("x", (n, 20)), sg.input("y", (n,), dtype="int32")
    net = sg.nn.Sequential(
        sg.nn.Linear(20, 64), sg.nn.relu, sg.nn.Dropout(0.2), sg.nn.Linear(64, 5)
    )
    loss = sg.losses.cross_entropy(net(x, training=True), y)
    return sg.train_step(loss, sg.optim.Adam(1e-2), **options)


def test_rows_are_the_kernels_with_their_work() -> None:
    s = step()
    profile = s.profile(X, Y, seconds=0.01)
    program = s._pipeline.schedule.program
    assert {row.kernel for row in profile.rows} == {k.name for k in s.kernels}
    assert sum(row.calls for row in profile.rows) == len(program.calls)
    assert profile.sizes == {"batch": 24} and profile.runs >= 5
    assert 0 < profile.seconds < 1
    assert [row.seconds for row in profile.rows] == sorted(
        (row.seconds for row in profile.rows), reverse=True
    )
    total = sum(row.seconds for row in profile.rows)
    assert total == pytest.approx(profile.seconds)
    with_product = {k.name for k in s.kernels if any(map(is_product, k.expressions))}
    products = sum(row.flops for row in profile.rows if row.kernel in with_product)
    assert products >= 2 * 24 * (2 * 20 * 64 + 3 * 64 * 5)
    for row in profile.rows:
        assert row.bytes > 0 and row.floor >= 0
        assert row.computes and row.sources
        if row.seconds:  # a kernel may take less than the counter's step
            assert row.gflops * row.seconds * 1e9 == pytest.approx(row.flops)
        if row.kernel in with_product:
            assert any("test_profile.py:" in line for line in row.sources), row
    timed = {k.name: k.seconds for k in s.kernels}
    assert timed == {row.kernel: row.seconds for row in profile.rows}


def test_table() -> None:
    profile = step().profile(seconds=0.01)
    text = str(profile)
    assert "batch 32" in text and "GFLOP/s" in text and "of floor" in text
    for row in profile.rows:
        line = next(line for line in text.splitlines() if row.kernel in line)
        assert all(part in line for part in (row.computes[:60], *row.sources))


def test_parameters_and_random_numbers_do_not_move() -> None:
    one, other = step(seed=4), step(seed=4)
    assert one(X, Y) == other(X, Y)
    before = {name: one.state[name] for name in one.state}
    one.profile(X, Y, seconds=0.01)
    one.profile(seconds=0.01)
    for name, value in before.items():
        assert np.array_equal(value, one.state[name]), name
    assert [one(X, Y) for _ in range(3)] == [other(X, Y) for _ in range(3)]


def test_functions_of_any_kind() -> None:
    w = sg.parameter("w", (3,), dtype="float64", init=sg.init.ones())
    f = sg.function([], {"sum": sg.sum(sg.exp(w))})
    assert f.profile(seconds=0.01).rows[0].flops > 3
    labels = sg.input("labels", (7,), dtype="int64")
    g = sg.function([labels], sg.one_hot(labels, 5), target="sse2")
    assert len(g.profile(seconds=0.01).rows) >= 1


def test_errors_are_those_of_a_call() -> None:
    s = step()
    with pytest.raises(InputError, match="shape"):
        s.profile(X[:, 1:], Y)
    with pytest.raises(InputError, match=r"0\.\.4"):
        s.profile(X, Y + 5)
    with pytest.raises(InputError, match="interpret"):
        step(target="interpret").profile(X, Y)


def test_only_a_profile_reads_the_counter() -> None:
    s = step()
    s.profile(seconds=0.01)
    assert "counter" not in s.stage("llvm")


def test_peaks_are_plausible() -> None:
    single, double = (measure(Target.host(), dtype) for dtype in ("float32", "float64"))
    assert single.flops > 1.2 * double.flops > 1e8
    assert single.bandwidth(1 << 12) > single.bandwidth(1 << 30) > 1e8
    both = measure(Target.host(), "float32", 2)
    assert both.flops > 0.5 * single.flops and len(both.levels) >= 2
    assert single.floor(single.flops, 0) == pytest.approx(1)
    assert single.floor(0, 1 << 30) == pytest.approx((1 << 30) / single.levels[-1][1])
