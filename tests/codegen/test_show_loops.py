"""Programs as text, compared with golden files, and single values."""

from __future__ import annotations

from collections.abc import Callable

import nests
import pytest
from nests import P, number, op

from codegen.loops import Const, For, Get, Index, Load, Store, Value
from codegen.show import show, show_kernel, show_statement, show_value

X, Y, Z = (Get(n, "float32") for n in "xyz")


def test_program(golden: Callable[[str, str], None]) -> None:
    text = show(nests.whole())
    golden("codegen/program.txt", text)
    assert text == show(nests.whole())


@pytest.mark.parametrize(
    "value, text",
    [
        (op("sub", X, op("sub", Y, Z)), "x - (y - z)"),
        (op("sub", op("sub", X, Y), Z), "x - y - z"),
        (op("add", X, op("add", Y, Z)), "x + (y + z)"),
        (op("mul", op("add", X, Y), Z), "(x + y) * z"),
        (op("div", X, op("mul", Y, Z)), "x / (y * z)"),
        (op("neg", op("mul", X, Y)), "-(x * y)"),
        (op("mul", op("neg", X), Y), "-x * y"),
        (op("fma", X, Y, Z), "fma(x, y, z)"),
        (op("maximum", X, number(-0.5)), "max(x, -0.5)"),
        (op("mul", X, number(0.1)), "x * 0.1"),
        (op("cast", X, dtype="int32"), "int32(x)"),
        (op("less", op("add", X, Y), Z, dtype="bool"), "x + y < z"),
        (
            op("logical_and", Const(True, "bool"), op("less", X, Y, dtype="bool"), dtype="bool"),
            "True and x < y",
        ),
        (op("where", op("less", X, Y, dtype="bool"), X, Y), "(x if x < y else y)"),
        (Index(P("i")), "i"),
        (op("add", Index(P("i") * 2 + 1), Const(3, "int32"), dtype="int32"), "(2*i + 1) + 3"),
        (Load("a", P("i") * 4, "float32"), "a[4*i]"),
        (Load("a", P("i"), "float32", op("less", X, Y, dtype="bool")), "(a[i] if x < y else 0)"),
        (Get("t", "float32", (1, "j")), "t[1, j]"),
    ],
)
def test_values(value: Value, text: str) -> None:
    assert show_value(value) == text


def test_parts_used_twice_are_named() -> None:
    e = op("exp", X)
    square = op("mul", e, e)
    text = show_kernel(nests.Kernel("k", (), (Store("y", P(0), op("add", square, square)),)))
    assert text.splitlines()[1:] == ["    t1 := exp(x)", "    t2 := t1 * t1", "    y[0] = t2 + t2"]


def test_deep_sharing_stays_short() -> None:
    """Text is linear in the number of values, though there are 2^60 paths."""
    v: Value = X
    for _ in range(60):
        v = op("add", v, v)
    assert len(show_kernel(nests.Kernel("k", (), (Store("y", P(0), v),)))) < 3000


def test_a_statement_is_one_line() -> None:
    loop = For("i", P("n"), (Store("y", P("i"), X),), 4)
    assert show_statement(loop) == "for i in 0..n - 1, unroll 4:"


def test_deep_formulas_are_written_in_parts() -> None:
    v: Value = X
    for _ in range(3000):
        v = op("sub", Y, v)
    text = show_kernel(nests.Kernel("k", (), (Store("y", P(0), v),)))
    assert max(len(line) for line in text.splitlines()) < 300 and len(text) < 100_000
