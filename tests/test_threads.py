"""Several threads: the same bits for any number of them, and nothing a process would notice."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import fuzzing
import numpy as np
import pytest
from fuzz_graphs import case_of
from harness import run as run_native

import symgrad as sg
from codegen.shares import shares
from codegen.target import Target
from codegen.verify import verify
from symgrad.errors import InputError
from symgrad.losses import cross_entropy
from symgrad.nn import functional as F
from symgrad.nn import models
from symgrad.schedule import schedule

COUNTS = (1, 2, 3, 4)
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads are for Linux")


@pytest.fixture
def everything_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels of any size are shared out; nothing compiled that way stays in the object cache."""
    monkeypatch.setattr("codegen.shares.GRAIN", 1e-3)
    monkeypatch.setenv("SYMGRAD_CACHE", "off")


# -- the same bits ---------------------------------------------------------------------------------

SEEDS = [1, 17, 33, 168, 284, 1514, 10000, 10003, 10020, 10198, 10686, 14328, 30003, 30066]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.usefixtures("everything_is_worth_it")
def test_random_graphs(seed: int) -> None:
    case, target = case_of(seed), Target.named("sse2")
    planned = schedule(case.inputs, case.outputs, case.updates, target=target)
    verify(planned.program)
    held = fuzzing.buffers(case, planned)
    alone = run_native(planned.program, held, case.dims, target)
    for count in (2, 3):
        program = replace(planned.program, threads=count)
        found = run_native(program, held, case.dims, target)
        for name, array in alone.items():
            assert array.tobytes() == found[name].tobytes(), f"{name} differs on {count} threads"


@pytest.mark.parametrize("seed", SEEDS)
def test_sums_in_parts(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were much to sum: parts of sums, and their sums."""
    for module in ("rowpass", "reductions"):
        monkeypatch.setattr(f"symgrad.schedule.{module}.WORK", 1)
    monkeypatch.setattr("symgrad.schedule.reductions.MANY", 2)
    fuzzing.check(seed, ("sse2",))


def mlp() -> tuple[Any, list[np.ndarray]]:
    rng = np.random.default_rng(0)
    batch = sg.dim("batch", max=96)
    x, y = sg.input("x", (batch, 300)), sg.input("y", (batch,), "int32")
    net = sg.nn.Sequential(sg.nn.Linear(300, 200), F.tanh, sg.nn.Linear(200, 10))
    data = rng.normal(size=(1000, 300)).astype("float32"), rng.integers(0, 10, 1000)
    return cross_entropy(net(x), y), [data[0], data[1].astype(np.int32)]


def lenet() -> tuple[Any, list[np.ndarray]]:
    rng = np.random.default_rng(1)
    batch = sg.dim("batch", max=40)
    x, y = sg.input("x", (batch, 1, 28, 28)), sg.input("y", (batch,), "int32")
    data = rng.normal(size=(200, 1, 28, 28)).astype("float32"), rng.integers(0, 10, 200)
    return cross_entropy(models.lenet()(x), y), [data[0], data[1].astype(np.int32)]


def transformer() -> tuple[Any, list[np.ndarray]]:
    rng = np.random.default_rng(2)
    batch = sg.dim("batch", max=20)
    x = sg.input("x", (batch, 24), "int32")
    y = sg.input("y", (batch, 24), "int32")
    net = models.gpt(vocabulary=30, tokens=24, width=32, heads=2, blocks=2)
    tokens = rng.integers(0, 30, (60, 25)).astype(np.int32)
    data = [np.ascontiguousarray(tokens[:, :-1]), np.ascontiguousarray(tokens[:, 1:])]
    return cross_entropy(net(x), y), data


def after_training(build: Callable[[], Any], count: int, batch: int) -> dict[str, bytes]:
    """Losses and parameters after two epochs, whose last batch is smaller, and some calls."""
    loss, data = build()
    step = sg.train_step(loss, sg.optim.Adam(1e-3), seed=3, threads=count)
    losses = step.run(dict(zip("xy", data)), batch_size=batch, epochs=2)
    losses += [float(step(*(a[:k] for a in data))) for k in (1, batch - 1, 7)]
    found = {name: np.asarray(step.state[name]).tobytes() for name in step.state}
    return {**found, "losses": np.array(losses).tobytes()}


@pytest.mark.parametrize("build, batch", [(mlp, 96), (lenet, 40), (transformer, 20)])
@pytest.mark.usefixtures("everything_is_worth_it")
def test_training_gives_the_same_bits(build: Callable[[], Any], batch: int) -> None:
    alone = after_training(build, 1, batch)
    for count in COUNTS[1:]:
        found = after_training(build, count, batch)
        different = [name for name, value in alone.items() if value != found[name]]
        assert not different, f"{different} differ on {count} threads"


@pytest.mark.usefixtures("everything_is_worth_it")
def test_gradients_of_large_filters() -> None:
    """Too large for parts of sums: threads share the outputs."""
    rng = np.random.default_rng(0)
    x, t = sg.input("x", (16, 48, 8, 8), "float64"), sg.input("t", (16, 72, 8, 8), "float64")
    w = sg.parameter("w", (72, 48, 7, 7), dtype="float64")
    gradient = sg.grad(sg.sum(sg.nn.conv2d(x, w, padding=3) * t), [w])[0]
    data = [rng.normal(size=leaf.shape) for leaf in (x, t)]
    wanted = sg.function([x, t], gradient, target="interpret")(*data)
    functions = [sg.function([x, t], gradient, threads=count) for count in COUNTS]
    alone, *found = [f(*data) for f in functions]
    np.testing.assert_allclose(alone, wanted, rtol=1e-11, atol=1e-11)
    assert all(alone.tobytes() == other.tobytes() for other in found)
    assert shares(functions[1]._pipeline.schedule.program)


def test_large_steps_are_shared_out() -> None:
    """At the usual grain: products, passes over rows, updates of a step that takes a while."""
    x, y = sg.input("x", (256, 512)), sg.input("y", (256,), "int32")
    net = sg.nn.Sequential(sg.nn.Linear(512, 512), F.tanh, sg.nn.Linear(512, 512))
    step = sg.train_step(cross_entropy(net(x), y), sg.optim.Adam(), threads=2)
    program = step._pipeline.schedule.program
    kinds = {name.split("_")[0] for name in shares(program)}
    assert {"product", "rows", "plain"} <= kinds
    assert "up to 2 threads" in step.report()


# -- how many --------------------------------------------------------------------------------------


def test_the_environment_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    w = sg.parameter("w", (3,))

    def threads(**given: Any) -> int:
        return sg.function([], w, **given)._pipeline.options.threads

    monkeypatch.delenv("SYMGRAD_THREADS", raising=False)
    assert threads() == 1 and threads(threads=3) == 3
    monkeypatch.setenv("SYMGRAD_THREADS", "2")
    assert threads() == 2 and threads(threads=1) == 1
    monkeypatch.setenv("SYMGRAD_THREADS", "")
    assert threads() == 1


@pytest.mark.parametrize("said", ["0", "two", "-1", "1.5", "1000", "2 3"])
def test_a_bad_number(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    w = sg.parameter("w", (3,))
    monkeypatch.setenv("SYMGRAD_THREADS", said)
    with pytest.raises(InputError, match="SYMGRAD_THREADS must be a number in 1..256, got"):
        sg.function([], w)
    for given in (0, 257, True, "2", 2.0):
        with pytest.raises(InputError, match="threads must be an int in 1..256"):
            sg.function([], w, threads=given)  # type: ignore[arg-type]


# -- processes -------------------------------------------------------------------------------------


def product(count: int) -> Callable[[np.ndarray], np.ndarray]:
    x = sg.input("x", (256, 256))
    return sg.function([x], F.softmax(x @ x) * 2, threads=count)


def test_functions_in_several_python_threads() -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(size=(256, 256)).astype("float32")
    functions = [product(count) for count in COUNTS]
    wanted = functions[0](data).tobytes()
    wrong: list[int] = []

    def work(k: int) -> None:
        for _ in range(30):
            if functions[k % 4](data).tobytes() != wanted:
                wrong.append(k)

    running = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(60)
    assert not wrong and not any(thread.is_alive() for thread in running)


@linux
def test_nothing_runs_after_a_step() -> None:
    f, data = product(4), np.ones((256, 256), "float32")
    for _ in range(20):
        f(data)
    time.sleep(0.02)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.03


@linux
def test_fork() -> None:
    f, data = product(3), np.eye(256, dtype="float32")
    wanted = f(data).tobytes()
    child = os.fork()
    if not child:
        code = 1
        try:
            code = int(any(f(data).tobytes() != wanted for _ in range(20)))
        finally:
            os._exit(code)
    assert all(f(data).tobytes() == wanted for _ in range(20))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


CACHED = """
    import os
    import sys
    import numpy as np
    import symgrad as sg
    x = sg.input("x", (256, 256))
    f = sg.function([x], sg.tanh(x @ x) * 2)
    data = np.random.default_rng(0).normal(size=(256, 256)).astype("float32")
    print(f(data).tobytes().hex()[:4000], "llvmlite" in sys.modules)
    print(len(os.listdir("/proc/self/task")))
"""


@linux
def test_a_start_from_the_cache(tmp_path: Any) -> None:
    """Threads come out of the object cache like everything else, and the process ends at once."""
    shown = []
    for count in ("1", "3", "3"):
        env = {**os.environ, "SYMGRAD_CACHE": str(tmp_path), "SYMGRAD_THREADS": count}
        env["OPENBLAS_NUM_THREADS"] = "1"
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(CACHED)],
            capture_output=True, text=True, env=env, timeout=60, check=True,
        )  # fmt: skip
        shown.append(done.stdout.split())
    bits, imported, running = zip(*shown)
    assert len(set(bits)) == 1
    assert imported == ("True", "True", "False")
    assert running == ("1", "3", "3")
