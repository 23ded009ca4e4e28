"""Kernels that differ in numbers only: one function, the same results; others stay apart."""

from __future__ import annotations

import numpy as np
import pytest
from harness import check, targets

from codegen import memory
from codegen.emit import emit
from codegen.emit_merge import merge
from codegen.loops import (
    Accumulate,
    Buffer,
    Call,
    Const,
    Declare,
    For,
    Get,
    Kernel,
    Lanes,
    Load,
    Op,
    Param,
    Poly,
    Program,
    Stmt,
    Store,
    Transpose,
)
from codegen.target import Target

F32 = "float32"
RNG = np.random.default_rng(11)
P = Poly.of


@pytest.fixture(params=targets())
def target(request: pytest.FixtureRequest) -> Target:
    return Target.named(request.param)


def product(lanes: int, k: int, rows: int, swapped: bool = False) -> list[Stmt]:
    """z[i] = sum over k of x[i, k] w[k], plus z, `lanes` values of i at a time."""
    x = Load("x", P("t") * (k * lanes) + P("k") * lanes + "l", F32)
    w = Load("w", P("k"), F32)
    old, total = Load("z", P("t") * lanes + "l", F32), Get("a", F32, (0,))
    body: tuple[Stmt, ...] = (
        Declare("a", F32, Const(0.0, F32), (1,)),
        For("k", P(k), (Accumulate("a", (0,), "add", Op("mul", (w, x), F32)),), unroll=2),
        Store("z", P("t") * lanes + "l", Op("add", (old, total)[:: -1 if swapped else 1], F32)),
    )
    return [For("t", P(rows), (Lanes("l", None, body),))]


def kernel(name: str, body: list[Stmt]) -> Kernel:
    params = tuple(Param(n, F32, "rw") for n in ("x", "w", "z"))
    return Kernel(name, params, tuple(body))


def same(*kernels: Kernel) -> int:
    """How many functions they need."""
    none = {p: frozenset({p}) for p in ("x", "w", "z")}
    cases = merge(kernels, {k.name: none for k in kernels})
    return len({c.kernel.name for c in cases.values()})


def test_products_of_several_sizes_are_one_function(target: Target) -> None:
    lanes = target.lanes
    sizes = [(6, 3), (10, 2), (8, 5)]
    kernels = tuple(
        kernel(f"product{i}", product(lanes, k, rows, swapped=i == 1))
        for i, (k, rows) in enumerate(sizes)
    )
    buffers, calls, arrays = [], [], {}
    for i, (k, rows) in enumerate(sizes):
        counts = {f"x{i}": rows * k * lanes, f"w{i}": k, f"z{i}": rows * lanes}
        buffers += [Buffer(name, F32, n, "state") for name, n in counts.items()]
        arrays |= {name: RNG.standard_normal(n).astype(F32) for name, n in counts.items()}
        calls.append(Call(f"product{i}", tuple(counts)))
    prog = Program(lanes, {}, tuple(buffers), kernels, tuple(calls))
    text = emit(prog, memory.plan(prog), target)
    assert text.count("define internal void @product") == 1 and text.count("call void @prod") == 3
    check(prog, arrays, {}, target, 1e-5)


def test_what_keeps_kernels_apart() -> None:
    first = kernel("first", product(4, 6, 3))
    assert same(first, kernel("equal", product(4, 6, 3))) == 1
    assert same(first, kernel("longer", product(4, 60, 30))) == 1
    assert same(first, kernel("with turns left over", product(4, 7, 3))) == 2
    assert same(first, kernel("written out", product(4, 2, 3))) == 2
    body = product(4, 6, 3)
    read = Load("x", P("t"), F32)
    others = {
        "by another index": [For("t", P(3), (Store("z", P("t") + 1, read),))],
        "by another function": [For("t", P(3), (Store("z", P("t"), Op("neg", (read,), F32)),))],
        "by one more statement": [*body, *body],
        "of fewer lanes": [Lanes("l", P(3), (Store("z", P("l"), Load("x", P("l"), F32)),))],
        "of other lanes": [Lanes("l", P(2), (Store("z", P("l"), Load("x", P("l"), F32)),))],
        "lanes apart": [Lanes("l", None, (Store("z", P("l"), Load("x", P("l") * 2, F32)),))],
        "lanes further apart": [
            Lanes("l", None, (Store("z", P("l"), Load("x", P("l") * 3, F32)),))
        ],
        "number": [For("t", P(3), (Store("z", P("t"), Const(1.0, F32)),))],
        "other number": [For("t", P(3), (Store("z", P("t"), Const(2.0, F32)),))],
        "narrow tile": [Transpose("z", P(0), P(4), "x", P(0), P(2), P(4), P(2), "none")],
        "wider tile": [Transpose("z", P(0), P(4), "x", P(0), P(3), P(4), P(3), "none")],
    }
    kernels = [first, *(kernel(name, part) for name, part in others.items())]
    assert same(*kernels) == len(kernels)


def test_aliases_keep_kernels_apart() -> None:
    one, two = kernel("one", product(4, 6, 3)), kernel("two", product(4, 8, 3))
    none = {p: frozenset({p}) for p in ("x", "w", "z")}
    both = {**none, "x": frozenset({"x", "z"}), "z": frozenset({"x", "z"})}
    cases = merge([one, two], {"one": none, "two": both})
    assert cases["one"].kernel is one and cases["two"].kernel is two


def test_a_value_with_two_meanings_is_not_shared() -> None:
    """Written twice in one kernel and once in the other, with indices that differ."""
    once = Load("x", P("t") * 2, F32)
    twice = [Load("x", P("t") * 3, F32), Load("x", P("t") * 5, F32)]

    def body(a: Load, b: Load) -> list[Stmt]:
        stores = Store("z", P("t"), a), Store("w", P("t"), b)
        return [For("t", P(3), stores)]

    assert same(kernel("once", body(once, once)), kernel("twice", body(*twice))) == 2


def test_too_many_numbers() -> None:
    def body(factor: int) -> list[Stmt]:
        primes = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29)
        stores = [Store("z", P("t") * (p + factor), Const(0.0, F32)) for p in primes]
        return [For("t", P(3), tuple(stores))]

    assert same(kernel("one", body(0)), kernel("two", body(1))) == 2
