"""Out of loops: products that need no carry, done for all steps at once; what a loop does in vain.

In: expressions. Out: equal ones in which

    x_t U            for a slice x_t     is a slice of the product of the whole sequence with U
    slices           that no step reads  are gone
    carries          that nothing reads  are gone

>>> scan(lambda h, x: (tanh(x @ U + h @ W), None), h0, xs)     # becomes the scan over xs @ U
"""

from __future__ import annotations

from typing import Sequence

from symgrad import dtypes, source
from symgrad.loop import Loop, Scan, around, body, inside, results
from symgrad.node import Contract, Expr, Slot, toposort
from symgrad.rewrite.engine import Rewrite, substitute


def hoist(outputs: Sequence[Expr]) -> tuple[list[Expr], list[Rewrite]]:
    """The outputs with every loop made smaller, and the log."""
    current, log = list(outputs), []  # type: list[Expr], list[Rewrite]
    seen: set[Loop] = set()
    while True:
        loops = results(toposort(current))
        todo = next((found for loop, found in loops.items() if loop not in seen), None)
        if todo is None:
            return current, log
        seen.add(todo[0].loop)
        made = _smaller(todo)
        if made is None:
            continue
        with_products = len(made[0].sequences) > len(todo[0].sequences)
        rule = "product out of the loop" if with_products else "what the loop does in vain"
        log += [Rewrite(rule, "factor", a, b, a.where) for a, b in zip(todo, made)]
        current = substitute(current, dict(zip(todo, made)))


def _smaller(found: list[Scan]) -> list[Scan] | None:
    """The results of a loop, of one that does less; None where there is nothing to gain."""
    loop = found[0].loop
    moved = _products(found)
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
    made = []
    for n in found:
        with source.at(n.where):
            if n.position is None:
                made.append(Scan.stacked(less, next(values)))
            else:
                made.append(Scan.final(less, carries.index(n.position)))
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
