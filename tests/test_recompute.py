"""Recomputation instead of memory: budgets are kept, results change by no more than rounding."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import fuzzing
import numpy as np
import pytest
from fuzz_graphs import LARGE_FROM, WIDE_FROM

import symgrad as sg
from symgrad.errors import BudgetError, InputError
from symgrad.schedule import budget, kept, recompute
from symgrad.schedule.flow import Network

RNG = np.random.default_rng(5)
WIDTH, BATCH = 128, 64
X = RNG.normal(size=(BATCH, WIDTH)).astype(np.float32)
Y = RNG.integers(0, 10, BATCH).astype(np.int32)
IMAGES = RNG.normal(size=(16, 3, 16, 16)).astype(np.float32)


def deep(
    layers: int = 12, activation: Callable[[], Any] = lambda: sg.nn.gelu, **options: Any
) -> Any:
    """A deep network of dense layers; `activation` makes what follows each."""
    n = sg.dim("batch", max=BATCH)
    x, y = sg.input("x", (n, WIDTH)), sg.input("y", (n,), dtype="int32")
    parts: list[Any] = []
    for _ in range(layers):
        parts += [sg.nn.Linear(WIDTH, WIDTH), activation()]
    net = sg.nn.Sequential(*parts, sg.nn.Linear(WIDTH, 10))
    loss = sg.losses.cross_entropy(net(x, training=True), y)
    return sg.train_step(loss, sg.optim.SGD(1e-2, momentum=0.9), **options)


def normed(**options: Any) -> Any:
    """The same with normalisation and dropout."""

    def layer() -> Any:
        return sg.nn.Sequential(sg.nn.LayerNorm(WIDTH), sg.nn.gelu, sg.nn.Dropout(0.2))

    return deep(8, layer, **options)


def images(**options: Any) -> Any:
    n = sg.dim("batch", max=16)
    x, y = sg.input("x", (n, 3, 16, 16)), sg.input("y", (n,), dtype="int32")
    parts: list[Any] = []
    for i, o in ((3, 16), (16, 16), (16, 16)):
        parts += [sg.nn.Conv2d(i, o, 3, padding=1, bias=False), sg.nn.BatchNorm(o), sg.nn.silu]
    net = sg.nn.Sequential(*parts, sg.nn.GlobalAvgPool2d(), sg.nn.Linear(16, 10))
    loss = sg.losses.cross_entropy(net(x, training=True), y)
    return sg.train_step(loss, sg.optim.Adam(1e-2), **options)


def arena(step: Any) -> int:
    return int(step._backend.function.arena_bytes)


def trained(step: Any, data: np.ndarray = X) -> tuple[list[float], dict[str, np.ndarray]]:
    """Losses of a few steps, and every parameter after them."""
    losses = [step(data, Y[: len(data)]) for _ in range(3)]
    return losses, {name: step.state[name] for name in step.state}


def check_same(some: Any, others: Any) -> None:
    """Equal but for rounding: a product that is not stored is not rounded before it is added."""
    np.testing.assert_allclose(some[0], others[0], rtol=1e-6)
    for name, value in others[1].items():
        np.testing.assert_allclose(some[1][name], value, rtol=1e-4, atol=1e-5, err_msg=name)


# -- budgets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, data, part",
    [(deep, X, 0.7), (deep, X, 0.85), (normed, X, 0.85), (images, IMAGES, 0.8)],
    ids=["dense", "dense, less", "normalised", "images"],
)
def test_a_budget_is_kept(make: Callable[..., Any], data: np.ndarray, part: float) -> None:
    whole = make()
    limit = int(part * arena(whole))
    small = make(max_bytes=limit)
    assert arena(small) <= limit < arena(whole)
    report = small.report()
    assert "computed again instead of kept" in report
    assert "test_recompute.py:" in report.split("computed again")[1]
    assert small.stage("schedule").count(" again") > whole.stage("schedule").count(" again")
    check_same(trained(small, data), trained(whole, data))


def test_no_more_is_recomputed_than_the_budget_asks_for() -> None:
    whole = arena(deep())
    counts = [
        len(deep(max_bytes=int(part * whole))._pipeline.schedule.recomputed)
        for part in (1.0, 0.85, 0.7)
    ]
    assert counts[0] == 0 and counts == sorted(set(counts))


def test_a_budget_too_small_is_one_clear_error() -> None:
    with pytest.raises(BudgetError) as caught:
        deep(activation=lambda: sg.nn.relu, max_bytes=200_000)
    text = str(caught.value)
    assert "max_bytes=200,000" in text and "is the least arena found" in text
    assert f"{BATCH * WIDTH * 4:,}" in text  # the bytes of an activation
    assert "(batch, 128) float32" in text and "test_recompute.py:" in text
    assert isinstance(caught.value, MemoryError)


@pytest.mark.parametrize("given", [0, -1, 1.5, "1 MB", True, float("inf"), float("nan")])
def test_what_is_no_budget(given: Any) -> None:
    with pytest.raises(InputError, match="max_bytes"):
        deep(1, max_bytes=given)


def test_functions_have_budgets_too() -> None:
    x = sg.input("x", (64, 256))
    a, b = sg.exp(x), sg.sin(x)
    f = sg.function([x], sg.mean(a @ b.T) + sg.sum(b @ a.T), max_bytes=1e6)
    assert np.isfinite(f(np.zeros((64, 256), np.float32)))


# -- without one -----------------------------------------------------------------------------------


def without(monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any]) -> Any:
    """A step compiled without any recomputation."""
    fit = budget.fit
    with monkeypatch.context() as patch:
        patch.setattr(budget, "fit", lambda arrange, roots, *_: fit(arrange, roots, None, 1 << 60))
        patch.setenv("SYMGRAD_CACHE", "off")
        return make()


def test_what_costs_no_time_is_recomputed_anyway(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a normalisation, what it normalises is kept, not what it makes of that as well."""
    less, plain = normed(), without(monkeypatch, normed)
    found = less._pipeline.schedule
    assert not plain._pipeline.schedule.recomputed
    assert len(found.recomputed) >= 8 and arena(less) < 0.8 * arena(plain)
    assert {n.name for n in found.recomputed} <= {"sub", "div", "add", "mul"}
    check_same(trained(less), trained(plain))


def test_what_the_cache_holds_is_kept() -> None:
    step = deep(2, lambda: sg.nn.LayerNorm(WIDTH))
    assert not step._pipeline.schedule.recomputed


# -- any graph -------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, WIDE_FROM, LARGE_FROM])
def test_random_graphs_with_everything_recomputed(
    first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Across any moment, whether it saves memory or not."""
    chance = random.Random(first)
    peaks = itertools.count(10**9, -1)
    copied = 0

    def everything(arrange: Any, roots: Any, limit: Any, worth: Any) -> recompute.Fitted:
        nonlocal copied
        found = recompute._Search(arrange, roots).lowered(lambda n: True)
        copied += len(found.recomputed)
        return found

    def anything(cut: Any, n: Any) -> bool:
        return bool(n.shape) and kept.is_elementwise(n) and cut.allowed(n)

    def moment(arranged: Any) -> tuple[int, int]:
        return next(peaks), chance.randrange(max(len(arranged.order), 1))

    monkeypatch.setattr(budget, "fit", everything)
    monkeypatch.setattr(recompute, "pressure", moment)
    monkeypatch.setattr(recompute._Cut, "_may_repeat", anything)
    for seed in range(first, first + 8):
        fuzzing.check(seed, loops=False)
    assert copied > 5


# -- cuts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_cuts_are_the_cheapest(seed: int) -> None:
    chance = random.Random(seed)
    inner = [f"v{i}" for i in range(6)]
    vertices = ["s", *inner, "t"]
    edges = [
        (a, b, chance.randrange(1, 9))
        for a in vertices[:-1]
        for b in vertices[1:]
        if a != b and chance.random() < 0.4
    ]
    network = Network()
    for edge in edges:
        network.edge(*edge)
    side = network.cut("s", "t")

    def cost(sink_side: set[Any]) -> int:
        return sum(c for a, b, c in edges if a not in sink_side and b in sink_side)

    sets = [
        {"t", *some} for k in range(len(inner) + 1) for some in itertools.combinations(inner, k)
    ]
    least = min(map(cost, sets))
    assert cost(side) == least
    assert len(side) == min(len(s) for s in sets if cost(s) == least)
