"""The order of a shuffled pass, in Python: the same as native code draws.

In: rows, seed, epoch. Out: a permutation: Fisher and Yates, from the last row down, each exchange
by 64 bits of Philox4x32-10 with counter (block, epoch, all ones) and the seed as key.

>>> sorted(permutation(5, seed=0, epoch=0).tolist())
[0, 1, 2, 3, 4]
"""

from __future__ import annotations

from typing import Any

import numpy as np

from symgrad import philox

STREAM = 0xFFFFFFFF  # no random node has this stream


def permutation(rows: int, seed: int, epoch: int) -> np.ndarray[Any, Any]:
    mask = 0xFFFFFFFF
    block = np.arange(rows // 2 + 1, dtype=np.uint64)
    counter = (block & np.uint64(mask), block >> np.uint64(32), epoch & mask, STREAM)
    a, b, c, d = philox.words(counter, (seed & mask, seed >> 32 & mask))
    high = np.uint64(32)
    draws = np.stack([a | b << high, c | d << high], axis=1).reshape(-1).tolist()
    order = list(range(rows))
    for last, random in zip(range(rows - 1, 0, -1), draws):
        other = random * (last + 1) >> 64
        order[last], order[other] = order[other], order[last]
    return np.array(order, np.int64)
