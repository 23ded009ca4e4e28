"""The order in which kernels run.

In: groups, what each must wait for, a rank for each. Out: the groups, dependencies first; among
those that are ready the lowest rank, then the oldest.

>>> in_order(groups, rank=lambda g: 0)
[<convert>, <product>, <rows>]
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from symgrad.schedule.groups import Group


def in_order(groups: Sequence[Group], rank: Callable[[Group], int]) -> list[Group]:
    """Dependencies first; among what is ready the lowest rank, then age."""
    waiting = dict.fromkeys(groups, 0)
    for g in groups:
        for other in g.after:
            waiting[other] += 1
    ready = [(rank(g), g.index, g) for g in groups if not waiting[g]]
    heapq.heapify(ready)
    order = []
    while ready:
        _, _, g = heapq.heappop(ready)
        order.append(g)
        for other in g.after:
            waiting[other] -= 1
            if not waiting[other]:
                heapq.heappush(ready, (rank(other), other.index, other))
    if len(order) != len(groups):
        raise RuntimeError("the kernels of this program depend on each other in a circle")
    return order


def put_off(order: Sequence[Group], is_late: Callable[[Group], bool]) -> list[Group]:
    """Some groups as late as can be: right before the first that waits for them."""
    result: list[Group] = []
    waiting: list[Group] = []
    for g in order:
        if is_late(g):
            waiting.append(g)
            continue
        result += [w for w in waiting if g.before & w.bit]
        waiting = [w for w in waiting if not g.before & w.bit]
        result.append(g)
    return result + waiting
