"""How a derivation is put together: names for values and cotangents, sweep and log written down.

In: a scalar loss and what to differentiate by. Out: `Derivation` (see `symgrad.show.derivation`).
The loss is prepared and swept exactly as `sg.grad` does it, which the sweep's record tells step by
step; each cotangent is then simplified with the ones above it as names.

>>> Chain(loss, [W]).result().results[0].gradient is sg.grad(loss, W)
True
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from symgrad.derive.algebra import constant, total, zeros
from symgrad.derive.reverse import cotangents
from symgrad.node import Constant, Expr, Input, Leaf, Map, Reshape, toposort
from symgrad.rewrite import PREPARE, Rewrite, rules, stabilised
from symgrad.rewrite.engine import rewrite_where_needed, substitute
from symgrad.rewrite.reading import Reader
from symgrad.rewrite.softmaxes import without_shifts
from symgrad.scalar import OPS
from symgrad.show import names as naming
from symgrad.show.build import RENAMED, term
from symgrad.show.derivation import (
    CLOSED,
    Applied,
    Derivation,
    Prime,
    Result,
    Step,
    Through,
    fits,
    mentions,
)
from symgrad.show.forms import form, operands
from symgrad.show.notation import Call, Cases, Name, Product, Spread, Term, added
from symgrad.show.parts import Line, lines, visible
from symgrad.show.products import transposed
from symgrad.sizes import Shape

MOST_PATHS = 8


class Chain:
    """One derivation in the making."""

    def __init__(self, loss: Expr, targets: Sequence[Expr]) -> None:
        self.loss, self.targets = loss, targets
        self.names = _named(loss, targets)
        self.reader = Reader()
        self._prepare()
        self._sweep()

    # -- forward ------------------------------------------------------------------------------
    def _prepare(self) -> None:
        """The stable graph that is differentiated, and what became of the named values in it."""
        self.values = [e for e in toposort([self.loss]) if id(e) in self.names]
        (self.stable,), self.sources = stabilised([self.loss], self.targets)
        self.log: list[Rewrite] = []
        images = self.values
        if not any(t.args for t in self.targets):
            both, self.log = rewrite_where_needed([self.loss, *self.values], rules(PREPARE))
            images = both[1:]
        self.image = {id(e): new for e, new in zip(self.values, images)}
        for target, source in zip(self.targets, self.sources):
            self.image[id(target)] = source
        self.name_of: dict[int, Name] = {}  # of values in the stable graph
        for e in self.values:
            new = self.image[id(e)]
            if not isinstance(new, Leaf) and e is not self.loss:
                self.name_of.setdefault(id(new), self.names[id(e)])

    def forward(self) -> tuple[Line, ...]:
        """Every named value by what it is computed from."""
        wanted = [
            e for e in visible([self.loss]) if id(e) in self.names and not isinstance(e, Leaf)
        ]
        return tuple(lines({self.names[id(e)].text: e for e in wanted}, width=CLOSED))

    # -- backward -----------------------------------------------------------------------------
    def _sweep(self) -> None:
        self.cotangent: dict[int, Expr] = {}
        self.parts: dict[int, list[tuple[Expr, Expr]]] = {}
        self.order: list[Expr] = []

        def record(node: Expr, cotangent: Expr, given: Sequence[tuple[Expr, Expr]]) -> None:
            self.cotangent[id(node)] = cotangent
            self.order.append(node)
            for value, part in given:
                self.parts.setdefault(id(value), []).append((node, part))

        seed = constant(1, self.loss.dtype)
        self.gradients = cotangents([(self.stable, seed)], self.sources, record)
        self.holes: dict[Expr, Expr] = {}  # cotangents of named values, as names
        self.still = {e: e for e in toposort([self.stable])}  # no cotangent is below these
        self.known: dict[int, Term] = {id(e): name for e, name in self._read_values()}
        self.memo: dict[int, Term] | None = None  # of terms, once all names are known
        self.shown: list[Expr] = []  # what the memo knows by id must live
        self.primes: list[Prime] = []
        self.slopes: list[Expr] = []
        for node in reversed(self.order):
            if isinstance(node, Map):
                self._name_slope(node)
        for node in self.order:
            name = self.name_of.get(id(node))
            own = self.cotangent[id(node)]
            if name is not None and own not in self.holes and _is_derivative(own):
                hole = Input(_delta(name.text), own.shape, own.dtype)
                self.holes[own] = hole
                self.known[id(hole)] = Name(_delta(name.text), own.ndim, "cotangent")
        self.memo = {}

    def _name_slope(self, node: Map) -> None:
        """f'(z) for the derivative of a function by its first argument, where it has cases."""
        if node.op == "where" or not isinstance(self._shown(node.args[0]), Name):
            return
        slope = OPS[node.op].partials(node.args, node)[0]
        if not isinstance(slope, Map) or slope.shape != node.shape:
            return
        read = self.reader.read(slope)
        definition = self._shown(read)
        if id(read) in self.known or not isinstance(definition, Cases):
            return
        name = RENAMED.get(node.op, node.op) + "'"
        call = Call(name, (self._shown(node.args[0]),), node.ndim, elementwise=True)
        self.primes.append(Prime(call, definition, node.shape))
        self.slopes.append(slope)  # known by id, so it must live
        self.known[id(slope)] = self.known[id(read)] = call

    def _read_values(self) -> list[tuple[Expr, Name]]:
        """Named values as they stand in gradients once these are simplified."""
        found = []
        for e in self.values:
            new = self.image[id(e)]
            if id(new) in self.name_of:
                final, name = self.reader.read(new), self.name_of[id(new)]
                found += [(x, name) for x in (e, new, final) if x.args]
                while isinstance(final, Reshape) and _same_but_ones(
                    final.shape, final.args[0].shape
                ):
                    final = final.args[0]  # a column is the vector to a reader
                    if final.args:
                        found.append((final, Name(name.text, final.ndim, "part")))
        self.alive = [e for e, _ in found]  # names are by id
        return found

    def _with_names(self, e: Expr, own: Expr | None = None) -> Expr:
        """An expression with the cotangents above as names."""
        new = {**self.still, **self.holes}
        if own is not None:
            del new[own]
        return substitute([e], new)[0]

    def _step(self, node: Expr, name: Name, of: Name) -> Step:
        own = self.cotangent[id(node)] if id(node) in self.cotangent else self.gradients[id(node)]
        pairs = self.parts.get(id(node), [])
        hole = self.holes.get(own)
        mine = own if hole is not None and hole.name == name.text else None
        groups: dict[str, tuple[Name, list[Expr]]] = {}
        for reader, part in pairs:
            via = self._owner(reader)
            groups.setdefault(via.text, (via, []))[1].append(self._with_names(part, mine))
        mark = self.reader.mark()
        through = []
        for via, found in groups.values():
            shown = self._shown(self.reader.read(total(found)))
            through.append(Through(via, shown, _local(shown, _delta(via.text))))
        named = [self._with_names(part, mine) for _, part in pairs]
        raw = total(named) if named else self._with_names(own, mine)
        simple = self.reader.read(raw)
        swept, simplified = self._shown(without_shifts(raw)), self._shown(simple)
        parts: list[Line] = []
        if not fits(simplified):
            *parts, last = lines({name.text: simple}, self.known, width=CLOSED // 2)
            simplified = last.term
        rules = dict.fromkeys(
            r.rule for r in self.reader.since(mark) if r.stage not in ("canonicalise",)
        )
        return Step(
            name,
            of,
            node.shape,
            node.where,
            swept,
            simplified,
            tuple(parts),
            tuple(through),
            tuple(rules),
        )

    def _shown(self, e: Expr) -> Term:
        """An expression on one line."""
        self.shown.append(e)
        return inline(e, self.known, self.memo)

    def _owner(self, reader: Expr) -> Name:
        """The named value whose definition a node belongs to."""
        return self._above(reader)[0][1]

    def _above(self, node: Expr) -> list[tuple[Expr, Name]]:
        """The named values nearest to a node on its ways to the loss, itself included."""
        found: dict[int, tuple[Expr, Name]] = {}
        stack, seen = [node], {id(node)}
        while stack:
            n = stack.pop()
            name = self.names[id(self.loss)] if n is self.stable else self.name_of.get(id(n))
            if name is not None:
                found.setdefault(id(n), (n, name))
                continue
            for reader, _ in self.parts.get(id(n), ()):
                if id(reader) not in seen:
                    seen.add(id(reader))
                    stack.append(reader)
        return list(found.values()) or [(self.stable, self.names[id(self.loss)])]

    # -- results ------------------------------------------------------------------------------
    def result(self) -> Derivation:
        loss = self.names[id(self.loss)]
        steps = []
        for node in self.order:
            of = self.name_of.get(id(node))
            if of is not None and node is not self.stable and id(node) not in map(id, self.sources):
                steps.append(self._step(node, Name(_delta(of.text), node.ndim, "cotangent"), of))
        results = tuple(self._result(t, s, loss) for t, s in zip(self.targets, self.sources))
        return Derivation(
            loss,
            self.forward(),
            tuple(self._applied(self.log)),
            tuple(self.primes),
            tuple(steps),
            results,
            tuple(self._applied(self.reader.log)),
            self.known,
            (*self.alive, *self.slopes, *self.holes.values()),
        )

    def _result(self, target: Expr, source: Expr, loss: Name) -> Result:
        of = self.names.get(id(target)) or Name(target.name, target.ndim)
        name = Name(f"∂{loss.text}/∂{of.text}", target.ndim, "cotangent")
        gradient = self.gradients.get(id(source))
        if gradient is None:
            gradient = zeros(target.shape, target.dtype)
            self.gradients[id(source)] = gradient
        step = self._step(source, name, of)
        read = self.reader.read(gradient)
        closed = tuple(lines({name.text: read}, self.known, width=CLOSED))
        paths = self._paths(source, of)
        return Result(
            name, target.shape, step, closed, gradient, read, paths[:MOST_PATHS],
            max(0, len(paths) - MOST_PATHS),
        )  # fmt: skip

    def _paths(self, source: Expr, of: Name) -> tuple[tuple[Name, ...], ...]:
        """From the loss to the target, by named values."""
        complete: list[tuple[Name, ...]] = []
        partial: list[tuple[Expr, tuple[Name, ...]]] = [(source, (of,))]
        while partial and len(complete) < 64:
            node, path = partial.pop()
            if node is self.stable:
                complete.append(path)
                continue
            above: dict[int, tuple[Expr, Name]] = {}
            for reader, _ in self.parts.get(id(node), ()):
                above.update({id(n): (n, name) for n, name in self._above(reader)})
            partial += [(n, (name, *path)) for n, name in above.values()]
        return tuple(reversed(complete))

    def _applied(self, log: Sequence[Rewrite]) -> list[Applied]:
        """Rewrites that a reader may care about: not the change of form, each once."""
        found: dict[tuple[str, int], Applied] = {}
        for r in log:
            if r.stage == "canonicalise":
                continue
            parts = [
                self._shown(a) for a in operands(r.before)
            ]  # itself as it was, if it has a name
            before, after = term(r.before, parts), self._opened(r.after)
            key = (r.rule, id(r.before))
            found.setdefault(key, Applied(r.rule, r.stage, before, after, r.where))
        return list(found.values())

    def _opened(self, e: Expr) -> Term:
        """What a rewrite leads to; the logarithm of a softmax as the difference that it is."""
        found = form(e)
        if found is None or found.name != "log softmax":
            return self._shown(e)
        z = self._shown(found.operands[0])
        below = () if found.axes == (z.rank - 1,) else tuple(f"axis {a}" for a in found.axes)
        total = Call("logsumexp", (z,), z.rank - len(found.axes), below=below)
        return added([(False, z), (True, total)], e.ndim)


def inline(
    e: Expr, known: Mapping[int, Term], memo: dict[int, Term] | None = None, limit: int = 400
) -> Term:
    """One term without definitions; what would not fit on a page is cut off by dots. `memo` keeps
    the terms of parts by id, for expressions that share them."""
    terms = {} if memo is None else memo
    stack = [e]
    while stack:
        node = stack[-1]
        if id(node) in terms:
            stack.pop()
            continue
        if id(node) in known:
            terms[id(node)] = known[id(node)]
            continue
        below = operands(node)
        pending = [a for a in below if id(a) not in terms]
        if pending:
            stack += reversed(pending)
            continue
        shown = term(node, [terms[id(a)] for a in below])
        terms[id(node)] = shown if shown.weight <= limit else Name("…", node.ndim, "constant")
    return terms[id(e)]


def _same_but_ones(a: Shape, b: Shape) -> bool:
    return [s for s in a if s != 1] == [s for s in b if s != 1]


def _delta(name: str) -> str:
    return f"δ_{name}"


def _is_derivative(e: Expr) -> bool:
    """Whether a cotangent is worth a name: no constant, and nothing of the forward graph."""
    if isinstance(e, Leaf) or not e.where.derivative:
        return False
    return any(isinstance(n, Leaf) and not isinstance(n, Constant) for n in toposort([e]))


def _local(shown: Term, delta: str) -> Term | None:
    """The factor beside δ: the derivative of one value by the next."""
    if not isinstance(shown, Product):
        return None
    at = [k for k, f in enumerate(shown.factors) if isinstance(f, Name) and f.text == delta]
    if len(at) != 1 or any(mentions(f, delta) for k, f in enumerate(shown.factors) if k not in at):
        return None
    rest = tuple(f for k, f in enumerate(shown.factors) if k not in at)
    left = rest[0] if len(rest) == 1 else Product(rest, shown.rank, shown.hadamard)
    if shown.hadamard:
        inner = left.base if isinstance(left, Spread) else left
        return Call("diag", (inner,), 2)
    if any(f.rank > 2 for f in rest) or at[0] not in (0, len(shown.factors) - 1):
        return None
    return transposed(left) if left.rank else left


# -- names of values ----------------------------------------------------------------------------


def _named(loss: Expr, targets: Sequence[Expr]) -> dict[int, Name]:
    """The names of the loss, of what the model names, and letters for activations."""
    order = visible([loss])
    own = naming.from_model(order, [loss])
    used = {e.name for e in order if isinstance(e, Leaf)} | set(own.values())
    wanted: dict[int, str] = {}
    readers: dict[int, list[Expr]] = {}
    for node in order:
        for a in operands(node):
            readers.setdefault(id(a), []).append(node)
    for node in order:
        if id(node) in own or isinstance(node, Leaf) or node is loss or not node.ndim:
            continue
        letter = naming.letter(node)
        if letter in ("h", "p") or letter == "z" and _is_stage(node, readers.get(id(node), [])):
            wanted[id(node)] = letter
    counts = {c: list(wanted.values()).count(c) for c in set(wanted.values())}
    found = {k: Name(v, 0, "part") for k, v in own.items()}
    for node in order:
        letter = wanted.get(id(node), "")
        if letter:
            alone = counts[letter] == 1 and letter not in used
            name = letter if alone else naming.fresh(letter, used)
            used.add(name)
            found[id(node)] = Name(name, node.ndim, "part")
        elif id(node) in found:
            found[id(node)] = Name(found[id(node)].text, node.ndim, "part")
    if id(loss) not in found:
        name = "L" if "L" not in used else naming.fresh("L", used)
        found[id(loss)] = Name(name, 0, "part")
    for target in targets:
        found.setdefault(id(target), Name(target.name, target.ndim))
    return found


def _is_stage(node: Expr, readers: Sequence[Expr]) -> bool:
    """Whether a product of weights is a stage of the network: what an activation takes, and what a
    convolution gives; not what a bias is still to be added to."""
    if any(naming.letter(r) in ("h", "p") for r in readers):
        return True
    biased = len(readers) == 1 and naming.letter(readers[0]) == "z"
    return node.ndim > 2 and not biased
