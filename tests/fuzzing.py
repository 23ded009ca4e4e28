# ruff: noqa: E402 - the path comes first, so that this file runs as a command
"""Random graphs, run four ways: graph interpreter, loop interpreter, loop interpreter in the
planned arena, native code. A command and a library for tests/test_fuzz.py.

    python tests/fuzzing.py 2000            graphs from seeds 0..1999
    python tests/fuzzing.py 1 --seed 4711   one graph again

Gradients are part of every graph. Each failure found becomes a seed in `tests/test_fuzz.py`.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parent / "codegen"), str(Path(__file__).parent.parent)]

from fuzz_graphs import Case, case_of
from harness import run as run_native

import symgrad as sg
from codegen import interpret as loop_interpreter
from codegen import memory
from codegen.target import Target
from codegen.verify import verify
from symgrad import rewrite, sizes
from symgrad.interpret import evaluate
from symgrad.schedule import Schedule, schedule

SEED, STEP = 0x1_2345_6789, 3  # of random numbers


# -- the four ways ---------------------------------------------------------------------------------


def expected(case: Case, step: int = STEP) -> dict[str, np.ndarray]:
    """What the graph interpreter says, for outputs and updated parameters."""
    names = [*case.outputs, *(p.name for p in case.updates)]
    values = evaluate(
        [*case.outputs.values(), *case.updates.values()], case.env, case.dims, SEED, step
    )
    return dict(zip(names, values))


def buffers(case: Case, planned: Schedule) -> dict[str, np.ndarray]:
    """Every buffer that the caller owns, filled."""
    lanes = planned.program.lanes
    held = {
        b.name: np.zeros(b.size, b.dtype)
        for b in planned.program.buffers
        if b.role in ("input", "output", "state")
    }
    for leaf, name in planned.inputs.items():
        flat = case.env[leaf].astype(leaf.dtype).reshape(-1)
        held[name][: flat.size] = flat
    for p, (name, layout) in planned.states.items():
        packed = layout.pack(case.env[p].astype(p.dtype), lanes).reshape(-1)
        held[name][: packed.size] = packed
    if planned.rng is not None:
        words = np.array([SEED & 0xFFFFFFFF, SEED >> 32, STEP, 0], np.uint32)
        held[planned.rng][:] = words.view(np.int32)
    return held


def results(case: Case, planned: Schedule, held: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs and updated parameters as plain arrays."""
    found = {}
    if planned.rng is not None and held[planned.rng][2] != STEP + 1:
        raise AssertionError(f"seed {case.seed}: the random generator did not advance by a step")
    for name, e in case.outputs.items():
        shape = [sizes.value(s, case.dims) for s in e.shape]
        found[name] = held[planned.outputs[name]][: int(np.prod(shape))].reshape(shape)
    for p in case.updates:
        name, layout = planned.states[p]
        held_by_it = held[name][: layout.elements(p.shape, planned.program.lanes)]
        found[p.name] = layout.unpack(held_by_it, p.shape, planned.program.lanes)
    return found


def compare(
    case: Case, wanted: dict[str, np.ndarray], got: dict[str, np.ndarray], way: str
) -> None:
    """Values agree within what the operation counts allow; integers and bools are equal."""
    for name, a in wanted.items():
        b = got[name]
        if a.dtype.kind == "f":
            tolerance = 1e-9 if a.dtype == np.float64 and "float32" not in case.dtypes else 2e-3
            scale = max(1.0, float(np.max(np.abs(a), initial=0, where=np.isfinite(a))))
            same = np.shape(a) == np.shape(b) and np.allclose(
                a, b, rtol=tolerance, atol=tolerance * scale, equal_nan=True
            )
        else:
            same = np.array_equal(a, b)
        if not same:
            raise AssertionError(f"seed {case.seed}, {way}: {name} differs\n{a}\n{b}")


def rewritten(case: Case) -> Case:
    """The same case as the compiler rewrites it."""
    new, _ = rewrite.run([*case.outputs.values(), *case.updates.values()])
    count = len(case.outputs)
    return replace(
        case,
        outputs=dict(zip(case.outputs, new[:count])),
        updates=dict(zip(case.updates, new[count:])),
    )


def check(seed: int, targets: Sequence[str] = ("native",), loops: bool = True) -> None:
    """One random graph, every way."""
    check_case(case_of(seed), targets, loops)


def check_case(
    case: Case, targets: Sequence[str] = ("native",), loops: bool = True, native: bool = True
) -> None:
    """The graph interpreter against all other ways: rewritten, as loops, in the arena, native."""
    wanted = expected(case)
    if case.rewritten:
        case = rewritten(case)
        compare(case, wanted, expected(case), "rewritten")
    for name in targets:
        target = Target.named(name)
        planned = schedule(
            case.inputs, case.outputs, case.updates, target=target, tolerance=case.tolerance
        )
        verify(planned.program)
        plan = memory.plan(planned.program)
        memory.check(planned.program, plan)
        if loops and name == targets[0]:
            for way, arena in (("loops", None), ("arena", plan)):
                held = buffers(case, planned)
                loop_interpreter.run(planned.program, held, case.dims, plan=arena)
                compare(case, wanted, results(case, planned, held), way)
        if native:
            held = run_native(planned.program, buffers(case, planned), case.dims, target)
            compare(case, wanted, results(case, planned, held), name)


def check_compiled(seed: int, target: str | None = None) -> None:
    """One random graph as a user runs it: `sg.function` with a state, called by position."""
    case = case_of(seed)
    wanted = expected(case, step=0)
    f = sg.function(case.inputs, case.outputs, case.updates, seed=SEED, target=target)
    for name in f.state:
        leaf = next(e for e in case.env if e.name == name)
        f.state[name] = case.env[leaf].astype(leaf.dtype)
    got = f(*(case.env[x].astype(x.dtype) for x in case.inputs))
    found = {**got, **{p.name: f.state[p] for p in case.updates}}
    compare(case, wanted, {name: np.asarray(a) for name, a in found.items()}, "compiled")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-loops", action="store_true", help="skip the loop interpreter")
    parser.add_argument("--compiled", action="store_true", help="through sg.function only")
    parser.add_argument("--targets", nargs="*", default=["native"])
    args = parser.parse_args()
    failed = []
    for seed in range(args.seed, args.seed + args.count):
        try:
            if args.compiled:
                check_compiled(seed)
            else:
                check(seed, args.targets, not args.no_loops)
        except Exception as error:  # noqa: BLE001 - every kind of failure is a finding
            failed.append(seed)
            last = traceback.extract_tb(error.__traceback__)[-1]
            text = str(error).split("\n")[0][:150]
            if args.count == 1:
                traceback.print_exc()
            print(f"seed {seed}: {type(error).__name__} at {last.filename}:{last.lineno}: {text}")
    print(f"{args.count - len(failed)} passed, {len(failed)} failed: {failed}")


if __name__ == "__main__":
    main()
