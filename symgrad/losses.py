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
from symgrad.errors import DTypeError, InputError, ShapeError
from symgrad.node import Expr, Map
from symgrad.ops.core import apply, as_expr
from symgrad.sizes import Dim, show


def _fail(loss: str, why: str) -> ShapeError:
    return ShapeError(f"{loss}: {why}" + source.quote(source.here()))


def _reduce(loss: str, values: Expr, reduction: str) -> Expr:
    if reduction == "mean":
        return ops.mean(values)
    if reduction == "sum":
        return ops.sum(values)
    if reduction == "none":
        return values
    raise InputError(
        f'{loss}: reduction is "mean", "sum" or "none", got {reduction!r}'
        + source.quote(source.here())
    )


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
def cross_entropy(
    logits: Any, labels: Any, reduction: str = "mean", label_smoothing: float = 0.0
) -> Expr:
    """log(sum_j exp z_j) - sum_j q_j z_j, with q the labels as one-hot rows or as given.

    logits (..., C); labels int (...), or probabilities q (..., C). Label smoothing s replaces q by
    (1 - s) q + s/C (Szegedy et al., 2016). PyTorch's `cross_entropy`, for classes on the last axis.
    """
    z = _floating("cross_entropy", "logits", logits)
    classes = _classes("cross_entropy", z)
    if isinstance(label_smoothing, bool) or not 0 <= label_smoothing <= 1:
        raise InputError(
            f"cross_entropy: label_smoothing must be in [0, 1], got {label_smoothing!r}"
            + source.quote(source.here())
        )
    labels = as_expr("cross_entropy", labels)
    hard = not dtypes.is_float(labels.dtype)
    if hard:
        q = ops.one_hot(_labels("cross_entropy", z, labels), classes, dtype=z.dtype)
    elif labels.shape == z.shape:
        q = labels
    else:
        raise _fail(
            "cross_entropy",
            f"probabilities {show(labels.shape)} must have the shape of logits {show(z.shape)}",
        )
    if label_smoothing:
        q = q * (1 - label_smoothing) + label_smoothing / classes
    if hard:  # the weights of a row sum to 1
        rows = ops.logsumexp(z, axis=-1) - ops.sum(q * z, axis=-1)
    else:
        rows = ops.sum(q * (ops.logsumexp(z, axis=-1, keepdims=True) - z), axis=-1)
    return _reduce("cross_entropy", rows, reduction)


def nll_loss(log_probs: Any, labels: Any, reduction: str = "mean") -> Expr:
    """-log_probs[label] of each row. log_probs (..., C), labels int (...). PyTorch's `nll_loss`."""
    log_p = _floating("nll_loss", "log-probabilities", log_probs)
    classes = _classes("nll_loss", log_p)
    chosen = ops.one_hot(_labels("nll_loss", log_p, labels), classes, dtype="bool")
    # A choice, not a product: other classes may have log-probability -inf.
    rows = -ops.sum(ops.where(chosen, log_p, 0), axis=-1)
    return _reduce("nll_loss", rows, reduction)


def bce_loss(p: Any, t: Any, reduction: str = "mean") -> Expr:
    """-(t log p + (1 - t) log(1 - p)), each logarithm at least -100, as PyTorch's `bce_loss`.

    Where p is written as `sigmoid(z)` nothing is clamped: the rewriter takes these logarithms
    exactly, so that the loss grows as |z| and its gradient is p - t at any z.
    """
    p, t = _pair("bce_loss", p, t)
    if isinstance(p, Map) and p.op == "sigmoid":
        return _reduce("bce_loss", -(t * ops.log(p) + (1 - t) * ops.log(1 - p)), reduction)
    values = -(t * _clamped_log(p) + (1 - t) * _clamped_log(1 - p))
    return _reduce("bce_loss", values, reduction)


def _clamped_log(p: Expr) -> Expr:
    """max(log p, -100), with gradient 0 rather than NaN where it is clamped."""
    inside = p > math.exp(-100)
    return ops.where(inside, ops.log(ops.where(inside, p, 1)), -100)


def bce_with_logits_loss(
    logits: Any, t: Any, reduction: str = "mean", pos_weight: Any = None
) -> Expr:
    """bce_loss(sigmoid(z), t) = log(1 + exp z) - t z, stable at any z.

    `pos_weight` w multiplies the term of t: w t log(1 + exp -z) + (1 - t) log(1 + exp z).
    """
    z, t = _pair("bce_with_logits_loss", logits, t)
    if pos_weight is None:
        values = apply("softplus", z) - t * z
    else:
        values = t * apply("softplus", -z) * pos_weight + (1 - t) * apply("softplus", z)
    return _reduce("bce_with_logits_loss", values, reduction)


def kl_div(log_p: Any, q: Any, reduction: str = "mean") -> Expr:
    """q (log q - log_p), 0 where q is 0. PyTorch's `kl_div`: log_p are log-probabilities.

    "mean" divides by the number of elements; "batchmean", the mathematical definition's mean over
    samples, by the size of the first axis.
    """
    log_p, q = _pair("kl_div", log_p, q)
    some = q > 0
    values = ops.where(some, q * ops.log(ops.where(some, q, 1)), 0) - q * log_p
    if reduction == "batchmean":
        if not values.ndim:
            raise _fail("kl_div", "batchmean needs a first axis")
        return ops.sum(values) / values.shape[0]
    return _reduce("kl_div", values, reduction)


def hinge_loss(score: Any, t: Any, reduction: str = "mean") -> Expr:
    """max(0, 1 - t s) with t in {-1, 1}: the binary support vector machine."""
    s, t = _pair("hinge_loss", score, t)
    return _reduce("hinge_loss", ops.maximum(1 - t * s, 0), reduction)


def multiclass_hinge_loss(
    scores: Any,
    labels: Any,
    reduction: str = "mean",
    margin: float = 1.0,
    form: str = "sum",
    epsilon: float = 0.0,
) -> Expr:
    """Multiclass support vector machine: scores (..., C), labels int (...).

    form="sum": sum over j != y of max(0, margin + s_j - s_y) (Weston and Watkins, 1999); PyTorch's
    `multi_margin_loss` is this divided by C. form="max": max_j (L_j + s_j) - s_y with the task loss
    L_j = margin for j != y, 0 for y (Crammer and Singer, 2001); with epsilon > 0 the maximum is
    softened to epsilon log sum_j exp((L_j + s_j) / epsilon).
    """
    s = _floating("multiclass_hinge_loss", "scores", scores)
    classes = _classes("multiclass_hinge_loss", s)
    labels = _labels("multiclass_hinge_loss", s, labels)
    right = ops.one_hot(labels, classes, dtype=s.dtype)
    own = ops.sum(right * s, axis=-1, keepdims=True)
    raised = s + (1 - right) * margin
    if form == "sum":
        rows = ops.sum((1 - right) * ops.maximum(raised - own, 0), axis=-1)
    elif form == "max" and epsilon > 0:
        rows = ops.logsumexp((raised - own) / epsilon, axis=-1) * epsilon
    elif form == "max" and epsilon == 0:
        rows = ops.max(raised - own, axis=-1)
    else:
        raise InputError(
            'multiclass_hinge_loss: form is "sum" or "max" and epsilon not negative, got '
            f"{form!r} and {epsilon!r}" + source.quote(source.here())
        )
    return _reduce("multiclass_hinge_loss", rows, reduction)


# -- regression -------------------------------------------------------------------------------
def mse_loss(prediction: Any, target: Any, reduction: str = "mean") -> Expr:
    """(x - y)^2."""
    x, y = _pair("mse_loss", prediction, target)
    difference = x - y
    return _reduce("mse_loss", difference * difference, reduction)


def l1_loss(prediction: Any, target: Any, reduction: str = "mean") -> Expr:
    """|x - y|; the derivative at 0 is 0."""
    x, y = _pair("l1_loss", prediction, target)
    return _reduce("l1_loss", ops.abs(x - y), reduction)


def huber_loss(prediction: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Expr:
    """d^2/2 where |d| <= delta, delta (|d| - delta/2) elsewhere, d = x - y. Huber (1964)."""
    if isinstance(delta, bool) or not isinstance(delta, (int, float)) or not 0 < delta < math.inf:
        raise InputError(
            f"huber_loss: delta must be positive and finite, got {delta!r}"
            + source.quote(source.here())
        )
    x, y = _pair("huber_loss", prediction, target)
    d = x - y
    size = ops.abs(d)
    # The linear branch of a clipped |d| is d^2/2 inside: one formula with no choice.
    inner = ops.minimum(size, delta)
    return _reduce("huber_loss", inner * (size - inner * 0.5), reduction)
