"""Which values are computed a second time instead of being kept in memory.

In: an arrangement of kernels in their order, and how much memory there may be. Out: the graph with
second copies of cheap values for those who read them late, arranged again. What is kept across the
fullest moment is a minimum cut: the fewest bytes from which all that is read later can be computed
by elementwise work. Products, reductions and random access are never repeated.

    before   z = x W,  a = gelu(z)   ...   z, a -> gradients          z and a are kept
    after    z = x W,  a = gelu(z)   ...   a' = gelu(again z)         z is kept

`again` is a view that changes nothing, so that the copy is another node than the value it repeats.

>>> fit(arrange, roots, limit=None, worth=1 << 20).recomputed
('gelu', 'gelu')
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from codegen.memory import padded
from symgrad.node import Contract, Expr, Map, ScatterAdd, toposort
from symgrad.schedule.flow import ENDLESS, Network
from symgrad.schedule.groups import Fusion, Group
from symgrad.schedule.kept import COSTS, is_elementwise, is_leaf_in_memory, is_product

FREE = 8  # operations that cost less than writing a value and reading it back
SMALL = 512  # a value that is so small a part of the peak is kept
ROUNDS = 4
FAR = 8  # times the cache


class Arrangement(Protocol):
    """What is needed of a schedule in the making: groups in order, and the memory they use."""

    order: Sequence[Group]
    fusion: Fusion

    def bytes(self, n: Expr) -> int:
        """The memory of a value where it lies in the arena, 0 where it lies elsewhere."""
        ...

    def uses(self, group: Group) -> Iterable[str]:
        """The arena buffers that a group reads or writes."""
        ...

    def buffer_bytes(self, name: str) -> int: ...


@dataclass(frozen=True)
class Fitted:
    """An arrangement, what it computes again, and the most bytes it holds (and held before)."""

    arranged: Arrangement
    recomputed: tuple[Expr, ...]
    peak: int
    before: int


Arrange = Callable[[list[Expr], "frozenset[Expr]"], Arrangement]
Allowed = Callable[[Expr], bool]


def fit(arrange: Arrange, roots: list[Expr], limit: int | None, worth: int) -> Fitted:
    """The arrangement with the least recomputation whose peak is at most `limit`, or with the
    lowest peak if there is none. What costs no time is recomputed where the peak is over `worth`,
    the bytes of a cache: below that everything is at hand. Far above it a cheap value that is
    computed again is sooner there than one that comes from memory, even by a pass of its own."""
    search = _Search(arrange, roots)
    best = search.plain
    if search.before > worth:
        best = search.lowered(search.is_cheap if search.before > FAR * worth else search.is_free)
    if limit is None or best.peak <= limit:
        return best
    for allowed in (search.is_cheap, lambda n: True):
        found = search.lowered(allowed)
        if found.peak < best.peak:
            best = found
        if found.peak <= limit:
            return search.least(found, limit)
    return best


class _Search:
    def __init__(self, arrange: Arrange, roots: list[Expr]) -> None:
        self.arrange, self.roots = arrange, roots
        arranged = arrange(roots, frozenset())
        self.before, _ = pressure(arranged)
        self.plain = Fitted(arranged, (), self.before, self.before)

    # -- what may be recomputed, from the cheapest ----------------------------------------------
    def is_free(self, n: Expr) -> bool:
        return self.is_cheap(n) and not _is_operand(self.fusion, n)

    def is_cheap(self, n: Expr) -> bool:
        return own_cost(self.fusion, n) <= FREE

    def least(self, found: Fitted, limit: int) -> Fitted:
        """About as few of the recomputed values as will do, the cheapest first."""
        self.fusion = self.plain.arranged.fusion
        values = sorted(found.recomputed, key=lambda n: (own_cost(self.fusion, n), -n.height))
        low, high = 0, len(values)  # so many are too few, so many are enough
        while high - low > max(1, len(values) // 16):
            middle = (low + high) // 2
            chosen = set(values[:middle])
            tried = self.lowered(lambda n: n in chosen)  # noqa: B023 - used at once
            if tried.peak <= limit:
                high, found = middle, tried
            else:
                low = middle
        return found

    def lowered(self, allowed: Allowed) -> Fitted:
        """Recomputes across the fullest moment, and across the next one, while that helps."""
        best, roots = self.plain, self.roots
        origin: dict[Expr, Expr] = {}  # of copies: what they repeat
        for _ in range(ROUNDS):
            self.fusion = best.arranged.fusion
            cut = _Cut(best.arranged, lambda n: allowed(origin.get(n, n)))
            if not cut.again:
                break
            new, copies = rewritten(roots, cut, origin)
            known = frozenset(origin) | frozenset(copies)
            arranged = self.arrange(new, known)
            peak, _ = pressure(arranged)
            if peak >= best.peak:
                break
            origin.update(copies)
            roots = new
            again = (*best.recomputed, *copies.values())
            best = Fitted(arranged, tuple(dict.fromkeys(again)), peak, self.before)
        return best


# -- memory ----------------------------------------------------------------------------------------


def pressure(arranged: Arrangement) -> tuple[int, int]:
    """The most bytes held by the arena's buffers while one group runs, and which group that is."""
    lives: dict[str, list[int]] = {}
    for position, group in enumerate(arranged.order):
        for name in arranged.uses(group):
            lives.setdefault(name, [position, position])[1] = position
    change = [0] * (len(arranged.order) + 1)
    for name, (first, last) in lives.items():
        size = padded(arranged.buffer_bytes(name))
        change[first] += size
        change[last + 1] -= size
    most = where = held = 0
    for position, step in enumerate(change):
        held += step
        if held > most:
            most, where = held, position
    return most, where


def own_cost(fusion: Fusion, n: Expr) -> int:
    """Operations on one element of `n` from the values in memory that it reads."""
    total = 0
    seen: set[Expr] = set()
    stack = [n]
    while stack:
        a = stack.pop()
        if a in seen or (a is not n and (a in fusion.named or is_leaf_in_memory(a))):
            continue
        seen.add(a)
        if isinstance(a, Map):
            total += COSTS.get(a.op, 1)
        elif is_elementwise(a) and a.args:
            total += 1
        stack.extend(a.args)
    return total


def _is_operand(fusion: Fusion, n: Expr) -> bool:
    """Whether somebody reads elements of `n` many times, so that they must lie in memory."""
    for reader in fusion.readers.get(n, ()):
        if is_product(reader) or isinstance(reader, ScatterAdd):
            return True
    return False


# -- the cut ---------------------------------------------------------------------------------------


class _Cut:
    """`again` are the values that are computed a second time for the groups from the fullest
    moment on; `late` are the values that these groups compute."""

    def __init__(self, arranged: Arrangement, allowed: Allowed) -> None:
        self.arranged, self.fusion, self.allowed = arranged, arranged.fusion, allowed
        peak, moment = pressure(arranged)
        self.small = peak // SMALL
        order = {g: i for i, g in enumerate(arranged.order)}
        self.late = {n for n in self.fusion.named if order[self.fusion.group_of[n]] >= moment}
        wanted = dict.fromkeys(
            need for n in self.fusion.named if n in self.late for need in self._early(n)
        )
        self.again = self._repeated(wanted, self._sink_side(wanted))

    def _early(self, n: Expr) -> list[Expr]:
        """The values from before the moment that computing `n` reads."""
        needs = self.fusion.needs(n)
        return [a for a in needs if a in self.fusion.named and a not in self.late]

    def _may_repeat(self, n: Expr) -> bool:
        if not n.shape or not is_elementwise(n) or self.arranged.bytes(n) <= self.small:
            return False
        return self.allowed(n)

    def _sink_side(self, wanted: Iterable[Expr]) -> set[object]:
        network = Network()
        stack, seen = list(wanted), set(wanted)
        for n in wanted:
            network.edge((n, "kept"), "sink", ENDLESS)
        while stack:
            n = stack.pop()
            network.edge((n, "made"), (n, "kept"), self.arranged.bytes(n))
            if not self._may_repeat(n):
                network.edge("source", (n, "made"), ENDLESS)
                continue
            for need in self._early(n):
                network.edge((need, "kept"), (n, "made"), ENDLESS)
                if need not in seen:
                    seen.add(need)
                    stack.append(need)
        return set(network.cut("source", "sink"))

    def _repeated(self, wanted: Iterable[Expr], side: set[object]) -> set[Expr]:
        found: set[Expr] = set()
        stack = [n for n in wanted if (n, "made") in side]
        while stack:
            n = stack.pop()
            if n not in found:
                found.add(n)
                stack.extend(a for a in self._early(n) if (a, "made") in side)
        return found


def rewritten(
    roots: Sequence[Expr], cut: _Cut, origin: Mapping[Expr, Expr]
) -> tuple[list[Expr], dict[Expr, Expr]]:
    """The graph in which late values read copies, and what each copy repeats. A copy that exists
    already and is rebuilt stays a copy."""
    named, late = cut.fusion.named, cut.late
    new: dict[Expr, Expr] = {}  # as late values see it
    inside: dict[Expr, Expr] = {}  # as copies see it
    copies: dict[Expr, Expr] = {}
    for n in toposort(roots):
        if n in cut.again:
            new[n] = inside[n] = n.with_args([inside[a] for a in n.args])
            copies[new[n]] = origin.get(n, n)
        elif n in named and n not in late:
            new[n] = n
            inside[n] = again(n)
        else:
            new[n] = n.with_args([new[a] for a in n.args])
            inside[n] = n.with_args([inside[a] for a in n.args]) if n.args else again(n)
            if n in origin and new[n] is not n:
                copies[new[n]] = origin[n]
    return [new[r] if r in late else r for r in roots], copies


def again(n: Expr) -> Expr:
    """A view of the whole value, another node than the value itself; 0-d ones are not worth it."""
    if not n.shape:
        return n
    axes = range(n.ndim)
    return Contract.of([axes], axes, n)
