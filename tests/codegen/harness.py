"""Run a program of loop nests natively, and compare it with its interpreter.

Every buffer that the caller owns is laid between guard zones, so that a store outside of it shows.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence

import numpy as np

from codegen import interpret, memory
from codegen.assemble import assemble, verify
from codegen.bundle import with_entries
from codegen.emit import emit
from codegen.load import load
from codegen.loops import Buffer, Call, Derived, Kernel, Program, Stmt
from codegen.loops import Param as Parameter
from codegen.target import Target

TARGETS = ("avx512", "avx2", "sse2")
GUARD = 256  # bytes on either side
PATTERN = 0xA5

Arrays = dict[str, np.ndarray]


def targets() -> list[str]:
    """The targets that this machine can run."""
    return [name for name in TARGETS if Target.named(name).lanes <= Target.host().lanes]


def program(
    lanes: int,
    body: Sequence[Stmt],
    buffers: Mapping[str, tuple[str, int]],
    sizes: Mapping[str, int | Derived] | None = None,
    arena: Sequence[str] = (),
) -> Program:
    """One kernel, called once, with all buffers in order."""
    params = tuple(Parameter(n, dtype, "rw") for n, (dtype, _) in buffers.items())
    held = tuple(
        Buffer(n, dtype, size, "arena" if n in arena else "state")
        for n, (dtype, size) in buffers.items()
    )
    kernel = Kernel("kernel", params, tuple(body), comment="a test")
    return Program(lanes, sizes or {}, held, (kernel,), (Call("kernel", tuple(buffers)),))


def run(
    prog: Program, arrays: Mapping[str, np.ndarray], sizes: Mapping[str, int], target: Target
) -> Arrays:
    """The arrays after one native step; the given ones are not changed."""
    plan = memory.plan(prog)
    text = emit(prog, plan, target)
    verify(text, target)
    code = assemble(text, target)
    library = load(with_entries(code, target) if prog.threads > 1 else code)
    step = library.function("step", None, ctypes.c_void_p, ctypes.c_void_p)
    held = {name: _guarded(array) for name, array in arrays.items()}
    arena = _guarded(np.full(plan.size, 255, np.uint8))  # NaN in either float width
    pointers = (ctypes.c_void_p * (1 + max(plan.table.values(), default=0)))()
    pointers[0] = arena[1].ctypes.data
    for name, index in plan.table.items():
        if name in held:
            pointers[index] = held[name][1].ctypes.data
    given = [n for n, rule in prog.sizes.items() if not isinstance(rule, Derived)]
    values = (ctypes.c_int64 * max(len(given), 1))(*[sizes[n] for n in given])
    step(ctypes.addressof(pointers), ctypes.addressof(values))
    for name, (whole, inner) in [*held.items(), ("the arena", arena)]:
        size = inner.nbytes
        outside = np.concatenate([whole[:GUARD], whole[GUARD + size : 2 * GUARD + size]])
        assert (outside == PATTERN).all(), f"{name} was overrun"
    return {name: inner.copy() for name, (_, inner) in held.items()}


def _guarded(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A copy of an array on a cache line, and the bytes around it."""
    space = np.full(array.nbytes + 2 * GUARD + 64, PATTERN, np.uint8)
    start = -space.ctypes.data % 64
    whole = space[start : start + array.nbytes + 2 * GUARD]
    inner = whole[GUARD : GUARD + array.nbytes].view(array.dtype)
    inner[:] = array.reshape(-1)
    return whole, inner


def check(
    prog: Program,
    arrays: Mapping[str, np.ndarray],
    sizes: Mapping[str, int],
    target: Target,
    tolerance: float = 0.0,
    compare: Sequence[str] | None = None,
) -> Arrays:
    """Native and interpreted results agree (`compare`: in these buffers); returns the former."""
    expected = {name: array.copy() for name, array in arrays.items()}
    interpret.run(prog, expected, sizes)
    found = run(prog, arrays, sizes, target)
    for name in compare or arrays:
        np.testing.assert_allclose(
            found[name], expected[name].reshape(-1), rtol=tolerance, atol=tolerance, err_msg=name
        )
    return found
