"""Accuracy of the lowered functions, interpreted step by step and native on every vector width.

`WORST` is the promise: the largest error in ULP over random bit patterns, the range where each
function is interesting, and extremes. Run with -s to see what is reached.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from harness import program, run, targets
from ulp import arguments, extremes, reference, ulp_errors

from codegen.functions import FUNCTIONS, evaluate
from codegen.interpret import evaluate as run_value
from codegen.loops import Const, Derived, For, Get, Lanes, Load, Op, Poly, Store, Value
from codegen.target import Target
from codegen.vecmath import LOWER, lower

# float32, float64
WORST = {
    "exp": (2.0, 2.0),
    "log": (1.5, 1.0),
    "expm1": (2.0, 2.0),
    "log1p": (2.0, 2.0),
    "sin": (2.0, 2.5),
    "cos": (2.0, 2.5),
    "tan": (3.0, 4.0),
    "asin": (2.5, 2.5),
    "acos": (1.5, 1.5),
    "atan": (2.5, 2.5),
    "atan2": (2.5, 2.5),
    "sinh": (3.0, 3.0),
    "cosh": (2.5, 2.5),
    "tanh": (3.0, 3.0),
    "erf": (1.5, 1.5),
    "pow": (1.0, 2.0),
    "mod": (0.51, 0.51),
    "floor_divide": (0.51, 1.5),
}
DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class Machine:
    has_fma: bool


@functools.cache
def samples(fn: str, dtype: str, count: int) -> tuple[list[np.ndarray], list[Any]]:
    args = arguments(fn, FUNCTIONS[fn].arity, dtype, count)
    if fn in ("mod", "floor_divide"):  # the documented range
        with np.errstate(all="ignore"):
            digits = np.log2(np.abs(args[0])) - np.log2(np.abs(args[1]))
        args = [a[~((digits > 280) & np.isfinite(digits))] for a in args]
    return args, reference(fn, args)


def check(fn: str, dtype: str, got: np.ndarray, count: int, way: str) -> None:
    args, wanted = samples(fn, dtype, count)
    errors = ulp_errors(got, wanted)
    i = int(np.argmax(errors))
    worst = f"{fn} {dtype} {way}: {errors[i]:.2f} ULP at {[a[i] for a in args]}"
    print(worst)
    limit = WORST[fn][DTYPES.index(dtype)]
    assert errors[i] <= limit, f"{worst}: {got[i]!r} for {wanted[i]!r}"


def value(fn: str, dtype: str, has_fma: bool) -> Value:
    names = "xy"[: FUNCTIONS[fn].arity]
    return lower(Op(fn, tuple(Get(n, dtype) for n in names), dtype), Machine(has_fma))


def nodes(v: Value) -> list[Value]:
    """Every value of a DAG once."""
    found: dict[int, Value] = {}
    stack = [v]
    while stack:
        v = stack.pop()
        if id(v) not in found:
            found[id(v)] = v
            stack += v.args if isinstance(v, Op) else ()
    return list(found.values())


@pytest.mark.parametrize("has_fma", [True, False], ids=["fma", "nofma"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fn", WORST)
def test_interpreted(fn: str, dtype: str, has_fma: bool) -> None:
    args, _ = samples(fn, dtype, 300)
    got = run_value(value(fn, dtype, has_fma), dict(zip("xy", args)))
    check(fn, dtype, got, 300, "fma" if has_fma else "mul, add")


def native(fn: str, dtypes: list[str], args: list[np.ndarray], out: str, target: Target) -> Any:
    """fn by emitted code, the last vector partly idle."""
    lanes, n = target.lanes, args[0].size
    room = -(-n // lanes) * lanes
    at = Poly.of("b") * lanes + "l"
    result = Op(fn, tuple(Load(f"a{i}", at, d) for i, d in enumerate(dtypes)), out)
    body = (Lanes("l", Poly.of("n") - Poly.of("b") * lanes, (Store("y", at, result),)),)
    buffers = {f"a{i}": (d, room) for i, d in enumerate(dtypes)} | {"y": (out, room)}
    sizes = {"n": n, "blocks": Derived("ceildiv", Poly.of("n"), lanes)}
    arrays = {f"a{i}": np.resize(a, room) for i, a in enumerate(args)}
    arrays["y"] = np.zeros(room, out)
    nest = program(lanes, (For("b", Poly.of("blocks"), body),), buffers, sizes)
    return run(nest, arrays, {"n": n}, target)["y"][:n]


@pytest.mark.parametrize("name", targets())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fn", WORST)
def test_native(fn: str, dtype: str, name: str) -> None:
    args, _ = samples(fn, dtype, 1000)
    got = native(fn, [dtype] * len(args), args, dtype, Target.named(name))
    check(fn, dtype, got, 1000, name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fn, bound", [("tanh", 1), ("erf", 1), ("sin", 1), ("cos", 1)])
def test_bounds(fn: str, bound: float, dtype: str) -> None:
    x = np.random.default_rng(3).normal(0, 10, 20000).astype(dtype)
    x = np.concatenate([x, np.linspace(-30, 30, 20000, dtype=dtype)])
    for has_fma in (True, False):
        assert np.abs(run_value(value(fn, dtype, has_fma), {"x": x})).max() <= bound


@pytest.mark.parametrize("fn", LOWER)
def test_only_primitive_functions_remain(fn: str) -> None:
    for dtype in DTYPES:
        for has_fma in (True, False):
            ops = [v.fn for v in nodes(value(fn, dtype, has_fma)) if isinstance(v, Op)]
            assert all(FUNCTIONS[f].primitive for f in ops)
            assert has_fma or "fma" not in ops


def test_primitive_functions_stay() -> None:
    x = Get("x", "float32")
    op = Op("sqrt", (x,), "float32")
    assert lower(op, Machine(True)) is op


@pytest.mark.parametrize("fn, most", [("exp", 19), ("tanh", 23), ("log", 29)])
def test_operations_with_fma(fn: str, most: int) -> None:
    """What a vector costs; bit casts are free, a bound is one instruction for two Ops."""
    ops = [v.fn for v in nodes(value(fn, "float32", True)) if isinstance(v, Op)]
    assert len([f for f in ops if f != "bitcast"]) <= most


def test_shared_parts() -> None:
    """sin and cos of one value share their reduction, the words of one counter their rounds."""
    x = Get("x", "float32")
    both = [nodes(lower(Op(f, (x,), "float32"), Machine(True))) for f in ("sin", "cos")]
    assert len({id(v) for n in both for v in n}) < len(both[0]) + 20
    words = tuple(Get(f"c{i}", "int32") for i in range(6))
    first, second = (nodes(lower(Op(f, words, "int32"), Machine(True))) for f in PHILOX[:2])
    assert {id(v) for v in first} & {id(v) for v in second}


# -- integers ------------------------------------------------------------------------------------

PHILOX = ["philox0", "philox1", "philox2", "philox3"]
# Random123 1.14, kat_vectors: philox4x32 10: counter, key, result
KNOWN = [
    ("00000000 " * 4, "00000000 " * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff " * 4, "ffffffff " * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


def _words(text: str) -> np.ndarray:
    return np.array([int(w, 16) for w in text.split()], np.uint32).view(np.int32)


@pytest.mark.parametrize("word", range(4))
def test_philox(word: int) -> None:
    args = np.stack([_words(f"{counter} {key}") for counter, key, _ in KNOWN], axis=1)
    wanted = np.array([_words(result)[word] for _, _, result in KNOWN])
    names = [f"c{i}" for i in range(6)]
    op = Op(PHILOX[word], tuple(Get(n, "int32") for n in names), "int32")
    assert (evaluate(op.fn, list(args), "int32") == wanted).all()
    assert (run_value(lower(op, Machine(True)), dict(zip(names, args))) == wanted).all()
    for name in targets():
        got = native(op.fn, ["int32"] * 6, list(args), "int32", Target.named(name))
        assert (got == wanted).all()


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("fn", ["mod", "floor_divide"])
def test_integer_division(fn: str, dtype: str) -> None:
    random = np.random.default_rng(5)
    info = np.iinfo(dtype)
    few = np.array([0, 1, -1, 2, -2, 3, 7, -7, info.min, info.max, info.min + 1], dtype)
    x, y = (g.reshape(-1) for g in np.meshgrid(few, few))
    wide = random.integers(info.min, info.max, 2000, dtype, endpoint=True)
    x = np.concatenate([x, wide, wide])
    narrow = random.integers(-100, 100, 2000, dtype)
    y = np.concatenate([y, random.permutation(wide), narrow])
    with np.errstate(all="ignore"):
        wanted = {"mod": np.mod, "floor_divide": np.floor_divide}[fn](x, y)
    op = Op(fn, (Get("x", dtype), Get("y", dtype)), dtype)
    assert (run_value(lower(op, Machine(True)), {"x": x, "y": y}) == wanted).all()
    for name in targets():
        assert (native(fn, [dtype] * 2, [x, y], dtype, Target.named(name)) == wanted).all()


def test_extremes_are_extreme() -> None:
    """The arguments hold zeros of both signs, denormals, infinities and NaN."""
    for dtype in DTYPES:
        x = extremes(dtype)
        zero = x[x == 0]
        assert np.signbit(zero).any() and not np.signbit(zero).all()
        assert np.isnan(x).any() and np.isinf(x).any()
        assert ((np.abs(x) < np.finfo(dtype).tiny) & (x != 0)).any()


def test_constants_have_their_dtype() -> None:
    for fn in LOWER:
        for v in nodes(value(fn, "float32", True)):
            if isinstance(v, Const) and v.dtype.startswith("int"):
                assert np.iinfo(v.dtype).min <= v.number <= np.iinfo(v.dtype).max
