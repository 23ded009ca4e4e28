"""What this machine can do at most: arithmetic and memory bandwidth, measured in a blink.

In: a `Target` and a float dtype. Out: `Peaks`, the floor that times of kernels are compared with.
The kernels that measure it are written in the loop grammar like all others, and timed by
`codegen.profile`. One thread, measured once a process.

>>> peaks = measure(Target.host(), "float32")
>>> peaks.flops, peaks.bandwidth(100_000), peaks.bandwidth(1 << 30)
(1.17e11, 1.9e11, 3.1e10)
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codegen.call import Signature, aligned
from codegen.loops import (
    ITEMSIZE,
    Accumulate,
    Buffer,
    Call,
    Const,
    Declare,
    For,
    Get,
    Kernel,
    Lanes,
    Load,
    Op,
    Param,
    Poly,
    Program,
    Stmt,
    Store,
)
from codegen.profile import Timed
from codegen.target import Target

CHAINS = 12  # independent additions: enough to fill the latency of two units
TERMS = 4096
MEMORY = 1 << 26  # bytes that no cache holds


@dataclass(frozen=True)
class Peaks:
    """Operations a second; bytes a second by the size of what is moved: (bytes, bandwidth), the
    last for all that is larger."""

    flops: float
    levels: tuple[tuple[int, float], ...]

    def bandwidth(self, size: int) -> float:
        """Bytes a second for `size` bytes, in the fastest memory that holds them."""
        fitting = (rate for bytes_, rate in self.levels if size <= bytes_)
        return next(fitting, self.levels[-1][1])

    def floor(self, flops: float, size: int) -> float:
        """Seconds that no kernel can do without."""
        return max(flops / self.flops, size / self.bandwidth(size))


@functools.cache
def measure(target: Target, dtype: str = "float32") -> Peaks:
    """The peaks of one thread, as the best of several runs."""
    one = Call("multiply_add", ("one",))
    arithmetic = _fastest(target, dtype, (_multiply_add(dtype),), (one,), 1)
    operations = 2 * CHAINS * _lanes(target, dtype) * TERMS
    shared = _shared_cache()
    levels = [(target.l2, _bandwidth(target, dtype, target.l2 // 2))]
    if shared > 2 * target.l2:
        levels.append((shared, _bandwidth(target, dtype, shared // 4)))
    levels.append((MEMORY, _bandwidth(target, dtype, max(MEMORY, 2 * shared))))
    return Peaks(operations / arithmetic["multiply_add"], tuple(levels))


def _lanes(target: Target, dtype: str) -> int:
    return max(1, target.vector_bits // 8 // ITEMSIZE[dtype])


def _bandwidth(target: Target, dtype: str, size: int) -> float:
    """Bytes a second of the better of two ways to go over `size` bytes."""
    lanes = _lanes(target, dtype)
    vectors = size // ITEMSIZE[dtype] // lanes // 8
    whole = vectors * 8 * lanes * ITEMSIZE[dtype]
    kernels = (_update(dtype, lanes, vectors), _most(dtype, lanes, vectors))
    calls = tuple(Call(k.name, ("x", "one")) for k in kernels for _ in range(3))
    best = _fastest(target, dtype, kernels, calls, size // ITEMSIZE[dtype])
    return max(2 * whole / best["update"], whole / best["most"])


def _fastest(
    target: Target, dtype: str, kernels: tuple[Kernel, ...], calls: tuple[Call, ...], count: int
) -> dict[str, float]:
    """The least seconds that a call of each kernel took."""
    buffers = (Buffer("one", dtype, 64, "state"), Buffer("x", dtype, count, "state"))
    program = Program(_lanes(target, dtype), {}, buffers, kernels, calls)
    states = {b.name: aligned(b.size * ITEMSIZE[dtype]).view(dtype) for b in buffers}
    for array in states.values():
        array[:] = 1
    times = Timed(program, target, Signature(()), states).run([], seconds=0.03)
    best: dict[str, float] = {}
    for call, seconds in zip(calls, np.min(times, axis=0)):
        best[call.kernel] = min(best.get(call.kernel, np.inf), float(seconds))
    return best


def _multiply_add(dtype: str) -> Kernel:
    """acc = acc + acc * x, in independent chains."""
    one = (Param("p", dtype, "rw"),)
    factor = Load("p", Poly.of(32), dtype)
    grow = Op("mul", (Get("acc", dtype, ("i",)), factor), dtype)
    chains = For("i", Poly.of(CHAINS), (Accumulate("acc", ("i",), "add", grow),), CHAINS)
    last = Accumulate("sum", (), "add", Get("acc", dtype, ("i",)))
    body: tuple[Stmt, ...] = (
        Declare("acc", dtype, Const(0.0, dtype), (CHAINS,)),
        For("k", Poly.of(TERMS), (chains,)),
        Declare("sum", dtype, Const(0.0, dtype)),
        For("i", Poly.of(CHAINS), (last,), CHAINS),
        Store("p", Poly.of("l"), Get("sum", dtype), full=True),
    )
    return Kernel("multiply_add", one, (Lanes("l", None, body),))


def _update(dtype: str, lanes: int, vectors: int) -> Kernel:
    """x = x * p, eight vectors a turn: every byte is read and written."""
    where = Poly.of("b") * (8 * lanes) + Poly.of("i") * lanes + "l"
    value = Op("mul", (Load("x", where, dtype), Load("p", Poly.of(32), dtype)), dtype)
    store = Lanes("l", None, (Store("x", where, value, full=True),))
    turn = For("b", Poly.of(vectors), (For("i", Poly.of(8), (store,), 8),))
    return Kernel("update", (Param("x", dtype, "rw"), Param("p", dtype)), (turn,))


def _most(dtype: str, lanes: int, vectors: int) -> Kernel:
    """The largest of x, in eight vectors: every byte is read."""
    where = Poly.of("b") * (8 * lanes) + Poly.of("i") * lanes + "l"
    add = Accumulate("acc", ("i",), "maximum", Load("x", where, dtype))
    last = Accumulate("top", (), "maximum", Get("acc", dtype, ("i",)))
    body: tuple[Stmt, ...] = (
        Declare("acc", dtype, Const(0.0, dtype), (8,)),
        For("b", Poly.of(vectors), (For("i", Poly.of(8), (add,), 8),)),
        Declare("top", dtype, Const(0.0, dtype)),
        For("i", Poly.of(8), (last,), 8),
        Store("p", Poly.of("l"), Get("top", dtype), full=True),
    )
    params = (Param("x", dtype), Param("p", dtype, "w"))
    return Kernel("most", params, (Lanes("l", None, body),))


def _shared_cache() -> int:
    """Bytes of the last cache, 0 where the system does not tell."""
    try:
        text = Path("/sys/devices/system/cpu/cpu0/cache/index3/size").read_text().strip()
        return 1024 * int(text.rstrip("K"))
    except (OSError, ValueError):
        return 0
