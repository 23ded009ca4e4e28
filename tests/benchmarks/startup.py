"""Starts in new processes: compile times, cold and cached starts, peak memory.

In: how often to repeat. Out: lines of medians; for peak memory the largest.

Python keeps the bytecode of what was imported, as after an installation: sources are not parsed
again in every process. Nothing else is kept but symgrad's object cache, where a line says "cached".
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Sequence

from contenders import installed
from table import show

HEAD = """
import time; t0 = time.perf_counter()
from workloads import SMALL, WORKLOADS, VGG16
w = {{**(SMALL if {small} else WORKLOADS), "vgg16": VGG16}}[{name!r}]
def peak():  # this process alone; getrusage would count the parent before exec
    lines = open("/proc/self/status").read().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)
"""

# A process of symgrad: seconds to the first loss, of it compiling, heavy modules, peak memory.
FIRST_STEP = (
    HEAD
    + """
import sys, ours
x, y = w.data()
t1 = time.perf_counter(); step = ours.compiled(w); t2 = time.perf_counter(); step(x, y)
t3 = time.perf_counter()
for _ in range({steps}):
    step(x, y)
heavy = [m for m in ("llvmlite", "sympy") if m in sys.modules]
print(t3 - t0, t2 - t1, ",".join(heavy) or "none", peak())
"""
)

# The same of a peer; it has compiled when its first step is done.
PEER_STEP = (
    HEAD
    + """
from peer_{peer} import build
t1 = time.perf_counter(); step = build(w); step(); t2 = time.perf_counter()
for _ in range({steps}):
    step()
print(t2 - t0, t2 - t1, "", peak())
"""
)

# Compile time alone: parameters keep symgrad's own first values, the large ones zeros.
COMPILE = (
    HEAD
    + """
import ours
ours.compiled(SMALL["mlp_xs"])  # LLVM is imported, and symgrad has run
t1 = time.perf_counter(); loss, _ = ours.declared(w, weights=False)
t2 = time.perf_counter(); step = ours.trained(w, loss); t3 = time.perf_counter()
print(t2 - t1, t3 - t2, "", peak())
"""
)

DEPTH = (
    HEAD
    + """
from dataclasses import replace
from workloads import mlp
import ours
ours.compiled(w)
for layers in {depths}:
    best = 1e9
    for turn in range({turns}):
        deep = replace(w, batch=32 + turn, optimizer="adam", **mlp((64,) * layers + (10,), "tanh"))
        t = time.perf_counter(); ours.compiled(deep); best = min(best, time.perf_counter() - t)
    print(layers, best)
"""
)

BYTECODE = tempfile.TemporaryDirectory()


def fresh(code: str, cache: str, **values: object) -> list[str]:
    """Runs code in a new process on one core; the lines it prints."""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent.parent), os.environ.get("PYTHONPATH", "")])
    env = dict(os.environ, SYMGRAD_CACHE=cache, PYTHONPATH=path, PYTHONPYCACHEPREFIX=BYTECODE.name)
    for library in ("OMP", "OPENBLAS", "MKL"):
        env[f"{library}_NUM_THREADS"] = "1"
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    pinned = "from workers import pin; pin(1)\n"
    command = [sys.executable, "-c", pinned + code.format(**values)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout.strip().splitlines()


def startup(turns: int, small: bool = False, peers: Sequence[str] | None = None) -> None:
    """Prints all of it."""
    others = [name for name in installed(peers) if name in ("torch", "jax")]
    starts("mlp_mnist", turns, small, [] if small else others)
    for name in ("lenet",) if small else ("lenet", "resnet20", "gpt", "vgg16"):
        compiles(name, turns, small, [] if small else others)
    memory("resnet20", small, others)
    depths(turns, (2, 4, 8) if small else (2, 4, 8, 16, 32, 64))


def starts(name: str, turns: int, small: bool, peers: Sequence[str]) -> None:
    """From a new process to the first loss."""
    values = {"small": small, "name": name, "steps": 0}
    fresh(FIRST_STEP, "off", **values)  # not counted: it fills the folder of bytecode
    cold, compiling, warm, heavy = [], [], [], ""
    for _ in range(turns):
        with tempfile.TemporaryDirectory() as cache:
            total, spent, *_ = fresh(FIRST_STEP, cache, **values)[-1].split()
            cold.append(float(total))
            compiling.append(float(spent))
            total, _, heavy, _ = fresh(FIRST_STEP, cache, **values)[-1].split()
            warm.append(float(total))
    first, spent_, again = (show(statistics.median(t)) for t in (cold, compiling, warm))
    print(
        f"{name}: first step {first} after the start (compiling {spent_}), "
        f"{again} cached; imported then: {heavy}"
    )
    for peer in peers:
        fresh(PEER_STEP, "off", peer=peer, **values)
        lines = [fresh(PEER_STEP, "off", peer=peer, **values)[-1] for _ in range(turns)]
        median = statistics.median(float(line.split()[0]) for line in lines)
        print(f"  {peer}: {show(median)} to the first step", flush=True)


def compiles(name: str, turns: int, small: bool, peers: Sequence[str]) -> None:
    """How long a network takes to compile in a process that has compiled before."""
    values = {"small": small, "name": name, "steps": 0}
    lines = [fresh(COMPILE, "off", **values)[-1].split() for _ in range(turns)]
    declaring, compiling = (statistics.median(float(line[i]) for line in lines) for i in (0, 1))
    text = f"{name}: compiled in {show(compiling)}, declared in {show(declaring)}"
    if "jax" in peers and name != "vgg16":
        lines = [fresh(PEER_STEP, "off", peer="jax", **values)[-1].split() for _ in range(turns)]
        median = statistics.median(float(line[1]) for line in lines)
        text += f"; JAX {show(median)} with its first step"
    print(text, flush=True)


def memory(name: str, small: bool, peers: Sequence[str]) -> None:
    """Peak memory of a process that runs some steps."""
    values = {"small": small, "name": name, "steps": 5}
    with tempfile.TemporaryDirectory() as cache:
        cold, again = (fresh(FIRST_STEP, cache, **values)[-1].split()[-1] for _ in range(2))
    shown = [f"symgrad {int(cold) / 1024:.0f} MB, cached {int(again) / 1024:.0f} MB"]
    for peer in peers:
        used = fresh(PEER_STEP, "off", peer=peer, **values)[-1].split()[-1]
        shown.append(f"{peer} {int(used) / 1024:.0f} MB")
    print(f"{name}: peak memory of the process: {', '.join(shown)}", flush=True)


def depths(turns: int, layers: Sequence[int]) -> None:
    """Compile time over the number of layers."""
    lines = fresh(DEPTH, "off", small=True, name="mlp_xs", turns=turns, depths=tuple(layers))
    found = {int(a): float(b) for a, b in (line.split() for line in lines)}
    print("compile by layers: " + ", ".join(f"{k}: {show(v)}" for k, v in found.items()))
    growth = found[layers[-1]] / found[layers[0]] * layers[0] / layers[-1]
    print(f"{layers[-1]} layers over {layers[0]}: {growth:.2f} times the layers' ratio", flush=True)
