"""Loop programs written by hand, for tests of what reads programs."""

from __future__ import annotations

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
    Op,
    Param,
    Poly,
    Program,
    Scatter,
    Store,
    Transpose,
    Value,
)

P = Poly.of
LANES = 8
F32 = "float32"
ROW = P("b") * LANES + "l"
LIVE = P("n") - P("b") * LANES
SIZES: dict[str, int | Derived] = {"n": 60, "blocks": Derived("ceildiv", P("n"), LANES)}


def op(fn: str, *args: Value, dtype: str = F32) -> Op:
    return Op(fn, args, dtype)


def number(x: float, dtype: str = F32) -> Const:
    return Const(x, dtype)


def product() -> Kernel:
    """y = W x in tiles of 3 x 1 vectors, and the sum of y over live lanes."""
    weight = Load("W", P("o") * 15 + P("i") * 5 + "k", F32)
    tile = Accumulate("acc", ("i",), "add", op("mul", weight, Load("x", P("k") * 64 + ROW, F32)))
    where = (P("o") * 3 + "i") * 64 + ROW
    body = (
        Declare("acc", F32, number(0.0), (3,)),
        For("k", P(5), (For("i", P(3), (tile,), 3),)),
        For(
            "i",
            P(3),
            (
                Store("y", where, Get("acc", F32, ("i",)), full=True),
                Accumulate("total", (), "add", Get("acc", F32, ("i",))),
            ),
            3,
        ),
    )
    return Kernel(
        "product",
        (Param("W", F32), Param("x", F32), Param("y", F32, "w"), Param("s", F32, "w")),
        (
            Declare("total", F32, number(0.0)),
            For("o", P(2), (For("b", P("blocks"), (Lanes("l", LIVE, body),)),)),
            Store("s", P(0), Get("total", F32)),
        ),
        comment="y = W x\ns = sum y",
        sources=("model.py:3",),
    )


def epilogue() -> Kernel:
    """z = relu(y) where y < 9, else exp(y) (1 + exp(y)); in place of y."""
    y = Load("y", P("f") * 64 + ROW, F32)
    e = op("exp", op("neg", y))
    long = op("mul", e, op("add", number(1.0), e))
    small = op("less", y, number(9.0), dtype="bool")
    value = op("where", small, op("maximum", y, number(0.0)), long)
    body = (Store("z", P("f") * 64 + ROW, value),)
    nest = For("f", P(6), (For("b", P("blocks"), (Lanes("l", LIVE, body),)),))
    return Kernel("epilogue", (Param("y", F32), Param("z", F32, "w")), (nest,), (("z", "y"),))


def moves() -> Kernel:
    """A transpose, a gather by table, a sum by label."""
    label = Load("label", ROW, "int32")
    picked = Load("z", P("j") * 64 + ROW, F32, op("less", Index(ROW), Index(P("n")), dtype="bool"))
    body = (
        Let("j", op("mod", label, Const(6, "int32"), dtype="int32")),
        Scatter("count", P("j"), picked),
    )
    tile = Transpose("rows", P("b") * 48, P(6), "z", P("b") * 8, P(64), P(6), P(8), "none")
    return Kernel(
        "moves",
        (
            Param("z", F32),
            Param("label", "int32"),
            Param("count", F32, "rw"),
            Param("rows", F32, "w"),
        ),
        (For("b", P("blocks"), (tile, Lanes("l", LIVE, body))),),
    )


def buffers() -> tuple[Buffer, ...]:
    return (
        Buffer("W", F32, 30, "state"),
        Buffer("x", F32, 5 * 64, "input"),
        Buffer("y", F32, 6 * 64),
        Buffer("z", F32, 6 * 64),
        Buffer("s", F32, 1, "output"),
        Buffer("label", "int32", 64, "input"),
        Buffer("count", F32, 6, "state"),
        Buffer("rows", F32, 64 * 6, "output"),
    )


def whole() -> Program:
    """All three kernels."""
    return Program(
        LANES,
        SIZES,
        buffers(),
        (product(), epilogue(), moves()),
        (
            Call("product", ("W", "x", "y", "s")),
            Call("epilogue", ("y", "z")),
            Call("moves", ("z", "label", "count", "rows"), (0, 0, 0, 0)),
        ),
        {"made by": "hand"},
    )
