"""What the user asks to compile, checked: inputs, named outputs, updates.

In: expressions in the form the user likes. Out: a `Graph`, and the `Form` that turns results back
into that form.

>>> graph, form = gather([x, W], {"loss": loss, "dW": g}, {})
>>> graph.parameters          # those that no input stands for: they come from the state
(<fc1.bias (10,) float32>,)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from symgrad import names, source
from symgrad.errors import DTypeError, GraphError, InputError, ShapeError
from symgrad.node import (
    Constant,
    Expr,
    Input,
    Parameter,
    Random,
    toposort,
)
from symgrad.sizes import Dim, show

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Graph:
    """Inputs of a call, named outputs, and the new value of every parameter that changes."""

    inputs: tuple[Expr, ...]
    outputs: Mapping[str, Expr]
    updates: Mapping[Parameter, Expr]

    @property
    def roots(self) -> list[Expr]:
        return [*self.outputs.values(), *self.updates.values()]

    @cached_property
    def nodes(self) -> list[Expr]:
        return toposort(self.roots)

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """Parameters and states that come from the store, in the order of creation."""
        given = set(map(id, self.inputs))
        found = {id(n): n for n in self.nodes if isinstance(n, Parameter)}
        found.update((id(p), p) for p in self.updates)
        return tuple(sorted((p for k, p in found.items() if k not in given), key=_order))

    @cached_property
    def dims(self) -> dict[str, Dim]:
        """The run-time sizes by name."""
        found: dict[str, Dim] = {}
        for node in [*self.inputs, *self.nodes]:
            sizes = (*node.shape, *(a for a in node.attrs if isinstance(a, Dim)))
            for size in sizes:
                if isinstance(size, Dim):
                    other = found.setdefault(size.name, size.base)
                    if other != size.base:
                        raise GraphError(
                            f"two run-time sizes are named {size.name!r}, with max {other.max} "
                            f"and {size.max}" + source.quote(node.where)
                        )
        return found

    @cached_property
    def is_random(self) -> bool:
        return any(isinstance(n, Random) for n in self.nodes)

    def map(self, rewrite: Callable[[list[Expr]], Sequence[Expr]]) -> Graph:
        """The same request with all of its expressions rewritten together."""
        new = rewrite(self.roots)
        outputs = dict(zip(self.outputs, new))
        updates = dict(zip(self.updates, new[len(outputs) :]))
        return Graph(self.inputs, outputs, updates)


def _order(leaf: Any) -> int:
    return leaf.order


# -- the form of a result ---------------------------------------------------------------------


@dataclass(frozen=True)
class Form:
    """How results are handed back: "one", "list" or "dict"; a `number` becomes a Python float."""

    kind: str
    names: tuple[str, ...]
    number: bool = False

    def build(self, results: Mapping[str, Array]) -> Any:
        values = [self._value(results[name]) for name in self.names]
        if self.kind == "one":
            return values[0]
        return values if self.kind == "list" else dict(zip(self.names, values))

    def _value(self, array: Array) -> Any:
        if array.ndim:
            return array
        return array.item() if self.number else array[()]


def named(outputs: Any) -> tuple[dict[str, Expr], Form]:
    """Outputs by name, and the form to give results in."""
    if isinstance(outputs, Mapping):
        for name in outputs:
            if not isinstance(name, str):
                raise InputError(f"outputs: a name must be a string, got {name!r}")
        pairs = dict(outputs)
        form = Form("dict", tuple(pairs))
    elif isinstance(outputs, (list, tuple)):
        pairs = {f"output{i}": e for i, e in enumerate(outputs)}
        form = Form("list", tuple(pairs))
    else:
        pairs, form = {"output": outputs}, Form("one", ("output",))
    return {name: expression(e, f"output {name!r}") for name, e in pairs.items()}, form


def expression(value: Any, what: str) -> Expr:
    """An expression, or a number or array as a constant."""
    if isinstance(value, Expr):
        return value
    if isinstance(value, (int, float, bool, np.ndarray, np.generic)):
        dtype = "float32" if isinstance(value, float) else None
        return Constant.of(value, dtype)
    raise InputError(f"{what}: expected an expression, got {type(value).__name__}")


# -- building and checking --------------------------------------------------------------------


def gather(inputs: Any, outputs: Any, updates: Any, taken: Iterable[str]) -> tuple[Graph, Form]:
    """The checked request behind `sg.function`; `taken` are the names of the state it shares."""
    results, form = named(outputs)
    graph = Graph(_inputs(inputs), results, checked_updates(updates or {}))
    settle(graph, taken)
    check(graph)
    return graph, form


def settle(graph: Graph, taken: Iterable[str]) -> None:
    """Give parameters without a name of their own one that nothing else has."""
    leaves = [leaf for leaf in graph.inputs if isinstance(leaf, Parameter)]
    others = [leaf.name for leaf in graph.inputs if isinstance(leaf, Input)]
    names.settle([*leaves, *graph.parameters], [*taken, *others])


def _inputs(inputs: Any) -> tuple[Expr, ...]:
    if isinstance(inputs, Expr):
        inputs = [inputs]
    if not isinstance(inputs, (list, tuple)):
        raise InputError(f"inputs: expected a list of inputs, got {type(inputs).__name__}")
    for leaf in inputs:
        if not isinstance(leaf, (Input, Parameter)):
            raise InputError(
                f"inputs: {leaf!r} is neither sg.input nor sg.parameter"
                + source.quote(source.here())
            )
    return tuple(inputs)


def checked_updates(updates: Mapping[Parameter, Any]) -> dict[Parameter, Expr]:
    """Updates whose new values fit what they replace."""
    checked: dict[Parameter, Expr] = {}
    for p, value in updates.items():
        if not isinstance(p, Parameter):
            raise InputError(
                f"updates: {p!r} is neither sg.parameter nor sg.state" + source.quote(source.here())
            )
        if not isinstance(value, Expr):
            value = Constant.of(value, p.dtype)
        if value.shape != p.shape:
            raise ShapeError(
                f"the update of {p.kind} {p.name!r} has shape {show(value.shape)}, the {p.kind} "
                f"{show(p.shape)}" + source.quote(value.where)
            )
        if value.dtype != p.dtype:
            raise DTypeError(
                f"the update of {p.kind} {p.name!r} is {value.dtype}, the {p.kind} {p.dtype}"
                + source.quote(value.where)
            )
        checked[p] = value
    return checked


def check(graph: Graph) -> None:
    """Raise GraphError for whatever could not be called or named later."""
    if not graph.outputs and not graph.updates:
        raise GraphError("nothing to compile: no output and no update")
    _unique_names(graph)
    _no_loose_slots(graph)
    given = set(map(id, graph.inputs))
    for leaf in graph.nodes:
        if isinstance(leaf, Input) and id(leaf) not in given:
            raise GraphError(
                f"the outputs depend on input {leaf.name!r}, which is not among the inputs "
                f"{[i.name for i in graph.inputs]}" + source.quote(leaf.where)
            )
    for p in graph.updates:
        if id(p) in given:
            raise GraphError(f"{p.kind} {p.name!r} is both an input and updated")
    sized = {s.name for i in graph.inputs for s in i.shape if isinstance(s, Dim)}
    for name in graph.dims:
        if name not in sized:
            raise GraphError(
                f"run-time size {name!r} is not the size of any input: its value would be unknown"
            )


def _no_loose_slots(graph: Graph) -> None:
    """A value of a loop's body has no value outside of the loop."""
    for p, value in graph.updates.items():
        for slot in sorted(value.free, key=_order):
            raise GraphError(
                f"the update of {p.kind} {p.name!r} depends on {slot.name!r}, a value inside of a "
                "scan: make what changes from step to step a carry (batch norm with training=True "
                "cannot move its running statistics in a body)" + source.quote(value.where)
            )
    for root in graph.roots:
        for slot in sorted(root.free, key=_order):
            raise GraphError(
                f"{root.name!r} depends on {slot.name!r}, a value inside of a scan: only what the "
                "body returns can be used outside of it" + source.quote(root.where)
            )


def _unique_names(graph: Graph) -> None:
    """Every name of a leaf means one leaf, so that calls, states and files are unambiguous."""
    seen: dict[str, Expr] = {}
    ids = [id(leaf) for leaf in graph.inputs]
    for leaf in graph.inputs:
        if ids.count(id(leaf)) > 1:
            raise GraphError(f"{leaf.kind} {leaf.name!r} is twice among the inputs")
    for leaf in [*graph.inputs, *graph.parameters]:
        other = seen.setdefault(leaf.name, leaf)
        if other is not leaf:
            same = leaf.kind == other.kind
            kinds = f"two {leaf.kind}s" if same else f"{other.kind} and {leaf.kind}"
            raise GraphError(
                f"{kinds} are named {leaf.name!r}: shapes {show(other.shape)} and "
                f"{show(leaf.shape)}; give each its own name"
                + source.quote(other.where)
                + source.quote(leaf.where)
            )
