"""The rewrite engine: tables of rules applied bottom-up until none fires.

In: expressions and `RuleSet`s. Out: the rewritten expressions and a log of what was rewritten, by
which rule, from which line of the model.

    TABLE = Table("stabilise", [
        Rule("log of exp", log(exp(x)), x),                              # log(exp(x)) -> x
    ])
    new, log = rewrite([loss], RuleSet([TABLE]))

Every node is visited once its operands are final; the first rule of the tables that matches
replaces it, and what the rule built is visited in turn. Results are remembered by node, so shared
parts are rewritten once. Rules are found by the node's own tag and its operands' tags, so a node
meets only the few rules that can match it.

Termination: each rule lowers the measure (operations that are unstable as written, then elements
computed, then nodes, then the place in the order of operands); a rule that is wrong about this
cannot loop, because each replacement costs fuel, what it builds inherits the rest, and a node out
of fuel is taken as it stands.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Container, Iterable, Mapping, Sequence

from symgrad import source
from symgrad.errors import SymgradError
from symgrad.node import Contract, Expr
from symgrad.rewrite.patterns import Pattern, Variant, build, fill, lift, tag, variants
from symgrad.sizes import show

ANY_ROOT = ""  # rules that name no root
STRICT = False  # tests: an error where rules go in circles, instead of stopping there
FUEL = 48  # replacements in a row of one node, or nested in what they built

Result = Pattern | Callable[..., "Expr | None"] | int | float
Signature = tuple[str, ...]


class RuleError(SymgradError):
    """A rule whose result is not what it replaces: a fault of the rule, not of the model."""


class Rule:
    """`pattern -> result`, where `when` holds.

    `result` is a pattern, or a function of the holes it names, which may decline with None. `only`
    narrows the signatures (own tag, operands' tags) further than the pattern does. `exact=False`
    says why the two sides are no identity of real numbers; `example` builds the left side where
    the pattern alone does not say how (used by the test that walks the tables).
    """

    __slots__ = (
        "name",
        "pattern",
        "result",
        "when",
        "only",
        "exact",
        "why",
        "example",
        "_variants",
    )

    def __init__(
        self,
        name: str,
        pattern: Pattern,
        result: Result,
        when: Callable[..., bool] | None = None,
        *,
        only: Callable[[Signature], bool] | None = None,
        exact: bool = True,
        why: str = "",
        example: Callable[..., Expr] | None = None,
    ) -> None:
        if not exact and not why:
            raise ValueError(f"rule {name!r}: exact=False needs a reason")
        self.name, self.pattern, self.only = name, pattern, only
        self.exact, self.why, self.example = exact, why, example
        self.result: Any = _callable(result) if callable(result) else lift(result)  # type: ignore
        self.when = None if when is None else _callable(when)
        self._variants: list[_Bound] | None = None

    def __repr__(self) -> str:
        return f"<rule {self.name}>"

    @property
    def roots(self) -> tuple[str, ...]:
        """The tags of the nodes it can match; none for every node."""
        if self.pattern.kind == "node":
            return tuple(sorted(self.pattern.value))
        return (self.pattern.kind,)

    @property
    def variants(self) -> list[_Bound]:
        if self._variants is None:
            self._variants = [_Bound(self, v) for v in variants(self.pattern)]
        return self._variants


_Call = tuple[Callable[..., Any], tuple[str, ...]]


def _callable(function: Callable[..., Any]) -> _Call:
    code = function.__code__  # inspect.signature is slow, and there are many rules
    return function, code.co_varnames[: code.co_argcount]


class _Bound:
    """A variant of a rule's pattern, with the registers that its functions read."""

    __slots__ = ("rule", "match", "fits", "holes", "when", "result")

    def __init__(self, rule: Rule, variant: Variant) -> None:
        self.rule, self.match, self.fits = rule, variant.match, variant.fits
        self.holes = variant.holes
        self.when = self._positions(rule.when)
        self.result = self._positions(rule.result)

    def _positions(self, call: Any) -> Any:
        if not isinstance(call, tuple):
            return call
        function, names = call
        missing = [n for n in names if n not in self.holes and n != "run"]
        if missing:
            raise RuleError(f"rule {self.rule.name!r}: no hole named {', '.join(missing)}")
        return function, tuple(self.holes.get(n, -2) for n in names)

    def build(self, n: Expr, registers: list[Expr], run: Run) -> Expr | None:
        """What the rule makes of a node that matches; None where it declines."""
        if self.when is not None and not _call(self.when, registers, run):
            return None
        if isinstance(self.result, tuple):
            return _call(self.result, registers, run)  # type: ignore[no-any-return]
        holes = {name: None if i < 0 else registers[i] for name, i in self.holes.items()}
        return build(self.result, holes, n.dtype)


def _call(call: tuple[Callable[..., Any], tuple[int, ...]], found: list[Expr], run: Run) -> Any:
    function, positions = call
    return function(*[found[i] if i >= 0 else (None if i == -1 else run) for i in positions])


@dataclass(frozen=True)
class Table:
    """The rules of one stage, tried in order."""

    stage: str
    rules: Sequence[Rule]
    quiet: bool = False  # not worth a line in the log


class _Everything:
    def __contains__(self, tag: object) -> bool:
        return True


class RuleSet:
    """Tables used together, indexed by signature."""

    def __init__(self, tables: Iterable[Table]) -> None:
        self.tables = tuple(tables)
        self._index: dict[Signature, list[tuple[Table, _Bound]]] = {}
        # by the tag of the node, so that patterns are only prepared for functions that occur
        self._by_root: dict[str, list[tuple[Table, Rule]]] = {}
        self._by_root[ANY_ROOT] = []
        for table in self.tables:
            for rule in table.rules:
                for root in rule.roots:
                    self._by_root.setdefault(root, [])
        for table in self.tables:
            for rule in table.rules:
                for root in rule.roots or tuple(self._by_root):
                    self._by_root[root].append((table, rule))
        self.roots: Container[str] = _Everything() if self._by_root[ANY_ROOT] else self._by_root

    def candidates(self, signature: Signature) -> list[tuple[Table, _Bound]]:
        found = self._index.get(signature)
        if found is None:
            found = self._index[signature] = [
                (table, bound)
                for table, rule in self._by_root.get(signature[0], self._by_root[ANY_ROOT])
                if rule.only is None or rule.only(signature)
                for bound in rule.variants
                if bound.fits(signature)
            ]
        return found


@dataclass(frozen=True)
class Rewrite:
    """One line of the log."""

    rule: str
    stage: str
    before: Expr
    after: Expr
    where: source.Source  # the line of the model that built `before`

    def __str__(self) -> str:
        return self.text()

    def text(self, names: Mapping[int, str] | None = None) -> str:
        """One line; `names` by id are those of the model's values."""
        from symgrad.show.brief import brief

        before, after = brief(self.before, names=names), brief(self.after, names=names)
        change = f"{before} -> {after}" if before != after else f"{before}, in another form"
        return f"{self.where}: {self.stage}: {self.rule}: {change}"


@dataclass
class Run:
    """One application of a rule set; rules that ask for `run` may read the number of users."""

    rules: RuleSet
    narrow: RuleSet  # enough for nodes in `settled`, which are in normal form but for these rules
    settled: Container[Expr] = ()
    uses: dict[Expr, int] = field(default_factory=dict)
    multiplied: set[Expr] = field(default_factory=set)  # operands of matrix products seen so far
    log: list[Rewrite] = field(default_factory=list)
    final: dict[Expr, Expr] = field(default_factory=dict)
    tags: dict[Expr, str] = field(default_factory=dict)
    changed: set[Expr] = field(default_factory=set)  # by more than a change of form
    exhausted: int = 0  # nodes that ran out of fuel: 0 unless a rule is wrong

    def _cycle(self, n: Expr) -> None:
        self.exhausted += 1
        if STRICT:
            last = "; ".join(r.rule for r in self.log[-6:])
            raise RuleError(f"the rules go in circles at {n!r}, the last ones: {last}")

    def step(self, n: Expr, rules: RuleSet) -> Expr | None:
        """What the first rule that fires makes of a node, or None."""
        tags = self.tags
        own = tags.get(n)
        if own is None:
            own = tags[n] = tag(n)
        if own not in rules.roots:
            return None
        signature = [own]
        for a in n.args:
            t = tags.get(a)
            if t is None:
                t = tags[a] = tag(a)
            signature.append(t)
        for table, bound in rules.candidates(tuple(signature)):
            registers = bound.match(n)
            if registers is None:
                continue
            place = n.where.part  # only the whole has the value that the user's variable has
            source._override.append(place)
            try:
                after = bound.build(n, registers, self)
                if after is None or after is n:
                    continue
                if after.where is place:
                    after.where = n.where
                if after.shape != n.shape and not after.shape:
                    after = fill(after, n.shape)
            finally:
                source._override.pop()
            if after.shape != n.shape or after.dtype != n.dtype:
                raise RuleError(
                    f"rule {bound.rule.name!r} of {table.stage} turns {n!r} into {after!r}: "
                    f"{show(n.shape)} {n.dtype} is not {show(after.shape)} {after.dtype}"
                )
            if table.stage != "canonicalise":
                self.changed.add(n)
            if not table.quiet:
                self.log.append(Rewrite(bound.rule.name, table.stage, n, after, n.where))
            return after
        return None

    def rewrite(self, root: Expr) -> Expr:
        """The normal form of one expression; a stack instead of recursion."""
        final, changed = self.final, self.changed
        if root in final:
            return final[root]
        became: dict[Expr, Expr] = {}  # replaced by a rule, whose result is not final yet
        active: set[Expr] = set()
        fuel: dict[Expr, int] = {}  # of what rules built; the others have all of it
        stack = [root]
        while stack:
            n = stack[-1]
            if n in final:
                stack.pop()
                continue
            after = became.get(n)
            if after is not None:
                if after in final:
                    final[n] = final[after]
                    if after in changed:
                        changed.add(n)
                    stack.pop()
                elif n in active:  # what replaces it contains it: a cycle of rules
                    self._cycle(n)
                    final[n] = n
                    stack.pop()
                else:
                    active.add(n)
                    stack.append(after)
                continue
            pending = [a for a in n.args if a not in final]
            if pending:
                if n in fuel:
                    for a in pending:
                        fuel.setdefault(a, fuel[n])
                stack.extend(reversed(pending))
                continue
            if changed and any(a in changed for a in n.args):
                changed.add(n)
            left = fuel.get(n, FUEL) if fuel else FUEL
            current = n.with_args([final[a] for a in n.args]) if n.args else n
            rules = self.rules
            if current is not n:
                if n in changed:
                    changed.add(current)
                if current in final:
                    final[n] = final[current]
                    if current in changed:
                        changed.add(n)
                    stack.pop()
                    continue
                if current in became:  # being rewritten further down: a cycle of rules
                    self._cycle(n)
                    final[n] = current
                    stack.pop()
                    continue
                if left < FUEL:
                    fuel.setdefault(current, left)
            elif n in self.settled:
                rules = self.narrow
            after = self.step(current, rules) if left > 0 else None
            if after is None:
                if left <= 0:
                    self._cycle(n)
                final[current] = final[n] = current
                if isinstance(current, Contract) and len(current.args) > 1 and current.summed:
                    self.multiplied.update(current.args)
                stack.pop()
                continue
            if after is n or (after in became and after not in final):  # a cycle of rules
                self._cycle(n)
                final[current] = final[n] = current
                stack.pop()
                continue
            fuel[after] = min(fuel.get(after, left), left - 1)
            became[current] = after
            if current is not n:
                became[n] = current
        return final[root]


def rewrite(
    outputs: Sequence[Expr], rules: RuleSet, added: RuleSet | None = None
) -> tuple[list[Expr], list[Rewrite]]:
    """The outputs in the normal form of the rules, and the log. With `added`, the outputs are in
    the normal form of the other rules already, and these are tried first of all on every node."""
    run = Run(rules, rules)
    if added is not None:
        run.uses = count_uses(outputs)
        run.settled, run.narrow = run.uses, added
    return [run.rewrite(e) for e in outputs], run.log


def rewrite_where_needed(
    outputs: Sequence[Expr], rules: RuleSet
) -> tuple[list[Expr], list[Rewrite]]:
    """The same, but what was only brought into another form stays the node it was.

    That is a node of the outputs, never a step of the way to another form: a node that both kinds
    of readers found in two forms would be differentiated twice, with all that is below it.
    """
    run = Run(rules, rules)
    new = [run.rewrite(e) for e in outputs]
    back: dict[Expr, Expr] = {}
    given = count_uses(outputs)
    for n, final in run.final.items():
        if n in given and n is not final and n not in run.changed:
            back.setdefault(final, n)
    return substitute(new, back), run.log


def substitute(outputs: Sequence[Expr], new: Mapping[Any, Expr]) -> list[Expr]:
    """The outputs with nodes replaced; operands of a replacement are left alone."""
    if not new:
        return list(outputs)
    made: dict[Expr, Expr] = dict(new)
    for root in outputs:
        stack = [root]
        while stack:
            n = stack[-1]
            if n in made:
                stack.pop()
                continue
            pending = [a for a in n.args if a not in made]
            if pending:
                stack.extend(pending)
                continue
            made[n] = n.with_args([made[a] for a in n.args])
            stack.pop()
    return [made[e] for e in outputs]


def count_uses(outputs: Sequence[Expr]) -> dict[Expr, int]:
    """How many operand positions (and outputs) read each node."""
    uses: dict[Expr, int] = {}
    stack = list(outputs)
    for e in outputs:
        uses[e] = uses.get(e, 0) + 1
    seen = set(stack)
    while stack:
        for a in stack.pop().args:
            uses[a] = uses.get(a, 0) + 1
            if a not in seen:
                seen.add(a)
                stack.append(a)
    return uses
