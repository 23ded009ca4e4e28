"""Means of scalars over a whole data set.

In: scalars, a state, data. Out: one mean for each, every sample counting the same.

>>> Scorer({"loss": loss, "accuracy": accuracy}, step.state, target).score({"x": X, "y": Y})
{'loss': 0.07, 'accuracy': 0.98}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from symgrad.compile import epochs
from symgrad.compile.function import function
from symgrad.node import Expr, Input, toposort
from symgrad.sizes import Dim
from symgrad.state import Store


class Scorer:
    """A compiled evaluation, over the parameters of a training step."""

    def __init__(self, scalars: Mapping[str, Expr], state: Store, target: str | None) -> None:
        leaves = [n for n in toposort(scalars.values()) if isinstance(n, Input)]
        leaves.sort(key=lambda leaf: leaf.order)
        self.leaves = leaves
        self.function = function(leaves, dict(scalars), state=state, target=target)
        sizes = [leaf.shape[0] for leaf in leaves if leaf.ndim]
        self.batch = min((s.max if isinstance(s, Dim) else s for s in sizes), default=1)

    def score(self, data: Mapping[str, Any]) -> dict[str, float]:
        """The mean of every scalar; data may hold more than what is needed."""
        needed = {leaf.name: data[leaf.name] for leaf in self.leaves if leaf.name in data}
        checked = epochs.check(self.leaves, needed, self.batch)
        totals: dict[str, float] = {}
        for first, last in checked.bounds():
            batch = [a[first:last] if cut else a for a, cut in zip(checked.arrays, checked.cut)]
            for name, value in self.function(*batch).items():
                totals[name] = totals.get(name, 0.0) + float(value) * (last - first)
        return {name: total / checked.rows for name, total in totals.items()}
