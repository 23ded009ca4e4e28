"""Every batch size with one compiled step, against PyTorch.

In: batch sizes. Out: a line for each and the smallest ratio.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any, Callable, Sequence

from contenders import Contender, Field
from table import show
from workloads import WORKLOADS, Workload


def batches(sizes: Sequence[int], seconds: float, peers: Sequence[str] | None = None) -> None:
    """The mlp_mnist network; one run-time batch serves all sizes."""
    from run import alternate

    largest = replace(WORKLOADS["mlp_mnist"], batch=max(sizes))
    field = Field(1, [name for name in peers or ("torch",) if name == "torch"])
    ours = Contender("symgrad", field.workers["symgrad"], ("batches", "part"), (largest,))
    worst = (float("inf"), 0)
    for n in sizes:
        w = replace(largest, batch=n)
        turn = [ours, *(c for c in field.contenders(w) if c.name == "torch")]
        for c in turn:
            c.ready(w)
        times = alternate(turn, seconds, 5)
        text = f"batch {n:4d} {show(times[0]):>8s}"
        for c, t in zip(turn[1:], times[1:]):
            worst = min(worst, (t / times[0], n))
            text += f"  {c.name} {show(t)} ({t / times[0]:.2f}x)"
        print(text, flush=True)
    if worst[1]:
        print(f"smallest ratio {worst[0]:.2f} at batch {worst[1]}", flush=True)
    field.close()


def part(w: Workload, largest: Workload) -> Callable[[], Any]:
    """The one compiled step on a smaller batch."""
    step = _step(largest)
    x, y = (a[: w.batch].copy() for a in largest.data())
    return lambda: step(x, y)


@functools.cache
def _step(w: Workload) -> Any:
    from ours import compiled

    return compiled(w)
