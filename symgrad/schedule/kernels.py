"""The kernels of a program: each made once, called wherever an equal one is needed.

In: what writers wrote. Out: `Call`s on actual buffers, the table of kernels, and a line of text for
each call.

>>> kernels.call(group, writer)
Call("rows_tanh_0", ("h", "y"))
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Collection, Sequence

from codegen.loops import Call, Declare, For, Kernel, Lanes, Stmt
from symgrad.node import Expr
from symgrad.schedule.equal import fingerprint
from symgrad.schedule.groups import Group
from symgrad.schedule.writer import Writer

INDENT = "  "


class Kernels:
    """`lines` say what every call computes, those in loops indented."""

    def __init__(self) -> None:
        self.made: dict[str, Kernel] = {}
        self.known: dict[str, str] = {}
        self.lines: list[str] = []
        self.depth = 0

    @contextmanager
    def inside(self, heading: str) -> Iterator[None]:
        """Calls within a loop."""
        self.line(heading)
        self.depth += 1
        yield
        self.depth -= 1

    def line(self, text: str) -> None:
        self.lines.append(INDENT * self.depth + text)

    def call(
        self, group: Group, nodes: Sequence[Expr], w: Writer, again: Collection[Expr] = ()
    ) -> Call:
        """The call of what a writer wrote for a group, `nodes` being what it computes."""
        kernel, buffers = w.kernel("")
        key = fingerprint(kernel)
        name = self.known.get(key)
        if name is None:
            first = nodes[0].name.split(" ")[0]
            name = f"{group.kind}_{first}_{len(self.made)}"
            self.known[key] = name
            lines = tuple(dict.fromkeys(str(n.where) for n in nodes))
            comment = ", ".join(n.name for n in nodes)
            inplace = _inplace(w, group)
            self.made[name] = replace(
                kernel, name=name, inplace=inplace, comment=comment, sources=lines
            )
        computed = ", ".join(n.name + (" again" if n in again else "") for n in nodes)
        how = f"  [{w.how}{_accumulators(self.made[name].body)}]" if w.how else ""
        self.line(f"{name}({', '.join(buffers)}): {computed}{how}")
        return self.on(name, buffers, w)

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
