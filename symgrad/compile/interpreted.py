"""A graph run by NumPy, node by node, behind the same calls as native code.

In: a `Pipeline` and a store. Out: a backend whose `call` takes checked arrays and gives outputs,
the store's parameters and random generator having moved on. It is `target="interpret"`, and the
reference of SYMGRAD_CHECK.

>>> Interpreted(pipeline, store).call([X, Y], {"batch": 64})
{'loss': array(2.3, dtype=float32)}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from symgrad.compile.graph import Form, Graph
from symgrad.interpret import evaluate
from symgrad.node import Expr
from symgrad.state import Store

Array = np.ndarray[Any, Any]


class Interpreted:
    """Runs a graph; `graph` is the rewritten one, so that what runs is what native code runs."""

    def __init__(self, graph: Graph, store: Store) -> None:
        self.graph, self.store = graph, store

    def fast(self, form: Form) -> None:
        return None  # no way around the checks in Python

    def call(self, arrays: Sequence[Array], sizes: Mapping[str, int]) -> dict[str, Array]:
        values = run(self.graph, leaves(self.graph, self.store, arrays), sizes, self.store.rng)
        count = len(self.graph.outputs)
        for p, value in zip(self.graph.updates, values[count:]):
            self.store.slots[p.name].write(value)
        if self.graph.is_random:
            advance(self.store.rng)
        return dict(zip(self.graph.outputs, values[:count]))


def leaves(graph: Graph, store: Store, arrays: Sequence[Array]) -> dict[Expr, Array]:
    """The value of every leaf that a call gives or the store holds."""
    values: dict[Expr, Array] = dict(zip(graph.inputs, arrays))
    for p in graph.parameters:
        values[p] = store.slots[p.name].read()
    return values


def run(
    graph: Graph, values: Mapping[Expr, Array], sizes: Mapping[str, int], rng: Array
) -> list[Array]:
    """Outputs, then updates."""
    words = rng.view(np.uint32).tolist()
    seed, step = words[0] | words[1] << 32, words[2] | words[3] << 32
    results = evaluate(graph.roots, values, sizes, seed=seed, step=step)
    return [np.asarray(value) for value in results]


def advance(rng: Array) -> None:
    """Count the step, a 64-bit number in two words, up by one."""
    rng[2:].view(np.uint64)[0] += np.uint64(1)
