"""Starts: import, compile and first step of mlp_mnist in a new process, cold and cached; compile
time over depth.

In: how often to repeat. Out: lines of medians. Python keeps the bytecode of what was imported, as
after an installation: sources are not parsed again in every process.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

FIRST_STEP = """
import time; t0 = time.perf_counter()
import sys; sys.path.insert(0, {here!r})
import symgrad as sg
from contenders import symgrad_step
from workloads import WORKLOADS
w = WORKLOADS["mlp_mnist"]; x, y, _ = w.arrays()
t1 = time.perf_counter(); step = symgrad_step(w); t2 = time.perf_counter(); step(x, y)
t3 = time.perf_counter()
heavy = [m for m in ("llvmlite", "sympy") if m in sys.modules]
print(t3 - t0, t2 - t1, ",".join(heavy) or "none")
"""

PEER_STEP = """
import time; t0 = time.perf_counter()
import sys; sys.path.insert(0, {here!r})
from contenders import {name}
from workloads import WORKLOADS
step = {name}(WORKLOADS["mlp_mnist"]); step()
print(time.perf_counter() - t0, 0, "")
"""

DEPTH = """
import sys, time; sys.path.insert(0, {here!r})
import dataclasses
from contenders import symgrad_step
from workloads import Workload
symgrad_step(Workload("warm", (16, 16, 2), "tanh", 32, "sgd"))
for layers in (2, 4, 8, 16, 32, 64):
    best = 1e9
    for turn in range({turns}):
        w = Workload("deep", (64,) * layers + (10,), "tanh", 32 + turn, "adam")
        t = time.perf_counter(); symgrad_step(w); best = min(best, time.perf_counter() - t)
    print(layers, best)
"""


BYTECODE = tempfile.TemporaryDirectory()


def fresh(code: str, cache: str) -> list[str]:
    """Runs code in a new process; the words of its last line."""
    here = str(Path(__file__).parent)
    path = os.pathsep.join([here, str(Path(here).parent.parent), os.environ.get("PYTHONPATH", "")])
    env = dict(os.environ, SYMGRAD_CACHE=cache, PYTHONPATH=path, PYTHONPYCACHEPREFIX=BYTECODE.name)
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout.strip().splitlines()


def startup(turns: int) -> None:
    """Prints the start-up rows."""
    from contenders import installed

    here = str(Path(__file__).parent)
    fresh(FIRST_STEP.format(here=here), "off")  # not counted: it fills the folder of bytecode
    cold: list[float] = []
    warm: list[float] = []
    compiling: list[float] = []
    for _ in range(turns):
        with tempfile.TemporaryDirectory() as cache:
            total, spent, heavy = fresh(FIRST_STEP.format(here=here), cache)[-1].split()
            cold.append(float(total))
            compiling.append(float(spent))
            total, _, heavy = fresh(FIRST_STEP.format(here=here), cache)[-1].split()
            warm.append(float(total))
    cold_start, compile_time, warm_start = map(statistics.median, (cold, compiling, warm))
    print(
        f"mlp_mnist cold {cold_start:.3f} s (compiling {compile_time:.3f} s), "
        f"cached {warm_start:.3f} s, heavy imports when cached: {heavy}"
    )
    for name in installed(["torch", "jax"]):
        fresh(PEER_STEP.format(here=here, name=name), "off")
        times = [
            float(fresh(PEER_STEP.format(here=here, name=name), "off")[-1].split()[0])
            for _ in range(turns)
        ]
        print(f"  {name}: {statistics.median(times):.3f} s to the first step")
    lines = fresh(DEPTH.format(here=here, turns=turns), "off")
    depth = {int(a): float(b) for a, b in (line.split() for line in lines)}
    print("compile by layers: " + ", ".join(f"{k}: {v * 1e3:.0f} ms" for k, v in depth.items()))
    growth = depth[64] / depth[2] / 32
    print(f"64 layers over 2: {growth:.2f} times the layers' ratio", flush=True)
