"""Copies between layouts: every pair of them, axes and blocks of all sizes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import symgrad as sg
from codegen import interpret
from codegen.loops import Call, Kernel, Program
from codegen.verify import verify
from symgrad.node import Expr
from symgrad.schedule.converts import write_convert
from symgrad.schedule.layout import Layout
from symgrad.schedule.symbols import Symbols
from symgrad.schedule.writer import Memory
from symgrad.sizes import value

LANES = 4


def layouts(rank: int) -> list[Layout]:
    """All orders of the axes, each axis in lanes or none."""
    orders = itertools.permutations(range(rank))
    return [Layout(order, lane) for order in orders for lane in (None, *range(rank))]


def kernel_of(n: Expr, source: Layout, target: Layout) -> tuple[Program, Kernel]:
    memory = Memory(Symbols(LANES))
    names = [
        memory.fresh_buffer(name, n.dtype, layout.elements(n.shape, LANES), "state")
        for name, layout in (("source", source), ("target", target))
    ]
    w = write_convert(memory, n, (names[0], source), (names[1], target))
    kernel, operands = w.kernel("copy")
    held = tuple(memory.buffers.values())
    calls = (Call("copy", operands),)
    return Program(LANES, memory.symbols.sizes, held, (kernel,), calls), kernel


def check(n: Expr, source: Layout, target: Layout, sizes: dict[str, int]) -> None:
    program, _ = kernel_of(n, source, target)
    verify(program)
    shape = tuple(value(s, sizes) for s in n.shape)
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    buffers = {b.name: np.full(b.size, np.nan, np.float32) for b in program.buffers}
    packed = source.pack(array, LANES).ravel()
    buffers["source"][: packed.size] = packed
    interpret.run(program, buffers, {k: v for k, v in sizes.items() if k in program.sizes})
    room = target.elements(shape, LANES)
    found = target.unpack(buffers["target"][:room], shape, LANES)
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("shape", [(9, 6), (4, 1), (1, 5), (8, 8)])
def test_matrices(shape: tuple[int, ...]) -> None:
    n = sg.input("n", shape)
    for source, target in itertools.product(layouts(2), repeat=2):
        check(n, source, target, {})


@pytest.mark.parametrize("shape", [(3, 6, 5), (2, 8, 4), (9, 1, 5), (1, 5, 6), (5, 7, 1)])
def test_stacks(shape: tuple[int, ...]) -> None:
    n = sg.input("n", shape)
    pairs = list(itertools.product(layouts(3), repeat=2))
    for source, target in pairs[sum(shape) % 3 :: 3]:
        check(n, source, target, {})


@pytest.mark.parametrize("rows, steps", [(1, 1), (4, 3), (6, 7), (9, 5)])
def test_run_time_sizes(rows: int, steps: int) -> None:
    sizes = {"rows": rows, "steps": steps}
    n = sg.input("n", (sg.dim("steps", max=7), sg.dim("rows", max=9), 6))
    for source, target in itertools.product(layouts(3)[::2], layouts(3)[1::3]):
        check(n, source, target, sizes)


STACK = Layout((0, 1, 2), 1)  # [steps][rows/lanes][features][lanes]


@pytest.mark.parametrize(
    "source, target",
    [
        (STACK, Layout((0, 1, 2))),
        (STACK, Layout((1, 0, 2))),  # sample by sample
        (Layout((0, 1, 2)), STACK),
        (Layout((1, 0, 2)), STACK),
        (STACK, Layout((2, 0, 1), 2)),  # panels of features, for products over rows
    ],
)
def test_stacks_of_rows_turn_by_tiles(source: Layout, target: Layout) -> None:
    _, kernel = kernel_of(sg.input("n", (5, 9, 8)), source, target)
    assert "Transpose" in repr(kernel.body)
