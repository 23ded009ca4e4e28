"""Layered layout (Sugiyama, Tagawa and Toda, 1981), the forward part on the left.

In: items with their sizes, links between them. Out: a `Layout`: a place for every item, a curve for
every link. Forward values flow down, their derivatives back up beside them, each at the height of
what it is the derivative of. The same input always gives the same output.

    ranks        longest paths; derivatives as low as what they read allows
    order        crossings reduced by barycentres, row by row, best of some sweeps
    coordinates  nearest to the middle of the neighbours, least squares by pooling violators

>>> layout([Item("a", 40, 20), Item("b", 40, 20)], [Link("a", "b")]).places["b"].y
74.0
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

GAP = 26.0  # between items of a row
NARROW = 12.0  # beside a link that passes a row
ROW, COLUMN = 36.0, 92.0  # between rows, or columns: room for an arrow and a shape
LANE = 56.0  # between forward, backward and updates
DIPS = (11.0, 15.0, 19.0, 23.0)  # how far arrows within a row go below it
MARGIN = 18.0
LONGEST = 40  # rows that a link finds its way through; a longer one goes straight
SWEEPS = 10
Point = tuple[float, float]


@dataclass(frozen=True)
class Item:
    """A box to place. `lane` is 0 forward, 1 backward, 2 update."""

    key: str
    width: float
    height: float
    lane: int = 0


@dataclass(frozen=True)
class Link:
    """An arrow from an item to another; `back` where it closes a circle on purpose."""

    source: str
    target: str
    back: bool = False


@dataclass(frozen=True)
class Place:
    """The middle of an item, and its size."""

    x: float
    y: float
    width: float
    height: float

    @property
    def sides(self) -> tuple[float, float, float, float]:
        """left, top, right, bottom"""
        w, h = self.width / 2, self.height / 2
        return self.x - w, self.y - h, self.x + w, self.y + h


@dataclass
class Layout:
    width: float
    height: float
    places: dict[str, Place]
    curves: list[list[Point]]  # of every link: points that a smooth curve goes through
    ranks: dict[str, int]
    sideways: bool = False  # flows to the right instead of down


@dataclass
class _Cell:
    """An item in its row, or the passage of a link through a row."""

    width: float
    lane: int
    passage: bool = False
    x: float = 0.0
    at: int = 0
    above: list[int] = field(default_factory=list)
    below: list[int] = field(default_factory=list)


def layout(items: Sequence[Item], links: Sequence[Link], sideways: bool = False) -> Layout:
    """Places for all items; sideways, rows are columns and values flow to the right."""
    if not items:
        return Layout(2 * MARGIN, 2 * MARGIN, {}, [], {}, sideways)
    turned = [Item(i.key, i.height, i.width, i.lane) for i in items] if sideways else items
    found = _Work(turned, links, COLUMN if sideways else ROW).result()
    if not sideways:
        return found
    places = {k: Place(p.y, p.x, p.height, p.width) for k, p in found.places.items()}
    curves = [[(y, x) for x, y in curve] for curve in found.curves]
    return Layout(found.height, found.width, places, curves, found.ranks, True)


def ranks(items: Sequence[Item], links: Sequence[Link]) -> dict[str, int]:
    """The row of every item: 0 on top."""
    lane = {i.key: i.lane for i in items}
    into: dict[str, list[str]] = {i.key: [] for i in items}
    outof: dict[str, list[str]] = {i.key: [] for i in items}
    for a, b in _acyclic(items, links):
        into[b].append(a)
        outof[a].append(b)
    order = _topological(items, into, outof)
    rank: dict[str, int] = {}
    forward = [key for key in order if lane[key] == 0]
    others = [key for key in order if lane[key] > 0]
    for key in forward:
        rank[key] = max((rank[a] for a in into[key] if lane[a] == 0), default=-1) + 1
    for key in reversed(forward):  # nearer to what reads it, where that lengthens no more arrows
        own = [b for b in outof[key] if lane[b] == 0]
        if own and len(into[key]) <= len(own):
            rank[key] = max(rank[key], min(rank[b] for b in own) - 1)
    for key in others:
        limits = [rank[a] - 1 if lane[a] > 0 else rank[a] + 1 for a in into[key]]
        rank[key] = min(limits, default=0)
    for key in reversed(others):  # what starts a path stands next to its first reader
        own = [b for b in outof[key] if lane[b] > 0]
        if own and not any(lane[a] > 0 for a in into[key]):
            rank[key] = max(rank[b] for b in own) + 1
    apart = not any(lane[a] == 0 < lane[b] for b in into for a in into[b])
    if forward and others and apart:  # two graphs side by side stand on one ground
        down = max(rank[k] for k in forward) - max(rank[k] for k in others)
        rank.update((k, rank[k] + down) for k in others)
    used = {r: k for k, r in enumerate(sorted(set(rank.values())))}
    return {key: used[r] for key, r in rank.items()}


def _acyclic(items: Sequence[Item], links: Sequence[Link]) -> list[tuple[str, str]]:
    """The links without those that close a circle, met in the order of the items."""
    after: dict[str, list[str]] = {i.key: [] for i in items}
    for link in links:
        if not link.back and link.source != link.target:
            after[link.source].append(link.target)
    state: dict[str, int] = {}
    kept: list[tuple[str, str]] = []
    for i in items:
        if i.key in state:
            continue
        stack = [(i.key, iter(after[i.key]))]
        state[i.key] = 1
        while stack:
            key, rest = stack[-1]
            step = next(rest, None)
            if step is None:
                state[key] = 2
                stack.pop()
            elif state.get(step) != 1:
                kept.append((key, step))
                if step not in state:
                    state[step] = 1
                    stack.append((step, iter(after[step])))
    return kept


def _topological(
    items: Sequence[Item], into: Mapping[str, list[str]], outof: Mapping[str, list[str]]
) -> list[str]:
    waiting = {i.key: len(into[i.key]) for i in items}
    ready = [i.key for i in items if not waiting[i.key]]
    for key in ready:
        for b in outof[key]:
            waiting[b] -= 1
            if not waiting[b]:
                ready.append(b)
    return ready


class _Work:
    def __init__(self, items: Sequence[Item], links: Sequence[Link], between: float) -> None:
        self.items, self.links, self.between = items, links, between
        self.rank = ranks(items, links)
        self.rows: list[list[int]] = [[] for _ in range(max(self.rank.values()) + 1)]
        self.cells: list[_Cell] = []
        self.cell: dict[str, int] = {}
        for i in items:
            self.cell[i.key] = self._new(_Cell(i.width, i.lane), self.rank[i.key])
        self.chains = [self._chain(link) for link in links]

    def _new(self, cell: _Cell, row: int) -> int:
        self.cells.append(cell)
        self.rows[row].append(len(self.cells) - 1)
        return len(self.cells) - 1

    def _chain(self, link: Link) -> list[int]:
        """The cells that a link goes through; it passes every row between its ends."""
        a, b = self.cell[link.source], self.cell[link.target]
        start, end = self.rank[link.source], self.rank[link.target]
        if abs(end - start) > LONGEST:
            return [a, b]
        lanes = {self.cells[a].lane, self.cells[b].lane}
        lane = self.cells[a].lane if len(lanes) == 1 else min(lanes) * 2 + 10
        step = 1 if end > start else -1
        chain = [a]
        for row in range(start + step, end, step):
            chain.append(self._new(_Cell(0.0, lane, True), row))
        chain.append(b)
        for one, other in zip(chain, chain[1:]):
            if start != end:
                up, down = (one, other) if step == 1 else (other, one)
                self.cells[up].below.append(down)
                self.cells[down].above.append(up)
        return chain

    # -- order ------------------------------------------------------------------------------------
    def _lane(self, cell: int) -> float:
        lane = self.cells[cell].lane
        return (lane - 10) / 2 + 0.5 if lane >= 10 else float(lane)

    def order(self) -> None:
        for row in self.rows:
            row.sort(key=lambda c: (self._lane(c), c))
            self._number(row)
        best, fewest = [list(row) for row in self.rows], self._crossings()
        for sweep in range(SWEEPS):
            down = sweep % 2 == 0
            for row in self.rows if down else reversed(self.rows):
                self._sort(row, down)
            now = self._crossings()
            if now < fewest:
                best, fewest = [list(row) for row in self.rows], now
            if not fewest:
                break
        self.rows = best
        for row in self.rows:
            self._number(row)

    def _number(self, row: Sequence[int]) -> None:
        for k, c in enumerate(row):
            self.cells[c].at = k

    def _sort(self, row: list[int], down: bool) -> None:
        def middle(c: int) -> float:
            cell = self.cells[c]
            near = cell.above if down else cell.below
            if not near:
                return float(cell.at)
            return sum(self.cells[n].at for n in near) / len(near)

        row.sort(key=lambda c: (self._lane(c), middle(c), self.cells[c].at))
        self._number(row)

    def _crossings(self) -> int:
        total = 0
        for row in self.rows:
            ends: list[int] = []
            for c in row:
                ends += sorted(self.cells[b].at for b in self.cells[c].below)
            total += _inversions(ends)
        return total

    # -- coordinates ------------------------------------------------------------------------------
    def coordinates(self) -> None:
        """x within each lane by itself; lanes then stand side by side."""
        lanes = sorted({self._lane(c) for c in range(len(self.cells))})
        left = MARGIN
        for number, lane in enumerate(lanes):
            rows = [[c for c in row if self._lane(c) == lane] for row in self.rows]
            self._lane_coordinates([row for row in rows if row], set(sum(rows, [])))
            cells = [self.cells[c] for row in rows for c in row]
            shift = left - min(c.x - c.width / 2 for c in cells)
            for c in cells:
                c.x += shift
            left = max(c.x + c.width / 2 for c in cells)
            between = lane % 1 or (number + 1 < len(lanes) and lanes[number + 1] % 1)
            left += NARROW * 2 if between else LANE
        self.width = max(c.x + c.width / 2 for c in self.cells) + MARGIN

    def _lane_coordinates(self, rows: Sequence[list[int]], own: set[int]) -> None:
        for row in rows:
            at = 0.0
            for k, c in enumerate(row):
                at += self._gap(row[k - 1], c) if k else 0.0
                self.cells[c].x = at
        for sweep in range(14):
            down = sweep % 2 == 0
            for row in rows if down else reversed(rows):
                wanted, weights = [], []
                for c in row:
                    cell = self.cells[c]
                    near = cell.above + cell.below if sweep > 9 else None
                    near = near or (cell.above if down else cell.below)
                    near = [n for n in near if n in own]
                    heavy = cell.passage and any(self.cells[n].passage for n in near)
                    xs = sorted(self.cells[n].x for n in near) or [cell.x]
                    wanted.append((xs[len(xs) // 2] + xs[(len(xs) - 1) // 2]) / 2)
                    weights.append((8.0 if heavy else 1.0) if near else 0.05)
                gaps = [self._gap(a, b) for a, b in zip(row, row[1:])]
                for c, x in zip(row, spaced(wanted, weights, gaps)):
                    self.cells[c].x = x

    def _gap(self, a: int, b: int) -> float:
        one, other = self.cells[a], self.cells[b]
        space = NARROW if one.passage or other.passage else GAP
        return (one.width + other.width) / 2 + space

    # -- the whole --------------------------------------------------------------------------------
    def result(self) -> Layout:
        self.order()
        self.coordinates()
        height = [0.0] * len(self.rows)
        for i in self.items:
            row = self.rank[i.key]
            height[row] = max(height[row], i.height)
        middle, at = [], MARGIN
        for h in height:
            middle.append(at + h / 2)
            at += h + self.between
        places = {
            i.key: Place(
                self.cells[self.cell[i.key]].x, middle[self.rank[i.key]], i.width, i.height
            )
            for i in self.items
        }
        self.middle, self.heights, self.places = middle, height, places
        self.ends = self._ends()
        curves = [self._curve(k) for k in range(len(self.links))]
        return Layout(self.width, at - self.between + MARGIN, places, curves, self.rank)

    def _ends(self) -> dict[tuple[int, int], float]:
        """Where on the side of an item each link ends: side by side, in the order of the others'
        ends. By link and end, 0 its source and 1 its target."""
        sides: dict[tuple[str, bool], list[tuple[float, int, int]]] = {}
        for k, link in enumerate(self.links):
            start, end = self.rank[link.source], self.rank[link.target]
            chain = self.chains[k]
            below = end >= start
            sides.setdefault((link.source, below), []).append((self.cells[chain[1]].x, k, 0))
            sides.setdefault((link.target, start >= end), []).append(
                (self.cells[chain[-2]].x, k, 1)
            )
        found: dict[tuple[int, int], float] = {}
        for (key, _), ends in sides.items():
            ends.sort()
            place = self.places[key]
            step = min(18.0, place.width * 0.7 / len(ends))
            for n, (_, k, end) in enumerate(ends):
                found[k, end] = place.x + (n - (len(ends) - 1) / 2) * step
        return found

    def _within(self, k: int) -> int | None:
        """The row that a link stays in."""
        start, end = self.rank[self.links[k].source], self.rank[self.links[k].target]
        return start if start == end else None

    def _curve(self, k: int) -> list[Point]:
        link, chain = self.links[k], self.chains[k]
        a, b = self.places[link.source], self.places[link.target]
        start, end = self.rank[link.source], self.rank[link.target]
        x0, x1 = self.ends[k, 0], self.ends[k, 1]
        if start == end:  # through the gap below the row
            before = sum(self._within(n) == start for n in range(k))
            low = self.middle[start] + self.heights[start] / 2 + DIPS[before % len(DIPS)]
            return [(x0, a.sides[3]), ((x0 + x1) / 2, low), (x1, b.sides[3])]
        down = end > start
        points = [(x0, a.sides[3] if down else a.sides[1])]
        rows = range(start + 1, end) if down else range(start - 1, end, -1)
        for row, c in zip(rows, chain[1:-1]):
            x, half = self.cells[c].x, self.heights[row] / 2
            sign = 1 if down else -1
            points += [(x, self.middle[row] - sign * half), (x, self.middle[row] + sign * half)]
        return [*points, (x1, b.sides[1] if down else b.sides[3])]


def _inversions(values: Sequence[int]) -> int:
    """Pairs out of order, by merging."""
    if len(values) < 2:
        return 0
    half = len(values) // 2
    left, right = list(values[:half]), list(values[half:])
    count = _inversions(left) + _inversions(right)
    left.sort()
    right.sort()
    k = 0
    for v in left:
        while k < len(right) and right[k] < v:
            k += 1
        count += k
    return count


def spaced(wanted: Sequence[float], weights: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """Coordinates in order, at least `gaps` apart, nearest to those wanted (weighted squares): the
    pool-adjacent-violators algorithm on what is left when the gaps are taken away."""
    offsets = [0.0]
    for g in gaps:
        offsets.append(offsets[-1] + g)
    blocks: list[tuple[float, float, int]] = []  # mean, weight, members
    for w, weight, offset in zip(wanted, weights, offsets):
        mean, total, members = w - offset, weight, 1
        while blocks and blocks[-1][0] > mean:
            m, t, n = blocks.pop()
            mean, total, members = (mean * total + m * t) / (total + t), total + t, members + n
        blocks.append((mean, total, members))
    flat = [mean for mean, _, members in blocks for _ in range(members)]
    return [mean + offset for mean, offset in zip(flat, offsets)]
