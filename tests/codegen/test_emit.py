"""Loop nests written by hand: native code against the interpreter, on every vector width."""

from __future__ import annotations

import numpy as np
import pytest
from harness import check, program, run, targets

from codegen.emit_builder import EmitError
from codegen.loops import (
    Accumulate,
    Const,
    Declare,
    Derived,
    For,
    Get,
    Index,
    Lanes,
    Let,
    Load,
    Op,
    Poly,
    Prefetch,
    Scatter,
    Stmt,
    Store,
    Transpose,
    Value,
)
from codegen.target import Target

F32, F64, I32, I64 = "float32", "float64", "int32", "int64"
RNG = np.random.default_rng(7)
P = Poly.of


def op(fn: str, *args: Value, dtype: str = F32) -> Op:
    return Op(fn, args, dtype)


def normal(*shape: int, dtype: str = F32) -> np.ndarray:
    return RNG.standard_normal(shape).astype(dtype)


@pytest.fixture(params=targets())
def target(request: pytest.FixtureRequest) -> Target:
    return Target.named(request.param)


def blocks(lanes: int) -> dict[str, int | Derived]:
    return {"n": 200, "blocks": Derived("ceildiv", P("n"), lanes)}


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("n", [1, 15, 16, 33, 200])
def test_elementwise_with_a_tail(target: Target, dtype: str, n: int) -> None:
    at = P("b") * target.lanes + "l"
    x = Load("x", at, dtype)
    value = op(
        "maximum",
        op("sub", op("mul", x, x, dtype=dtype), Const(0.5, dtype), dtype=dtype),
        Const(0.0, dtype),
        dtype=dtype,
    )
    body = Lanes("l", P("n") - P("b") * target.lanes, (Store("y", at, value),))
    prog = program(
        target.lanes,
        [For("b", P("blocks"), (body,))],
        {"x": (dtype, n), "y": (dtype, n)},
        blocks(target.lanes),
    )
    check(prog, {"x": normal(n, dtype=dtype), "y": normal(n, dtype=dtype)}, {"n": n}, target)


@pytest.mark.parametrize("n", [1, 7, 16, 40])
def test_softmax_of_a_row_per_lane(target: Target, n: int) -> None:
    lanes, classes = target.lanes, 10
    at = P("b") * classes * lanes + P("k") * lanes + "l"
    shifted = op("sub", Load("z", at, F32), Get("m", F32))
    body = (
        Declare("m", F32, Const(-np.inf, F32)),
        For("k", P(classes), (Accumulate("m", (), "maximum", Load("z", at, F32)),), 4),
        Declare("s", F32, Const(0.0, F32)),
        For("k", P(classes), (Accumulate("s", (), "add", op("exp", shifted)),)),
        Let("r", op("div", Const(1.0, F32), Get("s", F32))),
        For("k", P(classes), (Store("p", at, op("mul", op("exp", shifted), Get("r", F32))),), 10),
    )
    nest = For("b", P("blocks"), (Lanes("l", P("n") - P("b") * lanes, body),))
    size = -(-n // lanes) * lanes * classes
    prog = program(lanes, [nest], {"z": (F32, size), "p": (F32, size)}, blocks(lanes))
    check(prog, {"z": normal(size), "p": normal(size)}, {"n": n}, target, 1e-6)


@pytest.mark.parametrize("k", [1, 4, 9, 16])
@pytest.mark.parametrize("n", [1, 3])
def test_register_tile_product(target: Target, k: int, n: int) -> None:
    """Eight outputs x two blocks of rows, then single blocks; a run-time number of blocks."""
    lanes, outs = target.lanes, 8

    def tile(var: str, count: Poly, start: Poly, wide: int) -> For:
        block = start + P(var) * wide + "j"
        x = Load("x", block * k * lanes + P("k") * lanes + "l", F32)
        w = Load("w", P("k") * outs + "i", F32)
        step = Accumulate("acc", ("i", "j"), "add", op("mul", w, x))
        put = Store("y", block * outs * lanes + P("i") * lanes + "l", Get("acc", F32, ("i", "j")))

        def over(s: Accumulate | Store) -> For:
            return For("i", P(outs), (For("j", P(wide), (s,), wide),), outs)

        body = (
            Declare("acc", F32, Const(0.0, F32), (outs, wide)),
            For("k", P(k), (over(step),), 4),
            over(put),
        )
        return For(var, count, (Lanes("l", None, body),))

    sizes = {"n": 4, "pairs": Derived("div", P("n"), 2), "odd": Derived("mod", P("n"), 2)}
    body = [tile("b", P("pairs"), P(0), 2), tile("c", P("odd"), P("pairs") * 2, 1)]
    shapes = {"x": (F32, n * k * lanes), "w": (F32, k * outs), "y": (F32, n * outs * lanes)}
    prog = program(lanes, body, shapes, sizes)
    arrays = {name: normal(size) for name, (_, size) in shapes.items()}
    check(prog, arrays, {"n": n}, target, 1e-5)


@pytest.mark.parametrize("fn", ["add", "maximum", "minimum", "mul"])
@pytest.mark.parametrize("dtype", [F32, F64, I32])
@pytest.mark.parametrize("n", [1, 16, 21])
def test_sums_across_lanes(target: Target, fn: str, dtype: str, n: int) -> None:
    """A tile of accumulators declared outside of the lanes, with idle lanes that hold NaN."""
    lanes = target.lanes
    load = Load("x", P("b") * 3 * lanes + P("i") * lanes + "l", dtype, full=True)
    body = [
        Declare("acc", dtype, Load("s", P(0), dtype), (3,)),
        For(
            "b",
            P("blocks"),
            (
                Lanes(
                    "l",
                    P("n") - P("b") * lanes,
                    (For("i", P(3), (Accumulate("acc", ("i",), fn, load),), 3),),
                ),
            ),
        ),
        For("i", P(3), (Store("y", P("i"), Get("acc", dtype, ("i",))),), 3),
        Lanes("l", None, (Store("z", P("l"), Get("acc", dtype, (1,)), full=True),)),
    ]
    count = -(-n // lanes)
    x = RNG.integers(1, 3, (count, 3, lanes)).astype(dtype)
    start = np.ones(1, dtype)
    if fn == "maximum":  # below zero: an accumulator that starts there would show
        x, start = -x, -3 * start
    if dtype != I32:
        x[-1, :, (n - 1) % lanes + 1 :] = np.nan
    shapes = {"x": (dtype, x.size), "s": (dtype, 1), "y": (dtype, 3), "z": (dtype, lanes)}
    prog = program(lanes, body, shapes, blocks(lanes))
    arrays = {"x": x, "s": start, "y": np.zeros(3, dtype), "z": np.zeros(lanes, dtype)}
    check(prog, arrays, {"n": n}, target, 1e-5)


def test_dynamic_subscripts_live_in_memory(target: Target) -> None:
    lanes = target.lanes
    body = [
        Declare("acc", F32, Const(1.0, F32), (5,)),
        For(
            "b",
            P("n"),
            (
                For(
                    "i",
                    P(5),
                    (
                        Lanes(
                            "l",
                            P(3),
                            (
                                Accumulate(
                                    "acc", ("i",), "add", Load("x", P("b") * lanes + "l", F32)
                                ),
                            ),
                        ),
                        Accumulate("acc", ("i",), "add", Const(2.0, F32)),
                    ),
                    2,
                ),
            ),
        ),
        For("i", P(5), (Store("y", P("i"), Get("acc", F32, ("i",))),)),
    ]
    prog = program(lanes, body, {"x": (F32, 4 * lanes), "y": (F32, 5)}, {"n": 4})
    check(prog, {"x": normal(4 * lanes), "y": normal(5)}, {"n": 3}, target, 1e-5)


TILES = [(F32, features) for features in (1, 2, 3, 4, 5, 16, 21)]
TILES += [(dtype, features) for dtype in (F64, I32, I64, "bool") for features in (3, 21)]


@pytest.mark.parametrize("dtype,features", TILES)
@pytest.mark.parametrize("pad", ["first", "zero", "none"])
def test_rows_to_lanes(target: Target, dtype: str, pad: str, features: int) -> None:
    """Row-major [n][features] to [features][lanes], for a number of rows known or not."""
    lanes = target.lanes
    full, rest = features // lanes, features % lanes
    for rows in (P(lanes), P(lanes - 1), P("n")):

        def tile(first: Poly, cols: int, rows: Poly = rows) -> Transpose:
            to, apart = first * lanes, P(features)
            return Transpose("y", to, P(lanes), "x", first, apart, rows, P(cols), pad, dtype)

        body: list[Stmt] = [For("f", P(full), (tile(P("f") * lanes, lanes),))]
        if rest:
            body.append(tile(P(full * lanes), rest))
        for n in (rows.constant,) if rows.constant else (1, 3, lanes):
            shapes = {"x": (dtype, n * features), "y": (dtype, features * lanes)}
            x = RNG.integers(0, 2 if dtype == "bool" else 99, n * features).astype(dtype)
            prog = program(lanes, body, shapes, {"n": 99})
            check(prog, {"x": x, "y": np.ones(features * lanes, dtype)}, {"n": n}, target)


@pytest.mark.parametrize("dtype", [F32, F64, "bool"])
@pytest.mark.parametrize("features", [1, 2, 3, 4, 5, 10, 16])
def test_lanes_to_rows(target: Target, dtype: str, features: int) -> None:
    """[blocks][features][lanes] to row-major [n][features]; the last block is partial."""
    lanes = target.lanes
    parts = [(i, min(lanes, features - i)) for i in range(0, features, lanes)]
    body = [
        For(
            "b",
            P("blocks"),
            tuple(
                Transpose(
                    "y",
                    P("b") * lanes * features + i,
                    P(features),
                    "x",
                    (P("b") * features + i) * lanes,
                    P(lanes),
                    P(rows),
                    cols,
                    "none",
                    dtype,
                )
                for i, rows in parts
            ),
        )
        for cols in (P("n"),)
    ]
    for n in (1, lanes - 1, lanes):
        prog = program(
            lanes, body, {"x": (dtype, features * lanes), "y": (dtype, n * features)}, blocks(lanes)
        )
        x = RNG.integers(0, 2 if dtype == "bool" else 99, features * lanes).astype(dtype)
        check(prog, {"x": x, "y": np.ones(n * features, dtype)}, {"n": n}, target)


@pytest.mark.parametrize("index", [I32, I64])
def test_gather_and_scatter(target: Target, index: str) -> None:
    """Rows of a table by label, and added back with labels that repeat."""
    lanes, width, n = target.lanes, 3, 21
    at = P("b") * lanes + "l"
    row = P("i") * width + "d"
    body = [
        For(
            "b",
            P("blocks"),
            (
                Lanes(
                    "l",
                    P("n") - P("b") * lanes,
                    (
                        Let("i", Load("labels", at, index)),
                        For(
                            "d",
                            P(width),
                            (
                                Prefetch("table", P("d") * width + 1000),
                                Store(
                                    "y",
                                    P("b") * lanes * width + P("d") * lanes + "l",
                                    Load("table", row, F32),
                                ),
                                Scatter("grad", row, Load("table", row, F32)),
                                Scatter("total", P("d"), Const(1.0, F32)),
                                Store("seen", P("i"), Const(True, "bool")),
                            ),
                        ),
                    ),
                ),
            ),
        ),
    ]
    count = -(-n // lanes)
    shapes = {
        "labels": (index, n),
        "table": (F32, 5 * width),
        "grad": (F32, 5 * width),
        "y": (F32, count * lanes * width),
        "total": (F32, width),
        "seen": ("bool", 5),
    }
    prog = program(lanes, body, shapes, blocks(lanes))
    arrays = {name: normal(size) for name, (d, size) in shapes.items() if d == F32}
    arrays["labels"] = RNG.integers(0, 5, n).astype(index)
    arrays["seen"] = np.zeros(5, bool)
    check(prog, arrays, {"n": n}, target, 1e-6)


def test_conditions(target: Target) -> None:
    """Loads and stores that must not happen, per lane and for all lanes."""
    lanes, n = target.lanes, 13
    at = P("b") * lanes + "l"
    x = Load("x", at, F32)
    inside = op("less", Index(at, I32), Index(P("n") - 2, I32), dtype="bool")
    ahead = Load("x", at + 2, F32, when=inside)
    first = op("equal", Index(P("b"), I32), Const(0, I32), dtype="bool")
    before = Load(
        "x", at - 3, F32, when=op("greater_equal", Index(at, I32), Const(3, I32), dtype="bool")
    )
    one = Load("x", P("b") * 1000, F32, when=first)
    row = Load("x", P("b") * 1000 + "l", F32, when=first)
    positive = op("greater", x, Const(0.0, F32), dtype="bool")
    many = Load("x", P("b") * 4, F32, when=positive)
    total = op("add", op("add", ahead, before), op("add", one, op("add", row, many)))
    body = [
        For(
            "b",
            P("blocks"),
            (
                Lanes(
                    "l",
                    P("n") - P("b") * lanes,
                    (
                        Store("y", at, total),
                        Store("y", at, Const(7.0, F32), when=positive),
                        Store("z", P("b"), x),
                        Store("z", P("b"), Const(3.0, F32), when=positive),
                        Store("z", P("b") * 1000, op("neg", x), when=first),
                        Store("y", P("b") * 1000 + "l", op("neg", x), when=first),
                    ),
                ),
                Store("s", P("b") * 500, Const(1, I64), when=first),
            ),
        )
    ]
    shapes = {"x": (F32, n), "y": (F32, n), "z": (F32, 10), "s": (I64, 1)}
    prog = program(lanes, body, shapes, blocks(lanes))
    arrays = {name: normal(size) for name, (d, size) in shapes.items() if d == F32}
    check(prog, {**arrays, "s": np.zeros(1, I64)}, {"n": n}, target, 1e-6)


def test_loads_are_seen_again_after_stores(target: Target) -> None:
    lanes = target.lanes
    x = Load("x", P("l"), F32)
    once = op("add", x, Const(1.0, F32))
    body = [
        Lanes(
            "l",
            None,
            (
                Store("x", P("l"), once),
                Store("y", P("l"), x),
                For("k", P("n"), (Store("x", P("l"), once), Store("z", P("k") * lanes + "l", x))),
                For("k", P(3), (Store("x", P("l"), once),), 3),
                Store("y", P("l"), op("mul", x, Load("y", P("l"), F32))),
            ),
        )
    ]
    shapes = {"x": (F32, lanes), "y": (F32, lanes), "z": (F32, 3 * lanes)}
    prog = program(lanes, body, shapes, {"n": 3})
    check(prog, {k: normal(s) for k, (_, s) in shapes.items()}, {"n": 3}, target)


FLOAT_OPS = ["add", "sub", "mul", "div", "minimum", "maximum", "fma"]
UNARY_OPS = ["neg", "abs", "sqrt", "floor", "ceil", "round", "trunc"]
INT_OPS = ["add", "sub", "mul", "minimum", "maximum", "bit_and", "bit_or", "bit_xor"]
SHIFTS = ["shift_left", "shift_right", "shift_right_arithmetic"]
COMPARISONS = ["less", "less_equal", "greater", "greater_equal", "equal", "not_equal"]
EXTREME = [
    0.0,
    -0.0,
    1.5,
    -1.5,
    2.5,
    -2.5,
    0.49999997,
    1e30,
    -1e30,
    np.inf,
    -np.inf,
    np.nan,
    8388609.0,
    -4503599627370497.0,
    1e-40,
    3.0,
]


@pytest.mark.parametrize("vector", [True, False])
def test_primitives(target: Target, vector: bool) -> None:
    """Every primitive on every dtype, on vectors and on scalars."""
    lanes, n = target.lanes, 16
    at = P("b") * lanes + "l" if vector else P("b")
    stores = []
    arrays: dict[str, np.ndarray] = {}

    def out(value: Value) -> None:
        name = f"out{len(stores)}"
        arrays[name] = np.zeros(n, value.dtype)
        stores.append(Store(name, at, value))

    for dtype in (F32, F64, I32, I64):
        if dtype in (F32, F64):
            arrays["a_" + dtype] = np.array(EXTREME, dtype)
            arrays["b_" + dtype] = np.array(EXTREME[5:] + EXTREME[:5], dtype)
        else:
            low = np.iinfo(dtype).min
            arrays["a_" + dtype] = np.array([0, 1, -1, low, -low - 1, 77, -5, 3] * 2, dtype)
            arrays["b_" + dtype] = RNG.integers(low, -(low + 1), n).astype(dtype)
        a, b = Load("a_" + dtype, at, dtype), Load("b_" + dtype, at, dtype)
        for fn in COMPARISONS:
            out(op(fn, a, b, dtype="bool"))
        for fn in FLOAT_OPS if dtype in (F32, F64) else INT_OPS:
            out(Op(fn, (a, b, a) if fn == "fma" else (a, b), dtype))
        for fn in UNARY_OPS if dtype in (F32, F64) else UNARY_OPS[:2]:
            out(Op(fn, (a,), dtype))
        for other in (F32, F64, I32, I64, "bool"):
            out(Op("cast", (a,), other))
        if dtype in (I32, I64):
            count = op("bit_and", b, Const(31, dtype), dtype=dtype)
            for fn in SHIFTS:
                out(Op(fn, (a, count), dtype))
            out(op("div_int", a, Const(7, dtype), dtype=dtype))
        out(Op("bitcast", (a,), {F32: I32, F64: I64, I32: F32, I64: F64}[dtype]))
        true = op("less", a, b, dtype="bool")
        out(op("where", true, a, b, dtype=dtype))
        same = op("equal", a, a, dtype="bool")
        for fn in ("logical_and", "logical_or", "minimum", "maximum", "less", "equal"):
            out(op(fn, true, same, dtype="bool"))
        out(op("logical_not", true, dtype="bool"))
        for other in (F32, F64, I32, I64):
            out(Op("cast", (true,), other))
        out(op("maximum", a, Const(1, dtype), dtype=dtype))
        out(op("minimum", Const(1, dtype), a, dtype=dtype))
    out(op("umul_high", Load("a_int32", at, I32), Load("b_int32", at, I32), dtype=I32))
    inner = (Lanes("l", P(n) - P("b") * lanes, tuple(stores)),) if vector else tuple(stores)
    body = [For("b", P(-(-n // lanes) if vector else n), inner)]
    shapes = {name: (array.dtype.name, array.size) for name, array in arrays.items()}
    check(program(lanes, body, shapes), arrays, {}, target, 0 if target.has_fma else 1e-6)


def test_long_chains_do_not_exhaust_the_stack(target: Target) -> None:
    value: Value = Load("x", P("l"), F32)
    for _ in range(3000):
        value = op("add", value, Const(1.0, F32))
    prog = program(
        target.lanes,
        [Lanes("l", None, (Store("y", P("l"), value),))],
        {"x": (F32, target.lanes), "y": (F32, target.lanes)},
    )
    x = np.zeros(target.lanes, F32)
    found = run(prog, {"x": x, "y": x}, {}, target)
    assert (found["y"] == 3000).all()


def test_errors_name_the_kernel_and_what_is_wrong() -> None:
    target = Target.named("sse2")
    cases = [
        (Store("y", P("q"), Const(1.0, F32)), "no size is named q"),
        (Store("w", P(0), Const(1.0, F32)), "'w' is not a parameter"),
        (Store("y", P(0), Const(1, I32)), "holds float32, not int32"),
        (Store("y", P(0), Get("g", F32)), "'g' is not in scope"),
        (Store("y", P(0), op("cube", Const(1.0, F32))), "no scalar function 'cube'"),
    ]
    for statement, message in cases:
        with pytest.raises(EmitError, match=message) as caught:
            run(program(4, [statement], {"y": (F32, 4)}), {"y": np.zeros(4, F32)}, {}, target)
        assert "kernel kernel" in str(caught.value)


@pytest.mark.parametrize("outs", [1, 2, 3, 5])
@pytest.mark.parametrize("rows", [1, 4, 7])
@pytest.mark.parametrize("apart", [1, 2])
def test_sums_across_lanes_update_weights_together(
    target: Target, outs: int, rows: int, apart: int
) -> None:
    """A weight gradient of a narrow layer, with momentum, fused: m = m/2 + g, w -= rate * m."""
    lanes = target.lanes
    at = P("b") * lanes + "l"
    x, d = (Load(name, at + P(i) * 1000, F32) for name, i in (("x", "i"), ("d", "j")))
    element = (P("p") * (rows * outs) + P("i") * outs + "j") * apart
    gradient = Get("acc", F32, ("i", "j"))
    momentum = op("add", op("mul", Load("m", element, F32), Const(0.5, F32)), Get("g", F32))
    step = op("mul", Load("rate", P(0), F32), op("tanh", Load("m", element, F32)))
    scale = Load("scale", P("i"), F32)
    leaves = (
        Let("g", op("mul", gradient, scale)),
        Store("m", element, momentum),
        Store("w", element, op("sub", Load("w", element, F32), step)),
        Store("k", element, Index(element, I32)),
    )

    def over(*body: Stmt) -> For:
        return For("i", P(rows), (For("j", P(outs), body, outs),), rows)

    sums = Lanes(
        "l", P("n") - P("b") * lanes, (over(Accumulate("acc", ("i", "j"), "add", op("mul", x, d))),)
    )
    body = For(
        "p",
        P(2),
        (
            Declare("acc", F32, Const(0.0, F32), (rows, outs)),
            For("b", P("blocks"), (sums,)),
            over(*leaves),
        ),
    )
    size = 2 * rows * outs * apart
    shapes = {
        "x": (F32, 9000),
        "d": (F32, 9000),
        "m": (F32, size),
        "w": (F32, size),
        "rate": (F32, 1),
        "scale": (F32, rows),
        "k": (I32, size),
    }
    prog = program(lanes, [body], shapes, blocks(lanes))
    arrays = {name: np.zeros(s, t) if t == I32 else normal(s) for name, (t, s) in shapes.items()}
    check(prog, arrays, {"n": 37}, target, 1e-4)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_loads_leave_the_loops_they_do_not_depend_on(target: Target, n: int) -> None:
    lanes = target.lanes
    rate, row = Load("rate", P(0), F32), Load("x", P("l"), F32)
    value = op("mul", row, op("div", Const(1.0, F32), rate))
    nest = For(
        "i",
        P("n"),
        (
            For(
                "k",
                P(3),
                (
                    For(
                        "q", P("n"), (Lanes("l", None, (Store("y", P("q") * lanes + "l", value),)),)
                    ),
                    Store("z", P("i"), Load("s", P("n") * 0 + P("i") * 0, F32)),
                    Store("s", P("i"), rate),
                ),
            ),
        ),
    )
    shapes = {
        "x": (F32, lanes),
        "y": (F32, 3 * lanes),
        "rate": (F32, 1),
        "s": (F32, 3),
        "z": (F32, 3),
    }
    prog = program(lanes, [nest, Store("y", P(0), rate)], shapes, {"n": 3})
    check(prog, {name: normal(s) for name, (_, s) in shapes.items()}, {"n": n}, target, 1e-6)
