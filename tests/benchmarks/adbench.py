"""Times value and gradient of ADBench's GMM and LSTM objectives beside PyTorch and JAX.

    python tests/benchmarks/adbench.py                    all instances of SYMGRAD_DATA/adbench
    python tests/benchmarks/adbench.py gmm_d10_K25        some of them
    python tests/benchmarks/adbench.py --random           random ones of small sizes, no data needed

Every library has a process of its own, pinned to one core; the processes take turns, and each
figure is the median of a contender's turns. Before anything is timed, values and gradients must
agree to 1e-8. Peers get their tensors made beforehand, as in ADBench; symgrad gets NumPy arrays.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Sequence

import numpy as np

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT / "tests" / "benchmarks"), str(ROOT), str(ROOT / "examples")]

from contenders import Contender, Field  # noqa: E402
from data.adbench import random_gmm, random_lstm, read_gmm, read_lstm  # noqa: E402
from data.find import find  # noqa: E402
from run import alternate  # noqa: E402
from table import show  # noqa: E402


@dataclass(frozen=True)
class Case:
    """An instance: `kind` is "gmm" or "lstm"."""

    name: str
    kind: str
    arrays: Any


def cases(random: bool) -> list[Case]:
    """Those of the data folder, or random ones."""
    if random:
        return [
            Case("gmm_random", "gmm", random_gmm(d=4, k=5, n=100)),
            Case("lstm_random", "lstm", random_lstm(layers=2, t=50, h=14)),
        ]
    folder = find("adbench")
    if folder is None:
        sys.exit("SYMGRAD_DATA has no folder adbench (data/ of github.com/microsoft/ADBench)")
    readers = {"gmm": read_gmm, "lstm": read_lstm}
    found = [
        Case(path.stem, kind, read(path))
        for kind, read in readers.items()
        for path in (folder / kind).glob(f"{kind}_*.txt")
    ]
    return sorted(found, key=lambda case: (case.kind, case.arrays[0].size))


# -- in the workers -----------------------------------------------------------------------------
def ours(case: Case) -> Callable[[], Any]:
    """The example's declaration."""
    import adbench_gmm
    import adbench_lstm

    made = {"gmm": adbench_gmm.compiled, "lstm": adbench_lstm.compiled}[case.kind](case.arrays)
    arrays = case.arrays[:4]
    return lambda: list(made(*arrays).values())


def theirs(case: Case, module: str, *form: str) -> Callable[[], Any]:
    made = getattr(importlib.import_module(module), case.kind)
    return made(case.arrays, *form)  # type: ignore[no-any-return]


# -- the comparison -----------------------------------------------------------------------------
def contenders(field: Field, case: Case) -> list[Contender]:
    """symgrad first; peers compute the mixture in two ways."""
    workers = field.workers
    found = [Contender("symgrad", workers["symgrad"], ("adbench", "ours"), ())]
    forms = (("centred",), ("products",)) if case.kind == "gmm" else ((),)
    for name in ("torch", "jax"):
        for form in forms if name in workers else ():
            label = " ".join((name, *form))
            build = ("adbench", "theirs")
            found.append(Contender(label, workers[name], build, (f"adbench_{name}", *form)))
    return found


def agree(turn: Sequence[Contender], case: Case) -> None:
    """Everyone is made ready and gives the same numbers."""
    answers = []
    for c in turn:
        c.ready(case)  # type: ignore[arg-type]
        answers.append(c.worker.call(c.name))
    for c, answer in zip(turn[1:], answers[1:]):
        for a, b in zip(answers[0], answer):
            if not np.allclose(a, b, rtol=1e-8, atol=1e-8):
                raise SystemExit(f"{case.name}: symgrad and {c.name} differ")


def compare(chosen: Sequence[Case], seconds: float, turns: int, peers: Any = None) -> None:
    """A line for each case, and the smallest ratio."""
    field = Field(1, [name for name in peers or ("torch", "jax") if name in ("torch", "jax")])
    smallest = (float("inf"), "")
    for case in chosen:
        turn = contenders(field, case)
        agree(turn, case)
        times = alternate(turn, seconds, turns)
        line = f"{case.name:16s} {show(times[0]):>8s}"
        for c, t in zip(turn[1:], times[1:]):
            smallest = min(smallest, (t / times[0], f"{case.name}, {c.name}"))
            line += f"  {c.name} {show(t)} ({t / times[0]:.1f}x)"
        print(line, flush=True)
        for c in turn:
            c.drop()
    if smallest[1]:
        print(f"smallest ratio {smallest[0]:.2f}: {smallest[1]}", flush=True)
    field.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("cases", nargs="*", help="gmm_d2_K5 gmm_d10_K25 ... lstm_l2_c1024 ...")
    parser.add_argument("--random", action="store_true", help="small ones that need no data")
    parser.add_argument("--peers", nargs="*", help="only these peers: torch jax")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each contender of a case")
    parser.add_argument("--turns", type=int, default=15, help="how often its turn comes")
    args = parser.parse_args()
    known = cases(args.random)
    unknown = set(args.cases) - {case.name for case in known}
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    chosen = [case for case in known if not args.cases or case.name in args.cases]
    compare(chosen, args.seconds, args.turns, args.peers)


if __name__ == "__main__":
    main()
