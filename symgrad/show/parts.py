"""Several expressions as a list of definitions: what is shared gets a name, once, in order.

In: expressions by name. Out: `Line`s (name, term, node), each part before what reads it. A part is
named when it is shared and not trivial, or when the whole would be too long; its name is the
model's where the user's line gives one, else the usual letter, else t1, t2.

>>> [f"{line.name} = {text(line.term)}" for line in lines({"loss": loss})]
['h = tanh(x W + b)', 'loss = ‖h‖²']
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from symgrad.node import Constant, Expr, Leaf
from symgrad.show import names as naming
from symgrad.show.build import term
from symgrad.show.forms import form, operands
from symgrad.show.meaning import Broadcast, Transpose, meaning
from symgrad.show.notation import Call, Fraction, Name, Number, Power, Product, Spread, Sum, Term
from symgrad.show.notation import Transpose as Transposed

WIDTH = 72  # of a part that is used once; about the characters it takes
TRIVIAL = 7  # a shared part as short as this is written again


def role(node: Expr) -> str:
    """What a derivative computes stands in front in products, as a chain rule carries it along."""
    return "cotangent" if node.where.derivative else "part"


SHORT = ("exp", "log", "sqrt")  # functions of a name that are as good as a name


@dataclass(frozen=True)
class Line:
    """`name = term`; the name is empty for what was asked for itself."""

    name: str
    term: Term
    node: Expr


def lines(
    outputs: Mapping[str, Expr],
    known: Mapping[int, Term] | None = None,
    width: int = WIDTH,
    kept: Collection[int] = (),
) -> list[Line]:
    """Every output as a line, behind the parts it is made of; `known` are names by id of what
    needs no definition, `kept` ids of what gets a line whatever it is. The other names do not
    depend on those."""
    known = known or {}
    order = visible(outputs.values(), known)
    work = _Work(outputs, known, order, width)
    named = work.chosen({})
    own = naming.from_model(order)
    if any(id(e) not in work.labels for e in named):
        # something gets a name: then what the model named comes first
        mine = {k: v for k, v in own.items() if k not in known and k not in work.labels}
        named = work.chosen({k: v for k, v in mine.items()})
    names = work.names(named, own)
    return work.lines({**names, **work.more_names(names, kept)})


def visible(roots: Iterable[Expr], known: Mapping[int, Term] | None = None) -> list[Expr]:
    """What a reader sees of a graph, operands first."""
    known = known or {}
    order: list[Expr] = []
    done: set[int] = set()
    for root in roots:
        stack = [root]
        while stack:
            node = stack[-1]
            if id(node) in done:
                stack.pop()
                continue
            args = () if id(node) in known else operands(node)
            below = [a for a in args if id(a) not in done]
            if below:
                stack += reversed(below)
            else:
                stack.pop()
                done.add(id(node))
                order.append(node)
    return order


def transparent(node: Expr) -> bool:
    """Nodes that are no step to a reader: broadcasts, transposes, the user's own derivatives."""
    found = form(node)
    if found is not None and found.name == "value":
        return True
    return isinstance(meaning(node), (Broadcast, Transpose))


class _Work:
    def __init__(
        self,
        outputs: Mapping[str, Expr],
        known: Mapping[int, Term],
        order: Sequence[Expr],
        width: int,
    ) -> None:
        self.outputs, self.known, self.order, self.width = outputs, known, order, width
        self.labels = {id(e): label for label, e in reversed(list(outputs.items())) if label}
        self.uses = self._uses()

    def _uses(self) -> dict[int, int]:
        """How many places show each node; a transparent node passes its own uses on."""
        uses = {id(node): 0 for node in self.order}
        for node in reversed(self.order):
            if id(node) in self.known:
                continue
            for a in operands(node):
                uses[id(a)] += max(uses[id(node)], 1) if transparent(node) else 1
        return uses

    def _term(self, node: Expr, terms: Mapping[int, Term]) -> Term:
        if id(node) in self.known:
            return self.known[id(node)]
        return term(node, [terms[id(a)] for a in operands(node)])

    def chosen(self, own: Mapping[int, str]) -> list[Expr]:
        """The nodes that get a name, in order."""
        terms: dict[int, Term] = {}
        found = []
        for node in self.order:
            shown = self._term(node, terms)
            if self._plain(node):
                terms[id(node)] = shown
                continue
            shared = self.uses[id(node)] > 1 and not trivial(shown) or self._shared_constant(node)
            label = self.labels.get(id(node)) or own.get(id(node))
            long = shown.weight > self.width and self.uses[id(node)]
            if label or shared or long:
                found.append(node)
                shown = Name(label or "t1", node.ndim, role(node))
            terms[id(node)] = shown
        return found

    def _shared_constant(self, node: Expr) -> bool:
        """An array of several numbers that is shown more than once."""
        if not isinstance(node, Constant) or node.ndim != 1 or node.scalar is not None:
            return False
        return id(node) not in self.known and self.uses[id(node)] > 1

    def _plain(self, node: Expr) -> bool:
        if self._shared_constant(node):
            return False
        if isinstance(node, Leaf) or id(node) in self.known:
            return True
        return transparent(node) and id(node) not in self.labels

    def names(self, named: Sequence[Expr], own: Mapping[int, str]) -> dict[int, str]:
        """The name of each part: an output's own, the model's, a letter, t1."""
        leaves = {e.name for e in self.order if isinstance(e, Leaf)}
        used = (
            {n.text for n in self.known.values() if isinstance(n, Name)}
            | set(self.labels.values())
            | leaves
        )
        found: dict[int, str] = {}
        for node in named:
            label = self.labels.get(id(node)) or own.get(id(node))
            if label is not None:
                if label in used and id(node) not in self.labels:
                    label = naming.fresh(label, used)
                used.add(label)
                found[id(node)] = label
        letters = [naming.letter(node) for node in named if id(node) not in found]
        for node in named:
            if id(node) not in found:
                letter = naming.letter(node)
                alone = letters.count(letter) == 1 and letter not in "tdc" and letter not in used
                found[id(node)] = letter if alone else naming.fresh(letter, used)
                used.add(found[id(node)])
        return found

    def more_names(self, names: Mapping[int, str], kept: Collection[int]) -> dict[int, str]:
        """Names for what has none and is kept."""
        used = {e.name for e in self.order if isinstance(e, Leaf)} | set(names.values())
        found: dict[int, str] = {}
        for node in self.order:
            if id(node) in kept and id(node) not in names and not isinstance(node, Leaf):
                found[id(node)] = naming.fresh(naming.letter(node), used)
                used.add(found[id(node)])
        return found

    def lines(self, names: Mapping[int, str]) -> list[Line]:
        terms: dict[int, Term] = {}
        found: list[Line] = []
        for node in self.order:
            shown = self._term(node, terms)
            name = names.get(id(node))
            if name is not None:
                found.append(Line(name, shown, node))
                shown = Name(name, node.ndim, role(node))
            terms[id(node)] = shown
        for label, node in self.outputs.items():
            if label not in (names.get(id(node)), None) or isinstance(node, Leaf):
                found.append(Line(label, terms[id(node)], node))
        return found


def trivial(shown: Term) -> bool:
    """Short enough to be written again where it is shared: `2 x`, `1 - a`, `x²`, `Wᵀ`."""
    if isinstance(shown, (Name, Number)):
        return True
    if isinstance(shown, (Transposed, Power, Spread)):
        return trivial(shown.base)
    if isinstance(shown, Sum):
        parts = [t for _, t in shown.terms]
        return (
            len(parts) <= 2
            and all(isinstance(t, (Name, Number)) for t in parts)
            and any(isinstance(t, Number) for t in parts)
        )
    if isinstance(shown, Fraction) and not shown.rank:
        return trivial(shown.top) and trivial(shown.bottom)
    if isinstance(shown, Product):
        return len(shown.factors) == 2 and all(isinstance(t, (Name, Number)) for t in shown.factors)
    if isinstance(shown, Call) and shown.name in SHORT:
        return all(isinstance(t, Name) for t in shown.args)
    return shown.weight <= TRIVIAL
