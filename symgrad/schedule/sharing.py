"""Which loops of a kernel threads may share.

In: the statements of a kernel whose writer says that the turns of its outermost loops, and what
stands beside these loops, compute elements of their own. Out: the statements with every tile that
stands beside a loop in a loop of one turn, and the names of the outermost loops: the kernel's
`split`. Where an accumulator lives across such a loop there is nothing to share.

>>> shared([For("t", 8, tiles), Lanes("l", None, last_tile)], fresh)
([For("t", 8, tiles), For("one1", 1, [Lanes("l", None, last_tile)])], ("t", "one1"))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from codegen.loops import (
    Accumulate,
    Declare,
    For,
    Get,
    Index,
    Lanes,
    Let,
    Load,
    Poly,
    Prefetch,
    Scatter,
    Stmt,
    Store,
    Transpose,
)
from codegen.walk import postorder, values_of


def shared(
    body: Sequence[Stmt], fresh: Callable[[str], str], sizes: frozenset[str]
) -> tuple[list[Stmt], tuple[str, ...]]:
    """The body and the split loops, () if there are none."""
    pieces = _pieces(body)
    loops = [p[0] for p in pieces if len(p) == 1 and isinstance(p[0], For)]
    if not any(isinstance(s, For) and s.extent.names <= sizes for s in loops):
        return list(body), ()
    found: list[Stmt] = []
    for piece in pieces:
        alone = piece[0] if len(piece) == 1 else None
        if isinstance(alone, Let) or isinstance(alone, For) and alone.extent.names <= sizes:
            found.append(alone)
        else:
            found.append(For(fresh("one"), Poly.of(1), tuple(piece)))
    return found, tuple(s.var for s in found if isinstance(s, For))


def _pieces(body: Sequence[Stmt]) -> list[list[Stmt]]:
    """Statements that must stay together: those that share an accumulator, and what is between."""
    pieces: list[list[Stmt]] = []
    home: dict[str, int] = {}  # the piece of every accumulator, and of what is made of it
    for s in body:
        used = [home[name] for name in _names(s) if name in home] if home else []
        if used:
            first = min(used)
            joined = [t for piece in pieces[first:] for t in piece]
            pieces[first:] = [[*joined, s]]
            home = {name: min(at, first) for name, at in home.items()}
        else:
            pieces.append([s])
        if isinstance(s, (Declare, Let)) and (used or isinstance(s, Declare)):
            home[s.name] = len(pieces) - 1
    return pieces


def _names(s: Stmt) -> Iterator[str]:
    """Every name that a statement uses, in its body too."""
    if isinstance(s, For):
        yield from s.extent.names
    elif isinstance(s, Lanes) and s.live is not None:
        yield from s.live.names
    elif isinstance(s, Accumulate):
        yield s.name
    elif isinstance(s, (Store, Scatter, Prefetch)):
        yield from s.index.names
    elif isinstance(s, Transpose):
        for poly in (s.dst_index, s.dst_stride, s.src_index, s.src_stride, s.rows, s.cols):
            yield from poly.names
    for v in postorder(values_of(s)):
        if isinstance(v, Get):
            yield v.name
        elif isinstance(v, Load):
            yield from v.index.names
        elif isinstance(v, Index):
            yield from v.poly.names
    if isinstance(s, (For, Lanes)):
        for inner in s.body:
            yield from _names(inner)
