"""Epochs without Python: every row once, batches as told, sums and shuffles exact."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from native import compile_text
from test_call import MAX, SIGNATURE, STEP, program

from codegen import entry
from codegen.assemble import assemble
from codegen.batches import Batches
from codegen.call import Function, InputSpec, Signature, aligned
from codegen.elf import Image
from codegen.load import Library, load
from codegen.loops import Buffer, Program
from codegen.memory import plan
from codegen.target import Target

# Buffers: x (n, width), y (n), w (3), log, loss. `log` is a state of the form [entries, then for
# every row of every step: its label, first and last element]; loss is the first row's label.
WIDTHS = (1, 2, 3, 200)


def logging_step(width: int) -> str:
    return f"""
    define void @step(ptr %buffers, ptr %sizes) {{
    entry:
      %x.at = getelementptr ptr, ptr %buffers, i64 1
      %x = load ptr, ptr %x.at
      %y.at = getelementptr ptr, ptr %buffers, i64 2
      %y = load ptr, ptr %y.at
      %w.at = getelementptr ptr, ptr %buffers, i64 3
      %w = load ptr, ptr %w.at
      %log.at = getelementptr ptr, ptr %buffers, i64 4
      %log = load ptr, ptr %log.at
      %loss.at = getelementptr ptr, ptr %buffers, i64 5
      %loss = load ptr, ptr %loss.at
      %n = load i64, ptr %sizes
      %w0 = load double, ptr %w
      %start = load double, ptr %log
      %first = load i32, ptr %y
      %first.double = sitofp i32 %first to double
      store double %first.double, ptr %loss
      br label %loop
    loop:
      %i = phi i64 [ 0, %entry ], [ %i.next, %body ]
      %used = phi double [ %start, %entry ], [ %used.next, %body ]
      %more = icmp ult i64 %i, %n
      br i1 %more, label %body, label %done
    body:
      %slot = fptosi double %used to i64
      %slot3 = mul i64 %slot, 3
      %to.y = getelementptr double, ptr %log, i64 %slot3
      %to.y1 = getelementptr double, ptr %to.y, i64 1
      %to.a = getelementptr double, ptr %to.y, i64 2
      %to.b = getelementptr double, ptr %to.y, i64 3
      %label.at = getelementptr i32, ptr %y, i64 %i
      %label = load i32, ptr %label.at
      %label.double = sitofp i32 %label to double
      %shifted = fadd double %label.double, %w0
      %row = mul i64 %i, {width}
      %a.at = getelementptr float, ptr %x, i64 %row
      %a = load float, ptr %a.at
      %a.double = fpext float %a to double
      %b.at = getelementptr float, ptr %a.at, i64 {width - 1}
      %b = load float, ptr %b.at
      %b.double = fpext float %b to double
      store double %shifted, ptr %to.y1
      store double %a.double, ptr %to.a
      store double %b.double, ptr %to.b
      %used.next = fadd double %used, 1.0
      %i.next = add i64 %i, 1
      br label %loop
    done:
      store double %used, ptr %log
      ret void
    }}
    """


class Logged:
    """A function that remembers the rows it has seen."""

    def __init__(self, library: Library, width: int, rows: int) -> None:
        n = ("n", 1, MAX)
        inputs = (
            InputSpec("x", "float32", (n, width)),
            InputSpec("y", "int32", (n,)),
            InputSpec("w", "float64", (3,)),
        )
        buffers = (
            Buffer("x", "float32", MAX * width, "input"),
            Buffer("y", "int32", MAX, "input"),
            Buffer("w", "float64", 3, "input"),
            Buffer("log", "float64", 1, "state"),
            Buffer("loss", "float64", 1, "output"),
        )
        p = Program(16, {"n": MAX}, buffers, (), ())
        signature = Signature(inputs, (("n", MAX),), ((1, 0, 10**6),), "loss")
        self.function = Function(library, plan(p), p, signature)
        self.log = aligned(8 * (3 * rows + 4)).view(np.float64)
        self.function.set_pointer("log", self.log)
        self.arrays = {
            "x": np.arange(rows * width, dtype=np.float32).reshape(rows, width),
            "y": np.arange(rows, dtype=np.int32),
            "w": np.array([0.5, 0, 0]),
        }

    def seen(self) -> np.ndarray:
        """Rows in the order in which steps saw them; checks that inputs belong together."""
        count = int(self.log[0])
        table = self.log[1 : 1 + 3 * count].reshape(count, 3)
        rows = (table[:, 0] - 0.5).astype(int)
        x = self.arrays["x"]
        assert np.array_equal(table[:, 1], x[rows, 0]) and np.array_equal(table[:, 2], x[rows, -1])
        self.log[0] = 0
        return rows


@pytest.fixture(scope="module", params=WIDTHS)
def logged(request: pytest.FixtureRequest) -> Any:
    library = load(compile_text(logging_step(request.param) + entry.text()))
    return lambda rows: Logged(library, request.param, rows)


@pytest.mark.parametrize("rows, batch", [(1, 1), (10, 4), (64, 64), (100, 64), (12, 3), (5, 64)])
def test_every_row_once(logged: Any, rows: int, batch: int) -> None:
    test = logged(rows)
    batches = Batches(test.function, test.arrays, batch, ("loss",))
    seen_positions = list(batches)
    assert seen_positions[-1] == rows == batches.weight and batches.finished
    assert np.array_equal(test.seen(), np.arange(rows))
    starts = np.arange(0, rows, batch)
    weights = np.minimum(batch, rows - starts)
    assert batches.means == {"loss": pytest.approx((starts * weights).sum() / rows)}
    assert test.function.sizes == {"n": weights[-1]}

    order = np.random.default_rng(0).permutation(rows)
    batches.start(order)
    order_given, order[:] = order.copy(), 0  # the order was copied
    list(batches)
    assert np.array_equal(test.seen(), order_given)
    assert batches.means["loss"] == pytest.approx((order_given[starts] * weights).sum() / rows)

    batches.shuffle(7, 3)
    list(batches)
    assert np.array_equal(test.seen(), permutation(rows, 7, 3))

    batches.start(order_given[: rows // 2 + 1])  # some rows only
    list(batches)
    assert np.array_equal(test.seen(), order_given[: rows // 2 + 1])


def test_slices_resume_where_they_stopped(logged: Any) -> None:
    test = logged(100)
    batches = Batches(test.function, test.arrays, 8, ("loss",))
    assert batches.advance(3) == 3 and batches.position == 24 and not batches.finished
    x = np.full((2, test.arrays["x"].shape[1]), 3.0, np.float32)
    test.function.call(x, np.array([3, 3], np.int32), np.zeros(3))  # somebody else, in between
    test.log[0] = 24
    assert batches.advance(100) == 10 and batches.finished
    assert batches.advance() == 0
    assert np.array_equal(test.seen(), np.arange(100))


def test_stop_ends_the_epoch(logged: Any) -> None:
    test = logged(100)
    batches = Batches(test.function, test.arrays, 1)
    batches.advance(10)
    batches.stop()
    assert batches.finished and batches.advance() == 0
    assert list(batches) == [] and len(test.seen()) == 10
    batches.start()
    assert list(batches)[-1] == 100


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10 as published."""
    for _ in range(10):
        a, b = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [b >> 32 ^ counter[1] ^ key[0], b, a >> 32 ^ counter[3] ^ key[1], a]
        counter = [c & 0xFFFFFFFF for c in counter]
        key = [key[0] + 0x9E3779B9 & 0xFFFFFFFF, key[1] + 0xBB67AE85 & 0xFFFFFFFF]
    return counter


def permutation(rows: int, seed: int, epoch: int) -> np.ndarray:
    order, low = list(range(rows)), 0xFFFFFFFF
    for i, last in enumerate(range(rows - 1, 0, -1)):
        block = i // 2
        counter = [block & low, block >> 32, epoch & low, entry.SHUFFLE_STREAM]
        words = philox(counter, [seed & low, seed >> 32])
        random = words[0] | words[1] << 32 if i % 2 == 0 else words[2] | words[3] << 32
        other = random * (last + 1) >> 64
        order[last], order[other] = order[other], order[last]
    return np.array(order)


def test_philox_reference() -> None:
    """Random123's published known answers."""
    ones = 0xFFFFFFFF
    assert philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert philox([ones] * 4, [ones] * 2) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 100, 1001])
@pytest.mark.parametrize("seed, epoch", [(0, 0), (0, 1), (2**64 - 1, 5), (1 << 33, 2**32 - 1)])
def test_shuffle_is_philox_and_fisher_yates(rows: int, seed: int, epoch: int) -> None:
    library = load(compile_text(logging_step(1) + entry.text()))
    test = Logged(library, 1, rows)
    batches = Batches(test.function, test.arrays, 16)
    batches.shuffle(seed, epoch)
    list(batches)
    seen = test.seen()
    assert np.array_equal(seen, permutation(rows, seed, epoch))
    assert np.array_equal(np.sort(seen), np.arange(rows))


@pytest.mark.parametrize("name", ["sse2", "avx2", "avx512"])
def test_every_vector_width(name: str) -> None:
    target = Target.named(name)
    if name != "sse2" and Target.host().lanes < target.lanes:
        pytest.skip(f"this machine has no {name}")
    library = load(assemble(logging_step(2) + entry.text(), target))
    test = Logged(library, 2, 1000)
    batches = Batches(test.function, test.arrays, 37)
    batches.shuffle(12345, 6)
    list(batches)
    assert np.array_equal(test.seen(), permutation(1000, 12345, 6))
    x, w = np.zeros((64, 2), np.float32), np.zeros(3)
    for position in range(64):
        for bad in (-1, 10**6):
            y = np.full(64, 10**6 - 1, np.int32)
            assert test.function.call(x, y, w) is not NotImplemented
            test.log[0] = 0
            y[position] = bad
            assert test.function.call(x, y, w) is NotImplemented


def test_entries_for_aarch64_can_be_linked() -> None:
    image = Image(compile_text(entry.module(), triple="aarch64-unknown-linux-gnu"))
    base = {"code": 0x400000, "constant": 0x500000, "data": 0x600000}
    symbols = image.link(base, lambda name: 0x7F0000000000)
    assert {"step_call", "step_run", "step_shuffle"} <= set(symbols)


def test_shuffles_are_uniform() -> None:
    library = load(compile_text(logging_step(1) + entry.text()))
    test = Logged(library, 1, 4)
    batches = Batches(test.function, test.arrays, 4)
    found: dict[tuple[int, ...], int] = {}
    for epoch in range(4800):
        batches.shuffle(1, epoch)
        batches.advance(1)
        seen = tuple(test.seen().tolist())
        found[seen] = found.get(seen, 0) + 1
    chi2 = sum((count - 200) ** 2 / 200 for count in found.values())
    assert len(found) == 24 and chi2 < 60  # 23 degrees of freedom: 1e-5


def static(library: Library, batch: int) -> Function:
    buffers = (
        Buffer("x", "float32", 2 * batch, "input"),
        Buffer("y", "int32", batch, "input"),
        Buffer("count", "int64", 1, "state"),
        Buffer("out", "float32", batch, "output"),
        Buffer("loss", "float32", 1, "output"),
    )
    p = Program(16, {}, buffers, (), ())
    inputs = (InputSpec("x", "float32", (batch, 2)), InputSpec("y", "int32", (batch,)))
    f = Function(library, plan(p), p, Signature(inputs, loss="loss"))
    f.set_pointer("count", aligned(8).view(np.int64))
    return f


def test_a_static_batch_leaves_out_the_remainder() -> None:
    step = STEP.replace("%n = load i64, ptr %sizes", "%n = add i64 4, 0")
    step = step.replace("%arena = load ptr, ptr %buffers", "%arena = alloca float, i64 64")
    f = static(load(compile_text(step + entry.text())), 4)
    x, y = np.ones((11, 2), np.float32), np.arange(11, dtype=np.int32)
    batches = Batches(f, {"x": x, "y": y}, 4, ("loss",))
    list(batches)
    assert (batches.position, batches.weight) == (11, 8)
    assert int(f.output("count")[0]) == 2
    assert batches.means["loss"] == sum(range(8)) / 2
    short = Batches(f, {"x": x[:3], "y": y[:3]}, 4, ("loss",))
    list(short)
    assert short.weight == 0 and np.isnan(short.means["loss"])


@pytest.fixture
def function() -> Function:
    p = program()
    made = Function(load(compile_text(STEP + entry.text())), plan(p), p, SIGNATURE)
    made.set_pointer("count", aligned(8).view(np.int64))
    return made


X, Y = np.ones((20, 2), np.float32), np.zeros(20, np.int32)


@pytest.mark.parametrize(
    "arrays, batch, message",
    [
        pytest.param({"x": X}, 4, "inputs are", id="missing"),
        pytest.param({"x": X, "y": Y, "z": Y}, 4, "inputs are", id="unknown"),
        pytest.param({"x": X, "y": Y[:19]}, 4, "disagree", id="rows"),
        pytest.param({"x": X.astype("f8"), "y": Y}, 4, "float64", id="dtype"),
        pytest.param({"x": X[:, :1].copy(), "y": Y}, 4, "shape", id="shape"),
        pytest.param({"x": X[:, 0].copy(), "y": Y}, 4, "rank", id="rank"),
        pytest.param({"x": X[::2], "y": Y[:10]}, 4, "contiguous", id="strided"),
        pytest.param({"x": X, "y": Y + 10}, 4, "values 10..10", id="label"),
        pytest.param({"x": X, "y": Y}, 65, "1..64", id="batch over max"),
        pytest.param({"x": X, "y": Y}, 0, "1..64", id="no batch"),
    ],
)
def test_what_cannot_be_batched(
    function: Function, arrays: dict[str, np.ndarray], batch: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Batches(function, arrays, batch)


def test_an_order_must_name_rows(function: Function) -> None:
    batches = Batches(function, {"x": X, "y": Y}, 4)
    for order in ([20], [-1], [[0]]):
        with pytest.raises(ValueError, match="order"):
            batches.start(np.array(order))


def test_memory_that_the_step_writes(function: Function) -> None:
    out = function.output("out").reshape(32, 2)
    with pytest.raises(ValueError, match="writes"):
        Batches(function, {"x": out, "y": np.zeros(32, np.int32)}, 4)


def test_no_rows_at_all(function: Function) -> None:
    batches = Batches(function, {"x": X[:0], "y": Y[:0]}, 4, ("loss",))
    assert list(batches) == [] and np.isnan(batches.means["loss"])


def test_calls_from_another_thread_during_an_epoch(function: Function) -> None:
    rows = 4000
    x, y = np.ones((rows, 2), np.float32), np.ones(rows, np.int32)
    batches = Batches(function, {"x": x, "y": y}, 4, ("loss",))
    wrong, going = [], threading.Event()

    def calls() -> None:
        ones = np.ones(6, np.int32)
        while not going.is_set():
            if function.call(np.full((6, 2), 2.0, np.float32), ones) != 12.0:
                wrong.append(1)

    thread = threading.Thread(target=calls)
    thread.start()
    for _ in range(20):
        batches.start()
        while not batches.finished:
            batches.advance(50)
        assert batches.means["loss"] == 4.0
    going.set()
    thread.join()
    assert not wrong
