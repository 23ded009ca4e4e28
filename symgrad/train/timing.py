"""How long a call takes.

In: something to call. Out: `Times`, whose middle is what a call takes when nothing disturbs it.

>>> print(per_call(lambda: step(X, Y), seconds=0.5))
19.2 us (fastest 18.9 us, of 20 blocks of 1,312 calls)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from symgrad.compile.profile import shown_time

BLOCKS = 20


@dataclass(frozen=True)
class Times:
    """Seconds a call takes: the middle and the least of some blocks of calls."""

    middle: float
    least: float
    blocks: int
    calls: int

    def __str__(self) -> str:
        how = f"of {self.blocks} blocks of {self.calls:,} calls"
        if self.calls == 1:
            how = f"of {self.blocks} calls"
        return f"{shown_time(self.middle)} (fastest {shown_time(self.least)}, {how})"


def per_call(call: Callable[[], object], seconds: float) -> Times:
    """Calls for about so many seconds, in blocks that are long against the clock's steps."""
    clock = time.perf_counter
    call()
    begin = clock()
    call()
    once = max(clock() - begin, 1e-7)
    calls = max(1, int(seconds / BLOCKS / once))
    found: list[float] = []
    first = clock()
    while len(found) < 3 or (clock() - first < seconds and len(found) < BLOCKS):
        begin = clock()
        for _ in range(calls):
            call()
        found.append((clock() - begin) / calls)
    found.sort()
    return Times(found[len(found) // 2], found[0], len(found), calls)
