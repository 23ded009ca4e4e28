"""Activations and normalisations as functions of expressions, by PyTorch's formulas.

In: expressions. Out: expressions. Formulas are written as in a textbook; what makes them safe at
large inputs (softmax, log-softmax and their gradients) is the rewriter's work.

>>> softmax(Input("z", (4, 10)))
<div (4, 10) float32>
"""

from __future__ import annotations

import math
from typing import Any, Sequence

from symgrad import dtypes, ops, source
from symgrad.checks import number
from symgrad.errors import DTypeError, InputError, ShapeError
from symgrad.nn.statistics import record
from symgrad.node import Expr, Iota, Random, SizeOf, State
from symgrad.ops.core import apply, as_expr
from symgrad.sizes import Dim, Shape, Size, product, show

Axes = tuple[int, ...]


def floating(name: str, x: Any) -> Expr:
    """The operand as an expression of a floating type."""
    x = as_expr(name, x)
    if not dtypes.is_float(x.dtype):
        raise DTypeError(
            f"{name}: takes float32 or float64, got {x.dtype}" + source.quote(source.here())
        )
    return x


# -- activations ------------------------------------------------------------------------------
def relu(x: Any) -> Expr:
    """max(x, 0); the derivative at 0 is 0. Nair and Hinton (2010)."""
    return apply("relu", floating("relu", x))


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Expr:
    """x where x > 0, negative_slope * x elsewhere. Maas et al. (2013)."""
    x = floating("leaky_relu", x)
    if not isinstance(negative_slope, Expr):
        number("leaky_relu", "negative_slope", negative_slope, "(-inf, inf)")
    return apply("leaky_relu", x, negative_slope)


def prelu(x: Any, weight: Any) -> Expr:
    """leaky_relu with a learned slope: one for all (shape () or (1,)), or one for each channel.

    Channels are axis 1, or axis 0 of a one-dimensional operand, as in PyTorch. He et al. (2015).
    ShapeError where slopes and channels differ in number.
    """
    x, weight = floating("prelu", x), floating("prelu", weight)
    if weight.size == 1:
        return apply("leaky_relu", x, ops.reshape(weight, ()))
    axis = 1 if x.ndim > 1 else 0
    if weight.ndim != 1 or not x.ndim or x.shape[axis] != weight.shape[0]:
        raise ShapeError(
            f"prelu: slopes {show(weight.shape)} do not fit the channels (axis {axis}) of "
            f"{show(x.shape)}" + source.quote(source.here())
        )
    return apply("leaky_relu", x, _along(weight, axis, x.ndim))


def elu(x: Any, alpha: float = 1.0) -> Expr:
    """x where x > 0, alpha * (exp(x) - 1) elsewhere. Clevert et al. (2016)."""
    x = floating("elu", x)
    return apply("elu", x, number("elu", "alpha", alpha, "(-inf, inf)"))


def selu(x: Any) -> Expr:
    """1.0507 * elu(x, 1.6733), the constants of Klambauer et al. (2017)."""
    return apply("selu", floating("selu", x))


def gelu(x: Any, approximate: str = "none") -> Expr:
    """x * Phi(x), Phi the normal distribution function, or its tanh approximation.

    Hendrycks and Gimpel (2016).

    "none": x/2 * (1 + erf(x / sqrt 2)). "tanh": x/2 * (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
    """
    if approximate not in ("none", "tanh"):
        raise InputError(
            f'gelu: approximate is "none" or "tanh", got {approximate!r}'
            + source.quote(source.here())
        )
    return apply("gelu" if approximate == "none" else "gelu_tanh", floating("gelu", x))


def sigmoid(x: Any) -> Expr:
    """The logistic function 1 / (1 + exp(-x)); its derivative is y (1 - y)."""
    return apply("sigmoid", floating("sigmoid", x))


def silu(x: Any) -> Expr:
    """x * sigmoid(x), also called swish. Elfwing et al. (2018)."""
    return apply("silu", floating("silu", x))


def softplus(x: Any, beta: float = 1.0) -> Expr:
    """log(1 + exp(beta * x)) / beta; its derivative is sigmoid(beta * x). Dugas et al. (2001).

    Exact everywhere: PyTorch turns linear at beta * x > 20.
    """
    x = floating("softplus", x)
    if number("softplus", "beta", beta, "(0, inf)") == 1:
        return apply("softplus", x)
    return apply("softplus", x * beta) / beta


def hard_sigmoid(x: Any) -> Expr:
    """clip(x/6 + 1/2, 0, 1), piecewise linear. PyTorch's `hardsigmoid`."""
    return apply("hard_sigmoid", floating("hard_sigmoid", x))


def tanh(x: Any) -> Expr:
    """The hyperbolic tangent."""
    return apply("tanh", floating("tanh", x))


def softmax(x: Any, axis: int = -1) -> Expr:
    """exp(x) / sum(exp(x)) along an axis."""
    e = ops.exp(_with_axis("softmax", x, axis))
    return e / ops.sum(e, axis=axis, keepdims=True)


def log_softmax(x: Any, axis: int = -1) -> Expr:
    """x - log(sum(exp(x))) along an axis."""
    x = _with_axis("log_softmax", x, axis)
    return x - ops.logsumexp(x, axis=axis, keepdims=True)


def _with_axis(name: str, x: Any, axis: Any) -> Expr:
    """A floating operand that has this axis."""
    x = floating(name, x)
    whole = isinstance(axis, int) and not isinstance(axis, bool)
    if not whole or not -x.ndim <= axis < x.ndim:
        raise ShapeError(
            f"{name}: no axis {axis!r} in {show(x.shape)}" + source.quote(source.here())
        )
    return x


# -- dropout ----------------------------------------------------------------------------------
def check_probability(name: str, p: Any) -> float:
    """A dropout probability: a number in [0, 1)."""
    return number(name, "the probability p", p, "[0, 1)")


def dropout(x: Any, p: float = 0.5, training: bool = True) -> Expr:
    """Each element zero with probability p, the others times 1 / (1 - p). Srivastava et al. (2014).

    Every call draws its own numbers: a function of seed, step and this call's place in the graph.
    The identity when `training` is False.
    """
    x, p = floating("dropout", x), check_probability("dropout", p)
    if not training or p == 0:
        return x
    kept = Random.of("uniform", x.shape, x.dtype) >= p
    return ops.where(kept, x * (1 / (1 - p)), 0)


# -- normalisation ----------------------------------------------------------------------------
def _along(vector: Expr, axis: int, ndim: int) -> Expr:
    """A vector as an operand that broadcasts along one axis of an ndim-dimensional array."""
    return ops.reshape(vector, (1,) * axis + vector.shape + (1,) * (ndim - axis - 1))


def _normalise(x: Expr, axes: Axes, eps: float) -> tuple[Expr, Expr, Expr]:
    """(x - mean) / sqrt(var + eps) over axes, and the (biased) mean and variance, axes kept."""
    mean = ops.mean(x, axis=axes, keepdims=True)
    centred = x - mean
    var = ops.mean(centred * centred, axis=axes, keepdims=True)
    return centred / ops.sqrt(var + eps), mean, var


def layer_norm(
    x: Any,
    normalized_shape: int | Sequence[int] | None = None,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Expr:
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axes, those of normalized_shape.

    The last axis when no shape is given; the variance is the biased one, as in PyTorch. Ba et al.
    (2016). ShapeError where x, weight or bias do not end in that shape.
    """
    x = floating("layer_norm", x)
    number("layer_norm", "eps", eps)
    if normalized_shape is None:
        normalized_shape = x.shape[-1:]  # type: ignore[assignment]
    elif isinstance(normalized_shape, int):
        normalized_shape = (normalized_shape,)
    shape: Shape = tuple(normalized_shape)  # type: ignore[arg-type]
    if not shape or x.shape[-len(shape) :] != shape:
        raise ShapeError(
            f"layer_norm: {show(x.shape)} does not end in the normalized shape {show(shape)}"
            + source.quote(source.here())
        )
    y = _normalise(x, tuple(range(x.ndim - len(shape), x.ndim)), eps)[0]
    for name, operand in (("weight", weight), ("bias", bias)):
        if operand is not None and operand.shape != shape:
            raise ShapeError(
                f"layer_norm: {name} {show(operand.shape)} differs from the normalized shape "
                f"{show(shape)}" + source.quote(source.here())
            )
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def group_norm(
    x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Expr:
    """Normalise every sample over groups of neighbouring channels (axis 1) and all later axes.

    weight and bias are (channels,). Wu and He (2018). ShapeError for groups that do not divide the
    channels.
    """
    x = floating("group_norm", x)
    number("group_norm", "eps", eps)
    channels = x.shape[1] if x.ndim > 1 else 0
    if isinstance(channels, Dim) or not channels or groups < 1 or channels % groups:
        raise ShapeError(
            f"group_norm: {show(x.shape)} has {channels} channels (axis 1), which do not make "
            f"{groups} groups" + source.quote(source.here())
        )
    split = (x.shape[0], groups, channels // groups, *x.shape[2:])
    y = _normalise(ops.reshape(x, split), tuple(range(2, len(split))), eps)[0]
    return _scale_shift("group_norm", ops.reshape(y, x.shape), weight, bias)


def batch_norm(
    x: Any,
    running_mean: State | None = None,
    running_var: State | None = None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Expr:
    """Normalise every channel (axis 1) over all other axes: (x - mean) / sqrt(var + eps).

    x is (n, channels, ...), all others (channels,). Ioffe and Szegedy (2015).
    In training, by the batch's mean and biased variance, differentiated through, and the running
    states move: s <- (1 - momentum) s + momentum * batch value, the variance by its unbiased
    estimate, as in PyTorch; `updates_of(loss)` lists these updates. Otherwise by the running
    states (by the batch when there are none).
    """
    x = floating("batch_norm", x)
    number("batch_norm", "momentum", momentum, "[0, 1]")
    number("batch_norm", "eps", eps)
    if x.ndim < 2:
        raise ShapeError(
            f"batch_norm: takes (n, channels, ...), got {show(x.shape)}"
            + source.quote(source.here())
        )
    for name, s in (("running_mean", running_mean), ("running_var", running_var)):
        _check_channels("batch_norm", name, s, x)
    axes = (0, *range(2, x.ndim))
    by_batch = training or running_mean is None or running_var is None
    if by_batch:
        count = product(tuple(x.shape[a] for a in axes))
        if training and count == 1:
            raise ShapeError(
                f"batch_norm: one value per channel in {show(x.shape)} has no variance to train on"
                + source.quote(source.here())
            )
        y, mean, var = _normalise(x, axes, eps)
    else:
        mean, var = _along(running_mean, 1, x.ndim), _along(running_var, 1, x.ndim)  # type: ignore
        y = (x - mean) / ops.sqrt(var + eps)
    y = _scale_shift("batch_norm", y, weight, bias)
    if training and isinstance(running_mean, State) and isinstance(running_var, State):
        channels = (x.shape[1],)
        unbiased = var * _bessel(count, x.dtype)
        _track(y, running_mean, ops.reshape(mean, channels), momentum)
        _track(y, running_var, ops.reshape(unbiased, channels), momentum)
    return y


def _bessel(count: Size, dtype: str) -> Expr:
    """count / (count - 1); with a run-time count of 1 the variance is 0, and stays finite."""
    n = SizeOf.of(count, dtype)
    return n / ops.maximum(n - 1, 1)


def _track(y: Expr, state: State, value: Expr, momentum: float) -> None:
    record(y, state, lambda s: s * (1 - momentum) + ops.cast(value, state.dtype) * momentum)


def _check_channels(op: str, name: str, operand: Any, x: Expr) -> None:
    if operand is not None and operand.shape != x.shape[1:2]:
        raise ShapeError(
            f"{op}: {name} {show(operand.shape)} does not fit the channels (axis 1) of "
            f"{show(x.shape)}" + source.quote(source.here())
        )


def _scale_shift(op: str, y: Expr, weight: Any, bias: Any) -> Expr:
    """y * weight + bias by channel."""
    _check_channels(op, "weight", weight, y)
    _check_channels(op, "bias", bias, y)
    y = y if weight is None else y * _along(weight, 1, y.ndim)
    return y if bias is None else y + _along(bias, 1, y.ndim)


# -- attention --------------------------------------------------------------------------------
def attention(
    query: Any,
    key: Any,
    value: Any,
    mask: Any = None,
    causal: bool = False,
    scale: float | None = None,
    dropout_p: float = 0.0,
    training: bool = True,
) -> Expr:
    """softmax(query key^T * scale) value. Vaswani et al. (2017).

    query is (..., t, d), key (..., s, d), value (..., s, e). scale is 1/sqrt(d) unless given. A
    boolean `mask`, broadcast to (..., t, s), is True where attention is allowed; a floating one is
    added to the scores. `causal` lets position i see positions up to i. Meaning and defaults are
    those of PyTorch's scaled_dot_product_attention.
    """
    q, k, v = (floating("attention", a) for a in (query, key, value))
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ShapeError(
            f"attention: query {show(q.shape)}, key {show(k.shape)} and value {show(v.shape)} "
            "must be (..., t, d), (..., s, d) and (..., s, e)" + source.quote(source.here())
        )
    width = q.shape[-1]
    if scale is None:
        if isinstance(width, Dim):
            raise ShapeError(f"attention: the width of {show(q.shape)} must be an int")
        scale = 1 / math.sqrt(width)
    last = (*range(k.ndim - 2), k.ndim - 1, k.ndim - 2)
    scores = ops.matmul(q * scale, ops.transpose(k, last))
    if causal:
        row = ops.expand_dims(Iota.of(q.shape[-2]), 1)
        scores = ops.where(row >= Iota.of(k.shape[-2]), scores, -math.inf)
    if mask is not None:
        mask = as_expr("attention", mask)
        if mask.dtype == "bool":
            scores = ops.where(mask, scores, -math.inf)
        else:
            scores = scores + mask
    weights = softmax(scores)
    if check_probability("attention", dropout_p):
        weights = dropout(weights, dropout_p, training)
    return ops.matmul(weights, v)
