"""Loops at random: the cases of tests/fuzz_graphs.py from seed 50000.

In: a seed. Out: a `Case` of one to three scans with random bodies: recurrent cells, bodies of
anything that `Wide` grows, loops in loops, in both directions, over fixed and run-time lengths,
with several carries, integer sequences and counters; their gradients, through both, and updates.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from fuzz_graphs import WIDTHS, Case, Wide, case_of, sizes_of

import symgrad as sg
from symgrad import ops, sizes
from symgrad.derive.algebra import zeros
from symgrad.errors import ShapeError
from symgrad.interpret import evaluate
from symgrad.loop import Scan, results
from symgrad.node import Expr, Input, toposort
from symgrad.rewrite.engine import substitute

LENGTHS = (1, 2, 3, 5, 6)
LARGEST = 3000  # elements of a value in a body


class Scans(Wide):
    """Grows values outside, runs loops over some, and goes on with what these give."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.actual = int(self.pick((1, 2, 7, 15, 16, 17, 21)))
        if isinstance(self.rows, sizes.Dim):
            self.rows, self.dims = sizes.dim("batch", 24), {"batch": self.actual}
        else:
            self.rows = self.actual
        self.steps = int(self.pick(LENGTHS))
        self.time: sizes.Size = self.steps
        if self.rng.random() < 0.4:
            self.time = sizes.dim("time", self.steps + int(self.rng.integers(4)))
            self.dims["time"] = self.steps
        self.depth = 0

    # -- what loops take
    def feature_shape(self) -> tuple[sizes.Size, ...]:
        kind = int(self.rng.integers(8))
        if kind == 0:
            return ()
        if kind == 1:
            return (int(self.pick(WIDTHS)),)
        if kind == 2:
            return (self.rows,)
        if kind == 3:
            return (self.rows, 2, 3)
        return (self.rows, int(self.pick(WIDTHS)))

    def sequence(self) -> Expr:
        """An input, or a value with the right leading axis that there is already."""
        fit = [v for v in self.pool if v.ndim and v.shape[0] == self.time and v.ndim <= 4]
        if fit and self.rng.random() < 0.6:
            return self.pick(fit)
        return self.leaf((self.time, *self.feature_shape()))

    def ids(self, classes: int) -> Expr:
        y = Input(f"y{len(self.inputs)}", (self.time, self.rows), "int32")
        self.env[y] = self.rng.integers(0, classes, (self.steps, self.actual))
        self.inputs.append(y)
        return y

    def fitted(self, v: Expr, shape: tuple[sizes.Size, ...]) -> Expr:
        """A bounded value of this shape that depends on v."""
        if v.shape == shape:
            return ops.tanh(v)
        if v.ndim == 2 and len(shape) == 2 and v.shape[0] == shape[0]:
            if isinstance(v.shape[1], int) and isinstance(shape[1], int):
                return ops.tanh(v @ self.weight((v.shape[1], shape[1])))
        return ops.broadcast_to(ops.tanh(ops.mean(v)), shape)

    # -- bodies
    def cell(self, carry: Expr, slices: list[Expr]) -> Expr:
        """A gated cell where the shapes allow it."""
        x = slices[0] if slices else carry
        width = carry.shape[-1] if carry.ndim else None
        if carry.ndim != 2 or not isinstance(width, int) or x.ndim != 2:
            return ops.tanh(carry * 0.9 + self.fitted(x, carry.shape))
        if x.shape[0] != carry.shape[0] or not isinstance(x.shape[1], int):
            return ops.tanh(carry * 0.9 + self.fitted(x, carry.shape))
        z = x @ self.weight((x.shape[1], 2 * width)) + carry @ self.weight((width, 2 * width))
        gate = ops.sigmoid(z[:, :width] + self.weight((width,)))
        return gate * carry + (1 - gate) * ops.tanh(z[:, width:])

    def grown(self, given: list[Expr]) -> list[Expr]:
        """Some values more, from what a step has and from outside."""
        outside = self.pool
        self.pool = [*given, *outside[:2]]
        for _ in range(int(self.rng.integers(1, 6))):
            try:
                new = self.grow(self.pool)
            except ShapeError as error:
                assert "run-time" in str(error) or "empty" in str(error), error
                continue
            if new.ndim <= 3 and sizes_of(new) < LARGEST:
                self.pool.append(new)
        found = self.pool
        self.pool = outside
        return found

    def step(self, carries: list[Expr], slices: list[Expr]) -> tuple[list[Expr], list[Expr]]:
        """New carries and outputs of one step."""
        floats = [e for e in slices if e.dtype == self.dtype]
        for ids in (e for e in slices if e.dtype == "int32"):
            floats.append(ops.take(self.table((4, int(self.pick(WIDTHS)))), ids, axis=0))
        states = [c for c in carries if c.dtype == self.dtype]
        values = self.grown([*states, *floats])
        if self.depth == 0 and self.rng.random() < 0.15:
            values.append(self.inner(values))
        news = []
        for c in carries:
            if c.dtype != self.dtype:
                news.append(c + 1)
            elif self.rng.random() < 0.5:
                news.append(self.cell(c, floats))
            else:
                news.append(0.5 * c + self.fitted(self.pick(values), c.shape))
        outputs = [self.pick(values), news[0] if news else self.pick(values)]
        return news, outputs[: int(self.rng.integers(1, 3))]

    def inner(self, values: list[Expr]) -> Expr:
        """A loop within the body, over an axis of a value or a few times."""
        self.depth += 1
        fit = [v for v in values if v.ndim and v.shape[0] in range(1, 6)]
        start = self.pick(values)

        def step(c: Expr, x: Any) -> tuple[Expr, Expr]:
            new = ops.tanh(c * 0.8 + (self.fitted(x, c.shape) if isinstance(x, Expr) else 0.1))
            return new, ops.sum(new)

        if fit:
            last, sums = sg.scan(step, start, self.pick(fit), reverse=bool(self.rng.integers(2)))
        else:
            last, sums = sg.scan(step, start, length=int(self.pick((1, 2, 4))))
        self.depth -= 1
        return last if self.rng.random() < 0.7 else last + ops.sum(sums)

    # -- loops
    def loop(self) -> list[Expr]:
        sequences: list[Expr] = [self.sequence() for _ in range(int(self.rng.integers(1, 3)))]
        if self.rng.random() < 0.25:
            sequences.append(self.ids(4))
        carries: list[Expr] = []
        for _ in range(int(self.rng.integers(0, 4))):
            shape = self.feature_shape()
            fit = [v for v in self.pool if v.shape == shape]
            known = all(isinstance(s, int) for s in shape)
            carries.append(
                self.pick(fit) if fit
                else zeros(shape, self.dtype) if known and self.rng.integers(2)
                else self.leaf(shape)
            )  # fmt: skip
        if self.rng.random() < 0.2:
            carries.append(sg.constant(0, "int32"))
        reverse = bool(self.rng.integers(2))
        finals, stacks = sg.scan(self.step, carries, sequences, reverse=reverse)
        return [ops.cast(v, self.dtype) for v in (*finals, *stacks)]

    def case(self) -> Case:
        self.pool = [self.leaf((self.rows, int(self.pick(WIDTHS)))), self.leaf(())]
        for _ in range(int(self.pick((1, 1, 2, 3)))):
            found = [v for v in self.loop() if v.ndim <= 4]
            self.pool += [self.pick(found) for _ in range(min(2, len(found)))]
            if self.rng.random() < 0.3:
                try:
                    new = self.grow(self.pool[-2:])
                except ShapeError as error:
                    assert "run-time" in str(error) or "empty" in str(error), error
                    continue
                if new.ndim <= 4 and sizes_of(new) < 40_000:
                    self.pool.append(new)
        return self.finished()


# -- without loops ---------------------------------------------------------------------------------
def unrolled(outputs: list[Expr]) -> list[Expr]:
    """The same values with every step of every loop written out; lengths must be fixed."""
    while True:
        scans = [n for n in toposort(outputs) if isinstance(n, Scan) and not n.free]
        if not scans:
            return outputs
        new: dict[Expr, Expr] = {}
        for found in results(scans).values():
            if any(isinstance(a, Scan) for a in toposort(found[0].sequences + found[0].initials)):
                continue  # once what it reads is written out
            new.update(zip(found, _steps(found)))
        outputs = substitute(outputs, new)


def _steps(found: list[Scan]) -> list[Expr]:
    loop = found[0].loop
    carries = list(loop.initials)
    stacks: list[list[Expr]] = [[] for _ in found]
    order = range(int(loop.length))  # type: ignore[arg-type]
    for t in order[::-1] if loop.reverse else order:
        given = dict(zip(loop.slots, [*(s[t] for s in loop.sequences), *carries]))
        wanted = [*loop.news, *(n.output for n in found if n.output is not None)]
        values = substitute(wanted, given)
        carries = values[: len(carries)]
        stacked = iter(values[len(carries) :])
        for n, stack in zip(found, stacks):
            if n.output is not None:
                stack.append(next(stacked))
    return [
        carries[n.position]
        if n.position is not None
        else sg.stack(stack[::-1] if loop.reverse else stack)
        for n, stack in zip(found, stacks)
    ]


def check_gradients(seed: int) -> None:
    """The gradients of a case, through its loops and through the steps written out."""
    case = case_of(seed)
    if "time" in case.dims:
        return
    leaves = [e for e in case.env if e.dtype in ("float32", "float64")]
    loss = case.outputs["loss"]
    (flat,) = unrolled([loss])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pairs = zip([loss, *sg.grad(loss, leaves)], [flat, *sg.grad(flat, leaves)])
        both = [*pairs, *zip(sg.hvp(loss, leaves, leaves), sg.hvp(flat, leaves, leaves))]
    found = evaluate([a for a, _ in both], case.env, case.dims)
    expected = evaluate([b for _, b in both], case.env, case.dims)
    tolerance = 1e-9 if "float32" not in case.dtypes else 1e-3
    for a, b in zip(found, expected):
        scale = max(1.0, float(np.abs(b).max(initial=0.0)))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale, err_msg=f"seed {seed}")
