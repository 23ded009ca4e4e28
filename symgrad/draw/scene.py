"""A scene: what one picture shows of a graph, laid out.

In: a graph, its boxes, which of them are open. Out: a `Scene` of marks (nodes, closed boxes),
arrows with the shapes of what they carry, and outlines of open boxes; every format prints it. The
inside of one box is a scene too, in which stubs stand for what is outside.

>>> scene(graph, tree).marks[0].title
'x'
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from symgrad.draw.boxes import Box, Tree, summary
from symgrad.draw.graph import PARTS, Graph, Node
from symgrad.draw.layout import Item, Layout, Link, Place, Point, layout
from symgrad.draw.style import LETTER, SMALL, look, width
from symgrad.sizes import show

SCREEN = (1240.0, 660.0)  # what a picture should fit on
LEAST = 34.0  # the smallest width of a node
STUBS = 2  # names of readers outside a box; more are counted
ACROSS = 6  # stubs for what derivatives read of a box; more are left out


@dataclass
class Mark:
    """A node, a closed box, or a stub for something outside."""

    key: str
    kind: str  # "node", "box", "stub"
    title: str
    says: str
    look: str  # a colour of symgrad.draw.style
    part: str
    shared: int = 0  # how many read it, where that is more than one
    output: bool = False
    node: Node | None = None
    box: Box | None = None
    goal: str = ""  # of a stub: the key of what is outside
    place: Place = field(default_factory=lambda: Place(0.0, 0.0, 0.0, 0.0))


@dataclass
class Arrow:
    source: str
    target: str
    part: str
    values: list[Node]
    note: str = ""
    carried: bool = False
    cross: bool = False  # from forward to backward
    curve: list[Point] = field(default_factory=list)
    label: str = ""
    at: Point = (0.0, 0.0)


@dataclass
class Outline:
    """Around the marks of an open box, stepping in and out from row to row."""

    title: str
    look: str
    corners: list[Point]
    at: Point  # of the title


@dataclass
class Scene:
    title: str
    width: float
    height: float
    marks: list[Mark]
    arrows: list[Arrow]
    outlines: list[Outline]
    sideways: bool = False


def scene(
    graph: Graph,
    tree: Tree,
    at: str = "",
    opened: Collection[str] = (),
    direction: str | None = None,
) -> Scene:
    """The inside of the box `at` (the outermost by default), with these inner boxes open."""
    work = _Work(graph, tree, at, set(opened))
    return work.scene(direction)


def openings(tree: Tree, most: int, at: str = "") -> set[str]:
    """Which boxes inside of one can be open without more than so many marks, small ones first."""
    opened: set[str] = set()
    marks = len(tree.boxes[at].children)
    waiting = [k for k in tree.boxes[at].children if k in tree.boxes]
    while waiting:
        key = min(waiting, key=lambda k: len(tree.boxes[k].inside))
        waiting.remove(key)
        marks += len(tree.boxes[key].children) - 1
        if marks > most:
            break
        opened.add(key)
        waiting += [c for c in tree.boxes[key].children if c in tree.boxes]
    return opened


def generations(tree: Tree, most: int, at: str = "") -> set[str]:
    """The same by whole generations: all boxes inside of one, then all inside of these."""
    opened: set[str] = set()
    level = [k for k in tree.boxes[at].children if k in tree.boxes]
    marks = len(tree.boxes[at].children)
    while level:
        marks += sum(len(tree.boxes[k].children) - 1 for k in level)
        if marks > most:
            break
        opened.update(level)
        level = [c for k in level for c in tree.boxes[k].children if c in tree.boxes]
    return opened


def to_depth(tree: Tree, depth: int) -> set[str]:
    """The boxes that are open when so many levels are."""
    return {k for k in tree.boxes if k and len(tree.around(k)) <= depth}


class _Work:
    def __init__(self, graph: Graph, tree: Tree, at: str, opened: set[str]) -> None:
        self.graph, self.tree, self.at, self.opened = graph, tree, at, opened
        self.marks: dict[str, Mark] = {}
        self.stands: dict[str, str] = {}  # key of a node -> the mark that shows it
        self.prefix = tree.boxes[at].title.removeprefix("∂ ") + "."
        self._visit(tree.boxes[at].children)
        self.shared = self._from_boxes()
        self.arrows = self._arrows()
        self.marks = _by_part(self.marks)

    def _visit(self, children: Iterable[str]) -> None:
        for key in children:
            if key not in self.tree.boxes:
                self.marks[key] = node_mark(self.graph.by_key[key])
                self.marks[key].title = self._short(self.marks[key].title)
                self.stands[key] = key
            elif key in self.opened:
                self._visit(self.tree.boxes[key].children)
            else:
                box = self.tree.boxes[key]
                names = [n for k in box.inside if (n := self.graph.outputs.get(k))]
                says = " · ".join([*names[:STUBS], summary(self.graph, box)])
                title = self._short(box.title)
                self.marks[key] = Mark(key, "box", title, says, box.part, box.part, box=box)
                self.stands.update((inner, key) for inner in box.inside)

    def _short(self, title: str) -> str:
        """A name without the name of the box that it is in: `query` within `block.attention`."""
        sign = "∂ " if title.startswith("∂ ") else ""
        return sign + title.removeprefix(sign).removeprefix(self.prefix)

    def _from_boxes(self) -> dict[tuple[str, str], set[str]]:
        """What each mark reads of a box outside."""
        found: dict[tuple[str, str], set[str]] = {}
        for edge in self.graph.edges:
            b = self.stands.get(edge.target)
            if b is not None and edge.source not in self.stands:
                found.setdefault((b, self._outside(edge.source)), set()).add(edge.source)
        return found

    # -- arrows -----------------------------------------------------------------------------------
    def _arrows(self) -> list[Arrow]:
        found: dict[tuple[str, str, bool], Arrow] = {}
        leaving: dict[tuple[str, bool], list[tuple[Node, str]]] = {}
        for edge in self.graph.edges:
            a, b = self.stands.get(edge.source), self.stands.get(edge.target)
            if a is None and b is None or a == b and not edge.carried:
                continue
            value, reader = self.graph.by_key[edge.source], self.graph.by_key[edge.target]
            cross = value.part == "forward" != reader.part
            if b is None:
                if cross and reader.part == "update":
                    continue
                assert a is not None
                leaving.setdefault((a, cross), []).append((value, edge.target))
                continue
            closed = self.marks[b].kind == "box" and reader.part == "update"
            if closed and value.part == "forward":
                continue  # that an update reads what it moves needs no arrow
            a = a or self._stub_in(value, self.marks[b])
            if a == b:
                continue
            arrow = found.get((a, b, edge.carried))
            if arrow is None:
                arrow = Arrow(a, b, value.part, [], edge.note, edge.carried, cross)
                found[a, b, edge.carried] = arrow
            if value not in arrow.values:
                arrow.values.append(value)
        across = sum(cross for _, cross in leaving)
        for (a, cross), ends in leaving.items():
            if not cross or across <= ACROSS:
                values = list({v.key: v for v, _ in ends}.values())
                b = self._stub_out(a, values[0], [t for _, t in ends])
                found[a, b, cross] = Arrow(a, b, values[0].part, values)
        return list(found.values())

    def _stub_in(self, value: Node, reader: Mark) -> str:
        """A value from outside; those from one box to one closed box together."""
        home = self._outside(value.key)
        key = f"in-{value.key}"
        title, says = value.name or value.label, f"from {home}" if home else ""
        if reader.kind == "box" and home:
            title, says = home, ""
            if len(self.shared[reader.key, home]) > 1:
                key = f"in-{reader.key}-{home}"
        if key not in self.marks:
            self.marks[key] = Mark(
                key, "stub", title, says, "reference", reader.part, node=value, goal=value.key
            )
        return key

    def _stub_out(self, source: str, value: Node, targets: Sequence[str]) -> str:
        names = [self._outside(t) or self.graph.by_key[t].label for t in targets]
        names = list(dict.fromkeys(names))
        title = ", ".join(names[:STUBS]) + (f" +{len(names) - STUBS}" * (len(names) > STUBS))
        key = f"out-{source}-{self.graph.by_key[targets[0]].part}"
        part = self.marks[source].part
        self.marks[key] = Mark(
            key, "stub", f"→ {title}", "", "reference", part, node=value, goal=targets[0]
        )
        return key

    def _outside(self, key: str) -> str:
        """The title of the box that something outside lies in, next to this one."""
        here = {self.at, *self.tree.around(self.at)} if self.at else {""}
        around = [k for k in self.tree.around(key) if k not in here]
        return self._short(self.tree.boxes[around[-1]].title) if around else ""

    # -- places -----------------------------------------------------------------------------------
    def scene(self, direction: str | None) -> Scene:
        marks = list(self.marks.values())
        for mark in marks:
            w, h = size(mark)
            mark.place = Place(0.0, 0.0, w, h)
        items = [Item(m.key, m.place.width, m.place.height, PARTS.index(m.part)) for m in marks]
        links = [Link(a.source, a.target, a.carried) for a in self.arrows]
        found = _chosen(items, links, direction)
        for mark in marks:
            mark.place = found.places[mark.key]
        for arrow, curve in zip(self.arrows, found.curves):
            arrow.curve = curve
        box = self.tree.boxes[self.at]
        result = Scene(box.title, found.width, found.height, marks, self.arrows, [], found.sideways)
        result.outlines = self._outlines(result, found)
        place_labels(result)
        return result

    def _outlines(self, result: Scene, found: Layout) -> list[Outline]:
        """Around open boxes that nothing else is in the way of."""
        outlines: list[Outline] = []
        rows: dict[int, list[Mark]] = {}
        for m in result.marks:
            rows.setdefault(found.ranks[m.key], []).append(m)
        for key in sorted(self.opened, key=lambda k: -len(self.tree.boxes[k].inside)):
            box = self.tree.boxes[key]
            own = {self.stands[k] for k in box.inside if k in self.stands}
            deep = sum(k in self.opened for k in box.children)
            steps = _steps(rows, own, 8.0 + 5.0 * deep, result.sideways)
            if steps and len(own) > 1:
                corners = [(left, y) for left, _, top, low in steps for y in (top, low)]
                back = [(right, y) for _, right, top, low in reversed(steps) for y in (low, top)]
                corners += back
                if result.sideways:
                    corners = [(y, x) for x, y in corners]
                at = min(corners, key=lambda c: (c[1], c[0]))
                title = self._short(box.title)
                outlines.append(Outline(title, box.part, corners, (at[0] + 7, at[1] + 11)))
        return outlines


Step = tuple[float, float, float, float]  # left, right, top, low


def _steps(rows: dict[int, list[Mark]], own: set[str], pad: float, sideways: bool) -> list[Step]:
    """What some marks take up of every row; nothing where another mark lies between them."""

    def sides(m: Mark) -> Step:
        left, top, right, bottom = m.place.sides
        return (top, bottom, left, right) if sideways else (left, right, top, bottom)

    mine = {r: [sides(m) for m in rows[r] if m.key in own] for r in sorted(rows)}
    used = [r for r, found in mine.items() if found]
    if not used:
        return []
    whole = (min(s[0] for r in used for s in mine[r]), max(s[1] for r in used for s in mine[r]))
    steps: list[Step] = []
    for r in range(used[0], used[-1] + 1):
        others = [sides(m) for m in rows[r] if m.key not in own]
        inner = (
            min((s[0] for s in mine[r]), default=None),
            max((s[1] for s in mine[r]), default=None),
        )
        spans = [whole] + [(a, b) for a, b in [inner] if a is not None and b is not None]
        free = [
            (a, b) for a, b in spans if not any(o[0] < b + pad and a - pad < o[1] for o in others)
        ]
        if not free:
            return []
        left, right = free[0][0] - pad, free[0][1] + pad
        every = [sides(m) for m in rows[r]]
        top, low = min(s[2] for s in every), max(s[3] for s in every)
        if steps:  # rows meet in the middle of the gap between them
            before = steps[-1]
            middle = (before[3] - pad + top) / 2
            steps[-1] = (*before[:3], middle)
            steps.append((left, right, middle, low + pad))
        else:
            steps.append((left, right, top - pad - 6, low + pad))
    return steps


def _by_part(marks: dict[str, Mark]) -> dict[str, Mark]:
    return dict(sorted(marks.items(), key=lambda pair: PARTS.index(pair[1].part)))


def node_mark(node: Node) -> Mark:
    colour = look(node.role, node.part)
    shared = node.readers if node.shared else 0
    return Mark(
        node.key, "node", node.label, node.says, colour, node.part, shared, node.output, node
    )


def size(mark: Mark) -> tuple[float, float]:
    bold = 1.08 if mark.kind == "box" else 1.0
    wide = max(width(mark.title, LETTER) * bold, width(mark.says, SMALL)) + 18
    if mark.kind == "box":
        return max(wide + 12, 96.0), 46.0
    return max(wide, LEAST), 40.0 if mark.says else 28.0


def _chosen(items: Sequence[Item], links: Sequence[Link], direction: str | None) -> Layout:
    """Down or to the right, whichever is larger on a screen."""
    if direction:
        return layout(items, links, direction == "right")
    down, right = layout(items, links), layout(items, links, True)
    return right if _scale(right) > 1.2 * _scale(down) else down


def _scale(found: Layout) -> float:
    return min(SCREEN[0] / found.width, SCREEN[1] / found.height, 1.3)


# -- shapes on arrows ---------------------------------------------------------------------------


def place_labels(scene: Scene) -> None:
    """The shape of every value beside one of its arrows, where it covers nothing."""
    taken = [m.place.sides for m in scene.marks]
    taken += [_title(o) for o in scene.outlines]
    said: set[tuple[str, str]] = set()
    for arrow in scene.arrows:
        text = arrow_text(arrow)
        source = arrow.values[0]
        if not text or (source.key, text) in said:
            continue
        spot = _free(scene, arrow, text, taken)
        if spot is not None:
            arrow.label, arrow.at = text, spot
            said.add((source.key, text))
            taken.append(_around(spot, text))


def arrow_text(arrow: Arrow) -> str:
    shapes = list(dict.fromkeys(show(v.shape) for v in arrow.values if v.shape))
    if len(arrow.values) > 1:
        return f"{len(arrow.values)} values"
    note = f"{arrow.note} " if arrow.note else ""
    if arrow.values[0].role not in ("op", "reference") and not note:
        return ""  # leaves show their own shape
    return note + (shapes[0] if shapes else "")


def _free(
    scene: Scene, arrow: Arrow, text: str, taken: Sequence[tuple[float, float, float, float]]
) -> Point | None:
    w = width(text, SMALL)
    for k in (0.5, 0.35, 0.65, 0.25, 0.75, 0.15, 0.85):
        x, y = along(arrow.curve, k)
        beside = (
            [(x, y - 8), (x, y + 9)] if scene.sideways else [(x + w / 2 + 5, y), (x - w / 2 - 5, y)]
        )
        for spot in beside:
            sides = _around(spot, text)
            inside = sides[0] > 2 and sides[2] < scene.width - 2
            if inside and not any(_meet(sides, t) for t in taken):
                return spot
    return None


def _title(o: Outline) -> tuple[float, float, float, float]:
    x, y = o.at
    return x, y - SMALL, x + width(o.title, SMALL), y + 2


def _around(spot: Point, text: str) -> tuple[float, float, float, float]:
    w = width(text, SMALL) / 2 + 2
    return spot[0] - w, spot[1] - 6, spot[0] + w, spot[1] + 6


def _meet(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def along(curve: Sequence[Point], share: float) -> Point:
    """A point of a polygon, at a share of its length."""
    steps = list(zip(curve, curve[1:]))
    lengths = [((b[0] - a[0]) ** 2 + (b[1] - a[1]) ** 2) ** 0.5 for a, b in steps]
    left = share * sum(lengths)
    for (a, b), length in zip(steps, lengths):
        if left <= length and length:
            t = left / length
            return a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])
        left -= length
    return curve[-1]
