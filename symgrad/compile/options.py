"""What a compile may be told besides its graph, checked.

In: keyword arguments of `sg.function` and `sg.train_step`, and the environment. Out: `Options`.

    target      None (this machine), "avx512", "avx2", "sse2", or "interpret": the graph is run by
                NumPy, node by node; slow, and what native code is compared with
    threads     how many may work on a call; None: what SYMGRAD_THREADS says, else one
    check       "finite": an error names the first term that is NaN or infinite
    max_bytes   the most working memory of a call: cheap values are computed again to keep it
    tolerance   the relative error that results may have: some kernels are faster but less exact
    SYMGRAD_CHECK=1     every call is computed after each stage, and the values compared
    SYMGRAD_DEBUG=1..5  prints while compiling: 1 stage sizes, 2 graphs, 3 loops, 4 LLVM,
                        5 every rewrite
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from symgrad.errors import InputError

TARGETS = ("avx512", "avx2", "sse2", "native", "interpret")


@dataclass(frozen=True)
class Options:
    target: str = "native"
    threads: int = 1
    check: str | None = None
    max_bytes: int | None = None
    tolerance: float = 0.0

    @property
    def interpreted(self) -> bool:
        return self.target == "interpret"


def options(
    target: Any, threads: Any, check: Any, max_bytes: Any = None, tolerance: Any = 0.0
) -> Options:
    """Checked options."""
    if target is not None and target not in TARGETS:
        raise InputError(f"target must be one of {', '.join(TARGETS)}, got {target!r}")
    if check not in (None, "finite"):
        raise InputError(f'check must be None or "finite", got {check!r}')
    number = isinstance(tolerance, (int, float)) and not isinstance(tolerance, bool)
    if not number or not 0 <= tolerance < 1:
        raise InputError(f"tolerance must be a number in 0..1, got {tolerance!r}")
    return Options(
        target or "native", _threads(threads), check, _bytes(max_bytes), float(tolerance)
    )


def _bytes(given: Any) -> int | None:
    """A budget, which may be written as 1e6."""
    if given is None:
        return None
    number = isinstance(given, (int, float)) and not isinstance(given, bool)
    if number and 0 < given < 2**63 and given == int(given):
        return int(given)
    raise InputError(f"max_bytes must be a positive whole number of bytes, got {given!r}")


def _threads(given: Any) -> int:
    """How many threads may work on a call."""
    from codegen.threads import MOST

    said = os.environ.get("SYMGRAD_THREADS", "").strip()
    if given is None and said:
        if not said.isascii() or not said.isdigit() or not 1 <= int(said) <= MOST:
            raise InputError(f"SYMGRAD_THREADS must be a number in 1..{MOST}, got {said!r}")
        return int(said)
    if given is None:
        return 1
    if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= MOST:
        raise InputError(f"threads must be an int in 1..{MOST}, got {given!r}")
    return given


def debug_level() -> int:
    """SYMGRAD_DEBUG, 0 when unset."""
    try:
        return int(os.environ.get("SYMGRAD_DEBUG") or 0)
    except ValueError:
        return 0


def comparing() -> bool:
    """Whether SYMGRAD_CHECK asks for every stage to be compared with the one before."""
    return os.environ.get("SYMGRAD_CHECK", "0") not in ("", "0")
