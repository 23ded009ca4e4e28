"""Winograd convolutions: every form and shape against the graph interpreter, loops and machine.

Convolutions are placed in memory by hand and lowered alone, so that what is tested is the kernels
that `symgrad.schedule.winograd_images` writes and nothing else.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "codegen"))

from harness import run as run_native
from harness import targets

from codegen import interpret, verify
from codegen.loops import Call, Get, Program
from codegen.target import Target
from symgrad.interpret import evaluate
from symgrad.node import Contract, Expr, Input, Map, Parameter, Reindex, toposort
from symgrad.schedule.layout import Layout, row_major
from symgrad.schedule.symbols import Symbols
from symgrad.schedule.windows import windows
from symgrad.schedule.winograd import Plan, plan, planned
from symgrad.schedule.winograd_gradients import Gradients
from symgrad.schedule.winograd_images import Images, write_filters
from symgrad.schedule.winograd_transforms import F2, F4, Algorithm, apply_both, transposed
from symgrad.schedule.writer import Memory, Writer
from symgrad.sizes import Dim, Size, maximum

LANES = {"avx512": 16, "avx2": 8, "sse2": 4}
IMAGE = Layout((0, 2, 3, 1), 0)
PANELS = Layout((0, 2, 3, 1), 0)


@dataclass(frozen=True)
class Shape:
    """A convolution of images (n, c, h, w) with weights (o, c, 3, 3)."""

    n: Size
    c: int
    o: int
    h: int
    w: int
    pad: tuple[int, int] = (1, 1)

    @property
    def out(self) -> tuple[int, int]:
        return self.h + 2 * self.pad[0] - 2, self.w + 2 * self.pad[1] - 2

    def images(self, dtype: str) -> tuple[Input, Input, Parameter]:
        """Images, gradients of the result, weights."""
        x = Input("x", (self.n, self.c, self.h, self.w), dtype)
        y = Input("y", (self.n, self.o, *self.out), dtype)
        return x, y, Parameter("w", (self.o, self.c, 3, 3), dtype=dtype)


def slide(image: Expr, out: tuple[int, int], offset: tuple[int, int], tap: int) -> Expr:
    """The 3 x 3 windows of an image at every place of the result."""
    maps = [(0, ((0, 1),), 1), (0, ((1, 1),), 1)]
    maps += [(offset[i], ((2 + i, 1), (4 + i, tap)), 1) for i in (0, 1)]
    return Reindex.of(image, maps, (*image.shape[:2], *out, 3, 3))


def over_image(spec: str, s: Shape, image: Expr, other: Expr) -> Contract:
    return Contract.parse(spec, slide(image, s.out, (-s.pad[0], -s.pad[1]), 1), other)


def over_gradient(spec: str, s: Shape, image: Expr, other: Expr) -> Contract:
    return Contract.parse(spec, slide(image, (s.h, s.w), s.pad, -1), other)


def form(name: str, s: Shape, dtype: str) -> Contract:
    x, y, w = s.images(dtype)
    if name == "forward":
        return over_image("ncxykl,ockl->noxy", s, x, w)
    if name == "input gradient":
        return over_gradient("nohwkl,ockl->nchw", s, y, w)
    if name == "weight gradient":
        return over_image("ncxykl,noxy->ockl", s, x, y)
    return over_gradient("nohwkl,nchw->ockl", s, y, x)


FORMS = ("forward", "input gradient", "weight gradient", "transposed weight gradient")


@dataclass
class Case:
    """A convolution in memory, and the program that computes it and what follows it."""

    plan: Plan
    program: Program
    arrays: dict[str, np.ndarray]
    place: tuple[str, Layout, Expr]
    expected: np.ndarray
    sizes: dict[str, int]
    env: dict[Expr, np.ndarray]

    def result(self, held: dict[str, np.ndarray]) -> np.ndarray:
        name, layout, node = self.place
        shape = tuple(map(maximum, node.shape))
        return layout.unpack(held[name], shape, self.program.lanes)[: len(self.expected)]


def case(
    name: str,
    s: Shape,
    lanes: int,
    dtype: str = "float32",
    algorithm: Algorithm = F2,
    epilogue: str = "",
    batch: int = 0,
    weights: Layout = PANELS,
    target: Target | None = None,
) -> Case:
    n = form(name, s, dtype)
    memory = Memory(Symbols(lanes))
    bias = Parameter("bias", (n.shape[1],), dtype=dtype)
    other = Input("other", n.shape, dtype)
    after = follow(n, epilogue, bias, other)
    last = after[-1] if after else n
    roles = {a: IMAGE if isinstance(a, Input) else weights for a in toposort([n]) if not a.args}
    layouts = {**roles, n: IMAGE if n.shape[0] == s.n else weights}
    roles |= {bias: row_major(1), other: row_major(4)}
    for node, layout in roles.items():
        memory.place(node, layout, "state")
    to = layouts[n]
    stored = {last: (memory.place(last, to, "state", "result"), to)}
    made = planned(n, windows(n, lambda e: e in roles), layouts, algorithm)
    assert made is not None
    target = target or Target.host()
    cost = 0 if not after else 9 if epilogue == "long" else 2
    given = (made, after, cost, stored, memory, target, {})
    if made.filters is None:
        gradients = Gradients(*given)
        kernels = [gradients.write(), gradients.combine()]
    else:
        transformed = memory.fresh_buffer("filters", dtype, made.filters.elements(lanes))
        kernels = [write_filters(memory, made.filters, transformed)]
        kernels.append(Images(*given, transformed).write())
    rng = np.random.default_rng(0)
    env, arrays = {}, {}
    live = batch or int(s.n)  # type: ignore[arg-type]
    for node, layout in roles.items():
        shape = tuple(live if isinstance(k, Dim) else k for k in node.shape)
        env[node] = rng.normal(size=shape).astype(dtype)
        held, _ = memory.home[node]
        packed = layout.pack(env[node], lanes).reshape(-1)
        if layout == IMAGE and isinstance(node, Input):  # idle lanes must not be seen
            idle = layout.pack(np.ones_like(env[node]), lanes).reshape(-1) == 0
            packed[idle] = np.nan
        arrays[held] = np.zeros(memory.buffers[held].size, dtype)
        arrays[held][: packed.size] = packed
    held = stored[last][0]
    arrays[held] = np.zeros(memory.buffers[held].size, dtype)
    sizes = {s.n.name: live} if isinstance(s.n, Dim) else {}
    expected = evaluate([last], env)[0]
    return Case(made, finished(memory, kernels), arrays, (held, to, last), expected, sizes, env)


def follow(n: Expr, epilogue: str, bias: Expr, other: Expr) -> list[Expr]:
    """What is computed of the result: nothing, its sum with a bias and another image, or more."""
    if not epilogue:
        return []
    spread = Contract.of([[1]], range(4), bias, sizes=dict(enumerate(n.shape)))
    total = Map.of("add", Map.of("add", n, spread), other)
    return [total, Map.of("tanh", total)] if epilogue == "long" else [total]


def finished(memory: Memory, writers: list[Writer]) -> Program:
    kernels, calls = [], []
    for i, w in enumerate(writers):
        kernel, buffers = w.kernel(f"kernel{i}")
        kernels.append(kernel)
        calls.append(Call(kernel.name, buffers))
    program = Program(
        memory.symbols.lanes,
        dict(memory.symbols.sizes),
        tuple(memory.buffers.values()),
        tuple(kernels),
        tuple(calls),
    )
    verify.verify(program)
    return program


def check(c: Case, tolerance: float, target: Target | None = None) -> None:
    """Interpreted and native results against the graph's."""
    if target is None:
        held = {k: v.copy() for k, v in c.arrays.items()}
        interpret.run(c.program, held, c.sizes)
    else:
        held = run_native(c.program, c.arrays, c.sizes, target)
    scale = max(1.0, float(np.abs(c.expected).max()))
    np.testing.assert_allclose(c.result(held), c.expected, rtol=0, atol=tolerance * scale)


SHAPES = {
    "even": Shape(16, 4, 8, 4, 6),
    "odd": Shape(16, 3, 5, 5, 7),
    "no padding": Shape(16, 2, 3, 6, 5, (0, 0)),
    "wide padding": Shape(16, 2, 3, 4, 5, (2, 2)),
    "paddings differ": Shape(16, 2, 3, 5, 4, (0, 2)),
    "one channel": Shape(16, 1, 1, 4, 4),
    "one place": Shape(16, 2, 2, 3, 3, (0, 0)),
    "a row": Shape(16, 2, 3, 1, 9),
    "panels and more": Shape(16, 17, 19, 5, 5),
    "part of a block": Shape(5, 2, 3, 4, 5),
    "blocks": Shape(37, 2, 3, 3, 4),
}


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("name", SHAPES)
def test_shapes(kind: str, name: str) -> None:
    """The loops by their meaning, and native code on every machine."""
    check(case(kind, SHAPES[name], 16), 1e-5)
    for target in map(Target.named, targets()):
        check(case(kind, SHAPES[name], target.lanes, target=target), 1e-5, target)


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("name", ["even", "odd", "panels and more", "part of a block"])
def test_larger_tiles(kind: str, name: str) -> None:
    c = case(kind, SHAPES[name], Target.host().lanes, algorithm=F4)
    check(c, 1e-4, Target.host())


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("algorithm", [F2, F4])
def test_double_precision(kind: str, algorithm: Algorithm) -> None:
    lanes = Target.host().lanes // 2
    c = case(kind, SHAPES["odd"], lanes, "float64", algorithm)
    check(c, 1e-12, Target.host())


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("batch", [1, 16, 21, 40])
def test_batch_at_run_time(kind: str, batch: int) -> None:
    s = Shape(Dim("batch", 40), 3, 4, 4, 5)
    check(case(kind, s, Target.host().lanes, batch=batch), 1e-5, Target.host())
    check(case(kind, s, 16, batch=batch), 1e-5)


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("epilogue", ["short", "long"])
@pytest.mark.parametrize("name", ["even", "odd", "part of a block", "panels and more"])
def test_epilogues(kind: str, epilogue: str, name: str) -> None:
    """Short ones are written out for every output of a tile, long ones are in a loop."""
    c = case(kind, SHAPES[name], Target.host().lanes, epilogue=epilogue)
    check(c, 1e-3, Target.host())
    if name == "odd":
        check(case(kind, SHAPES[name], 16, algorithm=F4, epilogue=epilogue), 1e-3)


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("weights", [Layout((0, 1, 2, 3)), Layout((1, 2, 3, 0), 1)], ids=str)
def test_weights_lie_anywhere(kind: str, weights: Layout) -> None:
    c = case(kind, SHAPES["panels and more"], 16, weights=weights)
    check(c, 1e-5, Target.host() if Target.host().lanes == 16 else None)


@pytest.mark.parametrize("kind", FORMS)
def test_error_is_no_larger_than_that_of_direct_summation(kind: str) -> None:
    """Of float32, the largest and the mean one, where direct sums round once for each term."""
    c = case(kind, Shape(16, 32, 32, 8, 8), Target.host().lanes)
    found = c.result(run_native(c.program, c.arrays, {}, Target.host()))
    exact, direct = direct_sums(c.plan.n, c.env)
    ours, theirs = np.abs(found - exact), np.abs(direct - exact)
    assert ours.max() <= theirs.max() and ours.mean() <= theirs.mean()


def direct_sums(n: Contract, env: dict[Expr, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The sum in float64, and in float32 term by term."""
    a, b = (v.astype(np.float64) for v in evaluate(list(n.args), env))
    exact = np.einsum(a, n.ins[0], b, n.ins[1], n.out, optimize=True)
    total = np.zeros_like(exact)
    kept = [[k for k in labels if k in n.out] for labels in n.ins]
    for at in np.ndindex(*(int(n.extents[k]) for k in n.summed)):  # type: ignore[arg-type]
        where = dict(zip(n.summed, at))
        parts = [
            v[tuple(where.get(k, slice(None)) for k in labels)] for v, labels in zip((a, b), n.ins)
        ]
        term = np.einsum(parts[0], kept[0], parts[1], kept[1], n.out)
        total = (total + term).astype(np.float32).astype(np.float64)
    return exact, total


@pytest.mark.parametrize("algorithm", [F2, F4])
def test_transforms_are_their_matrices(algorithm: Algorithm) -> None:
    rng = np.random.default_rng(0)
    for matrix in (algorithm.inputs, algorithm.weights, algorithm.results):
        for m in (matrix, transposed(matrix)):
            numbers = np.array(m, dtype=float)
            d = rng.normal(size=(len(m[0]), len(m[0])))
            names = {f"d{i}_{j}": v for (i, j), v in np.ndenumerate(d)}
            patch = [[Get(f"d{i}_{j}", "float64") for j in range(len(d))] for i in range(len(d))]
            result = apply_both(m, patch, lambda v: v)
            found = [[interpret.evaluate(v, names) for v in row] for row in result]
            np.testing.assert_allclose(found, numbers @ d @ numbers.T, atol=1e-12)


CHOICES = {
    "a layer of a residual network": (Shape(32, 16, 16, 32, 32), True),
    "small images": (Shape(32, 128, 128, 4, 4), True),
    "a first layer": (Shape(32, 3, 64, 32, 32), False),
    "few outputs": (Shape(32, 64, 4, 32, 32), False),
    "one place": (Shape(32, 64, 64, 3, 3, (0, 0)), False),
}


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("name", CHOICES)
def test_chosen_where_it_is_faster(kind: str, name: str) -> None:
    s, wanted = CHOICES[name]
    n = form(kind, s, "float32")
    leaves = {a for a in toposort([n]) if not a.args}
    found = windows(n, lambda e: e in leaves)
    assert found is not None
    layouts = dict.fromkeys([*leaves, n], IMAGE)
    made = plan(n, found, layouts)
    assert (made is not None) == wanted
    if made is not None:
        assert made.algorithm is F2
        loose = plan(n, found, layouts, 1e-3)
        assert loose is not None and loose.algorithm is F4


def test_other_products_are_left_alone() -> None:
    x, w = Input("x", (32, 64, 16, 16)), Parameter("w", (64, 64, 3, 3))
    leaves = {x: IMAGE, w: PANELS}
    for step, dilation in ((2, 1), (1, 2)):
        maps = [(0, ((0, 1),), 1), (0, ((1, 1),), 1)]
        maps += [(-1, ((2 + i, step), (4 + i, dilation)), 1) for i in (0, 1)]
        n = Contract.parse("ncxykl,ockl->noxy", Reindex.of(x, maps, (32, 64, 8, 8, 3, 3)), w)
        found = windows(n, lambda e: e in leaves)
        assert found is not None and planned(n, found, {**leaves, n: IMAGE}, F2) is None
