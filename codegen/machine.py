"""What this machine can do at most: arithmetic and memory bandwidth, measured in a blink.

In: a `Target`, a float dtype, a number of threads. Out: `Peaks`, the floor that times of kernels
are compared with. The kernels that measure it are written in the loop grammar like all others, and
timed by `codegen.profile`, once a process.

>>> peaks = measure(Target.host(), "float32", threads=1)
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
TERMS = 1024
PARTS = 64  # of every kernel, for threads to share
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
def measure(target: Target, dtype: str = "float32", threads: int = 1) -> Peaks:
    """The peaks of so many threads, as the best of several runs."""
    machine = _Machine(target, dtype, threads)
    shared, own = _shared_cache(), threads * target.l2
    levels = [(own, machine.bandwidth(own // 2))]
    if shared > 2 * own:
        levels.append((shared, machine.bandwidth(shared // 4)))
    levels.append((MEMORY, machine.bandwidth(max(MEMORY, 2 * shared))))
    return Peaks(machine.arithmetic(), tuple(levels))


class _Machine:
    def __init__(self, target: Target, dtype: str, threads: int) -> None:
        self.target, self.dtype, self.threads = target, dtype, threads
        self.lanes = max(1, target.vector_bits // 8 // ITEMSIZE[dtype])

    def arithmetic(self) -> float:
        """Operations a second."""
        kernel = self._multiply_add()
        best = self._fastest((kernel,), (Call(kernel.name, ("rest",)),), 1)
        return 2 * PARTS * CHAINS * self.lanes * TERMS / best[kernel.name]

    def bandwidth(self, size: int) -> float:
        """Bytes a second of the better of two ways to go over `size` bytes."""
        turn = PARTS * 8 * self.lanes * ITEMSIZE[self.dtype]
        turns = max(size // turn, 1)
        kernels = (self._update(turns), self._most(turns))
        calls = tuple(Call(k.name, ("x", "rest")) for k in kernels for _ in range(3))
        best = self._fastest(kernels, calls, turns * turn // ITEMSIZE[self.dtype])
        return max(2 * turns * turn / best["update"], turns * turn / best["most"])

    def _fastest(
        self, kernels: tuple[Kernel, ...], calls: tuple[Call, ...], count: int
    ) -> dict[str, float]:
        """The least seconds that a call of each kernel took."""
        rest = Buffer("rest", self.dtype, (PARTS + 1) * self.lanes, "state")
        buffers = (rest, Buffer("x", self.dtype, count, "state"))
        program = Program(self.lanes, {}, buffers, kernels, calls, threads=self.threads)
        states = {b.name: aligned(b.size * ITEMSIZE[b.dtype]).view(b.dtype) for b in buffers}
        for array in states.values():
            array[:] = 1
        times = Timed(program, self.target, Signature(()), states).run([], seconds=0.03)
        best: dict[str, float] = {}
        for call, seconds in zip(calls, np.min(times, axis=0)):
            best[call.kernel] = min(best.get(call.kernel, np.inf), float(seconds))
        return best

    # -- kernels in `PARTS` parts; what they find goes behind the first vector of `rest` --------
    def _kernel(self, name: str, params: tuple[Param, ...], body: tuple[Stmt, ...]) -> Kernel:
        loop = For("t", Poly.of(PARTS), (Lanes("l", None, body),))
        return Kernel(name, params, (loop,), split=("t",))

    def _multiply_add(self) -> Kernel:
        """acc = acc + acc * x, in independent chains."""
        dtype = self.dtype
        factor = Load("rest", Poly.of(0), dtype)
        grow = Op("mul", (Get("acc", dtype, ("i",)), factor), dtype)
        chains = For("i", Poly.of(CHAINS), (Accumulate("acc", ("i",), "add", grow),), CHAINS)
        start = Declare("acc", dtype, Const(0.0, dtype), (CHAINS,))
        body = (start, For("k", Poly.of(TERMS), (chains,)), *self._largest(CHAINS))
        return self._kernel("multiply_add", (Param("rest", dtype, "rw"),), body)

    def _update(self, turns: int) -> Kernel:
        """x = x * 1, eight vectors a turn: every byte is read and written."""
        dtype, where = self.dtype, self._place(turns)
        value = Op("mul", (Load("x", where, dtype), Load("rest", Poly.of(0), dtype)), dtype)
        store = Store("x", where, value, full=True)
        body = (For("b", Poly.of(turns), (For("i", Poly.of(8), (store,), 8),)),)
        return self._kernel("update", (Param("x", dtype, "rw"), Param("rest", dtype)), body)

    def _most(self, turns: int) -> Kernel:
        """The largest of x, in eight vectors: every byte is read."""
        dtype = self.dtype
        more = Accumulate("acc", ("i",), "maximum", Load("x", self._place(turns), dtype))
        start = Declare("acc", dtype, Const(0.0, dtype), (8,))
        loop = For("b", Poly.of(turns), (For("i", Poly.of(8), (more,), 8),))
        params = (Param("x", dtype), Param("rest", dtype, "w"))
        return self._kernel("most", params, (start, loop, *self._largest(8)))

    def _place(self, turns: int) -> Poly:
        block = Poly.of("t") * turns + "b"
        return block * (8 * self.lanes) + Poly.of("i") * self.lanes + "l"

    def _largest(self, count: int) -> tuple[Stmt, ...]:
        """Stores the largest of the accumulators, so that they are needed."""
        dtype = self.dtype
        last = Accumulate("top", (), "maximum", Get("acc", dtype, ("i",)))
        return (
            Declare("top", dtype, Const(0.0, dtype)),
            For("i", Poly.of(count), (last,), count),
            Store("rest", Poly.of("t") * self.lanes + self.lanes + "l", Get("top", dtype)),
        )


def _shared_cache() -> int:
    """Bytes of the last cache, 0 where the system does not tell."""
    try:
        text = Path("/sys/devices/system/cpu/cpu0/cache/index3/size").read_text().strip()
        return 1024 * int(text.rstrip("K"))
    except (OSError, ValueError):
        return 0
