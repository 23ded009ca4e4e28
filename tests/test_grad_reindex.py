"""The transpose of an index map on random maps: slices, strides, windows, diagonals, fixed indices.

A Reindex with fill 0 is linear, so for its transpose `<R x, c> = <x, R' c>` must hold exactly.
"""

from __future__ import annotations

import numpy as np
import pytest

from symgrad.derive.reindex import transposed
from symgrad.interpret import evaluate
from symgrad.node import AxisMap, Input, Reindex


def random_maps(rng: np.random.Generator, axes: int, out_axes: int) -> list[AxisMap]:
    maps: list[AxisMap] = []
    for _ in range(axes):
        count = int(rng.integers(0, min(out_axes, 3) + 1))
        terms = tuple(
            (int(a), int(rng.choice([-3, -2, -1, 1, 1, 2, 3])))
            for a in rng.choice(out_axes, count, replace=False)
        )
        maps.append((int(rng.integers(-3, 5)), terms, int(rng.choice([1, 1, 1, 2, 3]))))
    return maps


@pytest.mark.parametrize("block", range(4))
def test_transpose_is_adjoint(block: int) -> None:
    hits = 0
    for seed in range(100 * block, 100 * block + 100):
        rng = np.random.default_rng(seed)
        axes, out_axes = (int(n) for n in rng.integers(1, 4, 2))
        shape = tuple(int(n) for n in rng.integers(1, 6, axes))
        out_shape = tuple(int(n) for n in rng.integers(1, 5, out_axes))
        x, c = Input("x", shape, "float64"), Input("c", out_shape, "float64")
        y = Reindex.of(x, random_maps(rng, axes, out_axes), out_shape)
        back = transposed(y, c)
        assert back.shape == shape
        values = {x: rng.integers(-9, 9, shape), c: rng.integers(-9, 9, out_shape)}
        forward, backward = evaluate([y, back], values)
        assert np.vdot(forward, values[c]) == np.vdot(values[x], backward), (seed, y.maps)
        hits += bool(forward.any())
    assert hits > 15
