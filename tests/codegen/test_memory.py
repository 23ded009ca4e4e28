"""The arena plan: no two live buffers overlap, reuse and in-place sharing really happen."""

from __future__ import annotations

import dataclasses
import random

import pytest

from codegen.loops import Buffer, Call, Kernel, Param, Program
from codegen.memory import PlanError, check, plan, report


def program(
    buffers: list[Buffer], calls: list[Call], kernels: list[Kernel] | None = None
) -> Program:
    return Program(16, {}, tuple(buffers), tuple(kernels or [step(2)]), tuple(calls))


def step(inputs: int, inplace: bool = False, name: str = "k") -> Kernel:
    """A kernel that writes `out` from `inputs` operands."""
    params = [Param("out", "float32", "w")] + [Param(f"in{i}", "float32") for i in range(inputs)]
    pairs = (("out", "in0"),) if inplace else ()
    return Kernel(name, tuple(params), (), pairs)


def chain(length: int, inplace: bool) -> Program:
    names = [f"t{i}" for i in range(length)]
    buffers = [Buffer(n, "float32", 100) for n in names]
    calls = [Call("k", (after, before)) for before, after in zip(names, names[1:])]
    return program(buffers, calls, [step(1, inplace)])


def test_chain_alternates_between_two_places() -> None:
    p = chain(10, inplace=False)
    layout = plan(p)
    assert layout.size == 2 * 448
    check(p, layout)


def test_chain_in_place_is_one_place() -> None:
    p = chain(10, inplace=True)
    layout = plan(p)
    # t0 is never written, so it is read at its first call: only later ones may be overwritten.
    assert layout.size == 2 * 448
    assert len({layout.offsets[f"t{i}"] for i in range(1, 10)}) == 1
    check(p, layout)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda c: Call(c.kernel, c.buffers, (0, 4)), id="offset"),
        pytest.param(lambda c: Call("two", (*c.buffers, c.buffers[1])), id="read twice"),
    ],
)
def test_no_sharing_where_it_would_be_wrong(change) -> None:  # type: ignore[no-untyped-def]
    names = ["a", "b", "c"]
    calls = [Call("k", ("b", "a")), change(Call("k", ("c", "b")))]
    kernels = [step(1, True), step(2, True, "two")]
    p = program([Buffer(n, "float32", 16) for n in names], calls, kernels)
    layout = plan(p)
    assert layout.offsets["b"] != layout.offsets["c"]
    check(p, layout)


def test_no_sharing_between_different_sizes_or_while_needed() -> None:
    kernels = [step(1, True), step(2, True, "two")]
    buffers = [Buffer(n, "float32", 16) for n in "abd"] + [Buffer("c", "float32", 15)]
    calls = [Call("k", ("b", "a")), Call("k", ("c", "b")), Call("two", ("d", "c", "b"))]
    layout = plan(program(buffers, calls, kernels))
    assert len({layout.offsets[n] for n in "bcd"}) == 3


def test_table_skips_arena_and_constants() -> None:
    buffers = [
        Buffer("x", "float32", 4, "input"),
        Buffer("t", "float32", 4),
        Buffer("c", "float32", 1, "constant", b"\0\0\0\0"),
        Buffer("w", "float32", 4, "state"),
        Buffer("y", "float32", 4, "output"),
    ]
    p = program(buffers, [Call("k", ("t", "x", "w")), Call("k", ("y", "t", "c"))])
    layout = plan(p)
    assert layout.table == {"x": 1, "w": 2, "y": 3}
    assert set(layout.offsets) == {"t"}
    check(p, layout)


def test_empty_program_and_unused_buffers() -> None:
    p = program([Buffer("t", "float32", 4)], [])
    layout = plan(p)
    assert layout.size == 0 and layout.offsets == {"t": 0}
    check(p, layout)
    assert "0 buffers" in report(layout)


def random_program(seed: int) -> Program:
    """Random kernels, buffers of random sizes, some passed twice, some never read."""
    rng = random.Random(seed)
    dtypes = ["float32", "float64", "int64", "bool"]
    sizes = [rng.randint(0, 5000) for _ in range(rng.randint(1, 5))]
    buffers = [
        Buffer(
            f"b{i}",
            rng.choice(dtypes),
            rng.choice(sizes),
            rng.choice(["arena"] * 8 + ["input", "state", "output"]),
        )
        for i in range(rng.randint(1, 40))
    ]
    kernels = [step(n, inplace, f"k{n}{inplace}") for n in range(1, 4) for inplace in (0, 1)]
    calls = []
    for i in range(rng.randint(0, 40)):
        kernel = rng.choice(kernels)
        near = [buffers[min(max(i + rng.randint(-4, 2), 0), len(buffers) - 1)] for _ in range(9)]
        names = tuple(b.name for b in near[: len(kernel.params)])
        offsets = tuple(rng.choice([0, 0, 0, 8]) for _ in names) if rng.random() < 0.3 else ()
        calls.append(Call(kernel.name, names, offsets))
    return program(buffers, calls, kernels)


def simulate(p: Program, offsets: dict[str, int]) -> None:
    """Run the plan on memory that remembers which value every cache line holds."""
    lines: dict[int, tuple[str, int]] = {}
    version: dict[str, int] = {}
    arena = {b.name: b for b in p.buffers if b.role == "arena"}
    itemsize = {"float32": 4, "float64": 8, "int64": 8, "bool": 1}

    def touched(name: str) -> range:
        size = max(arena[name].size * itemsize[arena[name].dtype], 1)
        return range(offsets[name] // 64, offsets[name] // 64 + (size + 63) // 64)

    for i, call in enumerate(p.calls):
        for name in call.buffers[1:]:
            if name in arena and name in version:
                for line in touched(name):
                    assert lines[line] == (name, version[name]), name
        out = call.buffers[0]
        for name in call.buffers:  # an operand that was never written owns its memory from now on
            if name in arena and (name == out or name not in version):
                version[name] = version.get(name, 0) + 1
                for line in touched(name):
                    lines[line] = (name, version[name])
        later = set().union(*(c.buffers for c in p.calls[i + 1 :]), ())
        for name in call.buffers[1:]:
            if name in arena and name in later and name != out:
                assert all(lines[line] == (name, version[name]) for line in touched(name)), name


@pytest.mark.parametrize("seed", range(200))
def test_random_programs(seed: int) -> None:
    p = random_program(seed)
    layout = plan(p)
    check(p, layout)
    simulate(p, dict(layout.offsets))
    assert layout.floor <= layout.size <= sum(layout.bytes.values())
    assert len(report(layout).splitlines()) == 2 + len(layout.lives)


def test_reuse_is_near_the_lower_bound() -> None:
    plans = [plan(random_program(seed)) for seed in range(100)]
    assert sum(p.size for p in plans) <= 1.05 * sum(p.floor for p in plans)


@pytest.mark.parametrize("seed", range(40))
def test_check_catches_a_moved_buffer(seed: int) -> None:
    p = chain(6, inplace=bool(seed % 2))
    layout = plan(p)
    rng = random.Random(seed)
    name = rng.choice(list(layout.offsets))
    neighbours = {f"t{int(name[1:]) + d}" for d in (-1, 1)} & set(layout.offsets)
    other = rng.choice(sorted(neighbours))
    offsets = {**layout.offsets, name: layout.offsets[other] + rng.choice([64, -64, 128])}
    if offsets[name] < 0:
        offsets[name] = layout.size - 64
    with pytest.raises(PlanError):
        check(p, dataclasses.replace(layout, offsets=offsets))


def test_two_thousand_buffers_plan_quickly() -> None:
    rng = random.Random(1)
    names = [f"t{i}" for i in range(2000)]
    buffers = [Buffer(n, "float32", rng.randint(1, 10**6)) for n in names]
    calls = [Call("k", (names[i], names[i - 1])) for i in range(1, 2000)]
    calls += [Call("k", (names[i], names[i + 1])) for i in range(1998, -1, -1)]  # a backward pass
    p = program(buffers, calls, [step(1, True)])
    check(p, plan(p))
