"""The loop interpreter against NumPy, and what it must notice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nests
import numpy as np
import pytest
from nests import F32, LANES, LIVE, ROW, P, number, op

from codegen import memory
from codegen.interpret import OutOfBounds, all_sizes, evaluate, run
from codegen.loops import (
    Accumulate,
    Buffer,
    Call,
    Const,
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
    Program,
    Scatter,
    Stmt,
    Store,
    Transpose,
)

Arrays = dict[str, np.ndarray]


def arrays(seed: int = 0) -> Arrays:
    random = np.random.default_rng(seed)
    return {
        "W": random.standard_normal((6, 5)).astype(F32),
        "x": random.standard_normal((5, 64)).astype(F32),
        "s": np.zeros(1, F32),
        "label": random.integers(0, 1000, 64, np.int32),
        "count": np.ones(6, F32),
        "rows": np.zeros((64, 6), F32),
    }


@pytest.mark.parametrize("scalar", [False, True], ids=["vector", "scalar"])
@pytest.mark.parametrize("arena", [False, True], ids=["buffers", "arena"])
@pytest.mark.parametrize("n", [1, 7, 8, 21, 59, 60])
def test_whole_program(n: int, arena: bool, scalar: bool) -> None:
    held = arrays()
    program = nests.whole()
    plan = memory.plan(program) if arena else None
    run(program, held, {"n": n}, plan=plan, scalar=scalar)
    y = held["W"] @ held["x"][:, :n]
    e = np.exp(-y)
    z = np.where(y < 9, np.maximum(y, 0), e * (1 + e))
    counts = np.ones(6)
    for k, label in enumerate(held["label"][:n] % 6):
        counts[label] += z[label, k]
    np.testing.assert_allclose(held["s"], [y.sum()], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(held["count"], counts, rtol=1e-5)
    np.testing.assert_allclose(held["rows"][:n], z.T, rtol=1e-5, atol=1e-6)


@dataclass
class Overlapping:
    """A plan that puts two living buffers in one place."""

    offsets: dict[str, int]
    size: int


def test_a_buffer_reused_too_early_shows() -> None:
    program, held, right = nests.whole(), arrays(), arrays()
    run(program, right, {"n": 60})
    run(program, held, {"n": 60}, plan=Overlapping({"y": 0, "z": 4 * 64}, 7 * 4 * 64))
    assert not np.allclose(held["rows"], right["rows"], equal_nan=True)
    with pytest.raises(OutOfBounds, match="buffer z lies outside"):
        run(program, held, {"n": 60}, plan=Overlapping({"y": 0, "z": 64}, 6 * 4 * 64))


# -- single kernels ------------------------------------------------------------------------------


def one(*body: Stmt, size: int = 40, **sizes: Any) -> Program:
    """A kernel on x, y (float32) and k (int32) and the arena's t, of `size` elements."""
    types = {"x": F32, "y": F32, "k": "int32", "t": F32}
    params = tuple(Param(n, d, "rw") for n, d in types.items())
    held = tuple(Buffer(n, d, size, "arena" if n == "t" else "state") for n, d in types.items())
    kernel = Kernel("one", params, body)
    return Program(LANES, {"n": size, **sizes}, held, (kernel,), (Call("one", tuple(types)),))


def run_one(*body: Stmt, n: int = 5, scalar: bool = False, **changes: Any) -> Arrays:
    held = {
        "x": np.arange(40, dtype=F32) + 1,
        "y": np.zeros(40, F32),
        "k": np.arange(40, dtype=np.int32) % 5,
    } | changes
    run(one(*body), held, {"n": n}, scalar=scalar)
    return held


X = Load("x", P("l"), F32)


def test_what_nobody_wrote_is_poison() -> None:
    held = run_one(Lanes("l", None, (Store("y", P("l"), Load("t", P("l"), F32)),)))
    assert np.isnan(held["y"][:8]).all() and (held["y"][8:] == 0).all()


def test_a_full_store_leaves_poison_behind_idle_lanes() -> None:
    held = run_one(Lanes("l", P("n"), (Store("y", P("l") * 2, X, full=True),)))
    assert held["y"][:16:2][:5].tolist() == [1, 2, 3, 4, 5]
    assert np.isnan(held["y"][10:16:2]).all() and (held["y"][1::2] == 0).all()
    held = run_one(Lanes("l", P("n"), (Store("y", P("l"), X),)))
    assert held["y"][:9].tolist() == [1, 2, 3, 4, 5, 0, 0, 0, 0]


@pytest.mark.parametrize("scalar", [False, True])
def test_idle_lanes_do_not_load(scalar: bool) -> None:
    last = P("l") + 35
    body = Lanes("l", P("n"), (Store("y", last, Load("x", last, F32)),))
    assert run_one(body, scalar=scalar)["y"][39] == 40
    with pytest.raises(OutOfBounds, match=r"kernel one: load x\[40\] is outside .* n = 6"):
        run_one(body, n=6, scalar=scalar)


def test_full_accesses_reach_idle_lanes() -> None:
    last = P("l") + 35
    with pytest.raises(OutOfBounds, match=r"load x\[42\]"):
        run_one(Lanes("l", P("n"), (Let("v", Load("x", last, F32, full=True)),)))
    with pytest.raises(OutOfBounds, match=r"store y\[42\]"):
        run_one(Lanes("l", P("n"), (Store("y", last, X, full=True),)))


@pytest.mark.parametrize(
    "index, message",
    [(P("l") - 1, "-1"), (P("l") * 6, "42"), (P("j"), "47"), (P("i") * 10, "40")],
)
def test_outside(index: Any, message: str) -> None:
    j = Let("j", op("add", Index(P("l") * 10), Const(7, "int32"), dtype="int32"))
    for statement in (Store("y", index, X), Let("v", Load("x", index, F32))):
        with pytest.raises(OutOfBounds, match=rf"\[{message}\]"):
            run_one(For("i", P(5), (Lanes("l", None, (j, statement)),)))


def test_offsets_move_a_parameter() -> None:
    program = one(Lanes("l", None, (Store("y", P("l") - 2, X),)))
    call = Call("one", ("x", "y", "k", "t"), (3, 4, 0, 0))
    held = run_one()
    run(Program(LANES, program.sizes, program.buffers, program.kernels, (call,)), held, {"n": 1})
    assert held["y"][:11].tolist() == [0, 0, 4, 5, 6, 7, 8, 9, 10, 11, 0]


@pytest.mark.parametrize("scalar", [False, True])
def test_conditions(scalar: bool) -> None:
    even = op("equal", op("bit_and", Index(P("l")), Const(1, "int32"), dtype="int32"),
              Const(0, "int32"), dtype="bool")  # fmt: skip
    far = Load("x", P("l") * 6, F32, op("less", Index(P("l")), Const(3, "int32"), dtype="bool"))
    body = (
        Store("y", P("l"), far),
        Store("y", P("l") + 8, X, when=even),
        Store("y", P(20), X, when=even),
        Store("y", P(21), X),
        Store("y", P(22), number(5.0), when=Const(False, "bool")),
    )
    y = run_one(Lanes("l", None, body), scalar=scalar)["y"]
    assert y[:8].tolist() == [1, 7, 13, 0, 0, 0, 0, 0]
    assert y[8:16].tolist() == [1, 0, 3, 0, 5, 0, 7, 0]
    assert y[20:23].tolist() == [7, 8, 0]  # the last lane wins


@pytest.mark.parametrize("scalar", [False, True])
def test_registers_as_indices(scalar: bool) -> None:
    k = Let("j", Load("k", P("l"), "int32"))
    body = (
        k,
        Store("y", P("j") * 2 + 20, X),
        Scatter("y", P("j"), X),
        Scatter("y", P(10), number(1.0)),
    )
    y = run_one(Lanes("l", P("n") + 2, body), scalar=scalar)["y"]  # seven live lanes
    assert y[:5].tolist() == [1 + 6, 2 + 7, 3, 4, 5]
    assert y[10] == 7
    assert y[20:30:2].tolist() == [6, 7, 3, 4, 5]


def test_registers_do_not_overflow_in_indices() -> None:
    k = Let("j", Load("k", P("l"), "int32"))
    big = np.full(40, 2**30, np.int32)
    with pytest.raises(OutOfBounds, match=str(8 * 2**30)):
        run_one(Lanes("l", None, (k, Store("y", P("j") * 8, X))), k=big)


@pytest.mark.parametrize("scalar", [False, True])
@pytest.mark.parametrize(
    "fn, start, wanted",
    [("add", 2, 2 + 45), ("mul", 2, 2 * 362880), ("maximum", 2, 9), ("minimum", 2, 1)],
)
def test_accumulators_over_lanes(fn: str, start: float, wanted: float, scalar: bool) -> None:
    """1 .. 9, the last vector with one live lane and one with none."""
    live = P(9) - P("b") * LANES
    body = (
        Declare("acc", F32, number(start)),
        For("b", P(3), (Lanes("l", live, (Accumulate("acc", (), fn, Load("x", ROW, F32)),)),)),
        Store("y", P(0), Get("acc", F32)),
    )
    assert run_one(*body, scalar=scalar)["y"][0] == wanted


@pytest.mark.parametrize("scalar", [False, True])
def test_a_uniform_value_counts_once_per_live_lane(scalar: bool) -> None:
    body = (
        Declare("acc", F32, number(0.0)),
        Lanes("l", P("n"), (Accumulate("acc", (), "add", number(1.0)),)),
        Store("y", P(0), Get("acc", F32)),
    )
    assert run_one(*body, scalar=scalar)["y"][0] == 5


def test_accumulators_of_a_lane_start_anew() -> None:
    inner = (
        Declare("acc", F32, number(0.0), (2,)),
        For("i", P(3), (Accumulate("acc", (1,), "add", X),)),
        Store("y", ROW, Get("acc", F32, (1,))),
    )
    held = run_one(For("b", P(2), (Lanes("l", None, inner),)))
    assert held["y"][:16].tolist() == [3.0 * (i % 8 + 1) for i in range(16)]
    bad = Accumulate("acc", ("i",), "add", X)
    with pytest.raises(OutOfBounds, match=r"acc\[2\]"):
        run_one(Lanes("l", None, (inner[0], For("i", P(3), (bad,)))))


@pytest.mark.parametrize("pad", ["first", "zero", "none"])
def test_transposes(pad: str) -> None:
    tile = Transpose("y", P(1), P(9), "x", P(2), P(7), P(3), P(4), pad)
    y = run_one(tile)["y"]
    source = np.arange(40, dtype=F32) + 1
    for c in range(4):
        row = [source[2 + r * 7 + c] for r in range(3)]
        rest = {"first": [row[0]] * 5, "zero": [0] * 5, "none": [0] * 5}[pad]
        assert y[1 + c * 9 : 9 + c * 9].tolist() == row + rest
    with pytest.raises(OutOfBounds, match="exceeds 8 lanes"):
        run_one(Transpose("y", P(0), P(8), "x", P(0), P(1), P(9), P(1), pad))
    with pytest.raises(OutOfBounds, match=r"load x\[40\]"):
        run_one(Transpose("y", P(0), P(8), "x", P(2), P(18), P(3), P(4), pad))


def test_sizes() -> None:
    sizes = {
        "n": 20,
        "up": Derived("ceildiv", P("n") * 2, 8),
        "down": Derived("div", P("n"), 8),
        "left": Derived("mod", P("up"), 4),
    }
    program = Program(8, sizes, (), (), ())
    assert all_sizes(program, {"n": 19}) == {"n": 19, "up": 5, "down": 2, "left": 1}
    for wrong in (21, -1):
        with pytest.raises(ValueError, match=f"n = {wrong} is not in 0..20"):
            all_sizes(program, {"n": wrong})
    with pytest.raises(ValueError, match="size 'n' is missing"):
        all_sizes(program, {})


def test_buffers_are_checked() -> None:
    program = one()
    with pytest.raises(ValueError, match="state buffer 'x' is missing"):
        run(program, {}, {"n": 1})
    for wrong in (np.zeros(40), np.zeros(80, F32)[::2]):
        with pytest.raises(ValueError, match="'x': expected contiguous float32"):
            run(program, {"x": wrong}, {"n": 1})


def test_constants_are_baked_in_and_kept() -> None:
    data = np.arange(8, dtype=F32)
    held = Buffer("c", F32, 8, "constant", data.tobytes())
    kernel = Kernel(
        "k", (Param("c", F32), Param("y", F32, "w")),
        (Lanes("l", None, (Store("y", P("l"), Load("c", P("l"), F32)),)),),
    )  # fmt: skip
    y = np.zeros(8, F32)
    buffers = (held, Buffer("y", F32, 8, "output"))
    run(Program(8, {}, buffers, (kernel,), (Call("k", ("c", "y")),)), {"y": y}, {})
    assert (y == data).all()


def test_shared_values_are_computed_once() -> None:
    v: Any = Get("x", F32)
    for _ in range(3000):
        v = op("mul", op("add", v, v), number(0.5))
    assert evaluate(v, {"x": np.float32(3)}) == 3


def test_thousands_of_turns_are_quick() -> None:
    inner = Accumulate("acc", (), "add", op("mul", Load("x", P("i"), F32), X))
    body = (Declare("acc", F32, number(0.0)), For("o", P(250), (For("i", P(40), (inner,)),)))
    run_one(Lanes("l", None, body))  # ten thousand; about 0.1 s
    assert LIVE.names == {"n", "b"}
