"""Every batch size with one compiled step, against PyTorch.

In: batch sizes. Out: a line for each and the smallest ratio.
"""

from __future__ import annotations

import dataclasses

from contenders import symgrad_step, torch
from workloads import WORKLOADS


def batches(sizes: list[int], seconds: float) -> None:
    """The mlp_mnist network; one run-time batch serves all sizes."""
    from run import alternate, show

    largest = dataclasses.replace(WORKLOADS["mlp_mnist"], batch=max(sizes))
    step = symgrad_step(largest)
    x, y, _ = largest.arrays()
    worst = (float("inf"), 0)
    for n in sizes:
        peer = torch(dataclasses.replace(largest, batch=n))
        xs, ys = x[:n].copy(), y[:n].copy()
        times = alternate({"symgrad": lambda: step(xs, ys), "torch": peer}, seconds, 5)  # noqa: B023
        ratio = times["torch"] / times["symgrad"]
        worst = min(worst, (ratio, n))
        print(f"batch {n:4d} {show(times['symgrad'])}  torch {show(times['torch'])} ({ratio:.2f}x)")
    print(f"smallest ratio {worst[0]:.2f} at batch {worst[1]}", flush=True)
