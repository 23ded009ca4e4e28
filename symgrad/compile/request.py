"""A training step as a request: what to differentiate, and what to do with the gradients.

In: a loss, an optimizer. Out: a `Request`: a graph in which placeholders stand for gradients, and
what each placeholder stands for. Nothing is differentiated here, so that a start from the object
cache never differentiates at all.

>>> request = training(loss, sg.optim.SGD(0.1), {"accuracy": accuracy})
>>> request.gradients                    # placeholder -> parameter
{<gradient of W (3, 2) float32>: <W (3, 2) float32>}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

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
from symgrad.sizes import show


@dataclass(frozen=True)
class Request:
    """A graph to compile; `gradients` maps placeholders in it to what `loss` is differentiated by.

    The loss is the graph's output "loss" where there are gradients.
    """

    graph: Graph
    gradients: Mapping[Expr, Parameter] = field(default_factory=dict)


def training(
    loss: Any,
    optimizer: Any,
    outputs: Mapping[str, Any] | None = None,
    parameters: Any = None,
    taken: Iterable[str] = (),
) -> Request:
    """The checked request behind `sg.train_step`; `taken` are names of the state it shares."""
    from symgrad.nn import updates_of

    loss = _scalar(loss)
    results = {"loss": loss}
    for name, value in _dictionary(outputs).items():
        if name == "loss":
            raise InputError('outputs: "loss" is the loss itself, give this one another name')
        results[name] = expression(value, f"output {name!r}")
    moved: dict[Parameter, Expr] = dict(updates_of(*results.values()).items())
    trained = trainable(loss, parameters)
    forward = Graph(_inputs([*results.values(), *moved.values()]), results, moved)
    settle(forward, taken)
    check(forward)
    gradients: dict[Expr, Parameter] = {
        Input(f"gradient of {p.name}", p.shape, p.dtype): p for p in trained
    }
    updates = checked_updates({**moved, **_optimized(optimizer, trained, list(gradients))})
    graph = Graph(_inputs([*results.values(), *updates.values()], gradients), results, updates)
    graph = numbered(graph)
    _check(graph, gradients)
    return Request(graph, gradients)


def _check(graph: Graph, gradients: Mapping[Expr, Parameter]) -> None:
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


def trainable(loss: Expr, chosen: Any = None) -> list[Parameter]:
    """Every parameter that a derivative of the loss reaches, in the order of creation.

    With `chosen` (parameters, layers, or a list of those) only those, the others being frozen.
    """
    found = sorted(_reached(loss), key=lambda p: p.order)
    if chosen is not None:
        from symgrad.nn.module import parameters_of

        wanted = parameters_of(chosen)
        reached = {id(p) for p in found}
        for p in wanted:
            if id(p) not in reached:
                raise GraphError(
                    f"the loss does not depend on {p.name!r}, so it cannot be trained"
                    + source.quote(p.where)
                )
        return wanted
    if not found:
        raise GraphError(
            "the loss depends on no parameter, there is nothing to train" + source.quote(loss.where)
        )
    return found


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


def _optimized(optimizer: Any, trained: list[Parameter], grads: list[Expr]) -> Mapping[Any, Any]:
    if not hasattr(optimizer, "updates"):
        raise InputError(
            f"the optimizer must have a method updates(params, grads), got {optimizer!r}"
        )
    updates = optimizer.updates(trained, grads)
    if not isinstance(updates, Mapping):
        raise InputError(
            f"{type(optimizer).__name__}.updates must give a dict from parameters to expressions, "
            f"got {type(updates).__name__}"
        )
    return updates


def _inputs(roots: list[Expr], gradients: Mapping[Expr, Parameter] = {}) -> tuple[Expr, ...]:
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
