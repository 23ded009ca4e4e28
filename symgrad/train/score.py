"""Means of scalars over a whole data set.

In: scalars, a state, data. Out: one mean for each, every sample counting the same.

>>> score = scorer({"loss": loss, "accuracy": accuracy}, step.state)
>>> score({"x": X, "y": Y})
{'loss': 0.07, 'accuracy': 0.98}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from symgrad import dtypes, source
from symgrad.compile import epochs
from symgrad.compile.function import function
from symgrad.errors import InputError
from symgrad.node import Expr, Input, toposort
from symgrad.sizes import Dim
from symgrad.state import Store


def scorer(
    scalars: Mapping[str, Expr], state: Store | None = None, target: str | None = None
) -> Scorer:
    """A function from a data set, a dict of arrays by input name, to the mean of every scalar.

    The scalars are means over their batch (a loss, an accuracy), as written for one call; the data
    may be of any length, and are cut into batches as large as the inputs allow. `state` is the
    state of the step whose parameters are scored. InputError for data that do not fit the inputs
    and for expressions that are no float scalars.
    """
    if not isinstance(scalars, Mapping) or not scalars:
        raise InputError(
            f"scorer: expected a dict of scalars by name, got {scalars!r}"
            + source.quote(source.here())
        )
    for name, e in scalars.items():
        if not isinstance(e, Expr) or e.shape != () or not dtypes.is_float(e.dtype):
            raise InputError(
                f"scorer: {name!r} must be a float scalar, got {e!r}" + source.quote(source.here())
            )
    return Scorer(scalars, state, target)


class Scorer:
    """A compiled evaluation, over the parameters of a training step."""

    def __init__(
        self, scalars: Mapping[str, Expr], state: Store | None, target: str | None
    ) -> None:
        leaves = [n for n in toposort(scalars.values()) if isinstance(n, Input)]
        leaves.sort(key=lambda leaf: leaf.order)
        self.leaves = leaves
        self.function = function(leaves, dict(scalars), state=state, target=target)
        sizes = [leaf.shape[0] for leaf in leaves if leaf.ndim]
        self.batch = min((s.max if isinstance(s, Dim) else s for s in sizes), default=1)

    def __call__(self, data: Mapping[str, Any]) -> dict[str, float]:
        """The mean of every scalar over the data."""
        return self.score(data)

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
