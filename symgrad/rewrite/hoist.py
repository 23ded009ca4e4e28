"""Out of loops: products that need no carry, done for all steps at once; what a loop does in vain.

In: expressions. Out: equal ones in which

    x_t U            for a slice x_t      is a slice of the product of the whole sequence with U
    stacks of h_t V  that no carry reads  are products of the stack of h_t with V
    slices           that no step reads   are gone
    carries          that nothing reads   are gone

>>> scan(lambda h, x: (tanh(x @ U + h @ W), None), h0, xs)     # becomes the scan over xs @ U
"""

from __future__ import annotations

import math
from typing import Sequence

from symgrad import dtypes, source
from symgrad.loop import Loop, Scan, around, body, inside, operands_first, results
from symgrad.node import Contract, Expr, Map, Slot, toposort
from symgrad.rewrite.engine import Rewrite, substitute
from symgrad.sizes import maximum

DEEPEST = 8  # elementwise functions around a product that is moved
LARGER = 4  # times a stack may be than the product it replaces


def hoist(outputs: Sequence[Expr]) -> tuple[list[Expr], list[Rewrite]]:
    """The outputs with every loop made smaller, and the log."""
    current, log = list(outputs), []  # type: list[Expr], list[Rewrite]
    seen: set[frozenset[Expr]] = set()
    while True:
        loops = results(toposort(current)).values()
        todo = next((found for found in loops if frozenset(found) not in seen), None)
        if todo is None:
            return current, log
        seen.add(frozenset(todo))
        for rule, change in _CHANGES:
            made = change(todo)
            if made is not None:
                log += [Rewrite(rule, "factor", a, b, a.where) for a, b in made.items()]
                current = substitute(current, made)
                break


# -- before the loop -------------------------------------------------------------------------------
def _raised(found: list[Scan]) -> dict[Expr, Expr] | None:
    """The results of a loop, of one whose products with slices are made before it."""
    moved = _products(found)
    return _smaller(found, moved) if moved else None


def _pruned(found: list[Scan]) -> dict[Expr, Expr] | None:
    """The results of a loop, of one without what is not needed."""
    return _smaller(found, [])


def _smaller(found: list[Scan], moved: list[Contract]) -> dict[Expr, Expr] | None:
    """The results of a loop, of one that does less; None where there is nothing to gain."""
    loop = found[0].loop
    slots = {n: _slot(loop, n) for n in moved}
    with source.at(found[0].where):
        stacks = [_stacked(loop, n) for n in moved]
    stacked = [n.output for n in found if n.output is not None]
    new = substitute([*loop.news, *stacked], slots)
    news, values = new[: len(loop.news)], iter(new[len(loop.news) :])
    carries = _needed(found, news, new[len(loop.news) :])
    roots = [*(news[k] for k in carries), *new[len(loop.news) :]]
    used: set[Expr] = set().union(*(e.free for e in roots))
    pairs = [*zip(loop.slices, loop.sequences), *zip(slots.values(), stacks)]
    pairs = [(s, e) for s, e in pairs if s in used]
    if not moved and len(pairs) == len(loop.slices) and len(carries) == len(loop.carries):
        return None
    less = Loop(
        [*(s for s, _ in pairs), *(loop.carries[k] for k in carries)],
        [e for _, e in pairs],
        [loop.initials[k] for k in carries],
        [news[k] for k in carries],
        loop.length,
        loop.reverse,
    )
    made: dict[Expr, Expr] = {}
    for n in found:
        with source.at(n.where):
            if n.position is None:
                made[n] = Scan.stacked(less, next(values))
            else:
                made[n] = Scan.final(less, carries.index(n.position))
    return made


def _needed(found: list[Scan], news: Sequence[Expr], outputs: Sequence[Expr]) -> list[int]:
    """Positions of the carries that some result depends on."""
    loop = found[0].loop
    place: dict[Expr, int] = {slot: k for k, slot in enumerate(loop.carries)}
    pending = [n.position for n in found if n.position is not None]
    pending += [place[s] for e in outputs for s in e.free if s in place]
    needed: set[int] = set()
    while pending:
        k = pending.pop()
        if k not in needed:
            needed.add(k)
            pending += [place[s] for s in news[k].free if s in place]
    return sorted(needed)


def _products(found: list[Scan]) -> list[Contract]:
    """Products in the body whose operands are slices and what is the same at every step."""
    loop, outer = found[0].loop, around(found)
    if not any(isinstance(n, Contract) and len(n.args) > 1 for n in inside(found)):
        return []
    slices = set(loop.slices)

    def fits(n: Contract) -> bool:
        if len(n.args) < 2 or not n.summed or not dtypes.is_float(n.dtype):
            return False
        if not n.free <= outer | slices or n.free <= outer:
            return False
        return all(a.free <= outer or _bare(a) in slices for a in n.args)

    return [n for n in body(found) if isinstance(n, Contract) and fits(n)]


def _bare(e: Expr) -> Expr:
    """A slice without the view of it that is read."""
    if isinstance(e, Contract) and len(e.args) == 1 and not e.summed:
        return e.args[0]
    return e


def _slot(loop: Loop, n: Expr) -> Slot:
    known = loop.slots[0].derived
    key = ("hoisted", id(n))
    if key not in known:
        depth = max(s.depth for s in loop.slots)
        name = next(a.name for a in map(_bare, n.args) if isinstance(a, Slot))
        position = f"hoisted {n.digest.hex()}"
        known[key] = Slot(name, n.shape, n.dtype, position, depth), n
    return known[key][0]


def _stacked(loop: Loop, n: Contract) -> Expr:
    """The product for every step at once."""
    of = {id(slot): sequence for slot, sequence in zip(loop.slices, loop.sequences)}
    time = 1 + max(n.extents)
    ins, args = [], []
    for labels, a in zip(n.ins, n.args):
        bare = _bare(a)
        if id(bare) not in of:
            ins.append(labels)
            args.append(a)
            continue
        whole = of[id(bare)]
        if bare is not a:
            assert isinstance(a, Contract)
            own = [k + 1 for k in a.ins[0]]
            kept = [k + 1 for k in a.out]
            sizes = dict(zip([0, *kept], (loop.length, *a.shape)))
            whole = Contract.of([[0, *own]], [0, *kept], whole, sizes=sizes)
        ins.append((time, *labels))
        args.append(whole)
    sizes = {time: loop.length, **dict(zip(n.out, n.shape))}
    return Contract.of(ins, (time, *n.out), *args, sizes=sizes)


# -- behind the loop -------------------------------------------------------------------------------
def _sunk(found: list[Scan]) -> dict[Expr, Expr] | None:
    """Stacks that are products, as products of stacks."""
    behind = _Behind(found)
    made: dict[Expr, Expr] = {}
    for n in found:
        if n.output is not None and behind.sinks(n.output):
            with source.at(n.where):
                made[n] = behind.whole(n.output)
    return made or None


class _Behind:
    """Values of a body for all steps at once, as far as they are made of a product."""

    def __init__(self, found: list[Scan]) -> None:
        self.loop, self.outer = found[0].loop, around(found)
        self.known = {id(n.output) for n in found}

        def below(e: Expr) -> list[Expr]:
            return [a for a in e.args if not a.free <= self.outer]

        roots = [e for e in self.loop.news if not e.free <= self.outer]
        self.carried = {id(e) for e in operands_first(roots, below)}

    def sinks(self, e: Expr, depth: int = 0) -> bool:
        """Whether there is a product in it that no carry needs, of one value that changes."""
        if e.free <= self.outer or id(e) in self.carried or depth > DEEPEST:
            return False
        if isinstance(e, Map):
            return bool(e.shape) and any(self.sinks(a, depth + 1) for a in e.args)
        if not isinstance(e, Contract) or len(e.args) < 2 or not e.summed:
            return False
        changing = [a for a in e.args if not a.free <= self.outer]
        if len(changing) != 1 or not dtypes.is_float(e.dtype):
            return False
        (a,) = changing
        return id(a) in self.known or _elements(a) <= LARGER * _elements(e)

    def whole(self, e: Expr) -> Expr:
        """The value at every step, along a leading axis."""
        if e.free <= self.outer:
            axes = range(1, e.ndim + 1)
            sizes = dict(enumerate((self.loop.length, *e.shape)))
            return Contract.of([axes], range(e.ndim + 1), e, sizes=sizes)
        if not self.sinks(e):
            return Scan.stacked(self.loop, e)
        if isinstance(e, Map):
            return Map.of(e.op, *(self._operand(a, e) for a in e.args))
        assert isinstance(e, Contract)
        time = 1 + max(e.extents)
        changes = [not a.free <= self.outer for a in e.args]
        ins = [(time, *labels) if c else labels for labels, c in zip(e.ins, changes)]
        args = [Scan.stacked(self.loop, a) if c else a for a, c in zip(e.args, changes)]
        sizes = {time: self.loop.length, **dict(zip(e.out, e.shape))}
        return Contract.of(ins, (time, *e.out), *args, sizes=sizes)

    def _operand(self, a: Expr, e: Expr) -> Expr:
        """An operand of the function e for every step: one number of each step is spread."""
        if a.shape or not e.shape:
            return self.whole(a)
        if a.free <= self.outer:
            return a
        sizes = dict(enumerate((self.loop.length, *e.shape)))
        return Contract.of([[0]], range(e.ndim + 1), self.whole(a), sizes=sizes)


def _elements(e: Expr) -> int:
    return math.prod(map(maximum, e.shape))


_CHANGES = (
    ("product behind the loop", _sunk),
    ("product out of the loop", _raised),
    ("what the loop does in vain", _pruned),
)
