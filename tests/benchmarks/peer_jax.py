"""A workload in JAX: one `jit` over the whole step, donated buffers, channels-last images.

In: a `Workload`. Out: a function that runs one step and returns the loss.

Parameters and running statistics are two flat lists; a layer is a function that takes its part of
both from a `Pass`, so that what is traced reads like the network.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Iterator

import jax as J
import jax.numpy as jnp
import numpy as np
from layers import (
    Act,
    Attention,
    BatchNorm,
    Conv,
    Dense,
    Drop,
    Flatten,
    GlobalPool,
    Layer,
    LayerNorm,
    Pool,
    Recurrent,
    Residual,
    Tokens,
)
from workloads import Workload

NHWC = ("NHWC", "HWIO", "NHWC")


@dataclass
class Pass:
    """One forward pass: what is left of the parameters and running statistics, and the statistics
    as they are afterwards."""

    parameters: Iterator[Any]
    running: Iterator[Any]
    key: Any
    moved: list[Any] = field(default_factory=list)


def build(w: Workload, threads: int = 1) -> Callable[[], float]:
    x0, y0 = w.data()
    x = jnp.asarray(x0.transpose(0, 2, 3, 1) if w.images else x0)
    y = jnp.asarray(y0)
    rng = w.generator()
    parameters: list[Any] = []
    running: list[Any] = []
    for layer in w.layers:
        collect(layer, rng, parameters, running)

    def loss_of(p: list[Any], running: list[Any], key: Any, x: Any, y: Any) -> Any:
        state = Pass(iter(p), iter(running), key)
        h = x
        for layer in w.layers:
            h = applied(layer, h, state)
        if w.loss == "mse":
            return jnp.mean((h - y) ** 2), state.moved
        logp = J.nn.log_softmax(h)
        return -jnp.mean(jnp.take_along_axis(logp, y[..., None], axis=-1)), state.moved

    def step(state: Any, x: Any, y: Any) -> Any:
        p, moments, running, key, count = state
        key, use = J.random.split(key)
        value_and_grad = J.value_and_grad(loss_of, has_aux=True)
        (loss, running), g = value_and_grad(p, running, use, x, y)
        p, moments = updated(w, p, moments, g, count + 1)
        return (p, moments, running, key, count + 1), loss

    slots = {"sgd": 0, "momentum": 1, "adam": 2}[w.optimizer]
    moments = [[jnp.zeros_like(a) for a in parameters] for _ in range(slots)]
    state: list[Any] = [(parameters, moments, running, J.random.key(0), jnp.float32(0))]
    compiled = J.jit(step, donate_argnums=(0,))

    def run() -> float:
        state[0], loss = compiled(state[0], x, y)
        return float(loss)

    return run


def updated(w: Workload, p: Any, moments: Any, g: Any, count: Any) -> tuple[Any, Any]:
    """Parameters and moments after PyTorch's rule of that name."""
    if w.optimizer == "sgd":
        return [a - w.lr * d for a, d in zip(p, g)], moments
    if w.optimizer == "momentum":
        kept = [w.momentum * m + d for m, d in zip(moments[0], g)]
        return [a - w.lr * m for a, m in zip(p, kept)], [kept]
    m = [0.9 * a + 0.1 * d for a, d in zip(moments[0], g)]
    v = [0.999 * a + 0.001 * d * d for a, d in zip(moments[1], g)]
    c1, c2 = 1 - 0.9**count, 1 - 0.999**count
    return [q - w.lr * (a / c1) / (jnp.sqrt(b / c2) + 1e-8) for q, a, b in zip(p, m, v)], [m, v]


def collect(layer: Layer, rng: np.random.Generator, found: list[Any], running: list) -> None:
    """Append a layer's first parameters and statistics, in the layouts used here."""
    if isinstance(layer, Residual):
        for one in (*layer.layers, *layer.shortcut):
            collect(one, rng, found, running)
        return
    taken = layer.parameters(rng)
    if isinstance(layer, Conv):
        taken[0] = taken[0].transpose(2, 3, 1, 0)
    if isinstance(layer, Attention):  # one product makes queries, keys and values
        joint = [np.concatenate(taken[0:6:2], axis=1), np.concatenate(taken[1:6:2])]
        taken = [*joint, *taken[6:]]
    if isinstance(layer, BatchNorm) and not isinstance(layer, LayerNorm):
        running += [jnp.zeros(layer.features), jnp.ones(layer.features)]
    found += [jnp.asarray(a) for a in taken]


def applied(layer: Layer, x: Any, state: Pass) -> Any:
    """The layer's result."""
    p = state.parameters
    if isinstance(layer, Dense):
        return _dense(x, p, layer.bias)
    if isinstance(layer, Conv):
        padding = [(layer.padding, layer.padding)] * 2
        y = J.lax.conv_general_dilated(
            x, next(p), (layer.stride,) * 2, padding, dimension_numbers=NHWC
        )
        return y + next(p) if layer.bias else y
    if isinstance(layer, LayerNorm):
        return _normalised(x, (-1,), p)[0]
    if isinstance(layer, BatchNorm):
        return _batch_norm(x, state)
    if isinstance(layer, Tokens):
        return next(p)[x] + next(p)
    if isinstance(layer, Attention):
        return _attention(layer, x, p)
    if isinstance(layer, Recurrent):
        return _recurrent(layer, x, p)
    if isinstance(layer, Residual):
        return _residual(layer, x, state)
    return _plain(layer, x, state)


def _plain(layer: Layer, x: Any, state: Pass) -> Any:
    """Layers without parameters."""
    if isinstance(layer, Act):
        if layer.name == "gelu":
            return J.nn.gelu(x, approximate=False)
        return {"tanh": jnp.tanh, "relu": J.nn.relu}[layer.name](x)
    if isinstance(layer, Pool):
        return _pool(layer, x)
    if isinstance(layer, GlobalPool):
        return x.mean(axis=(1, 2))
    if isinstance(layer, Flatten):  # in the order of channels-first images, as the others have it
        return x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)
    if isinstance(layer, Drop):
        state.key, use = J.random.split(state.key)
        kept = J.random.bernoulli(use, 1 - layer.p, x.shape)
        return jnp.where(kept, x / (1 - layer.p), 0)
    raise TypeError(f"no such layer: {layer}")


def _dense(x: Any, p: Iterator[Any], bias: bool = True) -> Any:
    y = x @ next(p)
    return y + next(p) if bias else y


def _residual(layer: Residual, x: Any, state: Pass) -> Any:
    y = x
    for one in layer.layers:
        y = applied(one, y, state)
    for one in layer.shortcut:
        x = applied(one, x, state)
    return x + y


def _pool(layer: Pool, x: Any) -> Any:
    """Windows that tile the image by a reshape: faster here than `reduce_window`'s gradient."""
    k = layer.size
    n, h, w, c = x.shape
    windows = x[:, : h // k * k, : w // k * k].reshape(n, h // k, k, w // k, k, c)
    return windows.max(axis=(2, 4)) if layer.kind == "max" else windows.mean(axis=(2, 4))


def _normalised(x: Any, axes: tuple[int, ...], p: Iterator[Any]) -> tuple[Any, Any, Any]:
    mean, var = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
    y = (x - mean) * J.lax.rsqrt(var + 1e-5) * next(p) + next(p)
    return y, mean, var


def _batch_norm(x: Any, state: Pass) -> Any:
    y, mean, var = _normalised(x, (0, 1, 2), state.parameters)
    count = x.size // x.shape[-1]
    var = var * (count / (count - 1))  # running variances are unbiased
    for now in (mean, var):
        state.moved.append(0.9 * next(state.running) + 0.1 * J.lax.stop_gradient(now.ravel()))
    return y


def _attention(layer: Attention, x: Any, p: Iterator[Any]) -> Any:
    n, length, width = x.shape
    split = jnp.split(_dense(x, p), 3, axis=-1)
    q, k, v = (a.reshape(n, length, layer.heads, width // layer.heads) for a in split)
    y = J.nn.dot_product_attention(q, k, v, is_causal=True)
    return _dense(y.reshape(n, length, width), p)


def _recurrent(layer: Recurrent, x: Any, p: Iterator[Any]) -> Any:
    """The operand's part of the gates for all steps at once, then a scan."""
    w_x, w_h, b_x, b_h = (next(p) for _ in range(4))
    gates = (x @ w_x + b_x).swapaxes(0, 1)
    zero = jnp.zeros((x.shape[0], layer.hidden), x.dtype)

    def lstm(carry: Any, g: Any) -> Any:
        h, c = carry
        i, f, n, o = jnp.split(g + h @ w_h + b_h, 4, axis=-1)
        c = J.nn.sigmoid(f) * c + J.nn.sigmoid(i) * jnp.tanh(n)
        h = J.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    def gru(h: Any, g: Any) -> Any:
        (r, z, n), (hr, hz, hn) = jnp.split(g, 3, axis=-1), jnp.split(h @ w_h + b_h, 3, axis=-1)
        z = J.nn.sigmoid(z + hz)
        n = jnp.tanh(n + J.nn.sigmoid(r + hr) * hn)
        h = (1 - z) * n + z * h
        return h, h

    if layer.kind == "lstm":
        _, y = J.lax.scan(lstm, (zero, zero), gates)
    else:
        _, y = J.lax.scan(gru, zero, gates)
    return y.swapaxes(0, 1)
