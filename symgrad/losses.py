"""Losses, by PyTorch's formulas and defaults.

In: predictions and targets. Out: a scalar, or one value per element or sample.

Each takes `reduction`: "mean" (over what "none" gives), "sum", or "none". Classes lie on the last
axis. Formulas are the textbook's; the rewriter makes them finite at large inputs, gradients too.

>>> cross_entropy(Input("z", (32, 10)), Input("y", (32,), "int32")).shape
()
"""

from __future__ import annotations

import math
from typing import Any

from symgrad import dtypes, ops, source
from symgrad.checks import bad, flag, number
from symgrad.errors import DTypeError, ShapeError
from symgrad.node import Expr, Map
from symgrad.ops.core import apply, as_expr
from symgrad.sizes import Dim, show
from symgrad.source import as_part


def _fail(loss: str, why: str) -> ShapeError:
    return ShapeError(f"{loss}: {why}" + source.quote(source.here()))


def _reduce(loss: str, values: Expr, reduction: str) -> Expr:
    if reduction == "mean":
        return ops.mean(values)
    if reduction == "sum":
        return ops.sum(values)
    if reduction == "none":
        return values
    raise bad(loss, f'reduction is "mean", "sum" or "none", got {reduction!r}')


def _floating(loss: str, role: str, e: Any) -> Expr:
    e = as_expr(loss, e)
    if not dtypes.is_float(e.dtype):
        raise DTypeError(
            f"{loss}: the {role} must be float32 or float64, got {e.dtype}"
            + source.quote(source.here())
        )
    return e


def _pair(loss: str, first: Any, target: Any) -> tuple[Expr, Expr]:
    """A prediction and its target, of equal shapes and the prediction's type."""
    first, target = _floating(loss, "prediction", first), as_expr(loss, target)
    if first.shape != target.shape:
        raise _fail(
            loss, f"prediction {show(first.shape)} and target {show(target.shape)} differ in shape"
        )
    if not dtypes.is_float(target.dtype):
        target = ops.cast(target, first.dtype)
    return first, target


def _classes(loss: str, scores: Expr) -> int:
    size = scores.shape[-1] if scores.ndim else 0
    if isinstance(size, Dim) or size < 1:
        raise _fail(loss, f"scores {show(scores.shape)} have no fixed class count (last axis)")
    return size


def _labels(loss: str, scores: Expr, labels: Any) -> Expr:
    """Integer labels, one for each row of the scores."""
    labels = as_expr(loss, labels)
    if not dtypes.is_integer(labels.dtype):
        raise DTypeError(
            f"{loss}: labels must be int32 or int64, got {labels.dtype}"
            + source.quote(source.here())
        )
    if labels.shape != scores.shape[:-1]:
        raise _fail(
            loss,
            f"labels {show(labels.shape)} must have the shape of scores {show(scores.shape)} "
            "without its last axis",
        )
    return labels


# -- classification ---------------------------------------------------------------------------
@as_part
def cross_entropy(
    logits: Any,
    labels: Any,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    weight: Any = None,
    ignore_index: int | None = None,
) -> Expr:
    """log(sum_j exp z_j) - sum_j q_j z_j, with q the labels as one-hot rows or as given.

    logits (..., C); labels int (...), or probabilities q (..., C). Label smoothing s replaces q by
    (1 - s) q + s/C (Szegedy et al., 2016). `weight` (C,) multiplies the terms of each class, the
    mean over labels then being divided by the sum of their weights; labels equal to `ignore_index`
    are left out (PyTorch's default is -100, here none). PyTorch's `cross_entropy`, for classes on
    the last axis. ShapeError, DTypeError and InputError for what does not fit; a label outside
    0..C-1 is an InputError when the compiled function is called.
    """
    z = _floating("cross_entropy", "logits", logits)
    classes = _classes("cross_entropy", z)
    number("cross_entropy", "label_smoothing", label_smoothing, "[0, 1]")
    labels = as_expr("cross_entropy", labels)
    hard = not dtypes.is_float(labels.dtype)
    if not hard and labels.shape != z.shape:
        raise _fail(
            "cross_entropy",
            f"probabilities {show(labels.shape)} must have the shape of logits {show(z.shape)}",
        )
    if not hard and ignore_index is not None:
        raise bad("cross_entropy", "ignore_index is for integer labels, these are probabilities")
    used = None
    if hard:
        labels, used = _used("cross_entropy", _labels("cross_entropy", z, labels), ignore_index)
        q = own = ops.one_hot(labels, classes, dtype=z.dtype)
    else:
        q = labels
    if label_smoothing:
        q = q * (1 - label_smoothing) + label_smoothing / classes
    if weight is None and hard:  # the weights of a row sum to 1
        rows = ops.logsumexp(z, axis=-1) - ops.sum(q * z, axis=-1)
        return _selected("cross_entropy", rows, None, used, reduction)
    if weight is not None:
        w = _class_weight("cross_entropy", weight, z)
        q = q * w
    rows = ops.sum(q * (ops.logsumexp(z, axis=-1, keepdims=True) - z), axis=-1)
    if not hard:
        return _reduce("cross_entropy", rows, reduction)
    return _selected("cross_entropy", rows, ops.sum(own * w, axis=-1), used, reduction)


@as_part
def nll_loss(
    log_probs: Any,
    labels: Any,
    reduction: str = "mean",
    weight: Any = None,
    ignore_index: int | None = None,
) -> Expr:
    """-log_probs[label] of each row. log_probs (..., C), labels int (...). PyTorch's `nll_loss`.

    `weight` and `ignore_index` as for `cross_entropy`.
    """
    log_p = _floating("nll_loss", "log-probabilities", log_probs)
    classes = _classes("nll_loss", log_p)
    labels, used = _used("nll_loss", _labels("nll_loss", log_p, labels), ignore_index)
    chosen = ops.one_hot(labels, classes, dtype="bool")
    # A choice, not a product: other classes may have log-probability -inf.
    rows = -ops.sum(ops.where(chosen, log_p, 0), axis=-1)
    if weight is None:
        return _selected("nll_loss", rows, None, used, reduction)
    own = ops.sum(ops.where(chosen, _class_weight("nll_loss", weight, log_p), 0), axis=-1)
    return _selected("nll_loss", rows * own, own, used, reduction)


def _used(loss: str, labels: Expr, ignore_index: Any) -> tuple[Expr, Expr | None]:
    """Labels with 0 for those to leave out, and which are used (None: all)."""
    if ignore_index is None:
        return labels, None
    if not isinstance(ignore_index, int) or isinstance(ignore_index, bool):
        raise bad(loss, f"ignore_index must be an int, got {ignore_index!r}")
    used = ops.not_equal(labels, ignore_index)
    return ops.where(used, labels, 0), used


def _class_weight(loss: str, weight: Any, scores: Expr) -> Expr:
    """A weight for each class, of the scores' type."""
    w = as_expr(loss, weight)
    if w.shape != scores.shape[-1:]:
        raise _fail(
            loss,
            f"weight {show(w.shape)} must have one number for each class of {show(scores.shape)}",
        )
    return ops.cast(w, scores.dtype)


def _selected(
    loss: str, rows: Expr, weights: Expr | None, used: Expr | None, reduction: str
) -> Expr:
    """The rows that are used, reduced; the mean is over their weights, 1 each unless given."""
    if used is not None:
        rows = ops.where(used, rows, 0)
        weights = ops.cast(used, rows.dtype) if weights is None else ops.where(used, weights, 0)
    if reduction != "mean" or weights is None:
        return _reduce(loss, rows, reduction)
    return ops.sum(rows) / ops.sum(weights)


@as_part
def bce_loss(p: Any, t: Any, reduction: str = "mean", weight: Any = None) -> Expr:
    """-(t log p + (1 - t) log(1 - p)), each logarithm at least -100, as PyTorch's `bce_loss`.

    `weight` multiplies every term, broadcast to the shape of p. Where p is written as `sigmoid(z)`
    nothing is clamped: the rewriter takes these logarithms exactly, so that the loss grows as |z|
    and its gradient is p - t at any z.
    """
    p, t = _pair("bce_loss", p, t)
    if isinstance(p, Map) and p.op == "sigmoid":
        values = -(t * ops.log(p) + (1 - t) * ops.log(1 - p))
    else:
        values = -(t * _clamped_log(p) + (1 - t) * _clamped_log(1 - p))
    return _reduce("bce_loss", _weighted("bce_loss", values, weight), reduction)


def _clamped_log(p: Expr) -> Expr:
    """max(log p, -100), with gradient 0 rather than NaN where it is clamped."""
    inside = p > math.exp(-100)
    return ops.where(inside, ops.log(ops.where(inside, p, 1)), -100)


@as_part
def bce_with_logits_loss(
    logits: Any, t: Any, reduction: str = "mean", pos_weight: Any = None, weight: Any = None
) -> Expr:
    """bce_loss(sigmoid(z), t) = log(1 + exp z) - t z, stable at any z.

    `pos_weight` w multiplies the term of t: w t log(1 + exp -z) + (1 - t) log(1 + exp z), `weight`
    every term; both are broadcast to the shape of z. PyTorch's
    `binary_cross_entropy_with_logits`.
    """
    z, t = _pair("bce_with_logits_loss", logits, t)
    if pos_weight is None:
        values = apply("softplus", z) - t * z
    else:
        positive = t * apply("softplus", -z)
        values = _weighted("bce_with_logits_loss", positive, pos_weight, "pos_weight")
        values = values + (1 - t) * apply("softplus", z)
    values = _weighted("bce_with_logits_loss", values, weight)
    return _reduce("bce_with_logits_loss", values, reduction)


def _weighted(loss: str, values: Expr, weight: Any, name: str = "weight") -> Expr:
    """Values times a weight that broadcasts to their shape."""
    if weight is None:
        return values
    w = ops.cast(as_expr(loss, weight), values.dtype)
    try:
        return values * ops.broadcast_to(w, values.shape)
    except ShapeError as error:
        raise _fail(
            loss, f"{name} {show(w.shape)} does not broadcast to {show(values.shape)}"
        ) from error


@as_part
def kl_div(log_p: Any, q: Any, reduction: str = "mean", log_target: bool = False) -> Expr:
    """q (log q - log_p), 0 where q is 0. PyTorch's `kl_div`: log_p are log-probabilities.

    "mean" divides by the number of elements; "batchmean", the mathematical definition's mean over
    samples, by the size of the first axis. With `log_target` the second argument is log q.
    """
    log_p, q = _pair("kl_div", log_p, q)
    if flag("kl_div", "log_target", log_target):
        values = ops.exp(q) * (q - log_p)
    else:
        some = q > 0
        values = ops.where(some, q * ops.log(ops.where(some, q, 1)), 0) - q * log_p
    if reduction == "batchmean":
        if not values.ndim:
            raise _fail("kl_div", "batchmean needs a first axis")
        return ops.sum(values) / values.shape[0]
    return _reduce("kl_div", values, reduction)


@as_part
def hinge_loss(score: Any, t: Any, reduction: str = "mean") -> Expr:
    """max(0, 1 - t s) with t in {-1, 1}.

    The binary support vector machine of Cortes and Vapnik (1995); s and t have one shape.
    """
    s, t = _pair("hinge_loss", score, t)
    return _reduce("hinge_loss", ops.maximum(1 - t * s, 0), reduction)


@as_part
def multiclass_hinge_loss(
    scores: Any,
    labels: Any,
    reduction: str = "mean",
    margin: float = 1.0,
    form: str = "sum",
    epsilon: float = 0.0,
    task_loss: Any = None,
) -> Expr:
    """Multiclass support vector machine: scores (..., C), labels y int (...).

    form="sum": sum over j != y of max(0, margin + s_j - s_y) (Weston and Watkins, 1999); PyTorch's
    `multi_margin_loss` is this divided by C.

    form="max": max_j (L(y, j) + s_j) - s_y (Crammer and Singer, 2001). The task loss L is `margin`
    for j != y and 0 for y, or the matrix `task_loss` (C, C), a row for each true class. With
    epsilon > 0 the maximum is softened to epsilon log sum_j exp((L(y, j) + s_j) / epsilon): one
    formula from this machine (epsilon -> 0) to `cross_entropy` (epsilon 1, L 0). Over all
    structures as classes it is the objective of structured prediction (Hazan and Urtasun, 2010).
    """
    s = _floating("multiclass_hinge_loss", "scores", scores)
    classes = _classes("multiclass_hinge_loss", s)
    number("multiclass_hinge_loss", "margin", margin)
    number("multiclass_hinge_loss", "epsilon", epsilon)
    if form not in ("sum", "max"):
        raise bad("multiclass_hinge_loss", f'form is "sum" or "max", got {form!r}')
    if form == "sum" and (epsilon or task_loss is not None):
        raise bad("multiclass_hinge_loss", 'epsilon and task_loss need form="max", got "sum"')
    labels = _labels("multiclass_hinge_loss", s, labels)
    right = ops.one_hot(labels, classes, dtype=s.dtype)
    own = ops.sum(right * s, axis=-1, keepdims=True)
    if task_loss is None:
        raised = s + (1 - right) * margin
    else:
        L = as_expr("multiclass_hinge_loss", task_loss)
        if L.shape != (classes, classes):
            raise _fail(
                "multiclass_hinge_loss",
                f"task_loss {show(L.shape)} must be {show((classes, classes))}, a row for each "
                "true class",
            )
        raised = s + ops.matmul(right, ops.cast(L, s.dtype))
    if form == "sum":
        rows = ops.sum((1 - right) * ops.maximum(raised - own, 0), axis=-1)
    elif epsilon > 0:
        rows = ops.logsumexp((raised - own) / epsilon, axis=-1) * epsilon
    else:
        rows = ops.max(raised - own, axis=-1)
    return _reduce("multiclass_hinge_loss", rows, reduction)


# -- regression -------------------------------------------------------------------------------
@as_part
def mse_loss(prediction: Any, target: Any, reduction: str = "mean") -> Expr:
    """(x - y)^2, of prediction and target of one shape. PyTorch's `mse_loss`."""
    x, y = _pair("mse_loss", prediction, target)
    difference = x - y
    return _reduce("mse_loss", difference * difference, reduction)


@as_part
def l1_loss(prediction: Any, target: Any, reduction: str = "mean") -> Expr:
    """|x - y|; the derivative at 0 is 0. PyTorch's `l1_loss`."""
    x, y = _pair("l1_loss", prediction, target)
    return _reduce("l1_loss", ops.abs(x - y), reduction)


@as_part
def huber_loss(prediction: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Expr:
    """d^2/2 where |d| <= delta, delta (|d| - delta/2) elsewhere, d = x - y. Huber (1964)."""
    number("huber_loss", "delta", delta, "(0, inf)")
    x, y = _pair("huber_loss", prediction, target)
    d = x - y
    size = ops.abs(d)
    # The linear branch of a clipped |d| is d^2/2 inside: one formula with no choice.
    inner = ops.minimum(size, delta)
    return _reduce("huber_loss", inner * (size - inner * 0.5), reduction)
