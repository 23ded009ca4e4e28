"""A workload in PyTorch: eager, its default optimizer, NCHW or channels-last.

In: a `Workload`. Out: a function that runs one step and returns the loss.
"""

from __future__ import annotations

from typing import Any, Callable, Iterator

import numpy as np
import torch as T
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
from torch import nn
from workloads import Workload

Values = Iterator[np.ndarray]


def build(w: Workload, threads: int = 1, channels_last: bool = False) -> Callable[[], float]:
    T.set_num_threads(threads)
    x, y = (T.from_numpy(a) for a in w.data())
    if w.loss == "cross_entropy":
        y = y.long().flatten()
    model = network(w).train()
    if channels_last:
        x = x.contiguous(memory_format=T.channels_last)
        model = model.to(memory_format=T.channels_last)
    criterion = nn.CrossEntropyLoss() if w.loss == "cross_entropy" else nn.MSELoss()
    optimizer = _optimizer(w, model)

    def step() -> float:
        optimizer.zero_grad()
        result = model(x)
        if w.loss == "cross_entropy":
            result = result.flatten(0, -2)
        loss = criterion(result, y)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def _optimizer(w: Workload, model: Any) -> Any:
    if w.optimizer == "adam":
        return T.optim.Adam(model.parameters(), lr=w.lr)
    momentum = w.momentum if w.optimizer == "momentum" else 0
    return T.optim.SGD(model.parameters(), lr=w.lr, momentum=momentum)


def network(w: Workload) -> Any:
    """The network with the workload's first weights."""
    values = iter(a for layer in w.weights() for a in layer)
    return nn.Sequential(*(made(layer, values) for layer in w.layers))


def made(layer: Layer, values: Values) -> Any:
    """A module, its parameters taken from `values`."""
    if isinstance(layer, Dense):
        dense = nn.Linear(layer.inputs, layer.outputs, bias=layer.bias)
        return _filled(dense, next(values).T, next(values) if layer.bias else None)
    if isinstance(layer, Conv):
        sizes = (layer.inputs, layer.outputs, layer.kernel, layer.stride, layer.padding)
        conv = nn.Conv2d(*sizes, bias=layer.bias)
        return _filled(conv, next(values), next(values) if layer.bias else None)
    if isinstance(layer, LayerNorm):
        return _filled(nn.LayerNorm(layer.features), next(values), next(values))
    if isinstance(layer, BatchNorm):
        return _filled(nn.BatchNorm2d(layer.features), next(values), next(values))
    if isinstance(layer, Tokens):
        return _Tokens(layer, values)
    if isinstance(layer, Attention):
        return _Attention(layer, values)
    if isinstance(layer, Recurrent):
        return _Recurrent(layer, values)
    if isinstance(layer, Residual):
        return _Residual(layer, values)
    return _plain(layer)


def _plain(layer: Layer) -> Any:
    """Modules without parameters."""
    if isinstance(layer, Act):
        return {"tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU}[layer.name]()
    if isinstance(layer, Pool):
        return {"max": nn.MaxPool2d, "average": nn.AvgPool2d}[layer.kind](layer.size)
    if isinstance(layer, GlobalPool):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    if isinstance(layer, Flatten):
        return nn.Flatten()
    if isinstance(layer, Drop):
        return nn.Dropout(layer.p)
    raise TypeError(f"no such layer: {layer}")


def _filled(module: Any, weight: np.ndarray, bias: np.ndarray | None) -> Any:
    with T.no_grad():
        module.weight.copy_(T.from_numpy(weight))
        if bias is not None:
            module.bias.copy_(T.from_numpy(bias))
    return module


class _Residual(nn.Module):
    def __init__(self, layer: Residual, values: Values) -> None:
        super().__init__()
        self.inner = nn.Sequential(*(made(one, values) for one in layer.layers))
        self.short = nn.Sequential(*(made(one, values) for one in layer.shortcut))

    def forward(self, x: Any) -> Any:
        return self.short(x) + self.inner(x)  # an empty Sequential is the identity


class _Tokens(nn.Module):
    def __init__(self, layer: Tokens, values: Values) -> None:
        super().__init__()
        self.table = nn.Embedding(layer.vocabulary, layer.width)
        _filled(self.table, next(values), None)
        self.places = nn.Parameter(T.from_numpy(next(values)))

    def forward(self, x: Any) -> Any:
        return self.table(x) + self.places


class _Attention(nn.Module):
    """One product makes queries, keys and values; the rest is PyTorch's fused attention."""

    def __init__(self, layer: Attention, values: Values) -> None:
        super().__init__()
        self.heads = layer.heads
        parts = [next(values) for _ in range(6)]
        weight, bias = np.concatenate(parts[0::2], axis=1), np.concatenate(parts[1::2])
        self.joint = _filled(nn.Linear(layer.width, 3 * layer.width), weight.T, bias)
        last = nn.Linear(layer.width, layer.width)
        self.last = _filled(last, next(values).T, next(values))

    def forward(self, x: Any) -> Any:
        n, length, width = x.shape
        q, k, v = (
            part.view(n, length, self.heads, width // self.heads).transpose(1, 2)
            for part in self.joint(x).split(width, dim=2)
        )
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.last(y.transpose(1, 2).reshape(n, length, width))


class _Recurrent(nn.Module):
    """PyTorch's own, over sequences that lie sample by sample."""

    def __init__(self, layer: Recurrent, values: Values) -> None:
        super().__init__()
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}[layer.kind]
        self.inner = kind(layer.inputs, layer.hidden, batch_first=True)
        with T.no_grad():
            for parameter in self.inner.parameters():
                parameter.copy_(T.from_numpy(next(values).T))

    def forward(self, x: Any) -> Any:
        return self.inner(x)[0]
