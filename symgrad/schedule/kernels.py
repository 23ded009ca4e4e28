"""The kernels of a program: each made once, called wherever an equal one is needed.

In: what writers wrote. Out: `Call`s on actual buffers, the table of kernels, and an entry for each
call that says what it computes. Names and comments for readers are made when somebody reads them
(`symgrad.compile.provenance`), so that nothing that is compiled depends on them.

>>> kernels.call(group, nodes, named, writer)
Call("rows_tanh_0", ("h", "y"))
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Collection, Sequence

from codegen.loops import Call, Declare, For, Kernel, Lanes, Stmt
from symgrad.node import Expr
from symgrad.schedule.equal import fingerprint
from symgrad.schedule.groups import Group
from symgrad.schedule.writer import Writer


@dataclass(frozen=True)
class Entry:
    """A call in the order of the program, or the heading of a loop around the deeper ones that
    follow. It computes `nodes`, and on the way what they are made of, down to values in `named`,
    which others compute, and to leaves. `again` are those nodes that were computed before; `kind`
    is the group's, of which a "convert" or a "copy" only moves what is named."""

    depth: int
    heading: str = ""
    kernel: str = ""
    kind: str = ""
    buffers: tuple[str, ...] = ()
    nodes: tuple[Expr, ...] = ()
    named: Collection[Expr] = ()
    again: frozenset[Expr] = frozenset()
    how: str = ""


class Kernels:
    """`entries` say what every call computes."""

    def __init__(self) -> None:
        self.made: dict[str, Kernel] = {}
        self.known: dict[str, str] = {}
        self.entries: list[Entry] = []
        self.depth = 0

    @contextmanager
    def inside(self, heading: str) -> Iterator[None]:
        """Calls within a loop."""
        self.entries.append(Entry(self.depth, heading))
        self.depth += 1
        yield
        self.depth -= 1

    def call(
        self,
        group: Group,
        nodes: Sequence[Expr],
        named: Collection[Expr],
        w: Writer,
        again: Collection[Expr] = (),
    ) -> Call:
        """The call of what a writer wrote for a group, `nodes` being what it computes."""
        kernel, buffers = w.kernel("")
        key = fingerprint(kernel)
        name = self.known.get(key)
        if name is None:
            first = nodes[0].name.split(" ")[0]
            name = f"{group.kind}_{first}_{len(self.made)}"
            self.known[key] = name
            self.made[name] = replace(kernel, name=name, inplace=_inplace(w, group))
        repeated = frozenset(n for n in nodes if n in again)
        how = f"{w.how}{_accumulators(self.made[name].body)}" if w.how else ""
        self.entries.append(
            Entry(
                self.depth, "", name, group.kind, tuple(buffers), tuple(nodes), named, repeated, how
            )
        )
        return self.on(name, buffers, w)

    def other(self, kernel: Kernel, buffers: Sequence[str], nodes: Sequence[Expr]) -> None:
        """A kernel that no group asks for, and what it is there for."""
        self.made[kernel.name] = kernel
        name = kernel.name
        self.entries.append(Entry(self.depth, "", name, name, tuple(buffers), tuple(nodes)))

    def on(self, name: str, buffers: Sequence[str], w: Writer) -> Call:
        """The call of a kernel on buffers, or on parts of them."""
        found = [w.memory.whole(b) for b in buffers]
        moved = any(start.terms for _, start in found)
        return Call(name, tuple(b for b, _ in found), tuple(s for _, s in found) if moved else ())


def _inplace(w: Writer, group: Group) -> tuple[tuple[str, str], ...]:
    """In a flat loop every element is read before the same element is written."""
    if group.kind != "plain" or not w.was_flat:
        return ()
    written = [b for b, mode in w.operands.items() if mode == "w"]
    read = [b for b, mode in w.operands.items() if mode == "r"]
    return tuple((w.formal[a], w.formal[b]) for a in written for b in read)


def _accumulators(body: Sequence[Stmt]) -> str:
    """The tiles of accumulators that a kernel holds in registers."""
    found: dict[str, None] = {}
    stack = list(body)[::-1]
    while stack:
        s = stack.pop()
        if isinstance(s, Declare) and len(s.shape) == 2:
            found["x".join(map(str, s.shape))] = None
        elif isinstance(s, (For, Lanes)):
            stack += s.body[::-1]
    return f", tiles {' '.join(found)}" if found else ""
