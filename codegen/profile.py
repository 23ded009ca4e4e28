"""How long each call of a program takes.

In: a program, the target, what a call takes, the memory of its states. Out: `Timed`, the program
compiled once more with a look at the machine's counter between its calls, and the seconds that
every call took in every run, all turns of the repeats around it together. The program that is used
otherwise is left as it is.

>>> timed = Timed(program, target, signature, {"W": weights})
>>> np.median(timed.run([x], seconds=0.2), axis=0)
array([1.2e-05, 3.1e-06])
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from codegen import cache, memory
from codegen.assemble import assemble
from codegen.bundle import with_entries
from codegen.call import Function, Signature
from codegen.emit import emit
from codegen.emit_clock import words
from codegen.load import load
from codegen.loops import Buffer, Program
from codegen.repeats import flat
from codegen.target import Target

Array = np.ndarray[Any, Any]
STAMPS = "profile.stamps"


class Timed:
    """A program with a stopwatch, on memory of its own: `states` are the arrays of its state
    buffers, on cache lines."""

    def __init__(
        self, program: Program, target: Target, signature: Signature, states: Mapping[str, Array]
    ) -> None:
        self.calls = len(flat(program))
        stamps = Buffer(STAMPS, "int64", words(self.calls), "output")
        program = dataclasses.replace(program, buffers=(*program.buffers, stamps))
        plan = memory.plan(program)
        library = load(_object(emit(program, plan, target, STAMPS), target))
        self.function = Function(library, plan, program, signature)
        for name, array in states.items():
            self.function.set_pointer(name, array)
        self.stamps = self.function.output(STAMPS)

    def run(
        self, arrays: Sequence[Array], seconds: float = 0.2, least: int = 5, most: int = 1000
    ) -> Array:
        """Seconds of each call (columns) in each run (rows), after one that does not count."""
        enter = self.function.call
        found: list[Array] = []
        if enter(*arrays) is NotImplemented:
            raise ValueError("these arguments do not fit the program")
        first, begin = int(self.stamps[-1]), time.perf_counter()
        while len(found) < least or (time.perf_counter() - begin < seconds and len(found) < most):
            enter(*arrays)
            found.append(self.stamps.copy())
        while time.perf_counter() - begin < 0.01:  # too short to tell how fast the counter goes
            enter(*arrays)
        spent = time.perf_counter() - begin
        tick = spent / max(int(self.stamps[-1]) - first, 1)
        stamps, entries = np.array(found), self.calls + 1
        moved, often = stamps[:, :entries], stamps[:, entries:-1]
        cost = np.median(moved[:, -1])
        return (np.maximum(moved - cost * often, 0) * tick)[:, :-1]


def _object(text: str, target: Target) -> bytes:
    """Machine code of a module, from the object cache if it was profiled before."""
    name = cache.key("profile", cache.compiler_version(), text, target)
    found = cache.get(name)
    code = found[0] if found is not None else assemble(text, target)
    if found is None:
        cache.put(name, code, {})
    return with_entries(code, target)
