"""A training step as a request: what to differentiate, and what to do with the gradients.

In: a loss, an optimizer. Out: a `Request`: a graph in which placeholders stand for gradients, and
what each placeholder stands for. Nothing is differentiated here, so that a start from the object
cache never differentiates at all.

>>> request = training(loss, sg.optim.SGD(0.1), {"accuracy": accuracy})
>>> request.gradients                    # placeholder -> the loss and the parameter
{<gradient of W (3, 2) float32>: Wanted(loss='loss', parameter=<W (3, 2) float32>)}
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from symgrad import dtypes, source
from symgrad.compile.graph import Graph, check, checked_updates, expression, settle
from symgrad.errors import GraphError, InputError
from symgrad.node import (
    AUTOMATIC,
    Expr,
    Gather,
    Input,
    Map,
    Parameter,
    Random,
    ScatterAdd,
    State,
    toposort,
)
from symgrad.optim.groups import Groups
from symgrad.sizes import show


class Wanted(NamedTuple):
    """The derivative of an output of the graph by a parameter."""

    loss: str
    parameter: Parameter


@dataclass(frozen=True)
class Request:
    """A graph to compile; `gradients` says which derivative each placeholder in it stands for."""

    graph: Graph
    gradients: Mapping[Expr, Wanted] = field(default_factory=dict)


def training(
    loss: Any,
    optimizer: Any,
    outputs: Mapping[str, Any] | None = None,
    parameters: Any = None,
    frozen: Any = None,
    taken: Iterable[str] = (),
) -> Request:
    """The checked request behind `sg.train_step`; `taken` are names of the state it shares."""
    from symgrad.nn import updates_of

    losses = _losses(loss)
    results = _results(losses, outputs)
    moved: dict[Parameter, Expr] = dict(updates_of(*results.values()).items())
    parts = _parts(losses, optimizer, parameters, frozen)
    forward = Graph(_inputs([*results.values(), *moved.values()]), results, moved)
    settle(forward, taken)
    check(forward)
    gradients: dict[Expr, Wanted] = {}
    updates = dict(moved)
    for part in parts:
        slopes = [Input(f"gradient of {p.name}", p.shape, p.dtype) for p in part.parameters]
        gradients.update(zip(slopes, (Wanted(part.loss, p) for p in part.parameters)))
        updates.update(_optimized(part.optimizer, part.parameters, slopes))
    updates = checked_updates(updates)
    graph = Graph(_inputs([*results.values(), *updates.values()], gradients), results, updates)
    graph = numbered(graph)
    _check(graph, gradients)
    return Request(graph, gradients)


class Part(NamedTuple):
    """An optimizer, the parameters it moves, and the loss (an output) that it moves them by."""

    loss: str
    optimizer: Any
    parameters: list[Parameter]


def _losses(loss: Any) -> dict[str, Expr]:
    """One loss, called "loss", or several by name."""
    if not isinstance(loss, Mapping):
        return {"loss": _scalar(loss)}
    if not loss or not all(isinstance(name, str) for name in loss):
        raise InputError(f"losses: expected a dict of losses by name, got {loss!r}")
    if "loss" in loss:
        raise InputError('losses: "loss" is the sum of them, give this one another name')
    return {name: _scalar(e) for name, e in loss.items()}


def _results(losses: Mapping[str, Expr], outputs: Any) -> dict[str, Expr]:
    """All outputs by name: "loss" first, the sum of several losses."""
    results = {"loss": functools.reduce(operator.add, losses.values()), **losses}
    for name, value in _dictionary(outputs).items():
        if name == "loss":
            raise InputError('outputs: "loss" is the loss itself, give this one another name')
        if name in results:
            raise InputError(f"outputs: {name!r} is a loss, give this one another name")
        results[name] = expression(value, f"output {name!r}")
    return results


def _parts(losses: Mapping[str, Expr], optimizer: Any, parameters: Any, frozen: Any) -> list[Part]:
    """Who moves what, and by which loss."""
    still = _members(frozen)
    if not isinstance(optimizer, Groups):
        if "loss" not in losses:
            raise InputError(
                "several losses need a dict of optimizers with their names: "
                f"{', '.join(map(repr, losses))}" + source.quote(source.here())
            )
        return [Part("loss", optimizer, trainable(losses["loss"], parameters, still))]
    if parameters is not None:
        raise InputError(
            "parameters: the groups of optimizers say already what is trained; freeze others by "
            "frozen=" + source.quote(source.here())
        )
    loss_of = dict.fromkeys(optimizer.keys, "loss")
    if "loss" not in losses:
        if set(losses) != set(optimizer.keys):
            raise InputError(
                f"the losses are {', '.join(map(repr, losses))} and the optimizers' groups "
                f"{', '.join(map(repr, optimizer.keys))}: each loss needs a group of its name"
                + source.quote(source.here())
            )
        loss_of = {name: name for name in losses}
    reached = {key: trainable(losses[name]) for key, name in loss_of.items()}
    split = optimizer.split(reached, still)
    return [Part(loss_of[key], optimizer.optimizers[key], split[key]) for key in optimizer.keys]


def _members(what: Any) -> list[Parameter]:
    from symgrad.nn.module import parameters_of

    return [] if what is None else parameters_of(what)


def _check(graph: Graph, gradients: Mapping[Expr, Wanted]) -> None:
    check(Graph((*graph.inputs, *gradients), graph.outputs, graph.updates))


def _scalar(loss: Any) -> Expr:
    if not isinstance(loss, Expr):
        raise GraphError(
            f"the loss must be an expression, got {type(loss).__name__}"
            + source.quote(source.here())
        )
    if loss.shape != ():
        raise GraphError(
            f"the loss must be a scalar, {loss.name!r} has shape {show(loss.shape)}; take its sum "
            "or mean" + source.quote(loss.where)
        )
    if not dtypes.is_float(loss.dtype):
        raise GraphError(f"the loss must be float, it is {loss.dtype}" + source.quote(loss.where))
    return loss


def _dictionary(outputs: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if outputs is not None and not isinstance(outputs, Mapping):
        raise InputError(
            f"outputs: expected a dict of further outputs by name, got {type(outputs).__name__}"
        )
    return outputs or {}


def trainable(loss: Expr, chosen: Any = None, frozen: Sequence[Parameter] = ()) -> list[Parameter]:
    """Every parameter that a derivative of the loss reaches, in the order of creation.

    With `chosen` (parameters, layers, or a list of those) only those; without the frozen ones.
    """
    found = sorted(_reached(loss), key=lambda p: p.order)
    if chosen is not None:
        reached = {id(p) for p in found}
        found = _members(chosen)
        for p in found:
            if id(p) not in reached:
                raise GraphError(
                    f"the loss does not depend on {p.name!r}, so it cannot be trained"
                    + source.quote(p.where)
                )
    still = set(map(id, frozen))
    moving = [p for p in found if id(p) not in still]
    if not moving:
        why = "every parameter is frozen" if found else "the loss depends on no parameter"
        if chosen is not None and not found:
            why = "the list of parameters is empty"
        raise GraphError(f"{why}, there is nothing to train" + source.quote(loss.where))
    return moving


def _reached(loss: Expr) -> Iterable[Parameter]:
    """Parameters connected to the loss other than through integers or stop_gradient."""
    stack, seen = [loss], {id(loss)}
    while stack:
        node = stack.pop()
        if isinstance(node, Parameter) and not isinstance(node, State):
            yield node
        if isinstance(node, Map) and node.op == "stop_gradient":
            continue
        args = node.args[:1] if isinstance(node, (Gather, ScatterAdd)) else node.args
        for a in args:
            if id(a) not in seen and dtypes.is_float(a.dtype):
                seen.add(id(a))
                stack.append(a)


def _optimized(
    optimizer: Any, trained: list[Parameter], grads: Sequence[Expr]
) -> Mapping[Any, Any]:
    if not hasattr(optimizer, "updates") or isinstance(optimizer, type):
        raise InputError(
            f"the optimizer must have a method updates(params, grads), got {optimizer!r}"
        )
    updates = optimizer.updates(trained, list(grads))
    if not isinstance(updates, Mapping):
        raise InputError(
            f"{type(optimizer).__name__}.updates must give a dict from parameters to expressions, "
            f"got {type(updates).__name__}"
        )
    return updates


def _inputs(roots: list[Expr], gradients: Mapping[Expr, Any] = {}) -> tuple[Expr, ...]:
    """The inputs the roots depend on, in the order of creation."""
    found = [n for n in toposort(roots) if isinstance(n, Input) and n not in gradients]
    return tuple(sorted(found, key=lambda leaf: leaf.order))


def numbered(graph: Graph) -> Graph:
    """The graph with its random streams numbered in the order of appearance: what it draws depends
    on the seed alone, not on what else this process has built."""
    found = [n for n in graph.nodes if isinstance(n, Random) and n.stream >= AUTOMATIC]
    streams: dict[Expr, Expr] = {
        n: Random.of(n.law, n.shape, n.dtype, AUTOMATIC + i) for i, n in enumerate(found)
    }
    if all(new is n for n, new in streams.items()):
        return graph
    return graph.map(lambda roots: substitute(roots, streams))


def substitute(roots: list[Expr], values: Mapping[Expr, Expr]) -> list[Expr]:
    """The expressions with some of their leaves replaced."""
    new: dict[int, Expr] = {}
    for node in toposort(roots):
        if node in values:
            new[id(node)] = values[node]
        else:
            new[id(node)] = node.with_args([new[id(a)] for a in node.args])
    return [new[id(root)] for root in roots]
