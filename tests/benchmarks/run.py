"""Times whole training steps of symgrad beside every installed peer: ratios within one run.

    python tests/benchmarks/run.py                    all rows, one thread
    python tests/benchmarks/run.py --threads 1 2      one thread and two
    python tests/benchmarks/run.py mlp_tab lenet      some rows
    python tests/benchmarks/run.py --avx2             256-bit vectors for everyone
    python tests/benchmarks/run.py --smoke            a quick pass over everything, for CI
    python tests/benchmarks/run.py --batches          every batch size of the mlp_mnist network
    python tests/benchmarks/run.py --start            compile times, starts, peak memory
    python tests/benchmarks/sweep.py                  random products and convolutions
    python tests/benchmarks/adbench.py                gradients of ADBench's GMM and LSTM

Every library has a process of its own for each number of threads, pinned to as many cores; the
processes take turns, and each figure is the median of a contender's turns. Before anything is
timed, the losses of the first steps must agree. What is timed is a whole call: arrays in, forward
pass, backward pass, update, loss back as a number.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Sequence

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent.parent)]

import table  # noqa: E402
from contenders import Contender, Field  # noqa: E402
from workloads import SMALL, WORKLOADS, Workload  # noqa: E402

AVX2_ROWS = ("mlp_xs", "mlp_tab", "mlp_mnist", "mlp_wide", "resnet20")


@dataclass
class Row:
    """What was measured for one workload and number of threads: seconds per step by contender,
    and the floors."""

    workload: Workload
    threads: int
    times: dict[str, float] = field(default_factory=dict)
    arithmetic: float = 0.0
    traffic: float = 0.0


def agree(contenders: Sequence[Contender], w: Workload, count: int = 3) -> None:
    """Makes everyone ready, and compares the losses of the first steps; those of a network with
    dropout are compared without it, since random numbers differ."""
    plain = w.undropped()
    losses: dict[str, list[float]] = {}
    for c in contenders:
        c.ready(plain)
        if c.steps == 1:
            losses[c.name] = c.losses(count)
        if plain != w:
            c.ready(w)
    ours = losses["symgrad"]
    for name, theirs in losses.items():
        for a, b in zip(ours, theirs):
            if not abs(a - b) <= 5e-4 * max(1.0, abs(a)):
                raise SystemExit(f"{w.name}: losses differ: symgrad {ours}, {name} {theirs}")


def alternate(contenders: Sequence[Contender], seconds: float, turns: int) -> list[float]:
    """Median seconds per step of each, taking turns of `seconds` in all."""
    counts = []
    for c in contenders:
        once = c.seconds(1) * c.steps
        counts.append(max(1, int(seconds / turns / max(once, 1e-7))))
    times: list[list[float]] = [[] for _ in contenders]
    for _ in range(turns):
        for c, count, found in zip(contenders, counts, times):
            found.append(c.seconds(count))
    return [statistics.median(found) for found in times]


def measured(w: Workload, fields: Sequence[Field], seconds: float, turns: int) -> list[Row]:
    """A row for each number of threads; all contenders of all of them alternate."""
    rows = [Row(w, field.threads) for field in fields]
    found: list[tuple[Row, Contender]] = []
    for row, part in zip(rows, fields):
        contenders = part.contenders(w)
        agree(contenders, w)
        found += [(row, c) for c in contenders]
    times = alternate([c for _, c in found], seconds, turns)
    for (row, c), t in zip(found, times):
        row.times[c.name] = t
        c.drop()
    return rows


def floors(row: Row, gflops: float, gbytes: float) -> None:
    """The arithmetic floor, and the floor with the update's traffic."""
    row.arithmetic = row.workload.flops() / gflops / 1e9
    row.traffic = row.arithmetic + row.workload.traffic() / gbytes / 1e9


def steps(args: argparse.Namespace, seconds: float, turns: int) -> None:
    """The table of training steps."""
    from peak import bandwidth, peak_gflops

    target = "avx2" if args.avx2 else None
    fields = [Field(t, args.peers, target) for t in args.threads]
    peaks = [f.workers["symgrad"].ask(peak_gflops, f.threads, target) for f in fields]
    for f, peak in zip(fields, peaks):
        print(f"multiply-add peak, {f.threads} threads: {peak:.0f} GFLOP/s float32", flush=True)
    known = SMALL if args.smoke else WORKLOADS
    names = args.rows or (AVX2_ROWS if args.avx2 else known)
    rows: list[Row] = []
    for w in (known[name] for name in names):
        new = measured(w, fields, seconds, turns)
        for row, f, peak in zip(new, fields, peaks):
            floors(row, peak, f.threads * f.workers["symgrad"].ask(bandwidth, w.traffic()))
            print(table.line(row), flush=True)
        rows += new
    if not args.smoke:
        print()
        print(table.markdown(rows), flush=True)
    for f in fields:
        f.close()


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("rows", nargs="*", help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--threads", nargs="+", type=int, default=[1], help="1, or 1 2")
    parser.add_argument("--peers", nargs="*", help="only these peers: torch jax pytensor numpy")
    parser.add_argument("--avx2", action="store_true", help="256-bit vectors for everyone")
    parser.add_argument("--smoke", action="store_true", help="a quick pass over everything")
    parser.add_argument(
        "--batches", action="store_true", help="batch sizes 1..130, one step for all"
    )
    parser.add_argument("--start", action="store_true", help="compile times, starts, peak memory")
    parser.add_argument("--seconds", type=float, help="for each contender of a row")
    parser.add_argument("--turns", type=int, help="how often each contender's turn comes")
    args = parser.parse_args()
    unknown = [name for name in args.rows if name not in WORKLOADS]
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    return args


def main() -> None:
    args = parsed()
    seconds, turns = (0.02, 2) if args.smoke else (2.0, 15)
    seconds, turns = args.seconds or seconds, args.turns or turns
    if args.rows or not (args.batches or args.start):
        steps(args, seconds, turns)
    if args.batches or args.smoke:
        from batches import batches

        batches([1, 17] if args.smoke else list(range(1, 131)), seconds / 10, args.peers)
    if args.smoke:
        import sweep

        sweep.run(sweep.Choice(count=2, largest=5e7, seconds=0.01, turns=2, peers=args.peers))
        import adbench

        adbench.compare(adbench.cases(random=True), seconds, turns, args.peers)
    if args.start or args.smoke:
        from startup import startup

        startup(1 if args.smoke else 5, small=args.smoke, peers=args.peers)


if __name__ == "__main__":
    os.environ.pop("SYMGRAD_CHECK", None)  # what is timed is the compiled step
    main()
