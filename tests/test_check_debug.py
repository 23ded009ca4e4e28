"""SYMGRAD_CHECK and SYMGRAD_DEBUG, and the verifier of graphs: do they see what they should?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgrad as sg
from symgrad.compile import comparison
from symgrad.compile.comparison import StageError, difference
from symgrad.node import Contract, Map, toposort
from symgrad.verify import VerifyError, verify

N = sg.dim("batch", 20)


def step(**options: Any) -> Any:
    x, y = sg.input("x", (N, 5)), sg.input("y", (N,), dtype="int32")
    model = sg.nn.Sequential(
        sg.nn.Linear(5, 9, name="a"), sg.nn.gelu, sg.nn.Dropout(0.5), sg.nn.Linear(9, 3, name="b")
    )
    loss = sg.losses.cross_entropy(model(x, training=True), y)
    return sg.train_step(loss, sg.optim.Adam(0.1), outputs={"z": model(x)}, **options)


def data(rows: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(rows)
    return rng.standard_normal((rows, 5)), rng.integers(0, 3, rows)


@pytest.fixture
def checking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYMGRAD_CHECK", "1")


@pytest.mark.usefixtures("checking")
def test_stages_agree() -> None:
    checked = step(seed=2)
    for rows in (20, 1, 16, 17, 5):
        assert np.isfinite(checked(*data(rows))["loss"])
    losses = checked.run(dict(zip(("x", "y"), data(50))), batch_size=16, epochs=2)
    assert len(losses) == 2 and np.isfinite(losses).all()


@pytest.mark.usefixtures("checking")
def test_a_checked_step_is_the_same_step(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = sg.input("x", (N, 5)), sg.parameter("w", (5,), init=sg.init.normal())
    loss = sg.mean(sg.square(sg.nn.dropout(x, 0.5) @ w))
    checked = sg.train_step(loss, sg.optim.SGD(0.1))
    got = [checked(data(12)[0]) for _ in range(3)]
    monkeypatch.setenv("SYMGRAD_CHECK", "0")
    plain = sg.train_step(loss, sg.optim.SGD(0.1))
    assert got == [plain(data(12)[0]) for _ in range(3)]


@pytest.mark.usefixtures("checking")
@pytest.mark.parametrize("stage", ["rewritten", "loops", "native"])
def test_a_stage_that_computes_something_else_is_caught(
    stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = step()
    backend = checked._backend
    if stage == "rewritten":
        right = backend.pipeline.rewritten
        wrong = right.map(lambda roots: [roots[0] * 1.1, *roots[1:]])
        backend.pipeline.__dict__["rewritten"] = wrong
    elif stage == "loops":
        run = comparison.Compared._loops
        monkeypatch.setattr(
            comparison.Compared, "_loops",
            lambda self, *args: {**run(self, *args), "loss": np.float32(9)},
        )  # fmt: skip
    else:
        call = backend.native.call
        backend.native.call = lambda *args: {**call(*args), "loss": np.float32(9)}
    with pytest.raises(StageError, match=f"'loss' differs between .* {stage}"):
        checked(*data(20))


def test_what_counts_as_a_difference() -> None:
    a = np.array([1, 2, 3], np.float32)
    assert not difference(a, a + 1e-6)
    assert "first at [1]" in difference(a, np.array([1, 2.5, 3], np.float32))
    assert difference(a, np.array([1, np.nan, 3], np.float32))
    assert difference(np.array([np.nan]), np.array([1.0]))
    assert not difference(np.array([np.nan, np.inf]), np.array([1.0, 2.0]), unstable=True)
    assert not difference(np.array([np.nan, np.inf]), np.array([np.nan, np.inf]))
    assert difference(np.array([np.inf]), np.array([-np.inf]))
    assert difference(np.array([1, 2]), np.array([1, 3]))
    assert difference(a, a.astype(np.float64)) and difference(a, a[:2])


@pytest.mark.parametrize("level", range(1, 6))
def test_debug_levels(
    level: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SYMGRAD_DEBUG", str(level))
    monkeypatch.setenv("SYMGRAD_CACHE", "off")
    x = sg.input("x", (4,))
    sg.function([x], sg.log(sg.exp(x)) + sg.tanh(x) * x)
    shown = capsys.readouterr()
    assert not shown.out
    seen = [
        "nodes" in shown.err and "kernels" in shown.err,
        "output = " in shown.err,
        "kernel" in shown.err and "lanes" in shown.err,
        "define void @step" in shown.err,
        "log" in shown.err and "exp" in shown.err,
    ]
    assert all(seen[:level])
    if level < 4:
        assert "define void @step" not in shown.err


# -- the verifier of graphs -------------------------------------------------------------------


def graph() -> Any:
    x, w = sg.input("x", (N, 3)), sg.parameter("w", (3, 4))
    return sg.sum(sg.tanh(x @ w) * 2)


def test_graphs_that_are_built_are_right() -> None:
    loss = graph()
    verify([loss, *sg.grad(loss, [n for n in toposort([loss]) if n.kind == "parameter"])])


@pytest.mark.parametrize("what", ["shape", "dtype", "height", "args", "copy"])
def test_corrupted_graphs_are_caught(what: str) -> None:
    loss = graph()
    node: Any = next(n for n in toposort([loss]) if isinstance(n, Map) and n.op == "tanh")
    product: Any = next(n for n in toposort([loss]) if isinstance(n, Contract))
    saved = {key: getattr(node, key) for key in ("shape", "dtype", "height", "args")}
    try:
        if what == "shape":
            node.shape = (N, 5)
        elif what == "dtype":
            node.dtype = "float64"
        elif what == "height":
            node.height = 0
        elif what == "args":
            node.args = (product.args[1],)
        else:
            node.attrs, node.args = ("sin",), node.args
        with pytest.raises(VerifyError, match="(?s)test_check_debug.py"):
            verify([loss])
    finally:
        node.attrs = ("tanh",)
        for key, value in saved.items():
            setattr(node, key, value)


def test_what_only_derivatives_need_is_gone_when_compiled() -> None:
    x = sg.input("x", (3,))
    with pytest.raises(VerifyError, match="derivatives are taken"):
        verify([sg.stop_gradient(x) * 2], final=True)
