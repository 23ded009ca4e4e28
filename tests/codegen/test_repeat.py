"""Calls that repeat: what they compute, natively too, and which memory they may share."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from harness import check, run, targets
from nests import F32, LANES, P, number, op

from codegen import interpret, memory
from codegen.assemble import assemble
from codegen.batches import Batches
from codegen.bounds import derived_sizes
from codegen.bundle import with_entries
from codegen.call import Function, InputSpec, Signature, aligned
from codegen.carried import own
from codegen.counts import counts, program_counts
from codegen.emit import emit
from codegen.emit_builder import EmitError
from codegen.load import load
from codegen.loops import (
    Buffer,
    Call,
    Derived,
    For,
    Kernel,
    Lanes,
    Load,
    Param,
    Poly,
    PolyLike,
    Program,
    Repeat,
    Store,
    Value,
)
from codegen.profile import Timed
from codegen.repeats import flat, repeats, runs
from codegen.show import show
from codegen.target import Target
from codegen.verify import VerifyError
from codegen.verify import verify as verify_program

N, STEPS = 20, 7
ROW = P("b") * LANES + "l"
SIZES: dict[str, int | Derived] = {"n": N, "T": STEPS, "blocks": Derived("ceildiv", P("n"), LANES)}


def rows(name: str, reads: Sequence[str], value: Value, inplace: bool = True) -> Kernel:
    """`out = value` for n elements; the operands may be where the result goes."""
    body = For(
        "b", P("blocks"), (Lanes("l", P("n") - P("b") * LANES, (Store("out", ROW, value),)),)
    )
    params = (Param("out", F32, "w"), *(Param(r, F32) for r in reads))
    pairs = tuple(("out", r) for r in reads) if inplace else ()
    return Kernel(name, params, (body,), pairs, split=("b",))


def at(name: str) -> Value:
    return Load(name, ROW, F32)


ADD = rows("add", ("a", "b"), op("add", at("a"), at("b")))
COPY = rows("copy", ("a",), at("a"))
ZERO = rows("zero", (), number(0.0))
MIX = rows(
    "mix", ("a", "b"), op("sub", op("mul", number(0.5), at("a")), op("mul", number(0.25), at("b")))
)
KERNELS = (ADD, COPY, ZERO, MIX)


def program(
    calls: Sequence[Call | Repeat],
    arena: Sequence[str] = (),
    sizes: dict[str, int | Derived] = SIZES,
    **states: int,
) -> Program:
    """Arena buffers of N elements, states of so many."""
    held = [Buffer(name, F32, N) for name in arena]
    held += [Buffer(name, F32, size, "state") for name, size in states.items()]
    return Program(LANES, sizes, tuple(held), KERNELS, tuple(calls))


def cumulative(reverse: bool = False) -> Program:
    """y[t] = x[0] + ... + x[t], or from the end."""
    t = P("T") - 1 - P("t") if reverse else P("t")
    row = t * "n"
    body = (
        Call("add", ("y", "c", "x"), (row, 0, row)),
        Call("copy", ("c", "y"), (0, row)),
    )
    calls = (Call("zero", ("c",)), Repeat("t", P("T"), body), Call("copy", ("last", "c")))
    return program(calls, ("c",), x=N * STEPS, y=N * STEPS, last=N)


def fibonacci() -> Program:
    """(a, b) becomes (b, a + b), in two places by turns, then back."""
    body = (
        Call("add", ("sum", "a", "b")),
        Call("copy", ("a", "b")),
        Call("copy", ("b", "sum")),
    )
    calls = (
        Call("copy", ("a", "x")),
        Call("copy", ("b", "x")),
        Repeat("t", P("T"), body),
        Call("copy", ("y", "b")),
    )
    return program(calls, ("a", "b", "sum"), x=N, y=N)


def nested() -> Program:
    """z[i] = sum over j <= i of (x[j] + ... + x[T-1]), and scratch of its own in either loop."""
    inner = (Call("add", ("s", "u", "x"), (0, 0, P("j") * "n")), Call("copy", ("u", "s")))
    outer = (
        Call("zero", ("u",)),
        Repeat("j", P("T"), inner),
        Call("mix", ("w", "u", "x"), (0, 0, P("i") * "n")),
        Call("add", ("r", "v", "w")),
        Call("copy", ("v", "r")),
        Call("copy", ("z", "r"), (P("i") * "n", 0)),
    )
    calls = (Call("zero", ("v",)), Repeat("i", P("T"), outer))
    return program(calls, ("s", "u", "w", "r", "v"), x=N * STEPS, z=N * STEPS)


def data(p: Program, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {b.name: rng.normal(size=b.size).astype(F32) for b in p.buffers if b.role == "state"}


def agree(p: Program, n: int, steps: int, target: str = "sse2") -> dict[str, np.ndarray]:
    """Native code, the interpreter, and the interpreter in the planned memory."""
    verify_program(p)
    sizes = {"n": n, "T": steps}
    plan = memory.plan(p)
    memory.check(p, plan)
    arrays = data(p)
    found = check(p, arrays, sizes, Target.named(target))
    planned = {name: array.copy() for name, array in arrays.items()}
    interpret.run(p, planned, sizes, plan=plan)
    for name, array in planned.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    return found


# -- what is computed ------------------------------------------------------------------------------


@pytest.mark.parametrize("target", targets())
@pytest.mark.parametrize("steps", [0, 1, 2, STEPS])
@pytest.mark.parametrize("n", [1, N])
def test_sum_over_rows(n: int, steps: int, target: str) -> None:
    p = cumulative()
    x = data(p)["x"][: n * steps].reshape(steps, n)
    found = agree(p, n, steps, target)
    sums = np.cumsum(x, 0)
    np.testing.assert_array_equal(found["y"][: n * steps].reshape(steps, n), sums)
    np.testing.assert_array_equal(found["last"][:n], sums[-1] if steps else np.zeros(n))


@pytest.mark.parametrize("steps", [1, 2, STEPS])
def test_offsets_that_fall(steps: int) -> None:
    p = cumulative(reverse=True)
    x = data(p)["x"][: N * steps].reshape(steps, N)
    found = agree(p, N, steps)["y"][: N * steps].reshape(steps, N)
    np.testing.assert_array_equal(found, np.cumsum(x[::-1], 0)[::-1])


@pytest.mark.parametrize("steps", [0, 1, STEPS])
def test_two_carries(steps: int) -> None:
    p = fibonacci()
    x = data(p)["x"]
    np.testing.assert_allclose(
        agree(p, N, steps)["y"], x * (1, 2, 3, 5, 8, 13, 21, 34)[steps], 1e-6
    )


@pytest.mark.parametrize("steps", [0, 1, 2, STEPS])
def test_repeats_in_repeats(steps: int) -> None:
    p = nested()
    x = data(p)["x"][: N * steps].reshape(steps, N)
    z = agree(p, N, steps)["z"][: N * steps].reshape(steps, N)
    np.testing.assert_allclose(z, np.cumsum(0.5 * x.sum(0) - 0.25 * x, 0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("turns", [0, 1, 3])
def test_a_number_of_turns_that_is_known(turns: int) -> None:
    body = (Call("add", ("sum", "y", "x")), Call("copy", ("y", "sum")))
    p = program((Repeat("t", Poly.of(turns), body),), ("sum",), x=N, y=N)
    arrays = data(p)
    expected = arrays["y"].copy()
    for _ in range(turns):
        expected = expected + arrays["x"]
    np.testing.assert_array_equal(agree(p, N, 1)["y"], expected)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("make", [cumulative, fibonacci, nested])
def test_results_do_not_depend_on_threads(
    make: Any, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codegen.shares.GRAIN", 1e-3)
    for n in (1, N):
        agree(replace(make(), threads=count), n, STEPS)


def test_private_memory_in_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scratch of a shared kernel belongs to the thread, whatever lies beside it in the arena."""
    monkeypatch.setattr("codegen.shares.GRAIN", 1e-3)
    live = P("n") - P("b") * LANES
    first = Store("own", P("l"), op("mul", number(2.0), at("a")), full=True)
    then = Store("out", ROW, op("add", Load("own", P("l"), F32, full=True), number(1.0)))
    twice = Kernel(
        "twice",
        (Param("out", F32, "w"), Param("a", F32), Param("own", F32, "rw")),
        (For("b", P("blocks"), (Lanes("l", live, (first, then)),)),),
        split=("b",),
    )
    body = (
        Call("twice", ("s", "c", "own")),
        Call("mix", ("u", "s", "x"), (0, 0, P("t") * "n")),
        Call("twice", ("c", "u", "own")),
    )
    calls = (Call("zero", ("c",)), Repeat("t", P("T"), body), Call("copy", ("y", "c")))
    p = program(calls, ("c", "s", "u"), x=N * STEPS, y=N)
    private = Buffer("own", F32, LANES, "private")
    p = replace(p, buffers=(*p.buffers, private), kernels=(*p.kernels, twice), threads=3)
    agree(p, N, STEPS)


# -- which memory is shared ------------------------------------------------------------------------


def sharing(p: Program, *names: str) -> bool:
    """Whether these buffers are in one place."""
    plan = memory.plan(p)
    memory.check(p, plan)
    return len({plan.offsets[name] for name in names}) == 1


def test_what_is_carried_and_what_is_not() -> None:
    def names(p: Program) -> dict[str, set[str]]:
        return {repeat.var: found for repeat, found in own(p).items()}

    assert names(cumulative()) == {"t": set()}
    assert names(fibonacci()) == {"t": {"sum"}}
    assert names(nested()) == {"i": {"u", "s", "w", "r"}, "j": {"s"}}


def test_a_carry_keeps_its_place_for_the_whole_repeat() -> None:
    """`late` is first used when `c` has been read for the last time in the text."""
    body = (
        Call("mix", ("early", "c", "x")),
        Call("copy", ("late", "early")),
        Call("copy", ("y", "late"), (P("t") * "n", 0)),
    )
    calls = (Call("copy", ("c", "x")), Repeat("t", P("T"), body))
    p = program(calls, ("c", "early", "late"), x=N, y=N * STEPS)
    lives = memory.lifetimes(p)
    assert lives["c"] == (0, 3) and lives["early"] == (1, 2) and lives["late"] == (2, 3)
    assert sharing(p, "early", "late") and not sharing(p, "c", "early")
    assert not sharing(p, "c", "late")
    agree(p, N, STEPS)


def test_a_buffer_read_before_it_is_written_is_carried() -> None:
    body = (Call("add", ("s", "c", "x")), Call("copy", ("c", "s")), Call("copy", ("u", "s")))
    inner = (Call("zero", ("c",)), Repeat("t", P("T"), body), Call("copy", ("y", "c")))
    p = program(inner, ("c", "s", "u"), x=N, y=N)
    assert memory.lifetimes(p)["c"] == (0, 4)
    assert not sharing(p, "c", "u")
    agree(p, N, STEPS)


def parts(*body: Call | Repeat) -> Program:
    """A stack of two rows, used in one repeat only."""
    p = program((Repeat("i", P("T"), body),), ("s",), x=N, y=N)
    return replace(p, buffers=(*p.buffers, Buffer("two", F32, 2 * N)))


def test_parts_of_a_buffer() -> None:
    j = P("j") * "n"
    write, other = Call("copy", ("two", "x")), Call("copy", ("two", "x"), (P("n"), 0))
    read = Call("copy", ("y", "two"), (0, P("n")))
    each = Call("copy", ("two", "x"), (j, 0)), Call("copy", ("y", "two"), (0, P("n") - j))

    def fresh(*body: Call | Repeat) -> bool:
        p = parts(*body)
        return "two" in own(p)[repeats(p)[0]]

    assert fresh(write, other, read)
    assert not fresh(write, read, other)  # the second row is that of the turn before
    assert not fresh(read, write, other)
    assert fresh(Repeat("j", Poly.of(2), (each[0],)), read)
    assert not fresh(Repeat("j", Poly.of(2), each))
    assert not fresh(Call("copy", ("two", "x"), (P("i"), 0)), read)


def test_no_operand_is_overwritten_that_the_next_turn_reads() -> None:
    """A repeat of one call, whose operand dies at no turn but the last."""
    body = (Call("add", ("r", "c", "x"), (0, 0, P("t") * "n")),)
    calls = (Call("copy", ("c", "x")), Repeat("t", P("T"), body), Call("copy", ("y", "r")))
    p = program(calls, ("c", "r"), x=N * STEPS, y=N)
    assert not sharing(p, "c", "r")
    agree(p, N, STEPS)
    body = (Call("copy", ("c", "x")), Call("add", ("r", "c", "x")), Call("copy", ("y", "r")))
    assert sharing(program((Repeat("t", P("T"), body),), ("c", "r"), x=N, y=N), "c", "r")


def test_check_knows_repeats() -> None:
    p = fibonacci()
    plan = memory.plan(p)
    wrong = {**plan.offsets, "a": plan.offsets["sum"]}
    with pytest.raises(memory.PlanError, match="overlap"):
        memory.check(p, replace(plan, offsets=wrong))


class Drawn:
    """A random program that reads nothing undefined: temporaries, stacks, repeats in repeats."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.count = 0
        self.arena: list[Buffer] = []
        self.turns: dict[str, str] = {}  # repeat variables, and how many turns each has

    def fresh(self, rows: int = 1) -> str:
        self.count += 1
        self.arena.append(Buffer(f"b{self.count}", F32, N * rows))
        return self.arena[-1].name

    def row(self, around: Sequence[str]) -> Poly:
        """Of a stack of STEPS rows."""
        if not around:
            return Poly()
        t = self.random.choice(around)
        return P(t) * "n" if self.random.random() < 0.5 else (P("T") - 1 - P(t)) * "n"

    def block(
        self, defined: list[str], stacks: list[str], around: list[str], length: int
    ) -> list[Call | Repeat]:
        """Calls that read `defined` buffers, and add to them."""
        random, calls = self.random, []
        for _ in range(length):
            choice = random.random()
            if choice < 0.2 and len(around) < 2:
                calls.append(self.repeat(defined, stacks, around))
            elif choice < 0.3 and around:
                stack, row = random.choice(stacks), self.row(around)
                calls.append(Call("copy", (stack, random.choice(defined)), (row, 0)))
            elif choice < 0.5:
                name, row = self.fresh(), self.row(around)
                source, other = random.choice(stacks), random.choice(defined)
                calls.append(Call("mix", (name, source, other), (0, row, 0)))
                defined.append(name)
            else:
                old = [name for name in defined[-4:] if name.startswith("b")]
                again = bool(old) and random.random() < 0.4
                reads = [random.choice(defined[-4:]) for _ in range(2)]
                name = random.choice(old) if again else self.fresh()
                calls.append(Call(random.choice(("mix", "add")), (name, *reads)))
                if not again:
                    defined.append(name)
        return calls

    def repeat(self, defined: list[str], stacks: list[str], around: list[str]) -> Repeat:
        self.count += 1
        var, inner = f"t{self.count}", list(defined)
        own_stacks = list(stacks)
        before = []
        if self.random.random() < 0.3:  # a stack of the body's own, written before it is read
            stack, t = self.fresh(STEPS), f"u{self.count}"
            filled = Call("copy", (stack, self.random.choice(defined)), (P(t) * "n", 0))
            before.append(Repeat(t, P("T"), (filled,)))
            own_stacks.append(stack)
        body = self.block(inner, own_stacks, [*around, var], self.random.randint(1, 5))
        made = Repeat(var, P("T"), (*before, *body))
        if self.random.random() < 0.5:  # what a turn computed last is used outside
            defined[:] = inner
        return made

    def program(self) -> Program:
        defined, stack = ["x"], self.fresh(STEPS)
        start = Repeat("s", P("T"), (Call("copy", (stack, "xs"), (P("s") * "n", P("s") * "n")),))
        calls = [start, *self.block(defined, ["xs", stack], [], self.random.randint(2, 8))]
        calls += [Call("copy", (out, self.random.choice(defined))) for out in ("y", "z")]
        states = {"x": N, "xs": N * STEPS, "y": N, "z": N}
        held = (*self.arena, *(Buffer(name, F32, size, "state") for name, size in states.items()))
        return Program(LANES, SIZES, held, KERNELS, tuple(calls))


@pytest.mark.parametrize("seed", range(150))
def test_random_programs_in_shared_memory(seed: int) -> None:
    """In memory of their own and in the planned one, which is poison at first."""
    p = Drawn(seed).program()
    verify_program(p)
    plan = memory.plan(p)
    memory.check(p, plan)
    arrays, sizes = data(p, seed), {"n": N, "T": 1 + seed % STEPS}
    apart = {name: array.copy() for name, array in arrays.items()}
    interpret.run(p, apart, sizes)
    together = {name: array.copy() for name, array in arrays.items()}
    interpret.run(p, together, sizes, plan=plan)
    for name, array in apart.items():
        assert np.isfinite(array).all()
        np.testing.assert_array_equal(together[name], array, err_msg=name)
    if seed % 5 == 0:
        found = run(p, arrays, sizes, Target.named("sse2"))
        for name, array in apart.items():
            np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_sharing_happens_in_random_programs() -> None:
    plans = [memory.plan(Drawn(seed).program()) for seed in range(60)]
    assert sum(p.size for p in plans) <= 0.8 * sum(sum(p.bytes.values()) for p in plans)
    assert sum(p.size for p in plans) <= 1.05 * sum(p.floor for p in plans)


# -- what must be refused --------------------------------------------------------------------------


def broken(*calls: Call | Repeat) -> Program:
    return program(calls, x=N * STEPS, y=N * STEPS)


def moved(row: PolyLike, extent: PolyLike = "T", var: str = "t") -> Repeat:
    return Repeat(var, P(extent), (Call("copy", ("y", "x"), (Poly.of(row), 0)),))


@pytest.mark.parametrize(
    "calls, message",
    [
        ((moved(P("t") * "n", P("T") + 1),), r"element 159 of y, which has 140"),
        ((moved(P("t") * "n" - 1),), r"element -1 of y"),
        ((moved((P("T") - P("t")) * "n"),), r"element 159 of y, which has 140"),
        ((moved((P("t") + 1) * "n"),), r"element 159 of y"),
        ((moved(6 * P("T") - P("n")),), r"element -14 of y"),  # where T alone is one
        ((moved(P("u") * "n"),), r"'u' in the offset of y is not known here"),
        ((moved(P("t") * "n"), moved(P("t") * "n")), r"repeat t: its variable is in use"),
        ((Repeat("t", P("T"), (moved(0, var="t"),)),), r"repeat t: its variable is in use"),
        ((moved(0, var="n"),), r"repeat n: its variable is in use"),
        ((moved(P("n") * "T" - P("n")), Call("copy", ("y", "x"), (P("t"), 0))), r"'t' in the off"),
        ((moved(0, P("T") - 2),), r"repeat t: -1 turns"),
        ((moved(0, "rows"),), r"'rows' in its extent is no size"),
        ((Repeat("t", P("T"), (moved(0, "t", "u"),)),), r"'t' in its extent is no size"),
        ((Repeat("t", P("T"), (Call("cpoy", ("y", "x")),)),), r"'cpoy', which is no kernel"),
    ],
)
def test_verify(calls: tuple[Call | Repeat, ...], message: str) -> None:
    with pytest.raises(VerifyError, match=message):
        verify_program(broken(*calls))


def test_places_that_differ_are_no_alias() -> None:
    apart = rows("apart", ("a",), at("a"), inplace=False)
    step = Call("apart", ("x", "x"), ((P("t") + 1) * "n", P("t") * "n"))
    p = broken(Repeat("t", P("T") - 1, (step,)))
    p = replace(p, kernels=(*KERNELS, apart))
    verify_program(p)
    arrays = data(p)
    found = check(p, arrays, {"n": N, "T": STEPS}, Target.named("sse2"))
    np.testing.assert_array_equal(found["x"], np.tile(arrays["x"][:N], STEPS))
    same = Call("apart", ("x", "x"), (P("t") * "n", P("t") * "n"))
    with pytest.raises(VerifyError, match="are one buffer"):
        verify_program(replace(p, calls=(Repeat("t", P("T"), (same,)),)))


def test_emit_refuses_a_variable_twice() -> None:
    p = broken(Repeat("t", P("T"), (moved(0),)))
    with pytest.raises(EmitError, match="in use"):
        emit(p, memory.plan(p), Target.named("sse2"))


# -- text, counts, times, epochs -------------------------------------------------------------------


def test_text() -> None:
    assert show(cumulative(reverse=True)).split("calls\n")[1] == (
        "    zero(out=c)\n"
        "    repeat t in 0..T - 1:\n"
        "        add(out=y+(T*n - n - n*t), a=c, b=x+(T*n - n - n*t))\n"
        "        copy(out=c, a=y+(T*n - n - n*t))\n"
        "    copy(out=last, a=c)\n"
    )


def test_calls_in_the_order_of_the_text() -> None:
    p = nested()
    assert [call.kernel for call, _ in flat(p)] == [
        "zero", "zero", "add", "copy", "mix", "add", "copy", "copy",
    ]  # fmt: skip
    assert [r.var for r in repeats(p)] == ["i", "j"]
    sizes = derived_sizes(p, {"n": 13, "T": 3})
    assert runs(p, sizes) == [1, 3, 9, 9, 3, 3, 3, 3]
    each = program_counts(p, {"n": 13, "T": 3})
    assert each[2] == counts(ADD, sizes, LANES) and len(each) == 8


def takes(size: int) -> Signature:
    """One input of n numbers, and no result."""
    return Signature((InputSpec("x", F32, (("n", 1, size),)),), (("n", size),))


def test_times_are_those_of_all_turns() -> None:
    """A call that runs ten times as often takes about ten times as long."""
    size, steps = 4096, 40
    calls: tuple[Call | Repeat, ...]
    calls = (Call("zero", ("s",)), Repeat("t", Poly.of(steps), (Call("mix", ("y", "s", "x")),)))
    calls += (Repeat("u", Poly.of(4 * steps), (Call("mix", ("y", "s", "x")),)),)
    sizes: dict[str, int | Derived] = {"n": size, "blocks": Derived("ceildiv", P("n"), LANES)}
    held = (
        Buffer("s", F32, size),
        Buffer("x", F32, size, "input"),
        Buffer("y", F32, size, "output"),
    )
    p = Program(LANES, sizes, held, KERNELS, calls)
    timed = Timed(p, Target.named("sse2"), takes(size), {})
    x = np.ones(size, F32)
    once, few, many = np.median(timed.run([x], seconds=0.1), axis=0)
    assert 0 < once < few and 2.5 * few < many < 6 * few


def test_epochs_run_repeats() -> None:
    """Every batch of rows goes through the loop, without Python between."""
    body = (Call("add", ("sum", "total", "x")), Call("copy", ("total", "sum")))
    held = (
        Buffer("x", F32, N, "input"),
        Buffer("total", F32, N, "state"),
        Buffer("sum", F32, N),
        Buffer("y", F32, N, "output"),
    )
    sizes: dict[str, int | Derived] = {"n": N, "blocks": Derived("ceildiv", P("n"), LANES)}
    calls = (Repeat("t", Poly.of(3), body), Call("copy", ("y", "total")))
    p = Program(LANES, sizes, held, KERNELS, calls)
    target = Target.named("sse2")
    library = load(with_entries(assemble(emit(p, memory.plan(p), target), target), target))
    function = Function(library, memory.plan(p), p, takes(N))
    total = aligned(4 * N).view(F32)
    function.set_pointer("total", total)
    x = np.arange(2 * N, dtype=F32)
    batches = Batches(function, {"x": x}, N)
    for _ in batches:
        pass
    np.testing.assert_array_equal(function.output("y"), 3 * (x[:N] + x[N:]))
