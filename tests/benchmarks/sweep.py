"""Random matrix products and convolutions, forward and both gradients, beside PyTorch.

    python tests/benchmarks/sweep.py                           60 of each, seed 0, one thread
    python tests/benchmarks/sweep.py --only conv --count 10
    python tests/benchmarks/sweep.py --only product --cases 17 23 --phases weight
    python tests/benchmarks/sweep.py --seed 7 --threads 2

Sizes are drawn evenly in the logarithm: products 1..3000 in each dimension and all transposes,
convolutions with 1..256 channels, kernels 1..11, strides 1..4, batches 1..128 and images that keep
the work below 4 GFLOP. A seed and a number make a case, so that any can be run again.

What is timed: for symgrad one call of a compiled `sg.function`, the weight being a parameter and
NumPy arrays in and out, so conversions of layouts at the border and the result's new array are part
of it; for PyTorch the one operation on tensors, its result a new tensor. Both have the same cores,
take turns, and the shortest turn of each counts. Results must agree before anything is timed.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent.parent)]

import cases  # noqa: E402
from cases import PHASES, Case  # noqa: E402
from contenders import AVX2, installed  # noqa: E402
from table import show  # noqa: E402
from workers import Failed, Worker  # noqa: E402

KINDS = {"product": cases.product, "conv": cases.convolution}


@dataclass(frozen=True)
class Choice:
    """Which cases, and how long to measure each."""

    kinds: Sequence[str] = tuple(KINDS)
    count: int = 60
    numbers: Sequence[int] = ()
    phases: Sequence[str] = PHASES
    seed: int = 0
    threads: int = 1
    largest: float | None = None
    seconds: float = 0.15
    turns: int = 5
    target: str | None = None
    peers: Sequence[str] | None = None

    def cases(self) -> list[tuple[str, int, Case]]:
        """Kind, number, case."""
        bound = {} if self.largest is None else {"largest": self.largest}
        numbers = self.numbers or range(self.count)
        return [(k, i, KINDS[k](self.seed, i, **bound)) for k in self.kinds for i in numbers]


@dataclass(frozen=True)
class Result:
    kind: str
    number: int
    case: Case
    phase: str
    ours: float
    theirs: float

    @property
    def ratio(self) -> float:
        return self.theirs / self.ours

    def __str__(self) -> str:
        speed = self.case.flops / self.ours / 1e9
        return (
            f"{self.ratio:6.2f}x  {show(self.ours):>8s} {speed:6.1f} GFLOP/s  "
            f"PyTorch {show(self.theirs):>8s}  {self.kind} {self.number} {self.phase}: {self.case}"
        )


def run(choice: Choice) -> bool:
    """Measures and prints; whether everything compiled and agreed."""
    if not installed(choice.peers or ("torch",)).count("torch"):
        print("sweep: PyTorch is not installed, nothing to compare with")
        return True
    environment = AVX2 if choice.target == "avx2" else {}
    ours, peer = (Worker(n, choice.threads, environment) for n in ("symgrad", "torch"))
    print(f"seed {choice.seed}, threads {choice.threads}", flush=True)
    results: list[Result] = []
    failures: list[str] = []
    for kind, number, case in choice.cases():
        for phase in choice.phases:
            try:
                result = Result(kind, number, case, phase, *pair(ours, peer, case, phase, choice))
            except Failed as error:
                failures.append(f"{kind} {number} {phase}: {case}: {str(error).splitlines()[-1]}")
                print(f"  failed  {failures[-1]}", flush=True)
                continue
            print(result, flush=True)
            results.append(result)
    ours.close()
    peer.close()
    summary(results, failures)
    return not failures


def pair(ours: Worker, peer: Worker, case: Case, phase: str, choice: Choice) -> tuple[float, float]:
    """Seconds of one call of each, after both gave the same."""
    ours.build("case", cases.ours, case, phase, choice.threads, choice.target)
    peer.build("case", cases.torch, case, phase, choice.threads)
    (a, norm), (b, _) = (worker.call("case", cases.digest) for worker in (ours, peer))
    if not abs(a - b) <= 1e-4 * norm:
        raise Failed(f"results differ: projections {a} and {b}, norm {norm}")
    best = [math.inf, math.inf]
    counts = [0, 0]
    for turn in range(choice.turns + 1):
        for i, worker in enumerate((ours, peer)):
            t = worker.time("case", counts[i] or 1)
            if turn:  # the first only tells how long a call takes
                best[i] = min(best[i], t)
            else:
                counts[i] = max(1, int(choice.seconds / choice.turns / t))
    for worker in (ours, peer):
        worker.drop("case")
    return best[0], best[1]


def summary(results: Sequence[Result], failures: Sequence[str]) -> None:
    """Means by kind and phase, and the worst."""
    print()
    for kind in KINDS:
        for phase in (*PHASES, "all"):
            chosen = [r.ratio for r in results if r.kind == kind and (phase in ("all", r.phase))]
            if chosen:
                mean = math.exp(sum(map(math.log, chosen)) / len(chosen))
                slow, slower = (sum(r < bound for r in chosen) for bound in (1.0, 0.7))
                print(
                    f"{kind:8s}{phase:8s} geometric mean {mean:.2f}x, least {min(chosen):.2f}x, "
                    f"{slow} of {len(chosen)} below 1.0x, {slower} below 0.7x"
                )
    print("\nthe ten slowest beside PyTorch:")
    for r in sorted(results, key=lambda r: r.ratio)[:10]:
        print(r)
    for text in failures:
        print(f"failed: {text}")
    sys.stdout.flush()


def parsed() -> Choice:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", choices=tuple(KINDS), help="one kind")
    parser.add_argument("--count", type=int, default=60, help="how many of each kind")
    parser.add_argument("--cases", nargs="+", type=int, default=(), help="these numbers only")
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=PHASES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--largest", type=float, help="operations of a case, at most")
    parser.add_argument("--seconds", type=float, default=0.15, help="for each of the two")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--avx2", action="store_true", help="256-bit vectors for both")
    args = parser.parse_args()
    return Choice(
        (args.only,) if args.only else tuple(KINDS),
        args.count,
        args.cases,
        args.phases,
        args.seed,
        args.threads,
        args.largest,
        args.seconds,
        args.turns,
        "avx2" if args.avx2 else None,
    )


if __name__ == "__main__":
    sys.exit(0 if run(parsed()) else 1)
