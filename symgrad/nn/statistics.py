"""Updates of states that come with a value, such as the running statistics of BatchNorm.

In: `record(node, state, advance)` when a layer builds `node`. Out: `updates_of(loss)`, the update
of every state recorded on a node that the loss depends on. `train_step` applies them together
with the optimizer's; a graph built with `training=False` records none.

    updates = {**optimizer.updates(params, grads), **sg.nn.updates_of(loss)}
"""

from __future__ import annotations

import itertools
import weakref
from typing import Any, Callable

from symgrad.node import Expr, State, toposort

Advance = Callable[[Expr], Expr]

# By id, with a weak reference that removes the entry: expressions overload ==, so they cannot be
# keys of a WeakKeyDictionary. The nodes named in `advance` are operands of the recorded node, so
# an entry keeps nothing alive that the node itself does not.
_records: dict[int, tuple[weakref.ref[Any], dict[State, tuple[int, Advance]]]] = {}
_order = itertools.count()


def record(node: Expr, state: State, advance: Advance) -> None:
    """Say that computing `node` moves `state` from s to `advance(s)`."""
    key = id(node)
    if key not in _records:
        _records[key] = (weakref.ref(node, lambda _: _records.pop(key, None)), {})
    _records[key][1].setdefault(state, (next(_order), advance))


def updates_of(*outputs: Expr) -> dict[State, Expr]:
    """The new value of every state that the layers in these graphs update.

    A layer applied to two different operands advances its state twice, in the order of the calls.
    Look before rewriting: a rewritten graph has other nodes.
    """
    steps: list[tuple[int, State, Advance]] = []
    for node in toposort(outputs):
        entry = _records.get(id(node))
        if entry is not None:
            steps += [(order, state, advance) for state, (order, advance) in entry[1].items()]
    updates: dict[State, Expr] = {}
    for _, state, advance in sorted(steps, key=lambda s: s[0]):
        updates[state] = advance(updates.get(state, state))
    return updates
