"""A workload in symgrad, as a user would write it: layers of `sg.nn`, one compiled step.

In: a `Workload`. Out: the compiled step, with the workload's first weights.
"""

from __future__ import annotations

import functools
from typing import Any, Callable

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

Step = Callable[[], float]


def build(w: Workload, threads: int = 1, target: str | None = None) -> Step:
    """One step as a function without arguments; arrays go in and the loss comes back."""
    step = compiled(w, threads, target)
    x, y = w.data()
    return lambda: step(x, y)  # type: ignore[no-any-return]


def epoch(w: Workload, threads: int = 1, target: str | None = None) -> Step:
    """256 batches by `step.run`."""
    step = compiled(w, threads, target)
    x, y = w.data()
    data = {"x": np.concatenate([x] * 256), "y": np.concatenate([y] * 256)}
    return lambda: float(step.run(data, batch_size=w.batch, epochs=1, shuffle=False)[0])


def compiled(w: Workload, threads: int = 1, target: str | None = None) -> Any:
    """The compiled training step."""
    loss, pairs = declared(w)
    step = trained(w, loss, threads, target)
    for parameter, value in pairs:
        step.state[parameter.name] = value
    return step


def trained(w: Workload, loss: Any, threads: int = 1, target: str | None = None) -> Any:
    """The step for a declared loss, with symgrad's own first weights."""
    import symgrad as sg

    if w.optimizer == "adam":
        optimizer: Any = sg.optim.Adam(w.lr)
    else:
        optimizer = sg.optim.SGD(w.lr, momentum=w.momentum if w.optimizer == "momentum" else 0)
    return sg.train_step(loss, optimizer, seed=0, threads=threads, target=target)


def declared(w: Workload, weights: bool = True) -> tuple[Any, list[tuple[Any, np.ndarray]]]:
    """The loss, and the parameters with their first values."""
    import symgrad as sg

    n = sg.dim("batch", max=w.batch)
    x = sg.input("x", (n, *w.shape), dtype="int32" if w.tokens else "float32")
    pairs: list[tuple[Any, np.ndarray]] = []
    values = iter(a for layer in w.weights() for a in layer) if weights else None
    h: Any = x
    for layer in w.layers:
        module, found = made(layer)
        h = sg.nn.Sequential(module)(h, training=True)
        if values is not None:
            pairs += [(p, next(values)) for p in found()]
    if w.loss == "mse":
        return sg.losses.mse_loss(h, sg.input("y", (n, *w.result))), pairs
    return sg.losses.cross_entropy(h, sg.input("y", (n, *w.result[:-1]), dtype="int32")), pairs


Found = Callable[[], list[Any]]


def made(layer: Layer) -> tuple[Any, Found]:
    """A layer or function of symgrad, and its parameters in the order of `Layer.parameters`,
    which are asked for after it was called."""
    from symgrad import nn

    if isinstance(layer, Dense):
        return _leaves(nn.Linear(layer.inputs, layer.outputs, bias=layer.bias))
    if isinstance(layer, Conv):
        sizes = (layer.inputs, layer.outputs, layer.kernel)
        return _leaves(
            nn.Conv2d(*sizes, stride=layer.stride, padding=layer.padding, bias=layer.bias)
        )
    if isinstance(layer, LayerNorm):
        return _leaves(nn.LayerNorm(layer.features))
    if isinstance(layer, BatchNorm):
        return _leaves(nn.BatchNorm(layer.features))
    if isinstance(layer, Tokens):
        return _embedded(layer)
    if isinstance(layer, Attention):
        return _attention(layer)
    if isinstance(layer, Recurrent):
        return _recurrent(layer)
    if isinstance(layer, Residual):
        return _residual(layer)
    return _plain(layer), lambda: []


def _plain(layer: Layer) -> Any:
    """Layers without parameters."""
    from symgrad import nn

    if isinstance(layer, Act):
        return getattr(nn, layer.name)
    if isinstance(layer, Pool):
        kinds = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}
        return kinds[layer.kind](layer.size)
    if isinstance(layer, GlobalPool):
        return nn.Sequential(nn.GlobalAvgPool2d(), nn.Flatten())
    if isinstance(layer, Flatten):
        return nn.Flatten()
    if isinstance(layer, Drop):
        return nn.Dropout(layer.p)
    raise TypeError(f"no such layer: {layer}")


def _leaves(module: Any) -> tuple[Any, Found]:
    """A layer with a weight and perhaps a bias."""

    def found() -> list[Any]:
        bias = getattr(module, "bias", None)
        return [module.weight] if bias is None else [module.weight, bias]

    return module, found


def _residual(layer: Residual) -> tuple[Any, Found]:
    from symgrad import nn

    inner = [made(one) for one in layer.layers]
    short = [made(one) for one in layer.shortcut]
    shortcut = nn.Sequential(*(m for m, _ in short)) if short else None
    block = nn.Residual(*(m for m, _ in inner), shortcut=shortcut)
    return block, lambda: [p for _, found in (*inner, *short) for p in found()]


def _attention(layer: Attention) -> tuple[Any, Found]:
    from symgrad import nn

    module = nn.MultiHeadAttention(layer.width, layer.heads)
    parts = (module.query, module.key, module.value, module.out)
    attend = functools.partial(module, causal=True)
    return attend, lambda: [p for part in parts for p in (part.weight, part.bias)]


def _recurrent(layer: Recurrent) -> tuple[Any, Found]:
    import symgrad as sg

    module = {"lstm": sg.nn.LSTM, "gru": sg.nn.GRU}[layer.kind](layer.inputs, layer.hidden)
    return (lambda x: module(x)[0]), lambda: module.weights[0]


def _embedded(layer: Tokens) -> tuple[Any, Found]:
    import symgrad as sg

    table = sg.nn.Embedding(layer.vocabulary, layer.width)
    places = sg.parameter("positions", (layer.length, layer.width))
    return (lambda x: table(x) + places), lambda: [table.weight, places]
