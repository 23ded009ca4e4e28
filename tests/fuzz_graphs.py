"""Graphs at random, with values for their leaves and their gradients: what tests/fuzzing.py runs.

In: a seed. Out: a `Case`. `Generator` makes networks of dense layers over rows; `Wide` makes
everything else that the op table, the layouts and the updates allow. A seed gives the same case
forever: to try something new, add to `Wide` under a new range of seeds (see `case`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import symgrad as sg
from symgrad import ops, sizes
from symgrad.errors import ShapeError
from symgrad.node import Expr, Input, Parameter, State

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
    rewritten: bool = False  # also through the rewriting, before it is scheduled
    tolerance: float = 0.0  # of kernels: a relative error

    @property
    def dtypes(self) -> set[str]:
        """Of the leaves."""
        return {leaf.dtype for leaf in self.env}


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
        w = Parameter(f"w{len(self.env)}", shape, dtype=self.dtype)
        self.env[w] = self.rng.standard_normal(shape) / max([1, *shape[:1]]) ** 0.5
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


# -- everything else -------------------------------------------------------------------------------

SMOOTH = (
    "exp", "tanh", "sin", "sigmoid", "square", "softplus", "cos", "erf", "relu", "abs", "gelu",
    "silu", "elu", "log1p_abs", "expm1", "atan", "softsign", "leaky_relu", "reciprocal", "mish",
)  # fmt: skip
BATCHES = (1, 2, 7, 15, 16, 17, 21, 31, 32, 33, 40)
WIDTHS = (1, 1, 2, 3, 5, 8, 16, 17)
NARROW = (1, 2, 3, 4, 7, 8)


class Wide(Generator):
    """Attention, embeddings, normalisations, index arithmetic, comparisons, optimizers, states."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.actual = int(self.pick(BATCHES))
        dynamic = self.rng.random() < 0.6
        self.rows = sizes.dim("batch", 40) if dynamic else self.actual
        self.dims = {"batch": self.actual} if dynamic else {}
        self.integers: list[Expr] = []  # of any shape, values in 0..2
        self.exact: list[Expr] = []  # the same bits in every way: what may be compared

    # -- leaves
    def leaf(self, shape: tuple[sizes.Size, ...]) -> Expr:
        x = super().leaf(shape)
        self.exact.append(x)
        return x

    def labels(self, classes: int, shape: tuple[sizes.Size, ...] | None = None) -> Expr:
        shape = (self.rows,) if shape is None else shape
        y = Input(f"y{len(self.inputs)}", shape, self.pick(["int32", "int64"]))
        size = [sizes.value(s, self.dims) for s in shape]
        self.env[y] = self.rng.integers(0, classes, size)
        self.inputs.append(y)
        if classes <= 3:
            self.integers.append(y)
        return y

    def state(self, shape: tuple[int, ...], value: Any = None, dtype: str | None = None) -> State:
        s = State(f"s{len(self.env)}", shape, dtype=dtype or self.dtype)
        self.env[s] = self.rng.standard_normal(shape) if value is None else np.full(shape, value)
        return s

    def table(self, shape: tuple[int, ...]) -> Expr:
        """A weight, sometimes handed in at each call."""
        w = self.weight(shape)
        if self.rng.random() < 0.1:
            self.inputs.append(self.parameters.pop())
        return w

    # -- growth
    def grow(self, pool: list[Expr]) -> Expr:
        x = self.pick(pool)
        choices = [self.smooth, self.binary, self.compared, self.reduced, self.several]
        if x.ndim:
            choices += [self.scaled, self.normalised, self.shaped, self.joined, self.product]
            choices += [self.looked_up, self.positioned, self.noisy]
        if x.ndim >= 2:
            choices += [self.linear, self.linear, self.softmax, self.attention, self.attention]
            choices += [self.linear, self.square_of, self.rows_picked, self.mixed_axes]
        y = self.pick(choices)(x)
        return y if y.dtype == self.dtype else ops.cast(y, self.dtype)

    def smooth(self, x: Expr) -> Expr:
        name = self.pick(SMOOTH)
        if name == "log1p_abs":
            return ops.log1p(ops.abs(x))
        if name == "reciprocal":
            return 1 / (1 + ops.square(x))
        return getattr(ops, name)(ops.tanh(x) if name in ("exp", "expm1") else x)

    def compared(self, x: Expr) -> Expr:
        """Choices by comparing numbers that are equal bit for bit in every way of running."""
        kind = int(self.rng.integers(4))
        fit = [e for e in self.exact if e.shape == x.shape]
        if kind == 0 or not fit:
            return ops.clip(x, -0.5, self.pick([0.75, 2.0]))
        e = self.pick(fit)
        if kind == 1:
            return ops.where(e > 0.25, x, ops.tanh(x))
        if kind == 2:
            chosen = ops.logical_and(e < 1.0, ops.logical_not(e < -0.5))
            return ops.where(ops.logical_or(chosen, e > 1.5), x * 2.0, 0.0)
        return ops.cast(e >= 0.0, self.dtype) * x

    def several(self, x: Expr) -> Expr:
        """A reduction over more than one axis, or with a law of its own."""
        kind = int(self.rng.integers(5))
        t = ops.tanh(x)
        if kind == 0 and x.ndim >= 2:
            return ops.mean(t, axis=(0, x.ndim - 1), keepdims=bool(self.rng.integers(2)))
        if kind == 1 and x.ndim and isinstance(x.shape[-1], int):
            return ops.prod(1 + 0.25 * t, axis=-1)
        if kind == 2 and x.ndim:
            return ops.norm(x, axis=int(self.rng.integers(x.ndim)))
        if kind == 3:
            return ops.var(t) * 0.5
        return ops.sum(t, axis=tuple(range(x.ndim - 1))) if x.ndim else x * 0.5

    def normalised(self, x: Expr) -> Expr:
        """Layer norm, batch norm, over both axes."""
        axis = self.pick([-1, 0, tuple(range(x.ndim))])
        mean = ops.mean(x, axis=axis, keepdims=True)
        y = (x - mean) / ops.sqrt(ops.var(x, axis=axis, keepdims=True) + 0.1)
        return self.scaled(y)

    def product(self, x: Expr) -> Expr:
        """A contraction with little reuse: of vectors, by element, over all axes."""
        kind = int(self.rng.integers(4))
        other = [p for p in self.pool if p.shape == x.shape]
        y = ops.tanh(self.pick(other))
        letters = "abcd"[: x.ndim]
        if kind == 0:
            return ops.einsum(f"{letters},{letters}->{letters[:-1]}", x, y) * 0.25
        if kind == 1:
            return ops.einsum(f"{letters},{letters}->{letters[-1]}", x, y) * 0.1
        if kind == 2:
            return ops.einsum(f"{letters},{letters}->", x, y) * 0.05
        return ops.tanh(x) * ops.sum(y, axis=-1, keepdims=True)

    def attention(self, x: Expr) -> Expr:
        """Products of activations with activations, batched over the rows."""
        if not all(isinstance(s, int) for s in x.shape[1:]):
            return ops.tanh(x)
        if x.ndim == 2 and x.shape[0] == self.rows:
            width = int(self.pick(NARROW))
            steps = int(self.pick(NARROW))
            x = ops.reshape(x @ self.table((x.shape[1], steps * width)), (self.rows, steps, width))
        if x.ndim == 3:
            size = x.shape[-1]
            q, k = x @ self.table((size, 4)), x @ self.table((size, 4))
            scores = ops.einsum("bic,bjc->bij", q, k) * 0.5
            return ops.einsum("bij,bjc->bic", self.softmax(scores), x)
        if x.ndim == 4:
            y = ops.tanh(x)
            scores = ops.einsum("bhid,bhjd->bhij", y, x) * 0.3
            return ops.einsum("bhij,bhjd->bhid", self.softmax(scores), y)
        return x * 0.5

    def mixed_axes(self, x: Expr) -> Expr:
        """Heads: an axis cut in two and moved, a product, and back."""
        if x.ndim != 3 or not all(isinstance(s, int) for s in x.shape[1:]):
            return ops.moveaxis(x, 0, x.ndim - 1) if sizes_of(x) < 4000 else x + 0.5
        b, t, c = x.shape
        heads = 2 if c % 2 == 0 else 1
        y = ops.transpose(ops.reshape(x, (b, t, heads, c // heads)), (0, 2, 1, 3))
        if self.rng.integers(2):
            return y
        y = self.attention(y)
        return ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (b, t, c))

    def square_of(self, x: Expr) -> Expr:
        """Rows with rows, or columns with columns."""
        if x.ndim == 2 and isinstance(x.shape[0], int) and self.rng.integers(2):
            return ops.einsum("ac,bc->ab", ops.tanh(x), x) * 0.2
        if not isinstance(x.shape[-1], int):  # a matrix of run-time by run-time size has no size
            return ops.sum(ops.tanh(x), axis=-2)
        return ops.einsum("...rc,...rd->...cd", ops.tanh(x), x) * 0.1

    def looked_up(self, x: Expr) -> Expr:
        """Rows of a table, picked by labels of shape (batch,) or (batch, T)."""
        words = int(self.pick([1, 3, 11]))
        width = int(self.pick(WIDTHS))
        if self.rng.integers(2):
            return ops.take(self.table((words, width)), self.labels(words), axis=0)
        steps = int(self.pick(NARROW))
        found = self.labels(words, (self.rows, steps))
        return ops.take(self.table((words, width)), found, axis=0)

    def rows_picked(self, x: Expr) -> Expr:
        """Rows or columns of a value, picked by data."""
        if self.rng.integers(2):
            size = sizes.value(x.shape[0], self.dims)
            return ops.take(x, self.labels(size, (int(self.pick(NARROW)),)), axis=0)
        if x.ndim == 2 and isinstance(x.shape[1], int) and x.shape[0] == self.rows:
            best = self.labels(x.shape[1], (self.rows, int(self.pick(NARROW))))
            return ops.take_along_axis(x, best, axis=1)
        return ops.flip(x, axis=0) if isinstance(x.shape[0], int) else ops.cumsum(x, axis=0) * 0.1

    def positioned(self, x: Expr) -> Expr:
        """Positions of extremes, as numbers or as one-hot rows."""
        fit = [e for e in self.exact if e.ndim == 2 and isinstance(e.shape[1], int)]
        if not fit:
            return x * 0.5
        e = self.pick(fit)
        where = ops.argmax(e, axis=1) if self.rng.integers(2) else ops.argmin(e, axis=-1)
        if self.rng.integers(2):
            return ops.one_hot(where, e.shape[1], dtype=self.dtype)
        return ops.cast(where, self.dtype) * 0.1

    def noisy(self, x: Expr) -> Expr:
        """Dropout, or noise."""
        number = len(self.pool)
        if self.rng.integers(2):
            keep = ops.random.uniform(x.shape, dtype=self.dtype, stream=number) < 0.75
            return ops.where(keep, x / 0.75, 0.0)
        return x + 0.1 * ops.random.normal(x.shape, dtype=self.dtype, stream=number)

    def joined(self, x: Expr) -> Expr:
        """Concatenations, stacks and splits of axes of known size."""
        kind = int(self.rng.integers(6))
        axes = [i for i, s in enumerate(x.shape) if isinstance(s, int)]
        if not axes:
            return ops.tanh(x)
        axis = self.pick(axes)
        if kind == 0:
            return ops.concatenate([x, ops.tanh(x)], axis=axis)
        if kind == 1 and x.ndim <= 3:
            return ops.stack([x, 0.5 * x, ops.sin(x)], axis=int(self.rng.integers(x.ndim + 1)))
        if kind == 2 and x.shape[axis] % 2 == 0:
            a, b = ops.split(x, 2, axis=axis)
            return a * ops.tanh(b)
        if kind == 3:
            return ops.roll(x, 1, axis=axis)
        if kind == 4:
            return ops.repeat(x, 2, axis=axis)
        step = [slice(None)] * x.ndim
        step[axis] = slice(None, None, 2)
        return x[tuple(step)]

    def shaped(self, x: Expr) -> Expr:
        kind = int(self.rng.integers(5))
        if kind == 0 and x.ndim == 2 and x.shape[0] == self.rows and isinstance(x.shape[1], int):
            return ops.tril(x[: x.shape[0]], -1) if isinstance(x.shape[0], int) else x[:, None, :]
        if kind == 1 and x.ndim >= 3:
            return ops.reshape(x, (x.shape[0], -1))
        if kind == 2 and 1 in x.shape:
            return ops.squeeze(x, x.shape.index(1))
        if kind == 3 and x.ndim <= 2:
            return ops.expand_dims(x, int(self.rng.integers(x.ndim + 1)))
        return super().shaped(x)

    # -- what is asked for
    def updates_of(self, parameters: Sequence[Parameter], grads: Sequence[Expr]) -> dict[Any, Expr]:
        """One optimizer for all: SGD, momentum, Adam; with an average of the weights beside it."""
        rule = self.pick(["sgd", "momentum", "nesterov", "adam", "decay"])
        new: dict[Any, Expr] = {}
        lr: Expr | float = 0.1
        if self.rng.integers(2):
            lr = Input("lr", (), self.dtype)
            self.inputs.append(lr)
            self.env[lr] = np.array(0.05)
        count = self.state((), 2.0)
        for p, g in zip(parameters, grads):
            if rule in ("momentum", "nesterov"):
                m = self.state(p.shape)
                new[m] = 0.9 * m + g
                new[p] = p - lr * (g + 0.9 * new[m] if rule == "nesterov" else new[m])
            elif rule == "adam":
                m, v = self.state(p.shape), self.state(p.shape, 0.5)
                new[m], new[v] = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * ops.square(g)
                step = (new[m] / (1 - 0.9 ** (count + 1))) / (ops.sqrt(new[v]) + 1e-3)
                new[p] = p - lr * step
            elif rule == "decay":
                norm = ops.sqrt(ops.sum(ops.square(g)) + 1.0)
                new[p] = (1 - 0.01 * lr) * p - lr * g / norm
            else:
                new[p] = p - lr * g
        if rule == "adam":
            new[count] = count + 1
        if parameters and self.rng.integers(2):
            p = self.pick(parameters)
            average = self.state(p.shape)
            new[average] = 0.75 * average + 0.25 * new[p]
        if self.rng.random() < 0.3:
            shape = (int(self.pick(WIDTHS)),)
            a, b, c = self.state(shape), self.state(shape), self.state(shape)
            new[a], new[b], new[c] = b, self.pick([a, c]), self.pick([a + b, a, ops.tanh(c)])
        return new

    def extra_outputs(self) -> dict[str, Expr]:
        """Outputs that are leaves, views, duplicates, numbers of another type."""
        value = self.pick(self.pool)
        found: dict[str, Expr] = {
            "leaf": self.pick(self.inputs),
            "again": value,
            "view": ops.transpose(value),
            "half": ops.cast(value, "float32"),
            "count": ops.sum(ops.cast(self.pick(self.exact) > 0.0, "int32")),
            "flags": self.pick(self.exact) <= 0.5,
            "range": ops.arange(5),
        }
        if self.integers:
            y = self.pick(self.integers)
            found["whole"] = y * 3 - 1
            found["most"] = ops.max(y)
            found["steps"] = ops.cumsum(y, axis=0)
            found["class"] = ops.cast(ops.one_hot(y, 3), "int64")
        if self.parameters:
            found["weight"] = self.pick(self.parameters)
        return {k: v for k, v in found.items() if self.rng.random() < 0.25}

    def case(self) -> Case:
        if self.rng.random() < 0.05:  # numbers only
            self.pool = [self.leaf(()), self.table(())]
        else:
            width = int(self.pick(WIDTHS))
            self.pool = [self.leaf((self.rows, width))]
            others: list[tuple[sizes.Size, ...]] = [
                (self.rows,), (self.rows, 1), (self.rows, width), (), (5, 6), (1, 3), (1,),
                (self.rows, int(self.pick(NARROW)), int(self.pick(NARROW))), (3, self.rows),
            ]  # fmt: skip
            for _ in range(int(self.rng.integers(1, 3))):
                self.pool.append(self.leaf(self.pick(others)))
            if self.rng.random() < 0.2:
                self.labels(3)
        for _ in range(int(self.rng.integers(2, 11))):
            new = self.grow(self.pool)
            if new.ndim <= 4 and sizes_of(new) < 40_000:
                self.pool.append(new)
        return self.finished()

    def number(self, x: Expr) -> Expr:
        return ops.mean(x)

    def finished(self) -> Case:
        """Outputs, gradients and updates of what has grown."""
        last = self.pool[-3:]
        loss = sum((self.number(ops.square(ops.tanh(v))) for v in last), ops.cast(0.0, self.dtype))
        floats = [x for x in self.inputs if x.dtype == self.dtype][:2]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            grads = sg.grad(loss, [*self.parameters, *floats])
        outputs: dict[str, Expr] = {f"v{i}": v for i, v in enumerate(last)}
        outputs["loss"] = loss
        outputs.update((f"d_{x.name}", g) for x, g in zip(floats, grads[len(self.parameters) :]))
        outputs.update(self.extra_outputs())
        updates = self.updates_of(self.parameters, grads)
        rewritten = bool(self.rng.integers(2))
        return Case(self.seed, self.inputs, outputs, updates, self.env, self.dims, rewritten)


class Large(Wide):
    """Networks of sizes at which tiles, panels and fused updates are many: dense layers, mostly."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.actual = int(self.pick((1, 3, 16, 64, 100, 128, 130)))
        dynamic = self.rng.random() < 0.6
        self.rows = sizes.dim("batch", 130) if dynamic else self.actual
        self.dims = {"batch": self.actual} if dynamic else {}

    def grow(self, pool: list[Expr]) -> Expr:
        x = self.pick(pool[-2:])
        choices = [self.smooth, self.binary, self.linear, self.linear, self.linear]
        if x.ndim == 2:
            choices += [self.softmax, self.normalised, self.scaled, self.picked, self.square_of]
        return self.pick(choices)(x)

    def linear(self, x: Expr) -> Expr:
        if x.ndim != 2 or not isinstance(x.shape[-1], int):
            return ops.tanh(x)
        out = int(self.pick((1, 3, 7, 10, 31, 64, 100, 128, 200, 257, 300, 513)))
        return x @ self.weight((x.shape[-1], out)) + self.weight((out,))

    def case(self) -> Case:
        width = int(self.pick((1, 5, 20, 64, 100, 257, 513, 784)))
        self.pool = [self.leaf((self.rows, width))]
        for _ in range(int(self.rng.integers(2, 6))):
            new = self.grow(self.pool)
            if sizes_of(new) < 100_000:
                self.pool.append(new)
        return self.finished()


class Odd(Wide):
    """What is left: two run-time sizes, empty axes, integers and bools, tied weights, diagonals."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.time: sizes.Size = int(self.pick((1, 3, 8)))
        if self.dims and self.rng.random() < 0.5:
            self.dims["time"] = self.time
            self.time = sizes.dim("time", 8)

    def grow(self, pool: list[Expr]) -> Expr:
        x = self.pick(pool)
        choices = [self.smooth, self.binary, self.reduced, self.compared, self.counted, self.tied]
        if x.ndim:
            choices += [self.scaled, self.shaped, self.joined, self.integral, self.normalised]
            choices += [self.edges, self.edges, self.running]
        if x.ndim >= 2:
            choices += [self.linear, self.softmax, self.several_products, self.diagonals]
        y = self.pick(choices)(x)
        return y if y.dtype == self.dtype else ops.cast(y, self.dtype)

    def number(self, x: Expr) -> Expr:
        return ops.sum(x) * 0.01  # there is no mean of nothing, or of two run-time sizes

    def integral(self, x: Expr) -> Expr:
        """Whole numbers, from labels of any shape."""
        y = self.labels(7, tuple(x.shape))
        kind = int(self.rng.integers(6))
        if kind == 0:
            return x * ops.cast(ops.mod(y, 3) - ops.floor_divide(y, 2), self.dtype)
        if kind == 1:
            return ops.where(ops.not_equal(ops.mod(y - 4, 3), 1), x, -x)
        if kind == 2:
            return ops.cast(ops.sum(y * y, axis=-1), self.dtype) * 0.01
        if kind == 3:
            return ops.cast(ops.argmax(y, axis=0), self.dtype) * 0.1
        if kind == 4:
            return ops.cast(ops.minimum(ops.cumsum(y, axis=-1), 9), self.dtype) * x * 0.1
        return ops.cast(ops.max(y, axis=-1) - ops.min(y, axis=-1), self.dtype)

    def counted(self, x: Expr) -> Expr:
        """Any, all, and how many."""
        e = self.pick(self.exact)
        axis = int(self.rng.integers(e.ndim)) if e.ndim else None
        law = self.pick([ops.any, ops.all])
        mask = law(e > self.pick([-0.5, 1.0]), axis=axis)
        if mask.shape == x.shape:
            return ops.where(mask, x, 0.5 * x)
        return ops.cast(mask, self.dtype)

    def tied(self, x: Expr) -> Expr:
        """A table that rows are picked from and multiplied with."""
        table = self.weight((5, int(self.pick((2, 4, 16)))))
        found = ops.take(table, self.labels(5), axis=0)
        return found @ table.T

    def running(self, x: Expr) -> Expr:
        axis = int(self.rng.integers(x.ndim))
        return ops.cumsum(ops.tanh(x), axis=axis) * 0.1

    def edges(self, x: Expr) -> Expr:
        """Views at and behind the edges of an array."""
        kind = int(self.rng.integers(6))
        axes = [i for i, s in enumerate(x.shape) if isinstance(s, int)]
        if not axes:
            return ops.sin(x)
        axis = self.pick(axes)
        size = int(x.shape[axis])  # type: ignore[call-overload]
        cut: list[Any] = [slice(None)] * x.ndim
        if kind == 0 and size:
            cut[axis] = size - 1
            return x[tuple(cut)]
        if kind == 1:
            cut[axis] = slice(size, None)  # nothing is left
            return x + ops.sum(x[tuple(cut)])
        if kind == 2:
            width = [(0, 0)] * x.ndim
            width[axis] = (2, 1)
            return ops.pad(x, width, constant_values=0.5)
        if kind == 3:
            cut[axis] = slice(None, None, -2)
            return ops.tanh(x[tuple(cut)])
        if kind == 4 and size <= 4:
            reps = [1] * x.ndim
            reps[axis] = 3
            return ops.tile(x, reps)
        return ops.flip(ops.roll(x, 2, axis=axis), axis=axis)

    def several_products(self, x: Expr) -> Expr:
        """Three operands, repeated labels, products without sums."""
        kind = int(self.rng.integers(5))
        last = x.shape[-1]
        if not isinstance(last, int):
            return ops.sum(x, axis=-1)
        if kind == 0:
            return ops.einsum("...i,ij,jk->...k", x, self.weight((last, 3)), self.weight((3, 7)))
        if kind == 1:
            return ops.einsum("...i,i,i->...", x, self.weight((last,)), self.weight((last,)))
        if kind == 2:
            return ops.einsum("...i,ii->...i", x, self.weight((last, last)))
        if kind == 3:
            return ops.einsum("...i,j->...ji", x, self.weight((3,)))
        return ops.einsum("...i,...i->...", x, ops.tanh(x)) * 0.2

    def diagonals(self, x: Expr) -> Expr:
        a, b = x.shape[-2:]
        if x.ndim == 2 and isinstance(a, int) and isinstance(b, int):
            found = self.pick([ops.diagonal, ops.trace, ops.tril, ops.triu])(x)
            return ops.diag(found) if found.ndim == 1 and self.rng.integers(2) else found
        return ops.swapaxes(x, x.ndim - 1, x.ndim - 2) * 0.5

    def case(self) -> Case:
        width = int(self.pick(WIDTHS))
        self.pool = [self.leaf((self.rows, width))]
        others: list[tuple[sizes.Size, ...]] = [
            (self.rows, self.time, 3), (self.rows, self.time), (self.time, 4), (4, 4), (0, 3),
            (2, 0), (self.time,), (3,),
        ]  # fmt: skip
        for _ in range(2):
            self.pool.append(self.leaf(self.pick(others)))
        for _ in range(int(self.rng.integers(2, 9))):
            try:
                new = self.grow(self.pool)
            except ShapeError as error:  # a limit of run-time sizes, and of empty axes, not a fault
                assert "run-time" in str(error) or "empty" in str(error), error
                continue
            if new.ndim <= 4 and sizes_of(new) < 40_000:
                self.pool.append(new)
        return self.finished()


# The first seeds of the other generators.
WIDE_FROM, LARGE_FROM, ODD_FROM, IMAGES_FROM = 10_000, 20_000, 30_000, 40_000
SCANS_FROM = 50_000


def case_of(seed: int) -> Case:
    if seed >= SCANS_FROM:
        from fuzz_scan import Scans

        return Scans(seed).case()
    if seed >= IMAGES_FROM:
        from fuzz_images import Images  # which builds on this file

        return Images(seed).case()
    if seed >= ODD_FROM:
        return Odd(seed).case()
    if seed >= LARGE_FROM:
        return Large(seed).case()
    return (Generator if seed < WIDE_FROM else Wide)(seed).case()
