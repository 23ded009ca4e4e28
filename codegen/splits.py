"""What can be seen of a kernel's text about the independence of the turns of its split loops.

In: a kernel. Out: an error where its form is wrong, and the parameters that turns have in common:
written, or read although the kernel writes them, at an index that is the same in every turn. Only
private memory may be bound to those. That turns with different indices never meet is what
`interpret` finds out, by running them.

>>> common(kernel, [{"n": 20}])
{'total': 'total[0] = sum'}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from codegen.loops import (
    For,
    Index,
    Kernel,
    Lanes,
    Let,
    Load,
    Poly,
    Scatter,
    Stmt,
    Store,
    Transpose,
)
from codegen.show import show_statement
from codegen.walk import postorder, values_of


def check(kernel: Kernel, sizes: frozenset[str]) -> None:
    """ValueError unless the body consists of split loops over sizes and of `Let`s that every thread
    can compute for itself."""
    if not kernel.split:
        return
    found = [s.var for s in kernel.body if isinstance(s, For)]
    if sorted(found) != sorted(kernel.split):
        raise ValueError(f"split {', '.join(kernel.split)}, but the body has loops {found}")
    written = {p.name for p in kernel.params if p.mode != "r"}
    for s in kernel.body:
        if isinstance(s, For):
            if not s.extent.names <= sizes:
                raise ValueError(f"the split loop {s.var} is not as long as sizes tell")
        elif not isinstance(s, Let):
            raise ValueError(f"beside split loops: {show_statement(s).strip()}")
        else:
            for v in postorder(values_of(s)):
                if isinstance(v, Load) and v.buffer in written:
                    raise ValueError(f"{s.name} reads {v.buffer}, which split loops write")


def common(kernel: Kernel, samples: Sequence[Mapping[str, int]]) -> dict[str, str]:
    """Parameters that turns have in common, each with a statement that shows it. The only turn of a
    loop that has one, at all these sizes, shares nothing."""
    written = {p.name for p in kernel.params if p.mode != "r"}
    found: dict[str, str] = {}
    for loop in kernel.body:
        if not isinstance(loop, For) or loop.var not in kernel.split:
            continue
        if any(loop.extent.value(sizes) > 1 for sizes in samples):
            own = {loop.var}  # names whose values belong to the turn
            for s in _statements(loop.body):
                if isinstance(s, Let) and _belongs(s, own):
                    own.add(s.name)
                for buffer, index in _accesses(s):
                    if buffer in written and own.isdisjoint(index.names):
                        found.setdefault(buffer, show_statement(s).strip())
    return found


def _belongs(s: Let, own: set[str]) -> bool:
    """Whether an integer is made of the turn's number. What memory says may be the same in two
    turns: an index that was loaded is no turn's own."""
    values = postorder((s.value,))
    if any(isinstance(v, Load) for v in values):
        return False
    return any(
        not own.isdisjoint(v.poly.names) if isinstance(v, Index) else getattr(v, "name", "") in own
        for v in values
    )


def _statements(body: tuple[Stmt, ...]) -> Iterator[Stmt]:
    for s in body:
        yield s
        if isinstance(s, Lanes) or isinstance(s, For) and s.extent.constant != 0:
            yield from _statements(s.body)


def _accesses(s: Stmt) -> Iterator[tuple[str, Poly]]:
    """Buffers and indices of a statement, reads and writes alike."""
    if isinstance(s, (Store, Scatter)):
        yield s.buffer, s.index
    elif isinstance(s, Transpose):
        yield s.dst, s.dst_index
        yield s.src, s.src_index
    for v in postorder(values_of(s)):
        if isinstance(v, Load):
            yield v.buffer, v.index
