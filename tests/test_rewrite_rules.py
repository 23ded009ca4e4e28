"""Every rule of every table, by one function that walks the tables.

For each rule an expression of its left side is built, from the pattern itself or from EXAMPLES, and

1. the rule fires on it;
2. both sides are the same function, exactly (`equivalent`: mod a large prime), unless the rule
   gives a reason why not;
3. in float64 both sides agree at ordinary points, and at extreme points the right side is finite
   wherever the left is.

`check` is also run on rules that are wrong on purpose, and must refuse each.
"""

from __future__ import annotations

import itertools
from typing import Any, Callable, Iterator

import numpy as np
import pytest

from symgrad import interpret, rewrite
from symgrad.equivalent import equivalent
from symgrad.node import (
    Constant,
    Contract,
    Custom,
    Expr,
    Gather,
    Input,
    Iota,
    Map,
    Parameter,
    Reduce,
    Reindex,
    Reshape,
    SizeOf,
    toposort,
)
from symgrad.rewrite import engine
from symgrad.rewrite.engine import Rule, RuleError, RuleSet, Run, Table
from symgrad.rewrite.patterns import Pattern, absolute, const, exp, log, spread, total, var
from symgrad.sizes import dim

N = dim("n", max=8)
EXTREME = [0.0, 1e-8, -1e-8, 1.0, -1.0, 20.0, -20.0, 100.0, -100.0, 700.0, -700.0, 1e3, -1e3]
TABLES = [table for tables in rewrite.TABLES.values() for table in tables] + [rewrite.MAXIMA]
ALL = [(table.stage, table, rule) for table in TABLES for rule in table.rules]


def leaf(name: str, *shape: Any, dtype: str = "float64") -> Input:
    return Input(name, shape, dtype)


X, Y = leaf("x", 3, 4), leaf("y", 3, 4)
W = Parameter("w", (3, 4), dtype="float64")
ROW, COLUMN = leaf("r", 3), leaf("k", 4)
LABELS = leaf("labels", 3, dtype="int32")


def m(op: str, *args: Any) -> Expr:
    """A Map node as it is, numbers as constants of the first operand's type."""
    dtype = next(a.dtype for a in args if isinstance(a, Expr) and a.dtype != "bool")
    return Map.of(op, *[a if isinstance(a, Expr) else Constant.of(a, dtype) for a in args])


def rows(x: Expr, width: int = 4) -> Expr:
    return Contract.of([[0]], [0, 1], x, sizes={1: width})


def row_sum(x: Expr) -> Expr:
    return Contract.of([[0, 1]], [0], x)


def top(x: Expr) -> Expr:
    return m("stop_gradient", Reduce.of("max", x, [1]))


def lowered(x: Expr, peak: Callable[[Expr], Expr] = top) -> Expr:
    return m("sub", x, rows(peak(x)))


def plain_top(x: Expr) -> Expr:
    return Reduce.of("max", x, [1])


def soft(x: Expr) -> Expr:
    e = m("exp", lowered(x))
    return m("div", e, rows(row_sum(e)))


def one_hot() -> Expr:
    classes = Contract.of([[1]], [0, 1], Iota.of(4), sizes={0: 3})
    return Map.of("to_float64", Map.of("equal", rows(LABELS), classes))


def mean_row(x: Expr) -> Expr:
    return m("mul", 0.25, row_sum(x))


POSITIVE = m("exp", X)
TWO_MORE = m("add", m("exp", Y), m("exp", leaf("z", 3, 4)))

EXAMPLES: dict[str, Callable[[], Expr]] = {
    # canonicalise, structure
    "fold constants": lambda: m("div", Constant.of(2.0), Constant.of(3.0)),
    "one value everywhere": lambda: Constant.of(np.full((2, 3), 7.0)),
    "function before broadcast": lambda: m("add", m("exp", rows(ROW)), rows(ROW)).with_args(
        [rows(m("exp", ROW)), rows(ROW)]),
    "one contraction": lambda: row_sum(rows(ROW)),
    "sum of sum": lambda: Contract.of([[0]], [], row_sum(X)),
    "sum beside rows": lambda: row_sum(m("mul", X, rows(ROW))),
    "one reshape": lambda: Reshape.of(X, (3, 1, 4)),
    "one index map": lambda: Reindex.of(
        Reindex.of(COLUMN, [(1, ((0, 1),), 1)], (3,)), [(1, ((0, 1),), 1)], (2,)),
    "one cast": lambda: m("to_float64", m("to_int64", LABELS)),
    "order of operands": lambda: m("mul", X, 2.0),
    "whole times 0": lambda: m("mul", 0, LABELS),
    "whole power": lambda: m("pow", X, 3.0),
    "over size": lambda: m("div", X, SizeOf.of(N, "float64")),
    "constant into share of size": lambda: m(
        "mul", 2.0, m("mul", m("div", 3.0, SizeOf.of(N, "float64")), leaf("t"))),
    "0-d constants together": lambda: m("mul", leaf("u"), m("mul", 3.0, leaf("v"))),
    # stabilise
    "log-softmax": lambda: m("sub", X, rows(m("add", top(X), m("log", row_sum(POSITIVE))))),
    "minus log-softmax": lambda: m("sub", rows(m("add", top(X), m("log", row_sum(POSITIVE)))), X),
    "cross-entropy": lambda: m("sub", m("add", top(X), m("log", row_sum(POSITIVE))), ROW),
    "log-likelihood": lambda: m("sub", ROW, m("add", top(X), m("log", row_sum(POSITIVE)))),
    "log of chosen": lambda: m("log", row_sum(m("mul", one_hot(), soft(X)))),
    "log of part": lambda: m("log", Gather.of(soft(X), LABELS, 1)),
    "exp of log": lambda: m("exp", m("log", m("abs", X))),
    "variance": lambda: m("sub", mean_row(m("square", X)), m("square", mean_row(X))),
    "sum of squared deviations": lambda: m(
        "sub", row_sum(m("square", X)), m("mul", 0.25, m("square", row_sum(X)))),
    "sum of squares minus n mean²": lambda: m(
        "sub", row_sum(m("square", X)), m("mul", 4.0, m("square", mean_row(X)))),
    "norm": lambda: m("sqrt", row_sum(m("square", X))),
    "logaddexp of more": lambda: m("log", m("add", POSITIVE, TWO_MORE)),
    "log1p of exps": lambda: m("log1p", TWO_MORE),
    "softmax of more": lambda: m("div", POSITIVE, m("add", TWO_MORE, POSITIVE)),
    "log of power": lambda: m("log", m("pow", m("softplus", X), 2.5)),
    "log of product": lambda: m("log", Reduce.of("prod", m("sigmoid", X), [1])),
    "softmax does not depend on its shift": lambda: m(
        "div", m("exp", lowered(X, plain_top)), rows(row_sum(m("exp", lowered(X, plain_top))))),
    "log-softmax does not depend on its shift": lambda: m(
        "sub", lowered(X, plain_top), rows(m("log", row_sum(m("exp", lowered(X, plain_top)))))),
    "logsumexp does not depend on its shift": lambda: m(
        "add", plain_top(X), m("log", row_sum(m("exp", lowered(X, plain_top))))),
    "softmax from its log": lambda: m(
        "exp", m("sub", lowered(X), rows(m("log", row_sum(m("exp", lowered(X))))))),
    # simplify
    "sum of one-hot": lambda: row_sum(one_hot()),
    "sum of deviations": lambda: row_sum(m("sub", X, rows(mean_row(X)))),
    "sum with deviations": lambda: row_sum(m(
        "add", m("exp", Y), m("mul", 2.0, m("mul", m("sub", rows(mean_row(X)), X), rows(ROW))))),
    "size times 0": lambda: m("mul", 0.0, SizeOf.of(N, "float64")),
    "0 over size": lambda: m("div", 0.0, SizeOf.of(N, "float64")),
    "choice of a number": lambda: m("where", one_hot().args[0], Constant.of(2.0), 0),
    "one of itself": lambda: m("div", soft(X), soft(X)),
    "times quotient by itself": lambda: m("mul", soft(X), m("div", Y, soft(X))),
    "product over itself": lambda: m("div", m("mul", soft(X), Y), soft(X)),
    "times sum of quotients": lambda: m("mul", soft(X), m("add", X, m("div", Y, soft(X)))),
    "times difference of quotients": lambda: m("mul", soft(X), m("sub", m("div", Y, soft(X)), X)),
    # finish
    "weight decay": lambda: m("sub", W, m(
        "mul", Contract.of([[]], [0, 1], leaf("lr"), sizes={0: 3, 1: 4}),
        m("add", m("mul", 0.1, W), X))),
    "derivative taken": lambda: Custom.of(lambda cotangent, x: cotangent, m("exp", X), X),
    # factor
    "broadcast product": lambda: Contract.of([[0, 1, 2]], [0, 2], m(
        "mul", Contract.of([[0, 1]], [0, 1, 2], X, sizes={2: 2}),
        Contract.of([[1, 2]], [0, 1, 2], leaf("w", 4, 2), sizes={0: 3}))),
    "sum inside product": lambda: Contract.of([[0, 1]], [0], Contract.parse(
        "ik,kj->ij", X, leaf("w", 4, 5))),
    "sum of added products": lambda: row_sum(m(
        "add", Contract.parse("ik,kj->ij", X, leaf("w", 4, 4)),
        Contract.parse("ik,kj->ij", Y, leaf("v", 4, 4)))),
    "sum first": lambda: Contract.parse("ik,kj->i", X, leaf("w", 4, 5)),
    "order of products": lambda: Contract.parse(
        "ij,j->i", Contract.parse("ik,kj->ij", X, leaf("w", 4, 5)), leaf("v", 5)),
    "one division per row": lambda: m("div", X, rows(m("sqrt", m("add", 1e-5, m("square", ROW))))),
    "sum of a map": lambda: Contract.of([range(4)], range(3), Reindex.of(
        Contract.parse("nop,ock->ncpk", leaf("dy", 2, 3, 3), leaf("w", 3, 2, 3)),
        [(0, ((0, 1),), 1), (0, ((1, 1),), 1), (1, ((2, 1), (3, -1)), 2), (0, ((3, 1),), 1)],
        (2, 2, 5, 3))),
    "sum beside inner rows": lambda: row_sum(m("mul", X, m("div", Y, rows(m("exp", ROW))))),
    "row factors together": lambda: m(
        "div", m("mul", X, rows(leaf("u", 3))), rows(m("sqrt", m("add", 1e-5, m("square", ROW))))),
    "product without axes of size 1": lambda: Reshape.of(
        Contract.parse("ik,kjl->ijl", X, leaf("w", 4, 1, 5)), (3, 5)),
    "transpose of product": lambda: Contract.parse(
        "ij->ji", Contract.parse("ik,kj->ij", X, leaf("w", 4, 5))),
}  # fmt: skip


# -- the left side of a rule, from its pattern ----------------------------------------------------
CONSTANTS = [2.0, 0.5, -0.5, 3.0]


def candidates(kind: str, name: str, shape: tuple[int, ...], others: list[Expr]) -> list[Expr]:
    """What a hole may stand for, the plain case first."""
    if kind == "const":
        return [Constant.of(v) for v in CONSTANTS]
    plain: Expr = Input(name, () if kind == "scalar" else shape, "float64")
    found = [plain, m("exp", plain), *(m("neg", o) for o in others)]
    return [*found, m("less", plain, 0.5), SizeOf.of(N, "float64")]


def holes(p: Pattern, shape: tuple[int, ...], into: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    """The holes of a pattern, each with the shape it has when the whole has `shape`."""
    if p.kind in ("var", "scalar", "const"):
        into.setdefault(p.name, (p.kind, shape))
    below = shape + (4,) if p.kind in ("sum", "max") else shape
    for a in p.args:
        holes(a, shape[:-1] if p.kind in ("spread", "view") else below, into)


def instance(p: Pattern, known: dict[str, Expr], shape: tuple[int, ...]) -> Expr:
    if p.kind in ("var", "scalar", "const"):
        return known[p.name]
    if p.kind in ("sum", "max"):
        x = instance(p.args[0], known, shape + (4,))
        every = range(len(shape) + 1)
        if p.kind == "max":
            return Reduce.of("max", x, [len(shape)])
        return Contract.of([every], every[:-1], x)
    if p.kind in ("spread", "view"):
        x = instance(p.args[0], known, shape[:-1])
        labels = range(x.ndim)
        return Contract.of([labels], range(len(shape)), x, sizes=dict(enumerate(shape)))
    args = [None if a.kind == "number" else instance(a, known, shape) for a in p.args]
    dtype = "bool" if p.kind.startswith("logical") else "float64"
    return Map.of(p.kind, *[
        Constant.of(b.value, "bool" if isinstance(b.value, bool) else dtype) if a is None else a
        for a, b in zip(args, p.args)
    ])  # fmt: skip


def left_sides(rule: Rule) -> Iterator[Expr]:
    """Expressions that may be a left side: the example, or instances of the pattern."""
    if rule.name in EXAMPLES:
        yield EXAMPLES[rule.name]()
        return
    for shape in ((3, 4), (3,), ()):
        if rule.pattern.kind == "sum" and len(shape) != 1:
            continue
        wanted: dict[str, tuple[str, tuple[int, ...]]] = {}
        holes(rule.pattern, shape, wanted)
        options: list[list[Expr]] = []
        for name, (kind, own) in wanted.items():
            options.append(candidates(kind, name, own, [o[0] for o in options]))
        for choice in itertools.product(*options):
            try:
                yield instance(rule.pattern, dict(zip(wanted, choice)), shape)
            except (TypeError, ValueError):
                continue  # this choice has the wrong type or shape here


def apply_alone(rule: Rule, left: Expr) -> Expr | None:
    """What one rule makes of the root of an expression."""
    rules = RuleSet([Table("alone", [rule])])
    return Run(rules, rules).step(left, rules)


def fire(rule: Rule) -> tuple[Expr, Expr]:
    for left in left_sides(rule):
        right = apply_alone(rule, left)
        if right is not None:
            return left, right
    raise AssertionError(f"rule {rule.name!r} does not fire: give EXAMPLES one of its left sides")


# -- the checks -----------------------------------------------------------------------------------
def values(e: list[Expr], draw: Callable[[tuple[int, ...]], Any], seed: int) -> list[Any]:
    leaves = [n for n in toposort(e) if isinstance(n, (Input, Parameter))]
    rng = np.random.default_rng(seed)
    env: dict[Expr, Any] = {}
    for n in leaves:
        shape = tuple(s if isinstance(s, int) else 5 for s in n.shape)
        if n.dtype == "int32":
            env[n] = rng.integers(0, 4, shape)
        elif n.dtype == "bool":
            env[n] = rng.random(shape) < 0.5
        else:
            env[n] = draw(shape)
    return interpret.evaluate(e, env, dims={"n": 5})


def check(rule: Rule) -> None:
    left, right = fire(rule)
    assert right is not left
    if rule.exact:
        assert equivalent(left, right), f"{rule.name}: not an identity"
    seen = False
    for seed in range(4):
        rng = np.random.default_rng(seed)
        positive = seed % 2 == 1

        def ordinary(shape: tuple[int, ...], rng: Any = rng, positive: bool = positive) -> Any:
            drawn = rng.uniform(0.2, 0.9, shape)
            return drawn if positive else drawn * rng.choice([-1.0, 1.0], shape)

        a, b = values([left, right], ordinary, seed)
        fine = (
            np.isfinite(np.asarray(a, "float64")) if a.dtype != "bool" else np.ones(a.shape, bool)
        )
        seen |= bool(fine.any())
        np.testing.assert_allclose(
            np.asarray(b)[fine], np.asarray(a)[fine], rtol=1e-10, atol=1e-12, err_msg=rule.name
        )
    assert seen, f"{rule.name}: the left side is finite nowhere"
    for seed in range(30):
        rng = np.random.default_rng(100 + seed)
        a, b = values([left, right], lambda s, rng=rng: rng.choice(EXTREME, s), seed)
        if a.dtype == bool:
            continue
        worse = np.isfinite(a) & ~np.isfinite(b)
        assert not worse.any(), f"{rule.name}: {a[worse]} became {b[worse]}"


@pytest.mark.parametrize("rule", [r for _, _, r in ALL], ids=[r.name for _, _, r in ALL])
def test_rule(rule: Rule) -> None:
    check(rule)


def test_names_tell_rules_apart() -> None:
    seen: dict[str, Table] = {}
    for _, table, rule in ALL:
        before = seen.setdefault(rule.name, table)
        assert before is table or before.stage != table.stage, rule.name
    assert set(EXAMPLES) <= set(seen)


x, y, z = var("x"), var("y"), var("z")
c = const("c")
WRONG = [
    Rule("sign lost", -(x - y), x - y),
    Rule("factor lost", x + x, x),
    Rule("wrong factor", x + x, 3 * x),
    Rule("operands swapped", x - y, y - x),
    Rule("quotient turned", (x / y), y / x),
    Rule("log of exp is one", log(exp(x)), 1),
    Rule("log1p without 1", log(1 + x), log(x)),
    Rule("sum of negative is sum", total(-x), total(x)),
    Rule("softmax without sum", exp(z) / spread(total(exp(z))), exp(z)),
    Rule("distributes over too much", x * y + x * z, x * (y + x)),
    Rule("loses a row's sum", x / spread(y), x),
    Rule("exact only for positive x", absolute(x), x),
    Rule("rounds a constant", c * x, (c + 1e-6) * x),
    Rule("overflows", x - y, log(exp(x) / exp(y))),
    Rule("cancels", x, (x + 1e4 * exp(x)) - 1e4 * exp(x), lambda x: isinstance(x, Input)),
    Rule("slightly off", exp(x), exp(x) * 1.000001),
    Rule("another type", x + y, lambda x, y: m("less", x, y)),
    Rule("another shape", total(x), lambda x: x),
    Rule("never fires", exp(x), x, lambda x: False),
    Rule("inexact and far away", exp(x), 1 + x, exact=False, why="a first term"),
]


@pytest.mark.parametrize("rule", WRONG, ids=[r.name for r in WRONG])
def test_wrong_rules_are_caught(rule: Rule) -> None:
    with pytest.raises((AssertionError, RuleError)):
        check(rule)


def test_an_inexact_rule_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="needs a reason"):
        Rule("vague", exp(x), x, exact=False)


def test_a_rule_of_another_shape_is_named() -> None:
    rules = RuleSet([Table("broken", [Rule("flattens", exp(x), lambda x: Reshape.of(x, (12,)))])])
    with pytest.raises(RuleError, match=r"'flattens' of broken.*\(3, 4\).*\(12,\)"):
        engine.rewrite([m("exp", X)], rules)


def test_rules_that_go_in_circles_end() -> None:
    there = Rule("there", exp(x), log(x))
    back = Rule("back", log(x), exp(x))
    grow = Rule("grow", absolute(x), absolute(absolute(x)))
    e = m("abs", m("exp", m("log", X)))
    new, _ = engine.rewrite([e], RuleSet([Table("circle", [there, back, grow])]))
    assert new[0].shape == (3, 4)
    assert len(toposort(new)) < 5 * engine.FUEL
