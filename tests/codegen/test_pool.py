"""Split loops on several threads: the pool, private memory, and the rules of what may be split."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from harness import check
from nests import F32, LANES, LIVE, ROW, SIZES, P, number, op

from codegen import interpret, memory, threads
from codegen.assemble import assemble, verify
from codegen.bundle import with_entries
from codegen.closures import Race
from codegen.emit import emit
from codegen.load import Library, load
from codegen.loops import (
    Accumulate,
    Buffer,
    Call,
    Declare,
    Derived,
    For,
    Get,
    Index,
    Kernel,
    Lanes,
    Let,
    Load,
    Param,
    Poly,
    Program,
    Scatter,
    Stmt,
    Store,
)
from codegen.shares import shares
from codegen.target import Target
from codegen.verify import VerifyError
from codegen.verify import verify as verify_program

COUNTS = (1, 2, 3, 4)
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads are for Linux")


@pytest.fixture(autouse=True)
def everything_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codegen.shares.GRAIN", 1e-3)


# -- programs --------------------------------------------------------------------------------------


def rows_twice() -> Program:
    """y = 2 x + s by blocks of rows, then z = y + 1 by two loops; s and y's scratch on the way."""
    x = Load("x", ROW, F32)
    scale = Load("s", P(0), F32)
    through = (
        Store("t", P("l"), op("mul", number(2.0), x), full=True),
        Store("y", ROW, op("add", Load("t", P("l"), F32, full=True), Get("shift", F32))),
    )
    first = Kernel(
        "first",
        (Param("x", F32), Param("s", F32), Param("t", F32, "rw"), Param("y", F32, "w")),
        (Let("shift", scale), For("b", P("blocks"), (Lanes("l", LIVE, through),), 2)),
        split=("b",),
    )

    def add(stem: str, start: Poly) -> For:
        row = start + P(stem)
        return For(stem, P(3), (Store("z", row, op("add", Load("y", row, F32), number(1.0))),))

    rest = For("r", P("rest"), (Store("z", P("r") + 6, Load("y", P("r") + 6, F32)),), 3)
    second = Kernel(
        "second",
        (Param("y", F32), Param("z", F32, "w")),
        (add("i", P(0)), add("j", P(3)), rest),
        split=("i", "j", "r"),
    )
    held = (
        Buffer("x", F32, 60, "state"),
        Buffer("s", F32, 1, "state"),
        Buffer("t", F32, LANES, "private"),
        Buffer("y", F32, 64, "state"),
        Buffer("z", F32, 60, "state"),
    )
    sizes: dict[str, int | Derived] = {**SIZES, "rest": Derived("div", P("n") - 6, 1)}
    calls = (Call("first", ("x", "s", "t", "y")), Call("second", ("y", "z")))
    return Program(LANES, sizes, held, (first, second), calls)


def one(*body: Stmt, split: tuple[str, ...] = ("b",), role: str = "state") -> Program:
    """A kernel on x (r), y (rw) and i (r, int32), 64 of each."""
    params = (Param("x", F32), Param("y", F32, "rw"), Param("i", "int32"))
    held = (
        Buffer("x", F32, 64, "state"),
        Buffer("y", F32, 64, role),
        Buffer("i", "int32", 64, "state"),
    )
    made = Kernel("one", params, body, split=split)
    return Program(LANES, SIZES, held, (made,), (Call("one", ("x", "y", "i")),))


def split(*body: Stmt) -> Program:
    return one(For("b", P("blocks"), body))


def data(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = {name: rng.normal(size=64).astype(F32) for name in "xyz"}
    return {**arrays, "x": arrays["x"][:60], "z": arrays["z"][:60], "s": np.ones(1, F32)}


# -- the same results ------------------------------------------------------------------------------


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("n", [6, 7, 33, 60])
def test_results_do_not_depend_on_threads(count: int, n: int) -> None:
    program = replace(rows_twice(), threads=count)
    verify_program(program)
    check(program, data(), {"n": n}, Target.named("sse2"))


def test_one_thread_costs_nothing() -> None:
    """Without threads a program's text does not tell what could be split."""
    program, target = rows_twice(), Target.named("sse2")
    kernels = tuple(replace(k, split=()) for k in program.kernels)
    plain = replace(program, kernels=kernels)
    assert emit(program, memory.plan(program), target) == emit(plain, memory.plan(plain), target)


def test_small_kernels_are_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    program = replace(rows_twice(), threads=4)
    assert set(shares(program)) == {"first", "second"}
    monkeypatch.setattr("codegen.shares.GRAIN", 5000.0)
    assert not shares(program)
    assert "pool" not in emit(program, memory.plan(program), Target.named("sse2"))


def test_every_thread_has_its_own_private_memory() -> None:
    program = rows_twice()
    sizes = [memory.plan(replace(program, threads=count)).size for count in COUNTS]
    assert sizes == [64 * count for count in COUNTS]
    plan = memory.plan(replace(program, threads=3))
    memory.check(replace(program, threads=3), plan)
    with pytest.raises(memory.PlanError):
        memory.check(replace(program, threads=4), plan)


def test_aarch64_text_is_well_formed(monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target("aarch64-unknown-linux-gnu", "generic", "+neon", 4, True, 32)
    verify(threads.text(target), target)
    assert assemble(threads.text(target), target)[:4] == b"\x7fELF"
    monkeypatch.setattr(sys, "platform", "darwin")
    verify(threads.text(target), target)
    assert threads.text(target) == threads.ALONE


# -- what may be split -----------------------------------------------------------------------------

GOOD = Lanes("l", LIVE, (Store("y", ROW, Load("x", ROW, F32)),))
BY_TABLE = Let("k", Load("i", ROW, "int32"))
HALF = Let("h", op("floor_divide", Index(P("b"), "int64"), Index(P(2), "int64"), dtype="int64"))

FORBIDDEN: list[tuple[str, Program]] = [
    ("split c, but", one(For("b", P(3), (GOOD,)), split=("c",))),
    ("but the body has loops ['c', 'b']", one(For("c", P(3), ()), For("b", P(3), (GOOD,)))),
    ("split b, b", one(For("b", P(3), (GOOD,)), split=("b", "b"))),
    ("beside split loops: y[0]", one(Store("y", P(0), number(1.0)), For("b", P(3), (GOOD,)))),
    ("beside split loops: acc", one(Declare("acc", F32, number(0.0)), For("b", P(3), (GOOD,)))),
    ("v reads y", one(Let("v", Load("y", P(0), F32)), For("b", P(3), (GOOD,)))),
    (
        "not as long as sizes tell",
        one(Let("v", Load("i", P(0), "int32")), For("b", P("v"), (GOOD,))),
    ),
    ("y[5] = 1.0: turns of b share y", split(Store("y", P(5), number(1.0)))),
    ("turns of b share y", split(Store("y", P("b"), Load("y", P(0), F32)))),
    ("turns of b share y", split(Lanes("l", LIVE, (BY_TABLE, Scatter("y", P("k"), number(1.0)))))),
]


@pytest.mark.parametrize("message, program", FORBIDDEN, ids=[m for m, _ in FORBIDDEN])
def test_what_may_not_be_split(message: str, program: Program) -> None:
    with pytest.raises(VerifyError) as error:
        verify_program(program)
    assert message in str(error.value)


def test_what_turns_share_may_be_private() -> None:
    verify_program(one(For("b", P(3), (Store("y", P(5), number(1.0)),)), role="private"))
    verify_program(split(GOOD))


RACES = {
    "written twice": split(HALF, Store("y", P("h"), number(1.0))),
    "written, then read": split(Store("y", P("b") + 1, Load("y", P("b"), F32))),
    "read, then written": split(Store("y", P("b"), Load("y", P("b") + 1, F32))),
    "vectors that overlap": split(
        Lanes("l", None, (Store("y", P("b") * 7 + "l", number(1.0), full=True),))
    ),
    "two loops": one(
        For("b", P(3), (Store("y", P("b"), number(1.0)),)),
        For("c", P(3), (Store("y", P("c") + 2, number(2.0)),)),
        split=("b", "c"),
    ),
    "idle lanes": split(Lanes("l", P(3), (Store("y", P("b") * 4 + "l", number(1.0), full=True),))),
    "scattered": split(Scatter("y", P("b") * 2, number(1.0)), Store("y", P("b"), number(1.0))),
}


@pytest.mark.parametrize("program", RACES.values(), ids=[*RACES])
def test_races_are_found(program: Program) -> None:
    verify_program(program)  # which does not see them
    arrays = {**{name: np.zeros(64, F32) for name in "xy"}, "i": np.zeros(64, np.int32)}
    with pytest.raises(Race, match="split loops"):
        interpret.run(program, arrays, {"n": 60})


def test_private_memory_does_not_outlive_a_turn() -> None:
    """What an earlier turn left there may be another thread's."""
    first = op("equal", Index(P("b")), Index(P(2)), dtype="bool")
    keep = Store("t", P(0), number(3.0), first)
    take = Store("y", P("b"), Load("t", P(0), F32))
    params = (Param("t", F32, "rw"), Param("y", F32, "w"))
    kernel = Kernel("keeps", params, (For("b", P(3), (keep, take)),), split=("b",))
    held = (Buffer("t", F32, 1, "private"), Buffer("y", F32, 3, "state"))
    program = Program(LANES, {}, held, (kernel,), (Call("keeps", ("t", "y")),))
    verify_program(program)
    arrays = {"y": np.zeros(3, F32)}
    interpret.run(program, arrays, {})
    np.testing.assert_array_equal(arrays["y"], [np.nan, np.nan, 3.0])


# -- the pool --------------------------------------------------------------------------------------


def summing(count: int, turns: int = 64) -> Program:
    """y[b] += sum of x, slowly enough for several threads to meet."""
    total = (
        Declare("acc", F32, number(0.0)),
        For("k", P(64), (Accumulate("acc", (), "add", Load("x", P("k"), F32)),)),
        Store("y", P("b"), op("add", Load("y", P("b"), F32), Get("acc", F32))),
    )
    kernel = Kernel(
        "sums",
        (Param("x", F32), Param("y", F32, "rw")),
        (For("b", P(turns), total),),
        split=("b",),
    )
    held = (Buffer("x", F32, 64, "state"), Buffer("y", F32, turns, "state"))
    call = Call("sums", ("x", "y"))
    return Program(4, {}, held, (kernel,), (call,) * 20, threads=count)


class Stepper:
    """A program of `summing` on memory of its own."""

    def __init__(self, count: int) -> None:
        program, target = summing(count), Target.named("sse2")
        text = emit(program, memory.plan(program), target)
        assert ("@pool_run" in text) == (count > 1)
        self.library: Library = load(with_entries(assemble(text, target), target))
        self.step = self.library.function("step", None, ctypes.c_void_p, ctypes.c_void_p)
        self.x, self.y = np.ones(64, F32), np.zeros(64, F32)
        self.table = (ctypes.c_void_p * 3)(0, self.x.ctypes.data, self.y.ctypes.data)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step(ctypes.addressof(self.table), 0)

    def check(self, steps: int) -> None:
        """Each step adds 20 * 64 to every element."""
        self.y[:] = 0
        self.run(steps)
        np.testing.assert_array_equal(self.y, np.full(64, 20 * 64 * steps, F32))


@pytest.fixture(scope="module")
def steppers() -> Iterator[dict[int, Stepper]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("codegen.shares.GRAIN", 1e-3)
        yield {count: Stepper(count) for count in (1, 2, 3, 4, 9)}


def test_programs_of_a_process_share_their_threads(steppers: dict[int, Stepper]) -> None:
    pools = {s.library.symbol("pool_run") for count, s in steppers.items() if count > 1}
    assert len(pools) == 1
    assert "pool_run" not in steppers[1].library
    for count in (2, 9, 3, 1, 4, 2):
        steppers[count].check(50)
    if sys.platform.startswith("linux"):
        assert len(os.listdir("/proc/self/task")) >= 9


def test_several_python_threads(steppers: dict[int, Stepper]) -> None:
    failed = []

    def work(stepper: Stepper) -> None:
        try:
            stepper.check(400)
        except BaseException as error:
            failed.append(error)

    running = [threading.Thread(target=work, args=(s,)) for s in steppers.values()]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(60)
    assert not failed and not any(thread.is_alive() for thread in running)


@linux
def test_idle_threads_sleep(steppers: dict[int, Stepper]) -> None:
    steppers[4].check(50)
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.02


@linux
def test_a_child_starts_threads_of_its_own(steppers: dict[int, Stepper]) -> None:
    steppers[3].check(5)
    child = os.fork()
    if not child:
        code = 1
        try:
            steppers[3].check(50)
            grandchild = os.fork()
            steppers[2].check(50)
            if not grandchild:
                os._exit(0)
            code = os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1])
            code += 8 * (len(os.listdir("/proc/self/task")) != 3)
        finally:
            os._exit(code)
    steppers[3].check(50)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@linux
def test_a_child_of_a_step_that_is_running(steppers: dict[int, Stepper]) -> None:
    """The child finds the pool locked by a thread that it does not have."""
    going = threading.Event()

    def work() -> None:
        while not going.is_set():
            steppers[4].run(20)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(10):
            child = os.fork()
            if not child:
                try:
                    steppers[3].check(20)
                    os._exit(0)
                finally:
                    os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        going.set()
        thread.join()


SIGNALS = """
    import os, signal, sys, threading, time
    sys.path[:0] = {path!r}
    import test_pool
    test_pool.shares.__globals__["GRAIN"] = 1e-3
    stepper = test_pool.Stepper(4)
    stepper.check(10)
    seen = []
    signal.signal(signal.SIGUSR1, lambda *_: seen.append(threading.current_thread().name))
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    begin = time.perf_counter()
    while not seen and time.perf_counter() - begin < 5:
        signal.sigtimedwait([], 0.5)  # only a signal to this thread ends it early
    print(seen, time.perf_counter() - begin < 4)
    stepper.run(3)
"""


@linux
def test_signals_and_exit() -> None:
    """Signals reach Python's thread, and a process ends although threads were busy just now."""
    code = textwrap.dedent(SIGNALS).format(path=[os.path.dirname(__file__), os.getcwd()])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "['MainThread'] True\n"


def test_floating_point_modes_reach_all_threads(steppers: dict[int, Stepper]) -> None:
    """A caller that flushes denormals to zero gets zeros from every thread."""
    torch: Any = pytest.importorskip("torch")
    tiny = np.float32(1e-42)
    if not torch.set_flush_denormal(True):
        pytest.skip("this machine cannot flush denormals")
    for stepper in (steppers[1], steppers[4]):
        stepper.x[:], stepper.y[:] = tiny, 0
        stepper.run(20)
        flushed = stepper.y.copy()
        stepper.x[:] = 1
        assert not flushed.any()
    torch.set_flush_denormal(False)
    steppers[4].x[:], steppers[4].y[:] = tiny, 0
    steppers[4].run(5)
    assert (steppers[4].y > 0).all()
    steppers[4].x[:] = 1
