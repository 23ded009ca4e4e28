"""What the machine allows: multiply-adds per second, and bytes per second.

In: a number of threads, vectors of which target. Out: GFLOP/s in float32, measured with a kernel of
independent accumulators that touches no memory, on every core at once; GB/s of a sum that is as
large as what an optimizer moves. The best of several short measurements, since a shared machine
only slows.
"""

from __future__ import annotations

import ctypes
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Callable

import numpy as np

from codegen.assemble import assemble
from codegen.emit import emit
from codegen.load import load
from codegen.loops import (
    Accumulate,
    Buffer,
    Call,
    Const,
    Declare,
    For,
    Get,
    Kernel,
    Lanes,
    Let,
    Load,
    Param,
    Poly,
    Program,
    Store,
)
from codegen.loops import Op as LoopOp
from codegen.memory import plan
from codegen.target import Target

TURNS, CHAINS = 200_000, 24


def peak_gflops(threads: int = 1, target: str | None = None) -> float:
    """Billions of floating-point operations per second of all threads together, two for each
    multiply-add. Each thread has a core to itself."""
    chosen = Target.host() if target is None else Target.named(target)
    run = _kernel(chosen)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    with ThreadPoolExecutor(threads) as pool:
        parts = pool.map(lambda i: _best(run, chosen.lanes, cores[i:]), range(threads))
        return sum(parts)


def _best(run: Callable[..., None], lanes: int, cores: list[int]) -> float:
    """Of one thread, on the first of the cores."""
    if cores:
        os.sched_setaffinity(0, cores[:1])  # of the calling thread
    memory = np.zeros(CHAINS * lanes + 16, np.float32)
    table = (ctypes.c_void_p * 2)(memory.ctypes.data, memory.ctypes.data)
    best = 1e9
    for _ in range(20):
        start = time.perf_counter()
        run(ctypes.addressof(table), None)
        best = min(best, time.perf_counter() - start)
    return 2 * TURNS * CHAINS * lanes / best / 1e9


def bandwidth(size: int) -> float:
    """GB/s of one thread over arrays that are `size` bytes together."""
    a, b = np.zeros((2, max(size // 8, 1)), np.float32)
    best = 1e9
    for _ in range(20):
        start = time.perf_counter()
        np.add(a, b, out=a)
        best = min(best, time.perf_counter() - start)
    return 3 * a.nbytes / best / 1e9


def _kernel(target: Target) -> Callable[..., None]:
    """The compiled kernel: many independent chains of multiply-adds."""
    lanes = target.lanes
    at = Poly.of("i")
    x = Get("x", "float32")
    body = (
        Lanes(
            "l",
            None,
            (
                Let("x", Load("b", Poly.of("l"), "float32")),
                Declare("acc", "float32", Const(0.0, "float32"), (CHAINS,)),
                For(
                    "k",
                    Poly.of(TURNS),
                    (
                        For(
                            "i",
                            Poly.of(CHAINS),
                            (Accumulate("acc", (at,), "add", LoopOp("mul", (x, x), "float32")),),
                            CHAINS,
                        ),
                    ),
                ),
                For(
                    "j",
                    Poly.of(CHAINS),
                    (Store("b", Poly.of("j") * lanes + "l", Get("acc", "float32", ("j",))),),
                    CHAINS,
                ),
            ),
        ),
    )
    kernel = Kernel("peak", (Param("b", "float32", "rw"),), body)
    program = Program(
        lanes,
        {},
        (Buffer("b", "float32", CHAINS * lanes, "state"),),
        (kernel,),
        (Call("peak", ("b",), (0,)),),
    )
    library = load(assemble(emit(program, plan(program), target), target))
    kept.append(library)
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(library.symbol("step"))


kept: list[object] = []  # code lives as long as its library
