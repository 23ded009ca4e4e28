"""What is known of each kernel: the mathematics it computes, and the code it became.

In: a compiled function. Out: `KernelFacts`, from which reports, profiles and pictures are made.

>>> [kernel.name for kernel in step.kernels]
['product_fc1', 'softmax', 'gradient_fc1']
"""

from __future__ import annotations

from dataclasses import dataclass

from symgrad.node import Expr
from symgrad.source import Source


@dataclass(frozen=True)
class KernelFacts:
    """A kernel, all of its calls together. What is not known is empty, or None for a number."""

    name: str
    expressions: tuple[Expr, ...]  # nodes of the rewritten graph that it computes, results last
    sources: tuple[Source, ...] = ()  # the user's lines they come from, each once
    calls: int = 1  # how often a call of the function runs it
    loops: str = ""  # its loop nest, as `step.stage("loops")` prints it
    llvm: str = ""
    assembly: str = ""
    seconds: float | None = None  # of all calls, where it was timed
    flops: int | None = None  # arithmetic operations of all calls
    bytes: int | None = None  # distinct bytes read and written by all calls
