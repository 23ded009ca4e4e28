"""The graph interpreter: every node by its definition, in NumPy.

In: outputs and an array for each leaf. Out: one array for each output. It is what rewriting,
scheduling and native code are compared with, so it is plain rather than fast; sums of float32 are
carried in float64 and rounded once.

>>> from symgrad.node import Input
>>> x = Input("x", (2,))
>>> evaluate([x * 2 + 1], {x: [1.0, 2.0]})
[array([3., 5.], dtype=float32)]
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

from symgrad import philox, scalar, sizes, source
from symgrad.errors import GraphError, InputError
from symgrad.loop import Loop, body, captured, operands_first, results
from symgrad.node import (
    Constant,
    Contract,
    Custom,
    Expr,
    Gather,
    Input,
    Iota,
    Map,
    Parameter,
    Random,
    Reduce,
    Reindex,
    Reshape,
    Scan,
    ScatterAdd,
    SizeOf,
    Slot,
    toposort,
)
from symgrad.sizes import Dim, Shape, show

Array = np.ndarray[Any, Any]


def evaluate(
    outputs: Sequence[Expr],
    env: Mapping[Expr, Any],
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    step: int = 0,
) -> list[Array]:
    """The values of the outputs. Run-time sizes are taken from the shapes of the arrays in `env`
    unless `dims` gives them; random numbers are those of (seed, step)."""
    arrays = {leaf: np.asarray(value).astype(leaf.dtype) for leaf, value in env.items()}
    known = _sizes(arrays) if dims is None else dict(dims)
    run = _Run(arrays, known, seed, step)
    run.loops = results(toposort(outputs))
    with np.errstate(all="ignore"):
        return [run.value(e) for e in outputs]


def _sizes(arrays: Mapping[Expr, Array]) -> dict[str, int]:
    """The run-time sizes that the arrays agree about."""
    found: dict[str, int] = {}
    for leaf, array in arrays.items():
        if len(leaf.shape) != array.ndim:
            raise InputError(f"{leaf.name}: shape {array.shape}, expected {show(leaf.shape)}")
        for size, actual in zip(leaf.shape, array.shape):
            if isinstance(size, Dim):
                value, rest = divmod(actual, size.factor)
                if rest or found.setdefault(size.name, value) != value:
                    raise InputError(
                        f"{leaf.name}: shape {array.shape} does not fit {show(leaf.shape)} with "
                        f"{size.name}={found.get(size.name, value)}"
                    )
    return found


class _Run:
    """One evaluation: the values so far, and the results wanted of every loop."""

    loops: dict[Loop, list[Scan]]

    def __init__(
        self, arrays: Mapping[Expr, Array], dims: dict[str, int], seed: int, step: int
    ) -> None:
        self.values: MutableMapping[Expr, Array] = {}
        self.arrays, self.dims, self.seed, self.step = arrays, dims, seed, step

    def shape(self, shape: Shape) -> tuple[int, ...]:
        return tuple(sizes.value(s, self.dims) for s in shape)

    def value(self, root: Expr) -> Array:
        for e in operands_first([root], self._operands):
            self.compute(e)
        return self.values[root]

    def compute(self, e: Expr) -> None:
        """The value of a node whose operands have theirs."""
        if e in self.values:
            return
        if isinstance(e, Scan):
            self.repeat(self.loops[e.loop])
            return
        args = [self.values[a] for a in e.args]
        result = np.asarray(self.node(e, args))
        self.values[e] = self._checked(e, result.astype(e.dtype, copy=False))

    def _operands(self, e: Expr) -> Sequence[Expr]:
        """What a node needs at this level; a loop all that any of its results needs."""
        if e in self.values:
            return ()
        if isinstance(e, Scan):
            return [*e.sequences, *e.initials, *captured(self.loops[e.loop])]
        return e.args

    def repeat(self, found: list[Scan]) -> None:
        """All results of a loop at once."""
        loop, run = found[0].loop, body(found)
        count = sizes.value(loop.length, self.dims)
        sequences = [self.values[s] for s in loop.sequences]
        carries = [self.values[i] for i in loop.initials]
        stacks = {n: np.zeros(self.shape(n.shape), n.dtype) for n in found if n.position is None}
        outside = self.values
        for t in range(count)[:: -1 if loop.reverse else 1]:
            self.values = ChainMap({}, outside)  # type: ignore[arg-type]
            self.values.update(zip(loop.slots, [*(s[t] for s in sequences), *carries]))
            for e in run:
                self.compute(e)
            carries = [self.values[e] for e in loop.news]
            for n, stack in stacks.items():
                assert n.output is not None
                stack[t] = self.values[n.output]
        self.values = outside
        for n in found:
            self.values[n] = stacks[n] if n.position is None else carries[n.position]

    def _checked(self, e: Expr, result: Array) -> Array:
        expected = self.shape(e.shape)
        if result.shape != expected:
            raise InputError(
                f"{e.name}: shape {result.shape}, expected {expected}" + source.quote(e.where)
            )
        return result

    def node(self, e: Expr, args: list[Array]) -> Any:
        """The value of one node."""
        if e in self.arrays:
            return self.arrays[e]
        if isinstance(e, (Input, Parameter)):
            raise InputError(f"no value is given for {e.kind} {e.name!r}")
        if isinstance(e, Slot):
            raise GraphError(
                f"{e.name!r} is used outside of the scan whose body it belongs to"
                + source.quote(e.where)
            )
        if isinstance(e, Constant):
            return e.value
        if isinstance(e, SizeOf):
            return sizes.value(e.of_size, self.dims)
        if isinstance(e, Iota):
            return np.arange(*self.shape(e.shape), dtype=e.dtype)
        if isinstance(e, Random):
            shape = self.shape(e.shape)
            return philox.draw(e.law, shape, e.dtype, e.stream, self.seed, self.step)
        if isinstance(e, Map):
            return self.map(e, args)
        if isinstance(e, Contract):
            return contract(e, args, self.shape(e.shape))
        if isinstance(e, Reduce):
            return reduce(e, args[0])
        if isinstance(e, Reindex):
            return reindex(e, args[0], self.shape(e.shape))
        if isinstance(e, Reshape):
            return args[0].reshape(self.shape(e.shape))
        if isinstance(e, Gather):
            return args[0][gather_index(e, e.axis, e.batch, args[0].shape, args[1])]
        if isinstance(e, ScatterAdd):
            return scatter(e, args[0], args[1], self.shape(e.shape))
        if isinstance(e, Custom):
            return args[0]
        raise NotImplementedError(f"the interpreter has no rule for {e.kind}")

    def map(self, e: Map, args: list[Array]) -> Any:
        op = scalar.OPS[e.op]
        if op.numpy is not None:
            return op.numpy(*args)
        with source.at(e.where):
            body = op.expand(*e.args)
        return self.value(body)


def contract(e: Contract, args: Sequence[Array], shape: tuple[int, ...]) -> Array:
    """Through einsum; axes that no operand has are repeated."""
    wide = {"float32": "float64", "bool": "int64", "int32": "int64"}
    operands: list[Any] = []
    for labels, arg in zip(e.ins, args):
        operands += [arg if e.dtype == "bool" else arg.astype(wide.get(arg.dtype.name, arg.dtype))]
        operands += [list(labels)]
    present = {k for labels in e.ins for k in labels}
    kept = [k for k in e.out if k in present]
    if len(args) == 1 and len(kept) == len(e.ins[0]):
        result = args[0].transpose([e.ins[0].index(k) for k in kept])
    else:
        result = np.einsum(*operands, kept, optimize=len(args) > 1)
    for axis, k in enumerate(e.out):
        if k not in present:
            result = np.expand_dims(result, axis)
    return np.broadcast_to(result, shape)


def reduce(e: Reduce, arg: Array) -> Any:
    if e.law == "max":
        return np.max(arg, axis=e.axes)
    if e.law == "min":
        return np.min(arg, axis=e.axes)
    if e.law == "prod":
        return np.prod(arg, axis=e.axes, dtype=arg.dtype)
    if e.law == "argmax":
        return np.argmax(arg, axis=e.axes[0])
    if e.law == "argmin":
        return np.argmin(arg, axis=e.axes[0])
    wide = np.float64 if arg.dtype == np.float32 else arg.dtype
    return np.cumsum(arg, axis=e.axes[0], dtype=wide)


def _along(values: Array, axis: int, ndim: int) -> Array:
    """A vector as an array that varies along one axis of ndim."""
    return values.reshape([-1 if i == axis else 1 for i in range(ndim)])


def reindex(e: Reindex, arg: Array, shape: tuple[int, ...]) -> Array:
    """The operand's index of every output element; the fill where there is none."""
    ndim = len(shape)
    valid: Any = np.True_
    index = []
    for (offset, terms, divisor), size in zip(e.maps, arg.shape):
        at: Any = np.full((1,) * ndim, offset)
        for axis, coef in terms:
            at = at + coef * _along(np.arange(shape[axis]), axis, ndim)
        valid = valid & (at % divisor == 0) & (at // divisor >= 0) & (at // divisor < size)
        index.append(np.clip(at // divisor, 0, max(size - 1, 0)))
    fill = np.asarray(e.fill).astype(arg.dtype)
    if arg.size == 0:
        return np.full(shape, fill)
    picked = arg[tuple(index)] if index else arg.reshape((1,) * ndim)
    return np.broadcast_to(np.where(valid, picked, fill), shape)


def gather_index(
    e: Expr, axis: int, batch: int, shape: tuple[int, ...], indices: Array
) -> tuple[Array, ...]:
    """For every axis of the operand, its index at each element of the result."""
    if indices.size and not (0 <= indices.min() and indices.max() < shape[axis]):
        raise InputError(
            f"index {indices.min() if indices.min() < 0 else indices.max()} is out of range for an "
            f"axis of size {shape[axis]}" + source.quote(e.where)
        )
    spread = indices.ndim - batch
    ndim = len(shape) - 1 + spread
    found = []
    for a, size in enumerate(shape):
        if a == axis:
            wide = (1,) * (axis - batch), (1,) * (ndim - axis - spread)
            found.append(
                indices.reshape(indices.shape[:batch] + wide[0] + indices.shape[batch:] + wide[1])
            )
        else:
            found.append(_along(np.arange(size), a if a < axis else a - 1 + spread, ndim))
    return tuple(found)


def scatter(e: ScatterAdd, values: Array, indices: Array, shape: tuple[int, ...]) -> Array:
    wide = np.float64 if values.dtype == np.float32 else values.dtype
    result = np.zeros(shape, wide)
    np.add.at(result, gather_index(e, e.axis, e.batch, shape, indices), values)
    return result
