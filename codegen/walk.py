"""Walking the values of loop programs, each object once, however deep they are nested.

>>> [v.fn for v in postorder([op]) if isinstance(v, Op)]
['neg', 'exp', 'add']
"""

from __future__ import annotations

from collections.abc import Iterable

from codegen import loops


def children(v: loops.Value) -> tuple[loops.Value, ...]:
    """The values that `v` is made of."""
    if isinstance(v, loops.Op):
        return v.args
    return (v.when,) if isinstance(v, loops.Load) and v.when is not None else ()


def values_of(s: loops.Stmt) -> tuple[loops.Value, ...]:
    """The values a statement computes, without those of its body."""
    if isinstance(s, loops.Declare):
        return (s.init,)
    if isinstance(s, loops.Store):
        return (s.value,) if s.when is None else (s.value, s.when)
    if isinstance(s, (loops.Let, loops.Accumulate, loops.Scatter)):
        return (s.value,)
    return ()


def postorder(roots: Iterable[loops.Value]) -> list[loops.Value]:
    """Every value once, after those it is made of."""
    order: list[loops.Value] = []
    seen: set[int] = set()
    stack: list[tuple[loops.Value, bool]] = [(v, False) for v in roots][::-1]
    while stack:
        v, ready = stack.pop()
        if ready:
            order.append(v)
        elif id(v) not in seen:
            seen.add(id(v))
            stack.append((v, True))
            stack.extend((child, False) for child in children(v)[::-1])
    return order
