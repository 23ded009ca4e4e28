"""Counts of arithmetic and memory: by hand on small nests, and against accesses seen to happen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import nests
import numpy as np
import pytest
from nests import F32, LANES, LIVE, ROW, P, number, op

from codegen.bounds import derived_sizes
from codegen.closures import Bound, Compiler, Frame
from codegen.counts import Counts, counts, program_counts, weight
from codegen.loops import (
    Accumulate,
    Const,
    Declare,
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
    Stmt,
    Store,
    Value,
)


def kernel(*body: Stmt) -> Kernel:
    params = (Param("x", F32), Param("w", F32), Param("y", F32, "w"))
    return Kernel("k", params, body)


def store(value: Value, index: Poly = ROW) -> Store:
    return Store("y", index, value)


def test_idle_lanes_do_nothing_and_invariant_loads_are_done_once() -> None:
    scaled = op("mul", Load("x", ROW, F32), Load("w", P(0), F32))
    nest = kernel(For("b", P("blocks"), (Lanes("l", LIVE, (store(scaled),)),)))
    for n in (1, 8, 20, 50):
        names = {"n": n, "blocks": -(-n // LANES)}
        assert counts(nest, names, LANES) == Counts(n, n + 1, n, 4 * (2 * n + 1))


def test_a_tile_of_accumulators_shares_its_loads() -> None:
    """3 x 2 vectors: per term 3 broadcasts and 2 vectors are loaded for 6 products."""
    product = op(
        "mul", Load("x", P("i") * 40 + "k", F32), Load("w", P("k") * 16 + P("j") * 8 + "l", F32)
    )
    inner = Accumulate("acc", ("i", "j"), "add", product)
    tile = For("i", P(3), (For("j", P(2), (inner,), 2),), 3)
    out = store(Get("acc", F32, ("i", "j")), P("i") * 16 + P("j") * 8 + "l")
    body = (
        Declare("acc", F32, number(0.0), (3, 2)),
        For("k", P(40), (tile,)),
        For("i", P(3), (For("j", P(2), (out,), 2),), 3),
    )
    found = counts(kernel(Lanes("l", None, body)), {}, LANES)
    assert found.flops == 2 * 3 * 16 * 40
    assert found.loads == 40 * (3 + 16)
    assert found.stores == 3 * 16
    assert found.bytes == 4 * (3 * 40 + 40 * 16 + 3 * 16)


def test_windows_count_each_element_once() -> None:
    """Ten windows of three, two apart: 21 elements of memory, 30 loads."""
    for stride, distinct in ((1, 12), (2, 21), (3, 30), (4, 30)):
        load = Load("x", P("o") * stride + "k", F32)
        nest = For("o", P(10), (For("k", P(3), (store(load, P("o") * 3 + "k"),)),))
        found = counts(kernel(nest), {}, LANES)
        assert (found.loads, found.bytes) == (30, 4 * (distinct + 30))


def test_extents_that_vary_are_added_up() -> None:
    """A triangle, and taps clipped at both borders of an image through named integers."""
    triangle = For(
        "i", P(50), (For("j", P("i") + 1, (store(Load("x", P("j"), F32), P("i") * 50 + "j"),)),)
    )
    assert counts(kernel(triangle), {}, LANES).stores == 50 * 51 // 2

    low = op(
        "maximum",
        op("sub", Const(2, "int64"), Index(P("o"), "int64"), dtype="int64"),
        Const(0, "int64"),
        dtype="int64",
    )
    high = op(
        "minimum",
        op("sub", Const(34, "int64"), Index(P("o"), "int64"), dtype="int64"),
        Const(5, "int64"),
        dtype="int64",
    )
    taps = For(
        "t", P("high") - "low", (store(Load("x", P("o") + "low" + "t" - 2, F32), P("o") * 5 + "t"),)
    )
    image = For("o", P(32), (Let("low", low), Let("high", high), taps))
    found = counts(kernel(image), {}, LANES)
    assert found.stores == found.loads == 32 * 5 - 2 * (2 + 1)
    assert found.other == 32 * 4


def test_an_extent_read_from_memory_counts_at_its_largest() -> None:
    n = Let("n", op("minimum", Load("x", P(0), "int32"), Const(7, "int32"), dtype="int32"))
    found = counts(kernel(n, For("i", P("n"), (store(number(1.0), P("i")),))), {}, LANES)
    assert found.stores == 7


def test_functions_count_as_what_they_are_made_of() -> None:
    assert weight("add", F32, F32) == (1, 0)
    assert weight("less", F32, "bool") == (0, 1)
    assert weight("cast", "int32", F32) == (0, 0)
    flops, _ = weight("exp", F32, F32)
    assert 8 <= flops <= 40
    assert weight("philox0", "int32", "int32")[0] == 0


def test_calls_of_a_program_in_order() -> None:
    program = nests.whole()
    product, epilogue, moves = program_counts(program, {"n": 50})
    assert product.flops == 2 * 6 * 5 * 50 + 6 * 50
    # x is read twice: that the last vector is not whole is then no longer seen
    assert product.bytes == 4 * (30 + 5 * 56 + 6 * 50 + 1)
    assert epilogue.loads == epilogue.stores == 6 * 50
    assert moves.stores >= 50 + 7 * 48


# -- against what happens --------------------------------------------------------------------------


class _Recorder(Compiler):
    """Notes every element that a kernel touches."""

    def __init__(self, lanes: int, kernel: Kernel) -> None:
        super().__init__(lanes, kernel, False)
        self.touched: dict[tuple[str, str], set[int]] = defaultdict(set)

    def _checked(self, what: str, frame: Frame, buffer: str, index: np.ndarray) -> np.ndarray:
        self.touched[what, buffer] |= set(index.ravel().tolist())
        return super()._checked(what, frame, buffer, index)

    def _access(self, what: str, buffer: str, index: Poly, full: bool) -> Callable[..., Any]:
        access = super()._access(what, buffer, index, full)
        ways = ["load", "store"] if what == "scatter" else [what]

        def recorded(frame: Frame, keep: Any) -> Any:
            found = access(frame, keep)
            at = found[1]
            some = range(at.start, at.stop) if isinstance(at, slice) else np.ravel(at).tolist()
            for way in ways:
                self.touched[way, buffer] |= set(some)
            return found

        return recorded


def touched_bytes(program: Program, sizes: dict[str, int]) -> list[int]:
    names = derived_sizes(program, sizes)
    memory = {b.name: np.zeros(b.size, b.dtype) for b in program.buffers}
    kernels = {k.name: k for k in program.kernels}
    found = []
    for call in program.calls:
        k = kernels[call.kernel]
        recorder = _Recorder(program.lanes, k)
        code = recorder.block(k.body)
        bound = {p.name: Bound(memory[b], 0) for p, b in zip(k.params, call.buffers)}
        with np.errstate(all="ignore"):
            code(Frame(dict(names), bound))
        item = {p.name: np.dtype(p.dtype).itemsize for p in k.params}
        found.append(sum(item[buffer] * len(at) for (_, buffer), at in recorder.touched.items()))
    return found


@pytest.mark.parametrize("rows", [1, 13, 16, 40])
def test_bytes_are_those_touched(rows: int) -> None:
    """Of a training step: never fewer, and hardly more (a condition may leave some out)."""
    import symgrad as sg

    n = sg.dim("n", max=48)
    x = sg.input("x", (n, 13))
    labels = sg.input("y", (n,), dtype="int32")
    model = sg.nn.Sequential(
        sg.nn.Linear(13, 24), sg.nn.LayerNorm(24), sg.nn.relu, sg.nn.Linear(24, 5)
    )
    loss = sg.losses.cross_entropy(model(x), labels)
    step = sg.train_step(loss, sg.optim.Adam(1e-3), target="interpret")
    program = step._pipeline.schedule.program
    actual = touched_bytes(program, {"n": rows})
    predicted = [c.bytes for c in program_counts(program, {"n": rows})]
    for call, some, most in zip(program.calls, actual, predicted):
        assert some <= most <= 1.5 * some + 64 * 4, (call.kernel, some, most)
    assert sum(predicted) <= 1.1 * sum(actual)
