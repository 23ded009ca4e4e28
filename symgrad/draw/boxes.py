"""Boxes around the nodes of a picture: layers, losses, loops, the optimizer.

In: a `Graph`. Out: a `Tree` of boxes: calls of layers as they were nested (every node's `where`
knows them), layers that only the names of parameters tell (`fc1.weight`), bodies of loops, and what
moves each parameter. The derivative of a layer is a box of its own.

>>> tree = boxes(graph)
>>> [tree.boxes[k].title for k in tree.root.children if k in tree.boxes]
['fc1', 'fc2', 'cross_entropy', '∂ fc2', '∂ fc1', 'update']
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from symgrad.draw.graph import Graph, Node
from symgrad.loop import Loop, results
from symgrad.node import Parameter, Scan, State
from symgrad.sizes import amount, show
from symgrad.source import Part

WHOLE = 0.9  # a layer with this share of all parameters is the network itself, not one of its boxes


@dataclass
class Box:
    """Nodes that a reader may see as one. `inside` are all of them, `children` the next level."""

    key: str
    title: str
    kind: str  # "Linear", "loop", "update", ...
    part: str
    parent: str = ""
    children: list[str] = field(default_factory=list)  # keys of nodes and boxes
    inside: list[str] = field(default_factory=list)  # keys of nodes, of inner boxes as well

    @property
    def says(self) -> str:
        return self.kind if self.kind != self.title else ""


@dataclass
class Tree:
    boxes: dict[str, Box]  # the outermost one, of key "", among them
    home: dict[str, str]  # key of a node -> key of the innermost box around it

    @property
    def root(self) -> Box:
        return self.boxes[""]

    def around(self, key: str) -> list[str]:
        """The boxes around a node or box, innermost first, the outermost "" last."""
        at = self.boxes[key].parent if key in self.boxes else self.home[key]
        found = [at]
        while at:
            at = self.boxes[at].parent
            found.append(at)
        return found


def boxes(graph: Graph) -> Tree:
    return _Work(graph).tree()


class _Work:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.loops: dict[int, Loop] = {}  # of each slot
        self.scans: dict[Loop, Any] = {}
        for loop, found in results(n.expr for n in graph.nodes).items():
            self.scans[loop] = found[0]
            self.loops.update((id(slot), loop) for slot in loop.slots)
        self.below: dict[str, list[str]] = {}
        self.above: dict[str, list[str]] = {}
        for e in graph.edges:
            self.below.setdefault(e.target, []).append(e.source)
            self.above.setdefault(e.source, []).append(e.target)
        self.paths: dict[str, tuple[Hashable, ...]] = {}

    def tree(self) -> Tree:
        leaves = []
        for node in self.graph.nodes:
            if node.role in ("op", "slot"):
                self.paths[node.key] = self._path(node)
            else:
                leaves.append(node)
        for node in leaves:
            self.paths[node.key] = self._leaf_path(node)
        tree = self._build()
        self._dissolve(tree)
        self._title(tree)
        return tree

    # -- where a node belongs ---------------------------------------------------------------------
    def _path(self, node: Node) -> tuple[Hashable, ...]:
        """What is around an operation, outermost first."""
        e = node.expr
        if node.part == "update":
            owner = node.updates
            names = owner.split(".")[:-1] or [owner]
            return ("update", *_prefixes(names)) if owner else ("update",)
        steps: list[Hashable] = list(e.where.parts)
        if not steps:
            steps = self._prefix(node)
        around = sorted(
            {self.loops[id(s)] for s in e.free if id(s) in self.loops},
            key=lambda loop: loop.slots[0].depth,
        )
        if isinstance(e, Scan):
            around.append(e.loop)
        for k, loop in enumerate(around):
            outer = len(self.scans[loop].where.parts)
            steps.insert(min(outer + k, len(steps)), loop)
        return (node.part, *steps)

    def _prefix(self, node: Node) -> list[Hashable]:
        """The layer that the name of a parameter tells, where no layer was called: the product
        that reads `fc1.weight`, the sum that reads `fc1.bias`."""
        for key in self.below.get(node.key, []):
            leaf = self.graph.by_key[key]
            if isinstance(leaf.expr, Parameter) and not isinstance(leaf.expr, State):
                return list(_prefixes(leaf.expr.name.split(".")[:-1]))
        return []

    def _leaf_path(self, node: Node) -> tuple[Hashable, ...]:
        """With all who read it, first of all forward; what the user hands in is outside."""
        readers = [self.graph.by_key[k] for k in self.above.get(node.key, [])]
        if node.role == "input":
            return ("forward",)
        mine = [r for r in readers if r.part == node.part and r.key in self.paths]
        mine = mine or [r for r in readers if r.key in self.paths]
        paths = [self.paths[r.key] for r in mine]
        return (_common(paths) if paths else ()) or (node.part,)

    # -- the tree ---------------------------------------------------------------------------------
    def _build(self) -> Tree:
        tree = Tree({"": Box("", "", "", "")}, {})
        known: dict[tuple[str, Hashable], str] = {}
        self.steps: dict[str, Hashable] = {}
        for node in self.graph.nodes:
            at = ""
            part, *steps = self.paths[node.key]
            named = ["update", *steps] if part == "update" else steps
            for step in named:
                place = (at if at else str(part), step)
                if place not in known:
                    key = f"b{len(known)}"
                    known[place] = key
                    tree.boxes[key] = Box(key, "", "", str(part), at)
                    tree.boxes[at].children.append(key)
                    self.steps[key] = step
                at = known[place]
                tree.boxes[at].inside.append(node.key)
            tree.boxes[at].children.append(node.key)
            tree.boxes[""].inside.append(node.key)
            tree.home[node.key] = at
        return tree

    def _dissolve(self, tree: Tree) -> None:
        """Boxes that would hide nothing, and those that are the whole network."""
        role = {n.key: n.role for n in self.graph.nodes}
        for box in list(tree.boxes.values())[1:]:
            own = [k for k in box.inside if role[k] == "op"]
            rest = len(box.inside) - len(own)
            loop = isinstance(self.steps[box.key], Loop)
            if (len(own) < 2 and not rest and not loop) or self._only_child(tree, box):
                self._open(tree, box)
        opened: set[int] = set()
        for part in ("forward", "backward"):
            for _ in tree.boxes.copy():
                top = [k for k in tree.root.children if k in tree.boxes]
                level = [tree.boxes[k] for k in top if tree.boxes[k].part == part]
                whole = [b for b in level if self._whole(tree, b, opened)]
                if not whole:
                    break
                opened.add(id(self.steps[whole[0].key]))
                self._open(tree, whole[0])

    def _whole(self, tree: Tree, box: Box, opened: set[int]) -> bool:
        """Whether a box is the network itself: it has nearly all parameters, in inner boxes."""
        if box.part == "backward":
            return id(self.steps[box.key]) in opened
        leaves = [n.key for n in self.graph.nodes if n.role == "parameter"]
        inner = sum(c in tree.boxes for c in box.children)
        own = len(set(box.inside).intersection(leaves))
        return inner > 1 and own >= WHOLE * len(leaves) and bool(leaves)

    def _only_child(self, tree: Tree, box: Box) -> bool:
        """A box around nothing but another box."""
        return len(box.children) == 1 and box.children[0] in tree.boxes

    def _open(self, tree: Tree, box: Box) -> None:
        outer = tree.boxes[box.parent]
        at = outer.children.index(box.key)
        outer.children[at : at + 1] = box.children
        for key in box.children:
            if key in tree.boxes:
                tree.boxes[key].parent = box.parent
            else:
                tree.home[key] = box.parent
        del tree.boxes[box.key]

    def _title(self, tree: Tree) -> None:
        titles: dict[Hashable, str] = {}
        for forward in (True, False):
            for box in list(tree.boxes.values())[1:]:
                if (box.part == "forward") == forward:
                    step = self.steps[box.key]
                    title, box.kind = self._called(step, box)
                    title = titles.setdefault(step, title) if step != "update" else title
                    box.title = f"∂ {title}" if box.part == "backward" else title

    def _called(self, step: Hashable, box: Box) -> tuple[str, str]:
        """Title and kind of a box."""
        if isinstance(step, Loop):
            way = "reversed, " if step.reverse else ""
            return f"loop over {step.length}", f"{way}carries " + ", ".join(
                s.name for s in step.carries
            )
        if not isinstance(step, Part):
            return str(step), "update" if box.part == "update" and step != "update" else ""
        leaves = [self.graph.by_key[k].expr for k in box.inside]
        own = [e for e in leaves if isinstance(e, Parameter)]
        prefix = _common([tuple(e.name.split(".")[:-1]) for e in own]) if own else ()
        if prefix:
            return ".".join(map(str, prefix)), step.kind
        owner = step.owner
        if step.name or owner is None or not own:
            return step.name or step.kind, step.kind
        return str(owner.path), step.kind


def _prefixes(names: Sequence[str]) -> list[str]:
    """`block1`, `block1.conv2`: the layers that a name tells."""
    return [".".join(names[: k + 1]) for k in range(len(names))]


def _common(paths: Sequence[tuple[Hashable, ...]]) -> tuple[Hashable, ...]:
    """The beginning that all have in common."""
    first, length = paths[0], min(map(len, paths))
    while any(p[:length] != first[:length] for p in paths):
        length -= 1
    return first[:length]


def parameters(graph: Graph, keys: Iterable[str]) -> int:
    """How many numbers are trained among some nodes."""
    found = (graph.by_key[k].expr for k in keys)
    leaves = {id(e): e for e in found if isinstance(e, Parameter) and not isinstance(e, State)}
    return sum(int(amount(e.shape)) for e in leaves.values())


def summary(graph: Graph, box: Box) -> str:
    """What a closed box holds, in a few words."""
    own = [graph.by_key[k] for k in box.inside]
    count = sum(n.role == "op" for n in own)
    said = [f"{count} operation{'s' if count != 1 else ''}"]
    trained = parameters(graph, box.inside)
    if trained:
        said.append(f"{trained:,} parameters")
    return " · ".join(said)


__all__ = ["Box", "Tree", "boxes", "parameters", "show", "summary"]
