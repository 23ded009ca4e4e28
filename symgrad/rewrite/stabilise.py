# ruff: noqa: E501, B002 - a table: one rule per line
"""Stabilise: the formula of a textbook becomes one that is finite, and accurate, at every input.

In: canonical graphs. Out: the same real functions, computed so that neither value nor derivative
overflows on the way, or cancels. The stable forms:

    softmax(z)     e / sum(e)                   with e = exp(z - m), m = max(z)
    logsumexp(z)   m + log(sum(e))
    log_softmax(z) (z - m) - log(sum(e))
    cross-entropy  (m - z_y) + log(sum(e))      m - z_y first: both are large
    sigmoid, tanh, softplus, log1p, expm1, log1mexp, logaddexp, hypot    ops of the table

The maximum m is behind a `stop_gradient`: none of these functions depends on m, so its derivative
is zero exactly, and the gradient of logsumexp is e / sum(e), the same nodes as softmax.

Rules are about positive quantities (an exp, a sum of them): where the left side is NaN for a
negative operand the right side is too, unless the rule says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from symgrad import dtypes
from symgrad.node import Constant, Contract, Expr, Iota, Map, Reduce, Reindex, SizeOf
from symgrad.rewrite.canonicalise import is_peak
from symgrad.rewrite.engine import Rule, Table
from symgrad.rewrite.patterns import (
    absolute,
    apply,
    const,
    cos,
    cosh,
    exp,
    expm1,
    log,
    log1p,
    node,
    scalar,
    sigmoid,
    sign,
    sin,
    sinh,
    softplus,
    spread,
    sqrt,
    square,
    tag,
    tanh,
    total,
    var,
    view,
)
from symgrad.rewrite.structure import aligned, count, places, spread_sum, summed_axes
from symgrad.sizes import Dim, single

x, y, z, m, w = var("x"), var("y"), var("z"), var("m"), var("w")
c, u, v = const("c"), scalar("u"), scalar("v")
LN2 = math.log(2)
LARGEST = {"float32": 3e38, "float64": 1e308}


# -- side conditions ----------------------------------------------------------------------------
def opposite(x: Expr, y: Expr) -> bool:
    """y is -x, in normal form."""
    if (isinstance(x, Map) and x.op == "neg" and x.args[0] is y) or (
        isinstance(y, Map) and y.op == "neg" and y.args[0] is x
    ):
        return True
    if not (isinstance(x, Map) and isinstance(y, Map) and x.op == y.op):
        return False
    if x.op == "sub":
        return x.args[0] is y.args[1] and x.args[1] is y.args[0]
    if x.op == "mul" and x.args[1] is y.args[1]:
        a, b = x.args[0], y.args[0]
        if isinstance(a, Constant) and isinstance(b, Constant) and a.scalar is not None:
            return b.scalar is not None and a.scalar == -b.scalar
        return opposite(a, b) if not a.shape and a.height < 4 else False
    return False


def positive(e: Expr) -> bool:
    """Never negative, whatever its operands are."""
    if isinstance(e, Constant):
        return bool((e.value >= 0).all())
    if tag(e) in ("exp", "sigmoid", "softplus", "square", "abs", "cosh", "size", "relu", "sqrt"):
        return True
    if tag(e) in ("add", "mul", "div", "maximum", "view", "sum") and e.height < 12:
        return all(positive(a) for a in e.args)
    return False


def shifted(z: Expr, S: Expr) -> bool:
    """z is some w minus the maximum of w over the axes that S sums."""
    if not (isinstance(z, Map) and z.op == "sub" and is_peak(z.args[1], z.args[0])):
        return False
    p = z.args[1]
    if p.shape and tag(p) == "view":
        if places(p) != list(S.attrs[1]):
            return False
        p = p.args[0]
    p = p.args[0] if tag(p) == "stop_gradient" else p
    return isinstance(p, Reduce) and p.axes == summed_axes(S)


def unshifted(z: Expr, S: Expr) -> bool:
    return not shifted(z, S) and 0 not in count(S)


def shift(z: Expr, S: Expr) -> tuple[Expr, Expr]:
    """z minus its maximum over the axes that S sums, and the maximum."""
    top = Map.of("stop_gradient", Reduce.of("max", z, summed_axes(S)))
    return Map.of("sub", z, spread_sum(S)(top)), top


def softmax(z: Expr, S: Expr) -> Expr:
    """exp(z - m) / sum(exp(z - m))."""
    e = Map.of("exp", shift(z, S)[0])
    return Map.of("div", e, spread_sum(S)(Contract.of(S.attrs[0], S.attrs[1], e)))


def log_sum_exp(z: Expr, S: Expr) -> Expr:
    """m + log(sum(exp(z - m)))."""
    low, top = shift(z, S)
    inner = Contract.of(S.attrs[0], S.attrs[1], Map.of("exp", low))
    return Map.of("add", top, Map.of("log", inner))


def behind(z: Expr, S: Expr, B: Expr | None) -> bool:
    """A softmax already shifted, whose maximum still has a derivative (that will cancel)."""
    return aligned(S, B) and shifted(z, S) and not _stopped(z.args[1])


def _stopped(p: Expr) -> bool:
    return tag(p) == "stop_gradient" or (tag(p) == "view" and tag(p.args[0]) == "stop_gradient")


def log_sum_exp_behind(m: Expr, z: Expr, S: Expr) -> Expr | None:
    """m + log(sum(exp(w - m))) with the derivative of m taken out."""
    if not (shifted(z, S) and not _stopped(z.args[1]) and is_peak(m, z.args[0])):
        return None
    return log_sum_exp(z.args[0], S)


def log_softmax_behind(z: Expr, S: Expr, B: Expr | None) -> Expr | None:
    """(w - m) - log(sum(exp(w - m))) with the derivative of m taken out."""
    if not behind(z, S, B):
        return None
    low = shift(z.args[0], S)[0]
    inner = Contract.of(S.attrs[0], S.attrs[1], Map.of("exp", low))
    return Map.of("sub", low, spread_sum(S)(Map.of("log", inner)))


def mean_factor(u: Expr, S: Expr) -> bool:
    """u is 1 over the number of elements that S sums."""
    size = single(tuple(count(S)))
    if size is None:
        return False
    if isinstance(size, Dim):
        return (
            isinstance(u, Map)
            and u.op == "div"
            and isinstance(u.args[0], Constant)
            and u.args[0].scalar == 1
            and u.args[1] is SizeOf.of(size, u.dtype)
        )
    if not size or not isinstance(u, Constant):
        return False
    return u is Constant.of(Constant.of(1, u.dtype).value / Constant.of(size, u.dtype).value)


def variance(u: Expr, x: Expr, S: Expr) -> Expr:
    """u sum((x - mean)**2)."""
    average = Map.of("mul", u, Contract.of(S.attrs[0], S.attrs[1], x))
    centred = Map.of("square", Map.of("sub", x, spread_sum(S)(average)))
    return Map.of("mul", u, Contract.of(S.attrs[0], S.attrs[1], centred))


def squared_deviations(u: Expr, x: Expr, S: Expr) -> Expr:
    """sum((x - mean)**2)."""
    average = Map.of("mul", u, Contract.of(S.attrs[0], S.attrs[1], x))
    centred = Map.of("square", Map.of("sub", x, spread_sum(S)(average)))
    return Contract.of(S.attrs[0], S.attrs[1], centred)


def is_count(v: Expr, S: Expr) -> bool:
    """v is the number of elements that S sums."""
    size = single(tuple(count(S)))
    return size is not None and v is SizeOf.of(size, v.dtype)


MOST_TERMS = 16  # of a sum written out


def terms(e: Expr) -> list[Expr]:
    """The terms of a sum written out, from left to right."""
    found, stack = [], [e]
    while stack:
        e = stack.pop()
        if tag(e) == "add":
            stack += e.args[::-1]
        else:
            found.append(e)
    return found


def exponents(sum_of: Sequence[Expr]) -> list[Expr] | None:
    """What is exponentiated in each term, log c for a constant c; None where a term is neither."""
    if not 3 <= len(sum_of) <= MOST_TERMS:
        return None
    found = []
    for t in sum_of:
        if tag(t) == "exp":
            found.append(t.args[0])
        elif isinstance(t, Constant) and not t.shape and positive(t) and t.scalar:
            found.append(Constant.of(math.log(t.scalar), t.dtype))
        else:
            return None
    return found


def shifted_terms(of: Sequence[Expr]) -> tuple[list[Expr], Expr]:
    """The exponentials of the exponents minus the largest of them, and that."""
    top = of[0]
    for x in of[1:]:
        top = Map.of("maximum", top, x)
    top = Map.of("stop_gradient", top)
    return [Map.of("exp", Map.of("sub", x, top)) for x in of], top


def added(parts: Sequence[Expr]) -> Expr:
    result = parts[0]
    for x in parts[1:]:
        result = Map.of("add", result, x)
    return result


def largest_at(found: Sequence[Expr]) -> bool:
    """Shifted already: every exponent has one and the same maximum taken off."""
    tops = [x.args[1] for x in found if tag(x) == "sub" and tag(x.args[1]) == "stop_gradient"]
    return len(tops) == len(found)


def log_of_exponentials(parts: Sequence[Expr]) -> Expr | None:
    found = exponents(parts)
    if found is None or largest_at(found):
        return None
    e, top = shifted_terms(found)
    return Map.of("add", top, Map.of("log", added(e)))


def log_of_terms(y: Expr, z: Expr) -> Expr | None:
    """log(exp x + exp y + ...) -> m + log(exp(x - m) + exp(y - m) + ...)."""
    return log_of_exponentials([*terms(y), *terms(z)])


def log1p_of_terms(y: Expr, z: Expr) -> Expr | None:
    """log(1 + exp x + exp y + ...), in the same way."""
    return log_of_exponentials([Constant.of(1, y.dtype), *terms(y), *terms(z)])


def softmax_of_terms(x: Expr, y: Expr, z: Expr) -> Expr | None:
    """exp x / (exp x + exp y + ...) -> exp(x - m) / (exp(x - m) + exp(y - m) + ...)."""
    found = exponents([*terms(y), *terms(z)])
    if found is None or largest_at(found):
        return None
    at = [i for i, e in enumerate(found) if e is x]
    if not at:
        return None
    e, _ = shifted_terms(found)
    return Map.of("div", e[at[0]], added(e))


LARGEST_NORM = 1024  # elements; a longer norm is not read twice to save it from overflow


def short(S: Expr) -> bool:
    size = single(tuple(count(S)))
    return isinstance(size, int) and 1 < size <= LARGEST_NORM and dtypes.is_float(S.dtype)


def scaled_norm(x: Expr, S: Expr) -> Expr | None:
    """r sqrt(sum((x / r)**2)) with r the largest magnitude; as for hypot, the slope at 0 is 0."""
    if isinstance(x, Map) and x.op == "div":
        return None  # scaled already, or by a denominator that is at least as small
    top = Reduce.of("max", Map.of("abs", x), summed_axes(S))
    zero, one, big = (Constant.of(v, x.dtype) for v in (0, 1, math.inf))
    usual = Map.of("logical_and", Map.of("less", zero, top), Map.of("less", top, big))
    r = Map.of("stop_gradient", Map.of("where", usual, top, one))
    ratio = Map.of("square", Map.of("div", x, spread_sum(S)(r)))
    inner = Contract.of(S.attrs[0], S.attrs[1], ratio)
    return Map.of("mul", r, Map.of("sqrt_or_zero", inner))


def log_of_product(n: Expr) -> Expr | None:
    """log(prod(x)) -> sum(log x), where x cannot be negative."""
    p = n.args[0]
    if not isinstance(p, Reduce) or p.law != "prod" or not positive(p.args[0]):
        return None
    axes = range(p.args[0].ndim)
    return Contract.of([axes], [k for k in axes if k not in p.axes], Map.of("log", p.args[0]))


def weighted(y: Expr, z: Expr, S: Expr) -> bool:
    """A weighted sum of exponentials that is not shifted yet."""
    own = tag(z) == "sub" and is_peak(z.args[1], z.args[0]) and never_zero(y)
    return tag(z) != "where" and not own and tag(y) != "exp" and dtypes.is_float(y.dtype)


def never_zero(y: Expr) -> bool:
    y = y.args[0] if tag(y) == "view" else y
    return isinstance(y, Constant) and bool((y.value != 0).all())


def log_weighted_sum(y: Expr, z: Expr, S: Expr) -> Expr:
    """log(sum(y exp z)), shifted by the largest z whose weight y is not 0."""
    zero, lowest = Constant.of(0, z.dtype), Constant.of(-LARGEST[z.dtype], z.dtype)
    counts = Map.of("not_equal", zero, y)
    heaviest = Reduce.of("max", Map.of("where", counts, z, lowest), summed_axes(S))
    m = Map.of("stop_gradient", heaviest)
    low = Map.of("where", counts, Map.of("sub", z, spread_sum(S)(m)), zero)
    inner = Contract.of(S.attrs[0], S.attrs[1], Map.of("mul", y, Map.of("exp", low)))
    return Map.of("add", m, Map.of("log", inner))


def log_weighted_softmax(y: Expr, z: Expr, x: Expr, S: Expr) -> Expr:
    """log(sum(y softmax)), the softmax written exp(z) / x."""
    return Map.of("sub", log_weighted_sum(y, z, S), Map.of("log", x))


def is_choice(e: Expr) -> bool:
    """One-hot: 1 at the class that an integer names, 0 elsewhere."""
    if tag(e) in ("to_float32", "to_float64"):
        e = e.args[0]
        return isinstance(e, Map) and e.op == "equal" and is_class_index(e)
    return False


def is_class_index(e: Expr) -> bool:
    """equal(labels, 0..classes-1), spread against each other."""
    sides = [a.args[0] if tag(a) == "view" else a for a in e.args]
    kinds = sorted(_uncast(a).kind for a in sides)
    return "iota" in kinds and kinds != ["iota", "iota"]


def _uncast(a: Expr) -> Expr:
    return a.args[0] if tag(a) in ("to_int32", "to_int64") else a


def classes_along(e: Expr, S: Expr) -> bool:
    """e is one-hot along the one axis that S sums (labels out of range are an error of the call)."""
    axes = summed_axes(S)
    if len(axes) != 1 or not is_choice(e):
        return False
    for side in e.args[0].args:
        inner = side.args[0] if tag(side) == "view" else side
        while tag(inner) in ("to_int32", "to_int64"):
            inner = inner.args[0]
        along = places(side) == list(axes) if tag(side) == "view" else True
        if isinstance(inner, Iota):
            return along and inner.shape[0] == e.shape[axes[0]]
    return False


def log_of_chosen(x: Expr, y: Expr, S: Expr) -> Expr | None:
    """log(sum(choice * p)) -> sum(log p where chosen), p a softmax or a sigmoid."""
    if not classes_along(x, S) or not _has_stable_log(y):
        return None
    chosen = Map.of("where", x.args[0], Map.of("log", y), Constant.of(0, y.dtype))
    return Contract.of(S.attrs[0], S.attrs[1], chosen)


def log_of_part(n: Expr) -> Expr | None:
    """log(p[labels]) -> (log p)[labels], p a softmax or a sigmoid; slices and reshapes too."""
    part = n.args[0]
    if not _has_stable_log(part.args[0]):
        return None
    if isinstance(part, Reindex) and not all(part.inside(k) for k in range(len(part.maps))):
        return None  # the logarithm of the fill is not the fill
    return part.with_args([Map.of("log", part.args[0]), *part.args[1:]])


def _has_stable_log(p: Expr) -> bool:
    return tag(p) in ("sigmoid", "exp") or (tag(p) == "div" and tag(p.args[0]) == "exp")


def exponent(c: Expr) -> bool:
    return isinstance(c, Constant) and c.scalar is not None and abs(c.scalar) < 1e4


# fmt: off
TABLE = Table("stabilise", [
    # softmax and logsumexp
    Rule("softmax", exp(z) / spread(total(exp(z))), lambda z, S: softmax(z, S),
         lambda z, S, B: aligned(S, B) and unshifted(z, S)),  # exp z / sum(exp z) -> e / sum(e)
    Rule("logsumexp", log(total(exp(z))), lambda z, S: log_sum_exp(z, S),
         lambda z, S: unshifted(z, S)),  # log(sum(exp z)) -> m + log(sum(e))
    Rule("log of scaled sum of exp", log(u * total(exp(z))), log(u) + log(total(exp(z)))),  # log(u sum(exp z)) -> log u + log(sum(exp z))
    Rule("log-softmax", z - spread(m + log(y)), (z - spread(m)) - spread(log(y)),
         lambda z, m: is_peak(m, z)),  # z - (m + log s) -> (z - m) - log s
    Rule("minus log-softmax", spread(m + log(y)) - z, (spread(m) - z) + spread(log(y)),
         lambda z, m: is_peak(m, z)),  # (m + log s) - z -> (m - z) + log s
    Rule("cross-entropy", (m + log(y)) - x, (m - x) + log(y), lambda m: is_peak(m)),  # (m + log s) - z_y -> (m - z_y) + log s
    Rule("log-likelihood", x - (m + log(y)), (x - m) - log(y), lambda m: is_peak(m)), # z_y - (m + log s) -> (z_y - m) - log s
    Rule("softmax from its log", exp(z - spread(log(total(exp(z))))), exp(z) / spread(total(exp(z))),
         lambda z, S, B: aligned(S, B) and shifted(z, S)),  # exp(z - log(sum(exp z))) -> exp z / sum(exp z)
    Rule("log of chosen", log(total(x * y)), log_of_chosen,
         exact=False, why="holds for labels among the classes, which calls check"),  # log(sum(onehot p)) -> sum(log p where chosen)
    Rule("weighted logsumexp", log(total(y * exp(z))), log_weighted_sum, weighted),  # log(sum(y exp z)) -> m + log(sum(y exp(z - m)))
    Rule("log of weighted softmax", log(total(y * (exp(z) / spread(x)))), log_weighted_softmax,
         lambda y, z, x, S, B: tag(z) != "where" and tag(y) != "exp" and positive(x) and aligned(S, B)),  # log(sum(y exp(z)/s)) -> m + log(sum(y exp(z - m))) - log s
    Rule("log of part", node("n", "log"), log_of_part, only=lambda t: t[1:] in (("gather",), ("reindex",), ("reshape",))),  # log(p[y]) -> (log p)[y]
    # exp with exp
    Rule("log of exp", log(exp(x)), x),  # log(exp x) -> x
    Rule("log of exp over", log(exp(x) / y), x - log(y)),  # log(exp x / y) -> x - log y
    Rule("log of times exp", log(exp(x) * y), x + log(y)),  # log(exp x * y) -> x + log y
    Rule("log of scaled quotient", log(u * (exp(x) / y)), log(u) + (x - log(y)), lambda u: positive(u)),  # log(u exp x / y) -> log u + x - log y
    Rule("1 over exp", 1 / exp(x), exp(-x)),  # 1 / exp x -> exp(-x)
    Rule("exp back and forth", exp(x) * exp(-x), 1),  # exp x exp -x -> 1
    Rule("exp over itself", exp(x) / exp(x), 1),  # exp x / exp x -> 1
    Rule("exp over exp", exp(x) / exp(y), exp(x - y)),  # exp x / exp y -> exp(x - y)
    Rule("exp over spread exp", exp(x) / view(exp(y)), exp(x - view(y))),
    Rule("over exp", x / exp(y), x * exp(-y), lambda x: tag(x) != "exp"),  # x / exp y -> x exp(-y)
    Rule("exp times exp", exp(x) * exp(y), exp(x + y)),  # exp x exp y -> exp(x + y)
    Rule("exp times spread exp", exp(x) * view(exp(y)), exp(x + view(y))),
    Rule("square of exp", square(exp(x)), exp(2 * x)),  # exp(x)**2 -> exp(2 x)
    Rule("power of exp", exp(x) ** c, exp(c * x), lambda c: exponent(c)),  # exp(x)**c -> exp(c x)
    Rule("root of exp", sqrt(exp(x)), exp(0.5 * x)),  # sqrt(exp x) -> exp(x/2)
    Rule("exp of log", exp(log(x)), x, lambda x: positive(x)),  # exp(log x) -> x, x not negative
    Rule("exp of -softplus", exp(-softplus(x)), sigmoid(-x)),  # exp(-softplus x) -> sigmoid(-x)
    # sigmoid, tanh and their logarithms
    Rule("sigmoid of exp", exp(x) / (1 + exp(x)), sigmoid(x)),  # exp x / (1 + exp x) -> sigmoid(x)
    Rule("slope of sigmoid", exp(x) / square(1 + exp(x)), sigmoid(x) * sigmoid(-x)),  # exp x / (1 + exp x)**2 -> s(x) s(-x)
    Rule("softmax of two", exp(x) / (exp(x) + exp(y)), sigmoid(x - y)),  # exp x / (exp x + exp y) -> sigmoid(x - y)
    Rule("softmax of more", exp(x) / (y + z), softmax_of_terms, lambda y, z: "add" in (tag(y), tag(z))),  # exp x / (exp x + exp y + exp z) -> e_x / (e_x + e_y + e_z), shifted
    Rule("tanh of exp", expm1(x) / (1 + exp(x)), tanh(0.5 * x)),  # (exp 2x - 1) / (1 + exp 2x) -> tanh x
    Rule("tanh of expm1", expm1(x) / (2 + expm1(x)), tanh(0.5 * x)),  # expm1 2x / (2 + expm1 2x) -> tanh x
    Rule("sigmoid", y / (1 + exp(x)), y * sigmoid(-x), lambda y: tag(y) not in ("exp", "expm1")),  # 1 / (1 + exp(-x)) -> sigmoid(x)
    Rule("spread sigmoid", y / view(1 + exp(x)), y * view(sigmoid(-x))),
    Rule("sinh", exp(x) - exp(y), 2 * sinh(x), opposite),  # exp x - exp -x -> 2 sinh x
    Rule("cosh", exp(x) + exp(y), 2 * cosh(x), opposite),  # exp x + exp -x -> 2 cosh x
    Rule("slope of sech", sinh(x) * ((y / cosh(x)) / cosh(x)), tanh(x) * (y / cosh(x))),  # sinh x (y / cosh x / cosh x) -> tanh x (y / cosh x)
    Rule("tanh", sinh(x) / cosh(x), tanh(x)),  # sinh x / cosh x -> tanh x
    Rule("exp over cosh", exp(x) / cosh(x), 2 * sigmoid(2 * x)),  # exp x / cosh x -> 2 sigmoid(2x)
    Rule("exp over cosh, negative", exp(-x) / cosh(x), 2 * sigmoid(-2 * x)),  # exp -x / cosh x -> 2 sigmoid(-2x)
    Rule("tanh of sigmoid", -1 + 2 * sigmoid(x), tanh(0.5 * x)),  # 2 sigmoid(2x) - 1 -> tanh x
    Rule("minus tanh of sigmoid", 1 - 2 * sigmoid(x), -tanh(0.5 * x)),  # 1 - 2 sigmoid(2x) -> -tanh x
    Rule("odds", sigmoid(x) / (1 - sigmoid(x)), exp(x)),  # s / (1 - s) -> exp x
    Rule("odds against", (1 - sigmoid(x)) / sigmoid(x), exp(-x)),  # (1 - s) / s -> exp(-x)
    Rule("log-sigmoid", log(sigmoid(x)), -softplus(-x)),  # log s(x) -> -softplus(-x)
    Rule("log of 1 minus sigmoid", log1p(-sigmoid(x)), -softplus(x)),  # log(1 - s(x)) -> -softplus(x)
    Rule("softplus", log1p(exp(x)), softplus(x)),  # log(1 + exp x) -> softplus(x)
    Rule("logaddexp", log(exp(x) + exp(y)), apply("logaddexp", x, y)),  # log(exp x + exp y) -> logaddexp(x, y)
    Rule("logaddexp of more", log(y + z), log_of_terms, lambda y, z: "add" in (tag(y), tag(z))),  # log(exp x + exp y + exp z) -> m + log(e_x + e_y + e_z)
    Rule("log1p of exps", log1p(y + z), log1p_of_terms, lambda y, z: {tag(y), tag(z)} <= {"exp", "add"}),  # log(1 + exp x + exp y) -> m + log(e_0 + e_x + e_y)
    Rule("log of multiple of 1 plus exp", log(c * (1 + exp(x))), log(c) + softplus(x), lambda c: positive(c)),  # log(c (1 + exp x)) -> log c + softplus(x)
    Rule("log of multiple of two exps", log(c * (exp(x) + exp(y))), log(c) + apply("logaddexp", x, y), lambda c: positive(c)),
    Rule("log of cosh", log(cosh(x)), x + (-LN2 + softplus(-2 * x))),  # log(cosh x) -> x + softplus(-2x) - log 2
    Rule("log of scaled cosh", log(c * cosh(x)), log(c) + (x + (-LN2 + softplus(-2 * x)))),
    Rule("log of 1 plus tanh", log1p(tanh(x)), LN2 - softplus(-2 * x)),  # log(1 + tanh x) -> log 2 - softplus(-2x)
    Rule("log of 1 minus tanh", log1p(-tanh(x)), LN2 - softplus(2 * x)),  # log(1 - tanh x) -> log 2 - softplus(2x)
    Rule("log of 1 minus tanh²", log1p(-square(tanh(x))), 2 * (LN2 - (x + softplus(-2 * x)))),  # log(1 - tanh² x)
    Rule("log of 1 minus exp", log(-expm1(x)), apply("log1mexp", x)),  # log(1 - exp x) -> log1mexp(x)
    Rule("log1p of -exp", log1p(-exp(x)), apply("log1mexp", x)),
    Rule("softplus inverse", log(expm1(x)), x + apply("log1mexp", -x)),  # log(exp x - 1) -> x + log1mexp(-x)
    Rule("binary cross-entropy", y * softplus(x) + (1 - y) * softplus(z), softplus(z) - y * z,
         lambda x, z: opposite(x, z)),  # y softplus(-z) + (1 - y) softplus(z) -> softplus(z) - y z
    # cancellation near 0
    Rule("log1p", log(1 + x), log1p(x)),  # log(1 + x) -> log1p(x)
    Rule("log1p of negative", log(1 - x), log1p(-x)),  # log(1 - x) -> log1p(-x)
    Rule("expm1", -1 + exp(x), expm1(x)),  # exp x - 1 -> expm1(x)
    Rule("minus expm1", 1 - exp(x), -expm1(x)),  # 1 - exp x -> -expm1(x)
    Rule("exp from expm1", 1 + expm1(x), exp(x)),  # 1 + expm1 x -> exp x
    Rule("versine", 1 - cos(x), 2 * square(sin(0.5 * x))),  # 1 - cos x -> 2 sin²(x/2)
    Rule("root minus 1", -1 + sqrt(1 + x), x / (1 + sqrt(1 + x))),  # sqrt(1 + x) - 1 -> x / (1 + sqrt(1 + x))
    Rule("variance", u * total(square(x)) - square(u * total(x)), lambda u, x, S: variance(u, x, S),
         lambda u, S: mean_factor(u, S)),  # E[x²] - E[x]² -> E[(x - E[x])²]
    Rule("sum of squared deviations", total(square(x)) - u * square(total(x)),
         lambda u, x, S: squared_deviations(u, x, S), lambda u, S: mean_factor(u, S)),  # sum(x²) - sum(x)²/n -> sum((x - mean)²)
    Rule("sum of squares minus n mean²", total(square(x)) - v * square(u * total(x)),
         lambda u, x, S: squared_deviations(u, x, S), lambda u, v, S: mean_factor(u, S) and is_count(v, S)),  # sum(x²) - n mean² -> sum((x - mean)²)
    # overflow of squares and products
    Rule("root of square", sqrt(square(x)), absolute(x)),  # sqrt(x**2) -> |x|
    Rule("hypot", sqrt(square(x) + square(y)), apply("hypot", x, y)),  # sqrt(x² + y²) -> hypot(x, y)
    Rule("hypot of three", sqrt(square(x) + (square(y) + z)), apply("hypot", x, sqrt(square(y) + z)), lambda z: positive(z)),  # sqrt(x² + y² + z) -> hypot(x, sqrt(y² + z))
    Rule("norm", sqrt(total(square(x))), lambda x, S: scaled_norm(x, S), lambda S: short(S)),  # sqrt(sum x²) -> r sqrt(sum (x/r)²)
    Rule("direction", x / absolute(x), sign(x),
         exact=False, why="0 / 0 becomes 0"),  # x / |x| -> sign(x)
    Rule("log of square", log(square(x)), 2 * log(absolute(x))),  # log(x²) -> 2 log|x|
    Rule("log of root", log(sqrt(x)), 0.5 * log(x)),  # log(sqrt x) -> log(x) / 2
    Rule("log of reciprocal", log(1 / x), -log(x)),  # log(1/x) -> -log x
    Rule("log of power", log(x ** c), c * log(x), lambda x: positive(x)),  # log(x**c) -> c log x, x not negative
    Rule("log of product", node("n", "log"), log_of_product, only=lambda t: t[1:] == ("prod",)),  # log(prod x) -> sum(log x)
])

# Before differentiation only: once derivatives are taken every stop_gradient is removed.
MAXIMA = Table("stabilise", [
    Rule("softmax does not depend on its shift", exp(z) / spread(total(exp(z))),
         lambda z, S: softmax(z.args[0], S), lambda z, S, B: behind(z, S, B)),  # max -> stop_gradient(max)
    Rule("log-softmax does not depend on its shift", z - spread(log(total(exp(z)))), log_softmax_behind),
    Rule("logsumexp does not depend on its shift", m + log(total(exp(z))), log_sum_exp_behind),
])
# fmt: on
