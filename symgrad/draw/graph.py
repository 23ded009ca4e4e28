"""The graph of a picture: what a reader sees of expressions, and what is left out.

In: expressions by name, and updates of parameters. Out: a `Graph` of `Node`s and `Edge`s, operands
first. Broadcasts, casts, reshapes, windows and constants are no nodes of their own: they belong to
the node that reads them, unless everything is asked for. A softmax is one node, as in
`symgrad.show.forms`.

>>> graph = build({"loss": loss, "dW": sg.grad(loss, W)})
>>> [node.label for node in graph.nodes if node.part == "backward"]
['softmax', '−', '· / n', 'matmul']
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from symgrad.draw.labels import SCALINGS, gate, label, leaf_role, windows
from symgrad.loop import Scan, results
from symgrad.node import (
    Constant,
    Contract,
    Expr,
    Iota,
    Leaf,
    Map,
    Parameter,
    Reduce,
    Reindex,
    Reshape,
    SizeOf,
    Slot,
)
from symgrad.show import names as naming
from symgrad.show.build import RELATIONS, term
from symgrad.show.forms import form
from symgrad.show.meaning import Broadcast, Transpose, meaning, padding
from symgrad.show.notation import Name, Term
from symgrad.sizes import Shape, show

PARTS = ("forward", "backward", "update")
SMALL = 8  # a constant of more elements is a leaf of the picture
DOT = Name("·", 0, "constant")


@dataclass(eq=False)
class Node:
    """One operation or leaf. `covers` are all the expressions it stands for, its own last."""

    key: str
    expr: Expr
    label: str
    role: str  # "op", "input", "parameter", "state", "constant", "random", "slot", "reference"
    part: str
    name: str = ""  # the model's name of the value, or the output's
    gate: str = ""
    output: bool = False
    readers: int = 0
    covers: tuple[Expr, ...] = ()
    updates: str = ""  # the parameter that only this node's value moves

    @property
    def shape(self) -> Shape:
        return self.expr.shape

    @property
    def shared(self) -> bool:
        return self.role == "op" and self.readers > 1

    @property
    def says(self) -> str:
        """The second line: its name, its gate; the shape of a leaf."""
        if self.role in ("op", "reference"):
            return " · ".join(x for x in (self.name, self.gate) if x and x != self.label)
        return show(self.shape) if self.shape else ""


@dataclass(frozen=True)
class Edge:
    """A value that a node reads; `carried` from one step of a loop to the next."""

    source: str
    target: str
    note: str = ""  # what happens on the way: a transposition
    carried: bool = False


@dataclass
class Graph:
    nodes: list[Node]
    edges: list[Edge]
    outputs: dict[str, str] = field(default_factory=dict)  # key of a node -> the output's name

    def __post_init__(self) -> None:
        self.by_key = {n.key: n for n in self.nodes}
        self.by_expr = {id(n.expr): n for n in self.nodes if n.role != "reference"}

    def covering(self, e: Expr) -> Node | None:
        """The node that stands for an expression."""
        found = self.by_expr.get(id(e))
        if found is not None:
            return found
        return next((n for n in self.nodes if any(c is e for c in n.covers)), None)


def build(
    outputs: Mapping[str, Expr],
    updates: Mapping[Parameter, Expr] | None = None,
    full: bool = False,
    joined: bool = True,
) -> Graph:
    """The graph of named outputs and updates; `full` leaves nothing out. If not `joined`, forward
    values that derivatives read are repeated there as references."""
    work = _Work(dict(outputs), dict(updates or {}), full)
    graph = work.graph()
    return graph if joined else _apart(graph)


# -- what is seen ---------------------------------------------------------------------------------


def operands(e: Expr, full: bool) -> Sequence[Expr]:
    if full:
        return e.args
    found = form(e)
    return e.args if found is None else found.operands


class _Work:
    def __init__(
        self, outputs: dict[str, Expr], updates: dict[Parameter, Expr], full: bool
    ) -> None:
        self.outputs, self.updates, self.full = outputs, updates, full
        self.roots = [*outputs.values(), *updates.values()]
        self.wanted = {id(e) for e in self.roots}
        self.order = self._reached(self.roots)
        self.readers: dict[int, list[Expr]] = {id(e): [] for e in self.order}
        for e in self.order:
            for a in operands(e, full):
                self.readers[id(a)].append(e)
        self.feeds = self._feeds()
        self.part = self._parts()
        self.inline = {id(e) for e in self.order if self._folded(e)}
        for e in reversed(self.order):  # what reads a node is decided before the node
            if not full and id(e) not in self.inline and id(e) not in self.wanted:
                if self._passed(e) or self._absorbed(e):
                    self.inline.add(id(e))

    def _reached(self, roots: Iterable[Expr]) -> list[Expr]:
        order: list[Expr] = []
        done: set[int] = set()
        for root in roots:
            stack = [root]
            while stack:
                e = stack[-1]
                waiting = [a for a in operands(e, self.full) if id(a) not in done]
                if id(e) in done or not waiting:
                    stack.pop()
                    if id(e) not in done:
                        done.add(id(e))
                        order.append(e)
                else:
                    stack += reversed(waiting)
        return order

    def _feeds(self) -> dict[int, list[tuple[Expr, bool]]]:
        """Where the slots of loops get their values: from a sequence or a first value, and from
        the step before."""
        feeds: dict[int, list[tuple[Expr, bool]]] = {}
        for loop in results(self.order):
            for slot, sequence in zip(loop.slices, loop.sequences):
                feeds[id(slot)] = [(sequence, False)]
            for slot, first, new in zip(loop.carries, loop.initials, loop.news):
                feeds[id(slot)] = [(first, False), (new, True)]
        return feeds

    def _parts(self) -> dict[int, str]:
        """Forward, backward, or only there to move parameters."""
        shown = {id(e) for e in self._reached(self.outputs.values())}
        part: dict[int, str] = {}
        derived: set[int] = set()  # what a derivative needs is no update
        for e in reversed(self.order):
            if e.where.derivative or id(e) in derived:
                derived.update(id(a) for a in operands(e, self.full))
        for loop, found in results(self.order).items():
            back = any(new.where.derivative for new in loop.news)
            part.update((id(e), "backward" if back else "forward") for e in (*found, *loop.slots))
        for e in self.order:
            if id(e) in part:
                continue
            update = id(e) not in shown and id(e) not in derived
            if isinstance(e, Leaf):
                part[id(e)] = "update" if update else "forward"
            elif e.where.derivative:
                part[id(e)] = "backward"
            else:
                part[id(e)] = "update" if update else "forward"
        return part

    def _folded(self, e: Expr) -> bool:
        """Numbers, sizes, and what is computed of these alone."""
        if self.full or id(e) in self.wanted or isinstance(e, (SizeOf, Iota)):
            return not self.full and id(e) not in self.wanted
        if isinstance(e, Constant):
            return e.scalar is not None or e.size <= SMALL  # type: ignore[operator]
        if isinstance(e, Leaf):
            return False
        known = self.__dict__.setdefault("_numbers", set())
        args = operands(e, self.full)
        if all(isinstance(a, (Constant, SizeOf, Iota)) or id(a) in known for a in args):
            known.add(id(e))
            return True
        return False

    def _passed(self, e: Expr) -> bool:
        """Steps that are none to a reader: they are part of the edge."""
        found = form(e)
        if found is not None:
            return found.name == "value"
        if isinstance(meaning(e), (Broadcast, Transpose)) or isinstance(e, Reshape):
            return True
        if isinstance(e, Map) and (e.op == "stop_gradient" or e.op.startswith("to_")):
            return e.args[0].dtype != "bool"
        if isinstance(e, Reindex):
            readers = self.readers[id(e)]
            if windows(e):
                return all(isinstance(r, (Contract, Reduce)) for r in readers)
            return padding(e) is not None and all(id(r) in self.inline for r in readers)
        return False

    def _absorbed(self, e: Expr) -> bool:
        """A scaling, a sign, a comparison that one other elementwise operation reads."""
        readers = self.readers[id(e)]
        if not isinstance(e, Map) or len(readers) != 1 or form(e) is not None:
            return False
        open_ = [a for a in e.args if id(a) not in self.inline]
        reader = readers[0]
        if self.part[id(reader)] != self.part[id(e)] or not isinstance(reader, Map):
            return False
        if e.op in RELATIONS or e.op.startswith("to_"):
            return len(open_) == 1
        numbers = [a for a in e.args if id(a) in self.__dict__.get("_numbers", ())]
        numbers += [a for a in e.args if isinstance(a, (Constant, SizeOf))]
        linear = reader.op in ("add", "sub") and e.op in SCALINGS
        return linear and len(e.args) - len(numbers) == 1

    # -- the graph --------------------------------------------------------------------------------
    def graph(self) -> Graph:
        names = naming.from_model(self.order, self.outputs.values())
        given = {id(e): name for name, e in reversed(list(self.outputs.items()))}
        moved = {id(e): f"{p.name}'" for p, e in self.updates.items()}
        seen = [e for e in self.order if id(e) not in self.inline]
        has_gradient = any(self.part[id(e)] == "backward" for e in seen)
        has_gradient |= any(name.startswith("∂") for name in self.outputs)
        towards = self._towards() if has_gradient else set()
        self.keys = {id(e): f"n{k}" for k, e in enumerate(seen)}
        self.terms: dict[int, Term] = {}
        self.through: dict[int, list[tuple[Expr, str]]] = {}
        self.inside: dict[int, list[Expr]] = {}
        nodes, edges = [], []
        for e in self.order:
            parts = [self.terms.get(id(a), DOT) for a in operands(e, self.full)]
            self._collect(e)
            if id(e) in self.inline:
                bare = self._passed(e) and getattr(parts[0], "text", "") == "·"
                self.terms[id(e)] = Name("·", e.ndim, "constant") if bare else term(e, parts)
                continue
            self.terms[id(e)] = Name("·", e.ndim, "constant")
            windowed = any(windows(c) for c in self.inside[id(e)][:-1])
            nodes.append(
                Node(
                    self.keys[id(e)],
                    e,
                    label(e, parts, len(self.through[id(e)]), windowed),
                    leaf_role(e),
                    self.part[id(e)],
                    given.get(id(e)) or moved.get(id(e)) or names.get(id(e), ""),
                    gate(e, len(self.through[id(e)])) if id(e) in towards else "",
                    id(e) in self.wanted,
                    covers=tuple(self.inside[id(e)]),
                )
            )
            edges += self._edges(e)
        graph = Graph(nodes, list(dict.fromkeys(edges)))
        for edge in graph.edges:
            graph.by_key[edge.source].readers += 1
        for e in self.order:
            if id(e) in given:
                graph.outputs[self.keys[id(e)]] = given[id(e)]
        self._gradients(graph)
        return graph

    def _towards(self) -> set[int]:
        """Forward operations on a path from a parameter, or from what is differentiated by."""
        found: set[int] = set()
        for e in self.order:
            varies = any(id(a) in found for a in operands(e, self.full))
            if isinstance(e, Parameter) or varies or id(e) in self.feeds:
                found.add(id(e))
        has = any(isinstance(e, Parameter) for e in self.order)
        every = {id(e) for e in self.order} if not has else found
        return {
            id(e)
            for e in self.order
            if id(e) in every and self.part[id(e)] == "forward" and e.dtype.startswith("float")
        }

    def _collect(self, e: Expr) -> None:
        """Where the operands that are seen come from, and what is between."""
        sources: list[tuple[Expr, str]] = []
        inside: list[Expr] = []
        for a in operands(e, self.full):
            if id(a) not in self.inline:
                sources.append((a, ""))
                continue
            note = "ᵀ" if isinstance(meaning(a), Transpose) else ""
            sources += [(s, n + note) for s, n in self.through[id(a)]]
            inside += self.inside[id(a)]
        found = form(e)
        hidden = self._between(e, found.operands) if found is not None and not self.full else []
        self.through[id(e)] = list({(id(s), n): (s, n) for s, n in sources}.values())
        self.inside[id(e)] = list({id(c): c for c in [*inside, *hidden, e]}.values())

    def _between(self, e: Expr, stop: Sequence[Expr]) -> list[Expr]:
        """What a form such as a softmax is made of."""
        ends = {id(s) for s in stop}
        found: dict[int, Expr] = {}
        stack = list(e.args)
        while stack:
            a = stack.pop()
            if id(a) not in ends and id(a) not in found and not isinstance(a, (Parameter, Slot)):
                found[id(a)] = a
                stack += a.args
        return list(found.values())

    def _edges(self, e: Expr) -> list[Edge]:
        target = self.keys[id(e)]
        if isinstance(e, Scan):
            wanted = e.output if e.position is None else e.news[e.position]
            assert wanted is not None
            return [Edge(self.keys[id(s)], target, n) for s, n in self._sources(wanted)]
        found = []
        for a, carried in self.feeds.get(id(e), []):
            found += [
                Edge(self.keys[id(s)], target, n, carried)
                for s, n in self._sources(a)
                if id(s) in self.keys
            ]
        return found + [Edge(self.keys[id(s)], target, n) for s, n in self.through[id(e)]]

    def _sources(self, e: Expr) -> list[tuple[Expr, str]]:
        if id(e) not in self.inline:
            return [(e, "")]
        if id(e) not in self.through:  # a value that only the next step of a loop reads
            self._collect(e)
        return self.through[id(e)]

    def _gradients(self, graph: Graph) -> None:
        """Name the gradients that updates read: ∂W is what moves W, and has its shape."""
        owners: dict[str, set[str]] = {}
        mine = {self.keys[id(e)]: p for p, e in self.updates.items() if id(e) in self.keys}
        below: dict[str, list[str]] = {}
        for edge in graph.edges:
            below.setdefault(edge.target, []).append(edge.source)
        for root, p in mine.items():
            stack = [root]
            while stack:
                key = stack.pop()
                if p.name in owners.setdefault(key, set()):
                    continue
                owners[key].add(p.name)
                if graph.by_key[key].part == "update":
                    stack += below.get(key, [])
        known = {p.name: p for p in self.updates}
        gradients: dict[str, Node] = {}
        for key in sorted(owners, key=lambda k: int(k[1:])):
            node, who = graph.by_key[key], owners[key]
            trained = sorted(p for p in who if known[p].kind == "parameter")
            if node.part == "update":
                node.updates = trained[0] if len(trained) == 1 else min(who) if not trained else ""
            elif node.part == "backward" and not node.output and len(trained) == 1:
                if known[trained[0]].shape == node.shape:
                    gradients[trained[0]] = node
        for name, node in gradients.items():
            node.name = node.name or f"∂{name}"


def _apart(graph: Graph) -> Graph:
    """Two graphs side by side: forward values that derivatives read are repeated there."""
    nodes, edges = list(graph.nodes), []
    made: dict[str, Node] = {}
    for edge in graph.edges:
        a, b = graph.by_key[edge.source], graph.by_key[edge.target]
        if a.part != "forward" or b.part == "forward":
            edges.append(edge)
            continue
        key = f"{a.key}_{b.key}"
        if key not in made:
            made[key] = Node(key, a.expr, a.name or a.label, "reference", b.part)
            nodes.append(made[key])
        edges.append(Edge(key, edge.target, edge.note, edge.carried))
        made[key].readers += 1
    return Graph(nodes, edges, graph.outputs)
