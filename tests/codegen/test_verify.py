"""Each rule of the verifier, by a program that breaks it and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import nests
import pytest
from nests import LANES, P, number, op

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
    Prefetch,
    Program,
    Scatter,
    Stmt,
    Store,
    Transpose,
)
from codegen.verify import VerifyError, verify

X = Load("x", P("l"), "float32")
ONE = number(1.0)
ACC = Declare("acc", "float32", number(0.0), (2, 3))
SAFE = P("l")


def kernel(*body: Stmt, **changes: Any) -> Program:
    """A kernel on x (r) and y (w) of 40 floats, k (r) of 40 int32, z (rw) of 40 float64."""
    params = (
        Param("x", "float32"),
        Param("y", "float32", "w"),
        Param("k", "int32"),
        Param("z", "float64", "rw"),
    )
    held = (
        Buffer("x", "float32", 40, "input"),
        Buffer("y", "float32", 40),
        Buffer("k", "int32", 40, "input"),
        Buffer("z", "float64", 40, "state"),
    )
    made = replace(Kernel("test", params, body), **changes)
    return Program(LANES, nests.SIZES, held, (made,), (Call("test", ("x", "y", "k", "z")),))


def lanes(*body: Stmt, live: Any = None) -> Program:
    return kernel(Lanes("l", live, body))


def store(value: Any, **more: Any) -> Store:
    return Store("y", SAFE, value, **more)


def test_good_programs() -> None:
    verify(nests.whole())
    verify(kernel())
    verify(lanes(store(op("add", X, ONE))))
    verify(kernel(Prefetch("x", P(1 << 40))))


WHOLE = nests.whole()
BAD_BODIES: list[tuple[str, Program]] = [
    # names
    ("'v' is not defined here", lanes(store(Get("v", "float32")), Let("v", X))),
    ("'m' is not defined here", kernel(For("i", P("m"), ()))),
    (
        "'v' is not defined here",
        lanes(For("i", P(2), (Let("v", X),)), store(Get("v", "float32"))),
    ),
    ("'i' is in use already", kernel(For("i", P(2), (For("i", P(2), ()),)))),
    ("'n' is in use already", kernel(Let("n", ONE))),
    ("'v' is in use already", lanes(Let("v", X), Let("v", X))),
    ("'l' is not defined here", kernel(Store("y", P("l"), ONE))),
    ("there is no buffer parameter 'w'", lanes(store(Load("w", SAFE, "float32")))),
    # modes
    ("y has mode 'w', 'r' is needed", lanes(store(Load("y", SAFE, "float32")))),
    ("x has mode 'r', 'w' is needed", lanes(Store("x", SAFE, ONE))),
    ("y has mode 'w', 'rw' is needed", lanes(Scatter("y", SAFE, ONE))),
    ("y has mode 'w', 'r' is needed", kernel(Prefetch("y", P(0)))),
    ("a prefetch of more than one place", lanes(Prefetch("x", SAFE))),
    # dtypes
    ("y is float32, the value float64", lanes(store(number(1.0, "float64")))),
    ("x is float32, the load int32", lanes(store(Load("x", SAFE, "int32")))),
    (
        "add(float32, int32): arguments differ in dtype",
        lanes(store(op("add", X, Load("k", SAFE, "int32")))),
    ),
    ("less is bool, declared as float32", lanes(store(op("less", X, X)))),
    (
        "bit_and(float32, float32): arguments must be int32 or int64",
        lanes(store(op("bit_and", X, X))),
    ),
    ("there is no scalar function 'sinc'", lanes(store(op("sinc", X)))),
    ("add takes 2 arguments, got 1", lanes(store(op("add", X)))),
    ("the condition must be bool", lanes(store(op("where", X, X, X)))),
    ("the condition is float32, it must be bool", lanes(store(X, when=X))),
    (
        "the condition is int32, it must be bool",
        lanes(store(Load("x", SAFE, "float32", Index(SAFE)))),
    ),
    (
        "acc is float32, the value float64",
        lanes(ACC, Accumulate("acc", (0, 0), "add", number(1.0, "float64"))),
    ),
    (
        "the accumulator is float32, its start int32",
        kernel(Declare("a", "float32", Const(0, "int32"))),
    ),
    ("v is float32, read as int32", lanes(Let("v", X), store(Get("v", "int32")))),
    ("0.5 is no int32", lanes(Let("v", Const(0.5, "int32")))),
    ("'v' is float32 let, no integer", lanes(Let("v", X), store(Load("x", P("v"), "float32")))),
    ("'acc' is float32 accumulator", lanes(ACC, store(Load("x", P("acc"), "float32")))),
    # accumulators
    ("'acc' is no accumulator in sight", lanes(Accumulate("acc", (), "add", X))),
    ("'v' is no accumulator in sight", lanes(Let("v", X), Accumulate("v", (), "add", X))),
    ("cannot accumulate with 'sub'", lanes(ACC, Accumulate("acc", (0, 0), "sub", X))),
    ("acc has 2 axes, 1 subscripts given", lanes(ACC, Accumulate("acc", (0,), "add", X))),
    ("subscript 3 of acc is not in 0..2", lanes(ACC, Accumulate("acc", (0, 3), "add", X))),
    ("subscript -1 of acc", lanes(ACC, Accumulate("acc", (-1, 0), "add", X))),
    (
        "subscript 2 of acc is not in 0..1",
        lanes(ACC, For("i", P(3), (Accumulate("acc", ("i", 0), "add", X),))),
    ),
    ("'l' differs from lane to lane", lanes(ACC, Accumulate("acc", ("l", 0), "add", X))),
    ("v has no axes", lanes(Let("v", X), store(Get("v", "float32", (0,))))),
    ("shape (2, 0)", kernel(Declare("a", "float32", ONE, (2, 0)))),
    # lanes
    ("lanes within lanes", lanes(Lanes("m", None, ()))),
    ("a power of the lane 'l'", lanes(Store("y", P("l") * "l", ONE))),
    ("'l' differs from lane to lane", lanes(For("i", P("l"), ()))),
    ("'v' differs from lane to lane", lanes(Let("v", Index(SAFE)), For("i", P("v"), ()))),
    ("`full` outside of lanes", kernel(Store("y", P(0), ONE, full=True))),
    (
        "a transpose within lanes",
        lanes(Transpose("y", P(0), P(8), "x", P(0), P(8), P(2), P(2), "none")),
    ),
    # transposes
    ("pad 'ones'", kernel(Transpose("y", P(0), P(8), "x", P(0), P(8), P(2), P(2), "ones"))),
    (
        "9 rows, but 8 lanes",
        kernel(Transpose("y", P(0), P(9), "x", P(0), P(1), P(9), P(2), "none")),
    ),
    (
        "the tile float64",
        kernel(Transpose("y", P(0), P(8), "x", P(0), P(8), P(2), P(2), "none", "float64")),
    ),
    ("unroll 0", kernel(For("i", P(2), (), 0))),
    # bounds: certain accesses outside of 40 elements
    ("element 40 of x", kernel(For("i", P(41), (Let("v", Load("x", P("i"), "float32")),)))),
    ("element -1 of x", kernel(For("i", P(4), (Let("v", Load("x", P("i") - 1, "float32")),)))),
    ("element 47 of y", kernel(For("b", P(6), (Lanes("l", None, (Store("y", nests.ROW, ONE),)),)))),
    (
        "element 59 of y",
        kernel(For("b", P("blocks"), (Lanes("l", nests.LIVE, (Store("y", nests.ROW, ONE),)),))),
    ),
    (
        "element 47 of y",
        kernel(For("b", P(5), (Lanes("l", P(1), (Store("y", nests.ROW + 8, ONE, full=True),)),))),
    ),
    (
        "element 45 of x",
        kernel(
            For("i", P(10), (For("j", P("i") + 1, (Let("v", Load("x", P("j") * 5, "float32")),)),))
        ),
    ),
    ("element 40 of y", kernel(Transpose("y", P(1), P(8), "x", P(0), P(8), P(2), P(5), "zero"))),
    # parameters
    ("two parameters have one name", kernel(params=(Param("x", "float32"), Param("x", "float32")))),
    ("inplace (y, q) names no", kernel(inplace=(("y", "q"),))),
    ("inplace (x, y) names no", kernel(inplace=(("x", "y"),))),
    ("parameter x: a float32", kernel(params=(Param("x", "float32", "a"),))),
]


@pytest.mark.parametrize("message, program", BAD_BODIES, ids=[m for m, _ in BAD_BODIES])
def test_broken_kernels(message: str, program: Program) -> None:
    with pytest.raises(VerifyError) as error:
        verify(program)
    assert message in str(error.value)
    assert "test" in str(error.value)  # the kernel's name


def with_buffer(**changes: Any) -> Program:
    first, *rest = WHOLE.buffers
    return replace(WHOLE, buffers=(replace(first, **changes), *rest))


def with_call(*buffers: str, offsets: tuple[int, ...] = ()) -> Program:
    return replace(WHOLE, calls=(Call("product", buffers, offsets),))


BAD_PROGRAMS: list[tuple[str, Program]] = [
    ("size m: 'k' is not known", replace(WHOLE, sizes={"m": Derived("div", P("k"), 2)})),
    ("cannot compute div by 0", replace(WHOLE, sizes={"n": 8, "m": Derived("div", P("n"), 0)})),
    ("cannot compute pow", replace(WHOLE, sizes={"n": 8, "m": Derived("pow", P("n"), 2)})),
    ("size n: its largest value is -1", replace(WHOLE, sizes={"n": -1})),
    ("a program with 0 lanes", replace(WHOLE, lanes=0)),
    ("two buffers have this name", with_buffer(name="x")),
    ("float16[30] state is not a buffer", with_buffer(dtype="float16")),
    ("float32[30] heap is not a buffer", with_buffer(role="heap")),
    ("float32[-1] state is not a buffer", with_buffer(size=-1)),
    ("constants have data", with_buffer(role="constant")),
    ("constants have data", with_buffer(data=b"1234")),
    ("4 bytes of data, not 120", with_buffer(role="constant", data=b"1234")),
    ("two kernels have this name", replace(WHOLE, kernels=WHOLE.kernels + WHOLE.kernels[:1])),
    ("a call of 'nothing'", replace(WHOLE, calls=(Call("nothing", ()),))),
    ("4 parameters, 3 offsets", with_call("W", "x", "y")),
    ("4 parameters, 1 offsets", with_call("W", "x", "y", "s", offsets=(0,))),
    ("there is no buffer 'q'", with_call("W", "x", "y", "q")),
    ("label is int32, parameter x float32", with_call("W", "label", "y", "s")),
    ("y is written, but x is input", with_call("W", "y", "x", "s")),
    ("y and s are one buffer", with_call("W", "x", "y", "y")),
    ("element 30 of W", with_call("W", "x", "y", "s", offsets=(1, 0, 0, 0))),
    ("element -1 of y", with_call("W", "x", "y", "s", offsets=(0, 0, -1, 0))),
]


@pytest.mark.parametrize("message, program", BAD_PROGRAMS, ids=[m for m, _ in BAD_PROGRAMS])
def test_broken_programs(message: str, program: Program) -> None:
    with pytest.raises(VerifyError) as error:
        verify(program)
    assert message in str(error.value)


def test_the_error_quotes_the_statement() -> None:
    wide = op("cast", op("add", X, ONE), dtype="float64")
    with pytest.raises(VerifyError, match="kernel test: y.l. = float64.x.l. . 1.0.: y is float32"):
        verify(lanes(store(wide)))


def test_uncertain_accesses_are_left_to_the_interpreter() -> None:
    """Under a condition, by a register, in a loop that may have no turn."""
    far = P("l") + 100
    verify(lanes(store(Load("x", far, "float32", op("less", X, ONE, dtype="bool")))))
    verify(lanes(Let("v", Load("k", SAFE, "int32")), store(Load("x", P("v") + 100, "float32"))))
    verify(kernel(For("i", P(0), (Let("v", Load("x", P(100), "float32")),))))


def test_deep_values() -> None:
    """Thousands of nested operations, each used twice: no recursion, no exponential time."""
    v: Any = X
    for _ in range(3000):
        v = op("add", v, v)
    verify(lanes(store(v)))
    with pytest.raises(VerifyError, match="the value float64"):
        verify(lanes(store(op("cast", v, dtype="float64"))))
