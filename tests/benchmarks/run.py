"""Times whole training steps of symgrad beside every installed peer: ratios within one run.

    python tests/benchmarks/run.py                    all rows
    python tests/benchmarks/run.py mlp_tab mlp_mnist  some rows
    python tests/benchmarks/run.py --smoke            a quick pass over everything, for CI
    python tests/benchmarks/run.py --batches          every batch size of the mlp_mnist network
    python tests/benchmarks/run.py --start            compile times, cold and cached starts

Contenders take turns within one process pinned to one core; each figure is a median. Before
anything is timed, the losses of the first steps must agree.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Callable

# One thread for everyone: libraries read these when they are imported.
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

from contenders import Step, installed, symgrad_step  # noqa: E402
from peak import peak_gflops  # noqa: E402
from workloads import WORKLOADS, Workload  # noqa: E402


def agree(steps: dict[str, Step], count: int = 3) -> None:
    """The losses of the first steps, the same for everyone."""
    losses = {name: [step() for _ in range(count)] for name, step in steps.items()}
    ours = losses["symgrad"]
    for name, theirs in losses.items():
        for a, b in zip(ours, theirs):
            if abs(a - b) > 2e-4 * max(1.0, abs(a)):
                raise SystemExit(f"losses differ: symgrad {ours}, {name} {theirs}")


def alternate(
    steps: dict[str, Callable[[], object]], seconds: float, turns: int
) -> dict[str, float]:
    """Median seconds per call of each, taking turns."""
    counts = {}
    for name, step in steps.items():
        step()
        start = time.perf_counter()
        step()
        once = time.perf_counter() - start
        counts[name] = max(1, int(seconds / turns / max(once, 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(turns):
        for name, step in steps.items():
            n = counts[name]
            start = time.perf_counter()
            for _ in range(n):
                step()
            times[name].append((time.perf_counter() - start) / n)
    return {name: statistics.median(t) for name, t in times.items()}


def native_run(w: Workload) -> Callable[[], object]:
    """A whole epoch of 256 batches by `step.run`; its time is divided by 256."""
    import numpy as np

    step = symgrad_step(w)
    x, y, _ = w.arrays()
    data = {"x": np.concatenate([x] * 256), "y": np.concatenate([y] * 256)}
    return lambda: step.run(data, batch_size=w.batch, epochs=1, shuffle=False)


def row(w: Workload, peak: float, seconds: float, turns: int, names: list[str] | None) -> None:
    """One line of the table."""
    step = symgrad_step(w)
    x, y, _ = w.arrays()
    steps: dict[str, Step] = {"symgrad": lambda: step(x, y)}
    for name, build in installed(names).items():
        try:
            steps[name] = build(w)
        except ImportError:
            continue
    agree(steps)
    if w.name in ("mlp_xs", "mlp_tab"):
        steps["symgrad run"] = native_run(w)  # type: ignore[assignment]
    times = alternate(steps, seconds, turns)
    if "symgrad run" in times:
        times["symgrad run"] /= 256
    ours = times["symgrad"]
    floor = w.flops() / peak / 1e9
    shown = [f"{w.name:13s}{show(ours)}", f"floor {floor / ours:4.0%}"]
    for name, t in times.items():
        if name != "symgrad":
            shown.append(f"{name} {show(t).strip()} ({t / ours:.2f}x)")
    if w.aim:
        shown.append(f"aim {show(w.aim * 1e-6).strip()}")
    print("  ".join(shown), flush=True)


def show(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:8.2f} us"
    return f"{seconds * 1e3:8.2f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("rows", nargs="*", help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--smoke", action="store_true", help="a quick pass over everything")
    parser.add_argument(
        "--batches", action="store_true", help="batch sizes 1..130, one step for all"
    )
    parser.add_argument("--start", action="store_true", help="compile times and starts")
    parser.add_argument("--peers", nargs="*", help="only these peers")
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    peak = peak_gflops()
    print(f"multiply-add peak of one core: {peak:.0f} GFLOP/s float32", flush=True)
    seconds, turns = (0.02, 2) if args.smoke else (2.0, 15)
    chosen = [WORKLOADS[name] for name in args.rows or WORKLOADS]
    if not args.batches and not args.start or args.rows:
        for w in chosen:
            if not (args.smoke and w.name == "mlp_wide"):
                row(w, peak, seconds, turns, args.peers)
    if args.batches or args.smoke:
        from batches import batches

        batches([1, 17] if args.smoke else list(range(1, 131)), seconds / 10)
    if args.start or args.smoke:
        from startup import startup

        startup(1 if args.smoke else 5)


if __name__ == "__main__":
    main()
