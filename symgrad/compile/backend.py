"""What runs a compiled function: native code, NumPy, or both and a comparison.

In: a `Pipeline` and a store. Out: the `Backend` that the options and the environment ask for.

>>> backend(pipeline, store).call([X, Y], {"batch": 64})
{'loss': array(2.3, dtype=float32)}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from symgrad.compile.graph import Form
from symgrad.compile.options import comparing
from symgrad.compile.pipeline import Pipeline
from symgrad.state import Store

Array = np.ndarray[Any, Any]


class Backend(Protocol):
    """Runs checked arrays. The store's memory has moved on when a call returns."""

    def call(self, arrays: Sequence[Array], sizes: Mapping[str, int]) -> dict[str, Array]: ...

    def fast(self, form: Form) -> Callable[..., Any] | None:
        """A callable that takes arrays by position and gives the result in its form, or
        NotImplemented where it must be looked at more closely; None if there is none."""
        ...


def backend(pipeline: Pipeline, store: Store) -> Backend:
    from symgrad.compile.interpreted import Interpreted

    if pipeline.options.interpreted:
        return Interpreted(pipeline.rewritten, store)
    from symgrad.compile.native import Native

    native = Native(pipeline, store)
    if comparing():
        from symgrad.compile.comparison import Compared

        return Compared(pipeline, store, native)
    return native
