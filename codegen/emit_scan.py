"""What must be known of a kernel before it is emitted: free names, writes, accumulators.

In: a kernel. Out: `Facts`. Loops are emitted in one go, so it must be clear at their head which
buffers and accumulators their bodies change.

>>> scan(kernel).names, scan(kernel).reads
({'blocks'}, {'x'})
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Iterable

from codegen.loops import (
    Accumulate,
    Declare,
    For,
    Get,
    Index,
    Kernel,
    Lanes,
    Let,
    Load,
    Op,
    Poly,
    Prefetch,
    Scatter,
    Stmt,
    Store,
    Transpose,
    Value,
)

Use = tuple[str, bool]  # the function that accumulates, and whether inside a `Lanes`


@dataclass
class Body:
    """What a statement changes: buffers, and accumulators with the ways they are changed."""

    writes: set[str] = field(default_factory=set)
    updates: dict[str, set[Use]] = field(default_factory=dict)

    def add(self, other: Body) -> None:
        self.writes |= other.writes
        for name, uses in other.updates.items():
            self.updates.setdefault(name, set()).update(uses)


@dataclass
class Facts:
    """Of a kernel. `names` are the sizes it uses; `dynamic` the accumulators with an element that
    is not known when the kernel is emitted, which must live in memory."""

    names: set[str] = field(default_factory=set)
    reads: set[str] = field(default_factory=set)
    dynamic: set[str] = field(default_factory=set)
    bodies: dict[int, Body] = field(default_factory=dict)  # by id of the statement


def scan(kernel: Kernel) -> Facts:
    return _Scan().run(kernel)


class _Scan:
    def __init__(self) -> None:
        self.facts = Facts()
        self.bound: set[str] = set()
        self.unrolled: set[str] = set()
        self.seen: set[int] = set()
        self.tiles: set[str] = set()

    def run(self, kernel: Kernel) -> Facts:
        for statement in kernel.body:
            self.statement(statement, False)
        self.facts.names -= self.bound
        return self.facts

    def block(self, body: Iterable[Stmt], lanes: bool) -> Body:
        total = Body()
        for statement in body:
            total.add(self.statement(statement, lanes))
        return total

    def statement(self, s: Stmt, lanes: bool) -> Body:
        body = Body()
        if isinstance(s, For):
            self.facts.names |= s.extent.names
            self.bound.add(s.var)
            extent = s.extent.constant
            if extent is not None and (s.unroll >= extent or extent <= 1):
                self.unrolled.add(s.var)
            else:
                self.unrolled.discard(s.var)
            body = self.block(s.body, lanes)
        elif isinstance(s, Lanes):
            self.facts.names |= s.live.names if s.live is not None else frozenset()
            self.bound.add(s.var)
            body = self.block(s.body, True)
        elif isinstance(s, Let):
            self.bound.add(s.name)
            self.value(s.value)
        elif isinstance(s, Declare):
            self.tiles.add(s.name)
            self.value(s.init)
        elif isinstance(s, Accumulate):
            self.value(s.value)
            self.subscripts(s.name, s.at)
            body.updates[s.name] = {(s.fn, lanes)}
        else:
            self.memory(s, body)
        self.facts.bodies[id(s)] = body
        return body

    def memory(self, s: Store | Scatter | Prefetch | Transpose, body: Body) -> None:
        if isinstance(s, Transpose):
            for poly in (s.dst_index, s.dst_stride, s.src_index, s.src_stride, s.rows, s.cols):
                self.facts.names |= poly.names
            body.writes.add(s.dst)
            self.facts.reads.add(s.src)
            return
        self.facts.names |= s.index.names
        if isinstance(s, Prefetch):
            return
        body.writes.add(s.buffer)
        self.value(s.value)
        if isinstance(s, Scatter):
            self.facts.reads.add(s.buffer)
        elif s.when is not None:
            self.value(s.when)

    def subscripts(self, name: str, at: Iterable[Poly | int | str]) -> None:
        for subscript in at:
            names = Poly.of(subscript).names
            self.facts.names |= names
            if not names <= self.unrolled:
                self.facts.dynamic.add(name)

    def value(self, root: Value) -> None:
        stack = [root]
        while stack:
            v = stack.pop()
            if isinstance(v, Get):
                if v.at:
                    self.subscripts(v.name, v.at)
                continue
            if id(v) in self.seen:
                continue
            self.seen.add(id(v))
            if isinstance(v, Op):
                stack.extend(v.args)
            elif isinstance(v, Load):
                self.facts.names |= v.index.names
                self.facts.reads.add(v.buffer)
                if v.when is not None:
                    stack.append(v.when)
            elif isinstance(v, Index):
                self.facts.names |= v.poly.names
