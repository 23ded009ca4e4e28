"""Calling compiled steps: what fits runs, what does not fit leaves no trace."""

from __future__ import annotations

import array
import gc
import json
import subprocess
import sys
import textwrap
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from native import compile_text

from codegen import bundle, entry
from codegen.call import Function, InputSpec, Lock, Signature, aligned
from codegen.load import Library, load
from codegen.loops import Buffer, Call, Kernel, Param, Program
from codegen.memory import plan
from codegen.target import Target

# Buffers: arena, x (n, 2), y (n), count (state), out (n), loss. The arena gets a copy of x's second
# column, out is read back from there; count goes up by one; loss is the sum of x[i, 0] * y[i].
STEP = """
define void @step(ptr %buffers, ptr %sizes) {
entry:
  %arena = load ptr, ptr %buffers
  %x.at = getelementptr ptr, ptr %buffers, i64 1
  %x = load ptr, ptr %x.at
  %y.at = getelementptr ptr, ptr %buffers, i64 2
  %y = load ptr, ptr %y.at
  %count.at = getelementptr ptr, ptr %buffers, i64 3
  %count = load ptr, ptr %count.at
  %out.at = getelementptr ptr, ptr %buffers, i64 4
  %out = load ptr, ptr %out.at
  %loss.at = getelementptr ptr, ptr %buffers, i64 5
  %loss = load ptr, ptr %loss.at
  %n = load i64, ptr %sizes
  %before = load i64, ptr %count
  store volatile float 0.0, ptr %loss
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i.next, %body ]
  %more = icmp ult i64 %i, %n
  br i1 %more, label %body, label %done
body:
  %i2 = mul i64 %i, 2
  %a.at = getelementptr float, ptr %x, i64 %i2
  %a = load float, ptr %a.at
  %b.at = getelementptr float, ptr %a.at, i64 1
  %b = load float, ptr %b.at
  %label.at = getelementptr i32, ptr %y, i64 %i
  %label = load i32, ptr %label.at
  %weight = sitofp i32 %label to float
  %product = fmul float %a, %weight
  %sum = load volatile float, ptr %loss
  %sum.next = fadd float %sum, %product
  store volatile float %sum.next, ptr %loss
  %kept.at = getelementptr float, ptr %arena, i64 %i
  store volatile float %b, ptr %kept.at
  %kept = load volatile float, ptr %kept.at
  %out.i = getelementptr float, ptr %out, i64 %i
  store float %kept, ptr %out.i
  %i.next = add i64 %i, 1
  br label %loop
done:
  %after = add i64 %before, 1
  store i64 %after, ptr %count
  ret void
}
"""
MAX = 64
N = ("n", 1, MAX)
SIGNATURE = Signature(
    (InputSpec("x", "float32", (N, 2)), InputSpec("y", "int32", (N,))),
    (("n", MAX),),
    ((1, 0, 10),),
    "loss",
)


def program() -> Program:
    buffers = (
        Buffer("x", "float32", 2 * MAX, "input"),
        Buffer("t", "float32", MAX),
        Buffer("c", "float32", 4, "constant", bytes(16)),
        Buffer("y", "int32", MAX, "input"),
        Buffer("count", "int64", 1, "state"),
        Buffer("out", "float32", MAX, "output"),
        Buffer("loss", "float32", 1, "output"),
    )
    kernel = Kernel("k", (Param("t", "float32", "w"),), ())
    return Program(16, {"n": MAX}, buffers, (kernel,), (Call("k", ("t",)),))


@pytest.fixture(scope="module")
def library() -> Library:
    return load(compile_text(STEP + entry.text()))


@pytest.fixture
def function(library: Library) -> Function:
    p = program()
    made = Function(library, plan(p), p, SIGNATURE)
    made.set_pointer("count", aligned(8).view(np.int64))
    return made


def data(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((rows, 2), np.float32), rng.integers(0, 10, rows, np.int32)


def count(function: Function) -> int:
    return int(function.output("count")[0])


@pytest.mark.parametrize("rows", [1, 2, 7, 8, 9, 63, 64])
def test_call_runs_the_step(function: Function, rows: int) -> None:
    x, y = data(rows)
    loss = function.call(x, y)
    assert type(loss) is float
    assert loss == pytest.approx(float(x[:, 0] @ y), rel=1e-5)
    assert np.array_equal(function.output("out")[:rows], x[:, 1])
    assert function.sizes == {"n": rows}
    assert count(function) == 1


def readonly(a: np.ndarray) -> np.ndarray:
    a = a.copy()
    a.flags.writeable = False
    return a


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda x, y: (readonly(x), readonly(y)), id="read-only"),
        pytest.param(lambda x, y: (memoryview(x), memoryview(y)), id="memoryview"),
        pytest.param(lambda x, y: (x, array.array("i", y.tolist())), id="array.array"),
        pytest.param(lambda x, y: (np.ascontiguousarray(x[::-1])[::1], y[::-1].copy()), id="copy"),
        pytest.param(lambda x, y: (np.vstack([x, x])[len(x) :], y), id="part of another"),
    ],
)
def test_what_fits_without_a_copy(function: Function, change: Any) -> None:
    x, y = data(12)
    assert function.call(*change(x, y)) == pytest.approx(float(x[:, 0] @ y), rel=1e-5)


def unaligned(a: np.ndarray) -> np.ndarray:
    raw = np.zeros(a.nbytes + 1, np.uint8)[1:]
    raw[:] = a.reshape(-1).view(np.uint8)
    return raw.view(a.dtype).reshape(a.shape)


MISFITS = {
    "no arguments": lambda x, y: (),
    "one argument": lambda x, y: (x,),
    "three arguments": lambda x, y: (x, y, y),
    "list": lambda x, y: (x.tolist(), y),
    "None": lambda x, y: (x, None),
    "number": lambda x, y: (1.0, y),
    "bytes": lambda x, y: (x.tobytes(), y),
    "float64": lambda x, y: (x.astype(np.float64), y),
    "float16": lambda x, y: (x.astype(np.float16), y),
    "int32 for float32": lambda x, y: (x.astype(np.int32), y),
    "int64 labels": lambda x, y: (x, y.astype(np.int64)),
    "uint32 labels": lambda x, y: (x, y.astype(np.uint32)),
    "float32 labels": lambda x, y: (x, y.astype(np.float32)),
    "big-endian": lambda x, y: (x.astype(">f4"), y),
    "structured": lambda x, y: (x.view([("a", "f4"), ("b", "f4")]), y),
    "Fortran order": lambda x, y: (np.asfortranarray(x), y),
    "strided": lambda x, y: (np.repeat(x, 2, 0)[::2], y),
    "unaligned": lambda x, y: (unaligned(x), y),
    "rank 1": lambda x, y: (x[:, 0].copy(), y),
    "rank 3": lambda x, y: (x[None], y),
    "wrong size": lambda x, y: (np.hstack([x, x]), y),
    "too many rows": lambda x, y: data(65),
    "no rows": lambda x, y: data(0),
    "disagreeing rows": lambda x, y: (x, y[:-1].copy()),
    "label too large": lambda x, y: (x, np.where(y == y[3], 10, y).astype(np.int32)),
    "negative label": lambda x, y: (x, np.where(y == y[-1], -1, y).astype(np.int32)),
    "smallest label": lambda x, y: (x, np.full_like(y, -(2**31))),
}


@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit_is_refused_without_a_trace(function: Function, name: str) -> None:
    x, y = data(12)
    loss = function.call(x, y)
    before = (count(function), function.pointers.copy(), function.sizes)
    arguments = MISFITS[name](*data(12, seed=1))
    assert function.call(*arguments) is NotImplemented
    assert count(function) == before[0] and function.sizes == before[2]
    assert np.array_equal(function.pointers, before[1])
    assert function.call(x, y) == loss


@pytest.mark.parametrize("position", [0, 1, 7, 8, 15, 16, 17, 36])
@pytest.mark.parametrize("bad", [-1, 10, 2**31 - 1, -(2**31)])
def test_every_label_is_checked(function: Function, position: int, bad: int) -> None:
    x, y = data(37)
    y[position] = bad
    assert function.call(x, y) is NotImplemented
    y[position] = 9
    assert function.call(x, y) is not NotImplemented


def test_keyword_arguments_are_no_part_of_the_entry(function: Function) -> None:
    with pytest.raises(TypeError):
        function.call(*data(3), z=1)


def test_memory_that_the_step_writes_is_refused_as_input(function: Function) -> None:
    x, y = data(32)
    function.call(x, y)
    out = function.output("out")[:64].reshape(32, 2)
    assert function.writes_into(out) and not function.writes_into(x)
    assert function.call(out, y) is NotImplemented
    assert function.call(out.copy(), y) is not NotImplemented
    state = aligned(512)
    function.set_pointer("count", state.view(np.int64))
    assert function.call(state[256:512].view(np.float32).reshape(32, 2), y) is NotImplemented


def test_arguments_are_released(function: Function) -> None:
    x, y = data(8)
    references = sys.getrefcount(x), sys.getrefcount(y), sys.getrefcount(NotImplemented)
    for _ in range(100):
        function.call(x, y)
        function.call(x, y[:3])
        function.call(x, None)
    assert abs(sys.getrefcount(x) - references[0]) <= 1
    assert abs(sys.getrefcount(y) - references[1]) <= 1
    assert abs(sys.getrefcount(NotImplemented) - references[2]) <= 3
    view = memoryview(bytearray(64)).cast("f", (8, 2))
    function.call(view, y)
    view.release()  # raises when a buffer is still exported


def test_state_must_be_given_first(library: Library) -> None:
    p = program()
    made = Function(library, plan(p), p, SIGNATURE)
    with pytest.raises(ValueError, match="count"):
        _ = made.call


@pytest.mark.parametrize(
    "memory",
    [
        pytest.param(np.zeros(1, np.float64), id="dtype"),
        pytest.param(aligned(0).view(np.int64), id="too small"),
        pytest.param(aligned(64)[8:16].view(np.int64), id="unaligned"),
        pytest.param(readonly(aligned(8).view(np.int64)), id="read-only"),
    ],
)
def test_memory_that_cannot_be_a_buffer(function: Function, memory: np.ndarray) -> None:
    with pytest.raises(ValueError, match="count"):
        function.set_pointer("count", memory)


def test_sizes_must_be_the_programs(library: Library) -> None:
    p = program()
    with pytest.raises(ValueError, match="run-time sizes"):
        Function(library, plan(p), p, Signature((), (("m", 3),)))


def test_the_builtin_outlives_its_function(library: Library) -> None:
    p, (x, y) = program(), data(5)
    made = Function(library, plan(p), p, SIGNATURE)
    counter = aligned(8).view(np.int64)
    made.set_pointer("count", counter)
    call, alive = made.call, weakref.ref(made)
    expected = call(x, y)
    del made
    gc.collect()
    assert alive() is None
    assert all(call(x, y) == expected for _ in range(100))
    assert counter[0] == 101


def test_json_round_trip(function: Function, library: Library) -> None:
    text = json.dumps(function.to_json())
    again = Function.from_json(library, json.loads(text))
    again.set_pointer("count", aligned(8).view(np.int64))
    x, y = data(20)
    assert again.signature == function.signature
    assert again.call(x, y) == function.call(x, y)
    assert json.dumps(again.to_json()) == text


SHAPES = Signature(
    (
        InputSpec("a", "float64", (("n", 2, 8), ("m", 3, 5), 4)),
        InputSpec("b", "int64", (("m", 1, 5),)),
        InputSpec("c", "bool", ()),
        InputSpec("d", "int32", (3, 0)),
    ),
    (("n", 8), ("m", 5)),
    ((1, -5, 2**40), (3, 0, 1)),
    None,
)


def test_other_dtypes_factors_and_several_sizes() -> None:
    buffers = tuple(Buffer(s.name, s.dtype, 1, "input") for s in SHAPES.inputs)
    p = Program(16, {"n": 8, "m": 5}, buffers, (), ())
    text = "define void @step(ptr %b, ptr %s) { ret void }"
    f = Function(load(compile_text(text + entry.text())), plan(p), p, SHAPES)

    def call(a: tuple[int, ...], b: Any, c: Any = np.True_, d: Any = (3, 0)) -> Any:
        values = np.asarray(b, np.int64)
        return f.call(np.zeros(a), values, np.asarray(c), np.zeros(d, np.int32))

    assert call((4, 6, 4), [1, 2]) is None
    assert f.sizes == {"n": 2, "m": 2}
    assert call((16, 15, 4), [-5, 0, 2**40 - 1, 3, 4]) is None
    assert f.sizes == {"n": 8, "m": 5}
    assert call((16, 15, 4), [-6, 0, 1, 3, 4]) is NotImplemented
    assert call((16, 15, 4), [0, 2**40, 1, 3, 4]) is NotImplemented
    assert call((3, 6, 4), [1, 2]) is NotImplemented  # not a multiple of 2
    assert call((4, 7, 4), [1, 2]) is NotImplemented
    assert call((4, 6, 4), [1]) is NotImplemented  # m disagrees
    assert call((18, 6, 4), [1, 2]) is NotImplemented  # n = 9
    assert call((4, 6, 4), [1, 2], np.uint8(1)) is NotImplemented
    assert call((4, 6, 4), [1, 2], d=(0, 3)) is NotImplemented
    assert f.sizes == {"n": 8, "m": 5}


@pytest.mark.parametrize(
    "dtype, kind, value",
    [
        ("float32", "float 0x3FF8000000000000", 1.5),
        ("float64", "double -0.125", -0.125),
        ("int32", "i32 -7", -7.0),
        ("int64", "i64 1099511627776", 2.0**40),
        ("bool", "i8 1", 1.0),
    ],
)
def test_loss_of_every_dtype(dtype: str, kind: str, value: float) -> None:
    text = f"""
    define void @step(ptr %b, ptr %s) {{
      %at = getelementptr ptr, ptr %b, i64 1
      %p = load ptr, ptr %at
      store {kind}, ptr %p
      ret void
    }}
    """
    p = Program(16, {}, (Buffer("loss", dtype, 1, "output"),), (), ())
    f = Function(load(compile_text(text + entry.text())), plan(p), p, Signature((), loss="loss"))
    assert f.call() == value
    assert f.call(1) is NotImplemented


SLOW = """
define void @step(ptr %buffers, ptr %sizes) {
entry:
  %at = getelementptr ptr, ptr %buffers, i64 1
  %count = load ptr, ptr %at
  %before = load volatile i64, ptr %count
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i.next, %loop ]
  %i.next = add i64 %i, 1
  store volatile i64 -1, ptr %count
  %more = icmp ult i64 %i.next, 20000
  br i1 %more, label %loop, label %done
done:
  %after = add i64 %before, 1
  store volatile i64 %after, ptr %count
  ret void
}
"""


def test_threads_take_turns() -> None:
    library = load(compile_text(SLOW + entry.text()))
    p = Program(16, {}, (Buffer("count", "int64", 1, "state"),), (), ())
    counter, lock = aligned(8).view(np.int64), Lock()
    functions = [Function(library, plan(p), p, Signature(()), lock) for _ in range(2)]
    for f in functions:
        f.set_pointer("count", counter)

    def work(call: Any) -> None:
        for _ in range(100):
            call()

    threads = [threading.Thread(target=work, args=(functions[i % 2].call,)) for i in range(6)]
    for thread in threads:
        thread.start()
    seen = [0]
    while seen[-1] < 600 and any(thread.is_alive() for thread in threads):
        with lock:
            seen.append(int(counter[0]))
    for thread in threads:
        thread.join()
    assert counter[0] == 600
    assert min(seen) >= 0  # nobody saw the middle of a step


def test_the_gil_is_released() -> None:
    """A thread inside a step does not keep others from running."""
    library = load(compile_text(SLOW.replace("20000", "400000000") + entry.text()))
    p = Program(16, {}, (Buffer("count", "int64", 1, "state"),), (), ())
    f = Function(library, plan(p), p, Signature(()))
    counter = aligned(8).view(np.int64)
    f.set_pointer("count", counter)
    thread = threading.Thread(target=f.call)
    thread.start()
    turns = 0
    while thread.is_alive() and turns < 1000:
        turns += counter[0] == -1
    assert turns > 100
    thread.join()


def test_entries_of_their_own_in_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYMGRAD_CACHE", str(tmp_path))
    target = Target.host()
    code = compile_text(STEP)
    bundle._entries.cache_clear()
    together = bundle.with_entries(code, target)
    bundle._entries.cache_clear()
    monkeypatch.setattr("codegen.assemble.assemble", None)  # not needed again
    assert bundle.with_entries(code, target) == together
    assert bundle.unpack(code) is None
    p = program()
    f = Function(load(together), plan(p), p, SIGNATURE)
    f.set_pointer("count", aligned(8).view(np.int64))
    x, y = data(40)
    assert f.call(x, y) == pytest.approx(float(x[:, 0] @ y), rel=1e-5)
    assert "step" in f.library and "step_run" in f.library and "nothing" not in f.library


def test_a_start_without_llvm(tmp_path: Path, function: Function) -> None:
    """Object and description are all that another process needs."""
    (tmp_path / "step.o").write_bytes(compile_text(STEP + entry.text()))
    (tmp_path / "step.json").write_text(json.dumps(function.to_json()))
    code = f"""
        import json, sys
        import numpy as np
        from codegen.call import Function, aligned
        from codegen.load import load
        code = open({str(tmp_path / "step.o")!r}, "rb").read()
        f = Function.from_json(load(code), json.load(open({str(tmp_path / "step.json")!r})))
        f.set_pointer("count", aligned(8).view(np.int64))
        print(f.call(np.ones((3, 2), np.float32), np.arange(3, dtype=np.int32)))
        assert not any(m.startswith("llvmlite") for m in sys.modules)
    """
    run = [sys.executable, "-c", textwrap.dedent(code)]
    root = Path(__file__).parent.parent.parent
    assert subprocess.run(run, capture_output=True, text=True, cwd=root).stdout == "3.0\n"
