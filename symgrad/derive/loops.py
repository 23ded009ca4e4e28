"""Derivatives of loops: backpropagation through time, and tangents carried beside values.

In: the results of a loop with their cotangents, or the tangents of what it reads. Out: loops over
cotangents (in the other direction) or tangents, which read the values they need from the steps of
the first loop: these are further stacked results of it, the residuals. What the body uses from
outside gets the sum of its cotangents over all steps: a product (of a weight matrix) as one
contraction over time and rows, anything else in a carry of its own.

>>> hs = sg.scan(lambda h, x: (tanh(x + h @ W),) * 2, h0, xs)[1]
>>> grad(hs.sum(), [W, h0, xs])     # one loop back, with the carry dh; dW = sum_t h_t^T dz_t
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Iterator, Mapping, Sequence

from symgrad.derive.algebra import add, cast, is_float, mul, transpose, zeros
from symgrad.derive.residuals import residuals
from symgrad.loop import Loop, around, body, captured
from symgrad.node import Contract, Expr, Leaf, Map, Scan, ScatterAdd, SizeOf, Slot
from symgrad.rewrite.engine import substitute
from symgrad.sizes import Shape

if TYPE_CHECKING:
    from symgrad.derive.reverse import Active

Sweep = Callable[[Sequence[Expr], "Active", dict[int, list[Expr]], set[int]], dict[int, Expr]]


@dataclass
class Flow:
    """Where derivatives flow in a loop: slots and outside values between targets and results."""

    results: list[Scan]
    order: list[Expr]  # the body, behind views of outside values
    active: Active
    slots: set[Slot]
    outside: list[Expr]

    @property
    def loop(self) -> Loop:
        return self.results[0].loop

    def reaches(self, result: Scan) -> bool:
        if result.position is not None:
            return self.loop.carries[result.position] in self.slots
        return id(result.output) in self.active


Paths = Callable[[Sequence[Expr], Sequence[Expr], "set[int]"], "Active"]


def flow(results: list[Scan], active: Mapping[int, object], stop: set[int], paths: Paths) -> Flow:
    """What is between the active nodes outside and the results; `stop` are the targets."""
    loop = results[0].loop
    views, sources = _through_views(captured(results), stop)
    order = [*views, *body(results)]
    outside = [e for e in sources if id(e) in active and is_float(e)]
    starts = zip(loop.slots, (*loop.sequences, *loop.initials))
    slots = {s for s, start in starts if id(start) in active and is_float(s)}
    while True:
        inner = paths(order, [*slots, *outside], stop)
        pairs = zip(loop.carries, loop.news)
        more = {s for s, new in pairs if id(new) in inner and is_float(s)} - slots
        if not more:
            return Flow(results, order, inner, slots, outside)
        slots |= more


def _through_views(given: Sequence[Expr], stop: set[int]) -> tuple[list[Expr], list[Expr]]:
    """Views of outside values, operands first, and the values: a cotangent is summed over what a
    bias was spread along before it is summed over time."""
    views: dict[int, Expr] = {}
    sources: dict[int, Expr] = {}
    for e in given:
        chain = []
        while id(e) not in stop and isinstance(e, Contract) and _is_view(e):
            chain.append(e)
            e = e.args[0]
        sources[id(e)] = e
        views.update((id(v), v) for v in reversed(chain))
    ordered = sorted(views.values(), key=lambda v: v.height)
    return ordered, [e for e in sources.values() if id(e) not in views]


def _is_view(e: Contract) -> bool:
    return len(e.args) == 1 and not e.summed and e.dtype == e.args[0].dtype


# -- reverse mode ----------------------------------------------------------------------------------
def pull(way: Flow, cotangents: Mapping[int, Expr], sweep: Sweep) -> Iterator[tuple[Expr, Expr]]:
    """Pairs (value outside, contribution to its cotangent), from cotangents of results by id."""
    loop = way.loop
    back = _Back(way)
    pending: dict[int, list[Expr]] = {}
    carries = [k for k, slot in enumerate(loop.carries) if slot in way.slots]
    last = {n.position: cotangents[id(n)] for n in way.results if id(n) in cotangents}
    for k in carries:
        slot = loop.carries[k]
        start = last.get(k)
        carry = back.carry("d", slot, zeros(slot.shape, slot.dtype) if start is None else start)
        pending.setdefault(id(loop.news[k]), []).append(carry)
    for n in way.results:
        if n.output is not None and id(n) in cotangents:
            slice_ = back.sequence("stack", n.output, cotangents[id(n)])
            pending.setdefault(id(n.output), []).append(slice_)
    found = sweep(way.order, way.active, pending, {id(s) for s in way.slots})

    stacks = {slot: found[id(slot)] for slot in loop.slices if id(slot) in found}
    parts = [(e, part) for e in way.outside for part in pending.get(id(e), [])]
    wholes, sums = _divided(parts, back.constant, list(stacks.values()))
    for slot in (loop.carries[k] for k in carries):
        new = found.get(id(slot))
        back.news.append(zeros(slot.shape, slot.dtype) if new is None else new)
    for i, (e, term) in enumerate(sums):
        total = back.carry(f"sum {i}", e, zeros(e.shape, term.dtype))
        back.news.append(add(total, term))
    operands = {id(a): a for _, part in wholes for a in part.args if not back.constant(a)}
    make = back.finish([*stacks.values(), *operands.values()])

    for i, k in enumerate(carries):
        yield loop.initials[k], make.final(i)
    for slot, sequence in zip(loop.slices, loop.sequences):
        if slot in stacks:
            yield sequence, make.stacked(stacks[slot])
    for i, (e, _) in enumerate(sums, start=len(carries)):
        yield e, make.final(i)
    for e, whole in wholes:
        yield e, _over_time(whole, loop, make.stacked, back.constant)
    for e, same in parts:
        if back.constant(same):
            yield e, mul(same, cast(SizeOf.of(loop.length), same.dtype))


class _Back:
    """The loop over cotangents while it is built; slots first, then what they are given."""

    def __init__(self, way: Flow, reverse: bool = True) -> None:
        loop = way.loop
        self.results, self.loop = way.results, loop
        self.level = around(way.results)
        self.reverse = loop.reverse != reverse
        self.depth = max((s.depth for s in loop.slots), default=0)
        self.slices: list[Slot] = []
        self.sequences: list[Expr] = []
        self.carries: list[Slot] = []
        self.initials: list[Expr] = []
        self.news: list[Expr] = []

    def _slot(self, name: str, role: str, of: Expr, shape: Shape) -> Slot:
        """The placeholder that stands for a role of a node of the first loop: the same one for
        every derivative of the loop, so that equal derivatives are equal nodes."""
        if not self.loop.slots:
            return Slot(name, shape, of.dtype, role, self.depth)
        known = self.loop.slots[0].derived
        key = (role, id(of), shape)
        if key not in known:
            position = f"{role} {of.digest.hex()}"
            known[key] = Slot(name, shape, of.dtype, position, self.depth), of
        return known[key][0]

    def carry(self, role: str, of: Expr, initial: Expr) -> Slot:
        slot = self._slot(f"d{_name(of)}", role, of, initial.shape)
        self.carries.append(slot)
        self.initials.append(initial)
        return slot

    def sequence(self, role: str, of: Expr, sequence: Expr, name: str = "") -> Slot:
        slot = self._slot(name or f"d{_name(of)}", role, of, sequence.shape[1:])
        self.slices.append(slot)
        self.sequences.append(sequence)
        return slot

    def constant(self, e: Expr) -> bool:
        """Whether a value is the same at every step."""
        return e.free <= self.level

    def own(self, e: Expr) -> bool:
        """Whether it is a value of the first loop's body."""
        return e.free <= self.level | self.loop.bound

    def first(self, e: Expr) -> Expr:
        """The values, along time, of what the first loop computes."""
        sequence = dict(zip(self.loop.slices, self.loop.sequences)).get(e)  # type: ignore
        if sequence is not None:
            return sequence
        return Scan.stacked(self.loop, e)

    def finish(self, stacks: Sequence[Expr]) -> _Made:
        """The loop, with residuals in the place of the first loop's values."""
        mine = [e for e in stacks if not self.own(e) and not self.constant(e)]
        roots = [*self.news, *mine]
        kept = residuals(roots, self.results)
        slots: dict[Expr, Expr] = {}
        for e, name in zip(kept, _names(kept)):
            slots[e] = self.sequence("kept", e, self.first(e), name)
        new = substitute(roots, slots)
        loop = Loop(
            (*self.slices, *self.carries),
            self.sequences,
            self.initials,
            new[: len(self.news)],
            self.loop.length,
            self.reverse,
        )
        return _Made(self, loop, dict(zip(map(id, mine), new[len(self.news) :])))


def _name(e: Expr) -> str:
    """A word for a node: its declared name, its function, or its kind."""
    return e.name if isinstance(e, (Leaf, Map)) else e.kind


def _names(nodes: Sequence[Expr]) -> list[str]:
    """The same, numbered where one comes several times."""
    words = [_name(e) for e in nodes]
    return [
        f"{word}{words[:i].count(word) + 1}" if words.count(word) > 1 else word
        for i, word in enumerate(words)
    ]


@dataclass
class _Made:
    """A finished loop and its results."""

    back: _Back
    loop: Loop
    values: dict[int, Expr]

    def final(self, position: int) -> Expr:
        return Scan.final(self.loop, position)

    def stacked(self, e: Expr) -> Expr:
        """The values of `e` along time, by the loop that computes it."""
        if id(e) in self.values:
            return Scan.stacked(self.loop, self.values[id(e)])
        if self.back.constant(e):
            return Contract.of(
                [range(1, e.ndim + 1)], range(e.ndim + 1), e, sizes={0: self.loop.length}
            )
        return self.back.first(e)


def _divided(
    parts: Sequence[tuple[Expr, Expr]], same: Callable[[Expr], bool], stacked: list[Expr]
) -> tuple[list[tuple[Expr, Expr]], list[tuple[Expr, Expr]]]:
    """Contributions that one operation over all steps gives, and those that are summed step by
    step. A mere sum over rows is done at once only where its operand is stacked anyway."""
    wholes: list[tuple[Expr, Expr]] = []
    single: list[tuple[Expr, Expr]] = []
    sums: list[tuple[Expr, Expr]] = []
    for e, part in parts:
        if same(part):
            continue
        changing = [a for a in part.args if not same(a)]
        if isinstance(part, (Contract, ScatterAdd)) and len(part.args) > 1:
            wholes.append((e, part))
            stacked = [*stacked, *changing]
        elif isinstance(part, Contract):
            single.append((e, part))
        else:
            sums.append((e, part))
    known = set(map(id, stacked))
    for e, part in single:
        (wholes if id(part.args[0]) in known else sums).append((e, part))
    return wholes, sums


def _over_time(
    part: Expr, loop: Loop, stacked: Callable[[Expr], Expr], same: Callable[[Expr], bool]
) -> Expr:
    """The sum over all steps of a contraction or a scatter, as one."""
    if isinstance(part, Contract):
        time = 1 + max(part.extents, default=-1)
        ins = [s if same(a) else (time, *s) for s, a in zip(part.ins, part.args)]
        args = [a if same(a) else stacked(a) for a in part.args]
        return Contract.of(ins, part.out, *args, sizes=dict(zip(part.out, part.shape)))
    assert isinstance(part, ScatterAdd)
    values, indices = (stacked(a) for a in part.args)
    axis, batch = part.axis, part.batch
    front = [*range(1, axis + 1), 0, *range(axis + 1, values.ndim)]
    values = transpose(values, front)
    indices = transpose(indices, [*range(1, batch + 1), 0, *range(batch + 1, indices.ndim)])
    return ScatterAdd.of(values, indices, axis, batch, part.shape[axis])


# -- forward mode ----------------------------------------------------------------------------------
Forward = Callable[[Sequence[Expr], "dict[int, Expr | None]"], None]


def push_loop(
    results: list[Scan], tangents: Mapping[int, Expr | None], lead: int, sweep: Forward
) -> dict[int, Expr]:
    """The tangents of the results, by id, from those of what the loop reads."""
    loop = results[0].loop
    way = Flow(results, body(results), {}, set(), [])
    given = {id(e): t for e in captured(results) if (t := tangents.get(id(e))) is not None}
    moving = {k for k, e in enumerate(loop.initials) if tangents.get(id(e)) is not None}
    while True:
        ahead = _Back(way, reverse=False)
        local: dict[int, Expr | None] = dict(given)
        for slot, sequence in zip(loop.slices, loop.sequences):
            t = tangents.get(id(sequence))
            if t is not None:
                local[id(slot)] = ahead.sequence("tangent", slot, _time_first(t, lead))
        for k in sorted(moving):
            slot, initial = loop.carries[k], loop.initials[k]
            t = tangents.get(id(initial))
            shape = [t.shape[:lead] for t in tangents.values() if t is not None][0]
            start = zeros((*shape, *slot.shape), slot.dtype) if t is None else t
            local[id(slot)] = ahead.carry("tangent", slot, start)
        sweep(way.order, local)
        more = {k for k, e in enumerate(loop.news) if local.get(id(e)) is not None} - moving
        if not more:
            break
        moving |= more
    for k in sorted(moving):
        new = local.get(id(loop.news[k]))
        like = ahead.carries[len(ahead.news)]
        ahead.news.append(zeros(like.shape, like.dtype) if new is None else new)
    pairs = [(n, local.get(id(n.output))) for n in results if n.output is not None]
    stacks = {id(n): t for n, t in pairs if t is not None}
    made = ahead.finish(list(stacks.values()))
    found = {key: _time_last(made.stacked(t), lead) for key, t in stacks.items()}
    place = {k: i for i, k in enumerate(sorted(moving))}
    for n in results:
        if n.position in place:
            found[id(n)] = made.final(place[n.position])
    return found


def _time_first(e: Expr, lead: int) -> Expr:
    return transpose(e, [lead, *range(lead), *range(lead + 1, e.ndim)])


def _time_last(e: Expr, lead: int) -> Expr:
    return transpose(e, [*range(1, lead + 1), 0, *range(lead + 1, e.ndim)])
