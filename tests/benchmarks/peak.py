"""The arithmetic floor: how many multiply-adds one core can do per second.

In: nothing. Out: GFLOP/s in float32, measured with a kernel of independent accumulators that
touches no memory; the largest of several short measurements, since a shared machine only slows.
"""

from __future__ import annotations

import ctypes
import time

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


def peak_gflops() -> float:
    """Billions of floating-point operations per second, two for each multiply-add."""
    target = Target.host()
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
    run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(library.symbol("step"))
    memory = np.zeros(CHAINS * lanes + 16, np.float32)
    table = (ctypes.c_void_p * 2)(memory.ctypes.data, memory.ctypes.data)
    best = 1e9
    for _ in range(20):
        start = time.perf_counter()
        run(ctypes.addressof(table), None)
        best = min(best, time.perf_counter() - start)
    return 2 * TURNS * CHAINS * lanes / best / 1e9
