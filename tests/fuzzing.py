"""Random graphs, run four ways: graph interpreter, loop interpreter, loop interpreter in the planned
arena, native code. A command and a library for tests/test_fuzz.py.

    python tests/fuzzing.py 2000            graphs from seeds 0..1999
    python tests/fuzzing.py 1 --seed 4711   one graph again

Gradients are part of every graph. Each failure found becomes a seed in `tests/test_fuzz.py`.
"""

from __future__ import annotations

import argparse
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parent / "codegen"), str(Path(__file__).parent.parent)]

from codegen import interpret as loop_interpreter
from codegen import memory
from codegen.target import Target
from harness import run as run_native

import symgrad as sg
from symgrad import ops, sizes
from symgrad.interpret import evaluate
from symgrad.node import Expr, Input, Parameter
from symgrad.schedule import Schedule, schedule

ROWS = 21  # a full block of lanes and a partial one, on every target
UNARY = ("exp", "tanh", "sin", "sigmoid", "relu", "square", "softplus", "abs", "cos", "erf")


@dataclass
class Case:
    """A graph, its leaves' values and what must come out."""

    seed: int
    inputs: list[Expr]
    outputs: dict[str, Expr]
    updates: dict[Parameter, Expr]
    env: dict[Expr, np.ndarray]
    dims: dict[str, int]


class Generator:
    """Grows a graph by random operations on random earlier values."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.seed = seed
        self.dtype = "float64" if self.rng.random() < 0.25 else "float32"
        dynamic = self.rng.random() < 0.5
        self.rows: sizes.Size = sizes.dim("batch", 40) if dynamic else ROWS
        self.dims = {"batch": ROWS} if dynamic else {}
        self.env: dict[Expr, np.ndarray] = {}
        self.inputs: list[Expr] = []
        self.parameters: list[Parameter] = []

    def pick(self, values: Sequence[Any]) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def leaf(self, shape: tuple[sizes.Size, ...]) -> Expr:
        x = Input(f"x{len(self.inputs)}", shape, self.dtype)
        self.env[x] = self.rng.standard_normal([sizes.value(s, self.dims) for s in shape])
        self.inputs.append(x)
        return x

    def labels(self, classes: int) -> Expr:
        y = Input(f"y{len(self.inputs)}", (self.rows,), "int32")
        self.env[y] = self.rng.integers(0, classes, ROWS)
        self.inputs.append(y)
        return y

    def weight(self, shape: tuple[int, ...]) -> Expr:
        w = Parameter(f"w{len(self.parameters)}", shape, dtype=self.dtype)
        self.env[w] = self.rng.standard_normal(shape) / max(1, shape[0]) ** 0.5
        self.parameters.append(w)
        return w

    def grow(self, pool: list[Expr]) -> Expr:
        """One more value."""
        x = self.pick(pool)
        choices: list[Callable[[Expr], Expr]] = [self.unary, self.binary, self.binary, self.reduced]
        if x.ndim:
            choices += [self.scaled, self.shaped]
        if x.ndim >= 2:
            choices += [self.linear, self.linear, self.softmax, self.picked]
        y = self.pick(choices)(x)
        return y if y.dtype == self.dtype else ops.cast(y, self.dtype)

    def unary(self, x: Expr) -> Expr:
        name = self.pick(UNARY)
        return getattr(ops, name)(ops.tanh(x) if name == "exp" else x)

    def binary(self, x: Expr) -> Expr:
        other = [p for p in self.pool if p.shape == x.shape or not p.shape]
        y = self.pick(other)
        kind = self.rng.integers(7)
        if kind == 0:
            return x / (1 + ops.square(y))
        if kind == 1:
            return ops.where(x > y, x, y * 0.5)
        if kind == 2:
            return ops.maximum(x, y)
        return self.pick([x + y, x - y, x * y, ops.minimum(x, y) * 0.5])

    def scaled(self, x: Expr) -> Expr:
        last = x.shape[-1]
        if not isinstance(last, int):
            return x * 2.0 - 1.0
        return x * self.weight((last,)) + self.weight((last,))

    def linear(self, x: Expr) -> Expr:
        if not isinstance(x.shape[-1], int):
            return ops.transpose(x) if x.ndim == 2 else x
        out = int(self.pick([1, 3, 8, 16, 17, 33]))
        return x @ self.weight((x.shape[-1], out))

    def reduced(self, x: Expr) -> Expr:
        name = self.pick(["sum", "mean", "max", "min", "logsumexp"])
        axis = None if not x.ndim or self.rng.random() < 0.2 else int(self.rng.integers(x.ndim))
        keep = bool(self.rng.integers(2))
        return getattr(ops, name)(ops.tanh(x), axis=axis, keepdims=keep)

    def softmax(self, x: Expr) -> Expr:
        e = ops.exp(ops.tanh(x))
        return e / ops.sum(e, axis=-1, keepdims=True)

    def picked(self, x: Expr) -> Expr:
        if self.rng.random() < 0.5 and isinstance(x.shape[-1], int):
            return ops.take(x, self.rng.integers(0, x.shape[-1], 4), axis=x.ndim - 1)
        if x.ndim == 2 and x.shape[0] == self.rows and isinstance(x.shape[1], int):
            y = self.labels(x.shape[1])
            return ops.sum(x * ops.one_hot(y, x.shape[1], dtype=self.dtype), axis=1)
        return ops.cumsum(x, axis=x.ndim - 1)

    def shaped(self, x: Expr) -> Expr:
        kind = int(self.rng.integers(7))
        last = x.shape[-1]
        if kind == 0 and x.ndim >= 2:
            return ops.transpose(x, [*range(x.ndim - 2), x.ndim - 1, x.ndim - 2])
        if kind == 1 and isinstance(last, int) and last > 1:
            return x[..., : last // 2 + 1]
        if kind == 2 and isinstance(last, int):
            return ops.concatenate([x, ops.tanh(x)], axis=-1)
        if kind == 3 and isinstance(last, int):
            width = [(0, 0)] * (x.ndim - 1) + [(1, 2)]
            return ops.pad(x, width)
        if kind == 4:
            return ops.flip(x, axis=x.ndim - 1) if isinstance(last, int) else x + 1.0
        if kind == 5 and isinstance(last, int) and last % 2 == 0:
            return ops.reshape(x, (*x.shape[:-1], 2, last // 2))
        return x[..., None] * 0.5 if x.ndim < 3 else x

    def case(self) -> Case:
        width = int(self.pick([1, 3, 7, 16, 20]))
        self.pool: list[Expr] = [self.leaf((self.rows, width)), self.leaf((self.rows,))]
        if self.rng.random() < 0.3:
            self.pool.append(self.leaf((5, 6)))
        for _ in range(int(self.rng.integers(3, 14))):
            new = self.grow(self.pool)
            if new.ndim <= 4 and sizes_of(new) < 40_000:
                self.pool.append(new)
        last = self.pool[-3:]
        loss = sum((ops.mean(ops.square(ops.tanh(v))) for v in last), ops.cast(0.0, self.dtype))
        outputs = {f"v{i}": v for i, v in enumerate(last)}
        wanted = [*self.parameters, self.inputs[0]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            grads = sg.grad(loss, wanted)
        outputs["loss"] = loss
        outputs["dx"] = grads[-1]
        updates = {p: p - 0.5 * g for p, g in zip(self.parameters, grads)}
        return Case(self.seed, self.inputs, outputs, updates, self.env, self.dims)


def sizes_of(e: Expr) -> int:
    total = 1
    for s in e.shape:
        total *= sizes.maximum(s)
    return total


# -- the four ways ---------------------------------------------------------------------------------


def expected(case: Case) -> dict[str, np.ndarray]:
    """What the graph interpreter says, for outputs and updated parameters."""
    names = [*case.outputs, *(p.name for p in case.updates)]
    values = evaluate([*case.outputs.values(), *case.updates.values()], case.env, case.dims)
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
        held[name][:] = layout.pack(case.env[p].astype(p.dtype), lanes).reshape(-1)
    return held


def results(case: Case, planned: Schedule, held: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs and updated parameters as plain arrays."""
    found = {}
    for name, e in case.outputs.items():
        shape = [sizes.value(s, case.dims) for s in e.shape]
        found[name] = held[planned.outputs[name]][: int(np.prod(shape))].reshape(shape)
    for p in case.updates:
        name, layout = planned.states[p]
        found[p.name] = layout.unpack(held[name], p.shape, planned.program.lanes)
    return found


def compare(case: Case, wanted: dict[str, np.ndarray], got: dict[str, np.ndarray], way: str) -> None:
    """Values agree within what the operation counts allow."""
    for name, a in wanted.items():
        b = got[name]
        tolerance = 1e-9 if a.dtype == np.float64 else 2e-3
        scale = max(1.0, float(np.max(np.abs(a), initial=0)))
        if a.shape != b.shape or not np.allclose(a, b, rtol=tolerance, atol=tolerance * scale):
            raise AssertionError(f"seed {case.seed}, {way}: {name} differs\n{a}\n{b}")


def check(seed: int, targets: Sequence[str] = ("native",), loops: bool = True) -> None:
    """One random graph, every way."""
    case = Generator(seed).case()
    wanted = expected(case)
    leaves = [*case.inputs]
    for name in targets:
        target = Target.named(name)
        planned = schedule(leaves, case.outputs, case.updates, target=target)
        plan = memory.plan(planned.program)
        if loops and name == targets[0]:
            for way, arena in (("loops", None), ("arena", plan)):
                held = buffers(case, planned)
                loop_interpreter.run(planned.program, held, case.dims, plan=arena)
                compare(case, wanted, results(case, planned, held), way)
        held = run_native(planned.program, buffers(case, planned), case.dims, target)
        compare(case, wanted, results(case, planned, held), name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-loops", action="store_true", help="skip the loop interpreter")
    parser.add_argument("--targets", nargs="*", default=["native"])
    args = parser.parse_args()
    failed = []
    for seed in range(args.seed, args.seed + args.count):
        try:
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
