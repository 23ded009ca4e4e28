"""Gradients of whole networks against PyTorch, in float64, where it is installed."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import pytest

import symgrad as sg
from symgrad.interpret import evaluate
from symgrad.node import Expr

torch = pytest.importorskip("torch")
F = torch.nn.functional

RNG = np.random.default_rng(0)
N, D, H, C = 6, 5, 7, 4
DATA = {
    "x": RNG.normal(size=(N, D)),
    "w1": RNG.normal(size=(D, H)),
    "b1": RNG.normal(size=H),
    "w2": RNG.normal(size=(H, C)),
    "t": RNG.normal(size=(3, 4, H)),
    "table": RNG.normal(size=(9, H)),
    "scale": RNG.normal(size=H),
    "q": RNG.normal(size=(2, 5, H)),
    "k": RNG.normal(size=(2, 5, H)),
}
LABELS = RNG.integers(0, C, N)
TOKENS = RNG.integers(0, 9, (3, 4))


def mlp(f: Any, v: dict[str, Any]) -> Any:
    return f.cross_entropy(f.tanh(v["x"] @ v["w1"] + v["b1"]) @ v["w2"])


def deep(f: Any, v: dict[str, Any]) -> Any:
    h = f.relu(v["x"] @ v["w1"])
    for _ in range(3):
        h = f.sigmoid(h @ v["w2"] @ v["w2"].T + v["b1"]) * h
    return (h * h).mean()


def layer_norm(f: Any, v: dict[str, Any]) -> Any:
    t = v["t"]
    centred = t - f.mean(t)
    normal = centred / f.sqrt(f.mean(centred * centred) + 1e-5)
    return (normal * v["scale"] + v["b1"]).sum() + (normal * normal * normal).sum()


def embedding(f: Any, v: dict[str, Any]) -> Any:
    return (f.tanh(f.embed(v["table"]) * v["scale"]) ** 2).sum()


def attention(f: Any, v: dict[str, Any]) -> Any:
    scores = f.softmax(v["q"] @ f.swap(v["k"]) / 7**0.5)
    return ((scores @ v["q"]) ** 2).mean()


def pooled(f: Any, v: dict[str, Any]) -> Any:
    return (f.largest(v["t"] * v["scale"]) * f.largest(v["t"])).sum()


def mixed(f: Any, v: dict[str, Any]) -> Any:
    x = v["x"]
    turned = f.flip(x[::2])
    return f.cumsum(f.exp(-x * x)).sum() + f.prod(x[:, 1:4]).sum() + (turned**3 * x[1::2]).sum()


class Ours:
    tanh, sqrt, exp = sg.tanh, sg.sqrt, sg.exp
    relu, sigmoid, softmax = sg.nn.relu, sg.nn.sigmoid, sg.nn.softmax
    mean = staticmethod(lambda e: sg.mean(e, axis=-1, keepdims=True))
    embed = staticmethod(lambda table: sg.take(table, sg.constant(TOKENS), axis=0))
    swap = staticmethod(lambda e: sg.transpose(e, (0, 2, 1)))
    largest = staticmethod(lambda e: sg.max(e, axis=1))
    flip = staticmethod(lambda e: e[:, ::-1])
    cumsum = staticmethod(lambda e: sg.cumsum(e, axis=1))
    prod = staticmethod(lambda e: sg.prod(e, axis=1))
    cross_entropy = staticmethod(lambda z: sg.losses.cross_entropy(z, sg.constant(LABELS)))


class Theirs:
    tanh, sqrt, exp = torch.tanh, torch.sqrt, torch.exp
    relu, sigmoid = torch.relu, torch.sigmoid
    softmax = staticmethod(lambda e: torch.softmax(e, -1))
    mean = staticmethod(lambda e: e.mean(-1, keepdim=True))
    embed = staticmethod(lambda table: table[torch.tensor(TOKENS)])
    swap = staticmethod(lambda e: e.transpose(1, 2))
    largest = staticmethod(lambda e: e.amax(1))
    flip = staticmethod(lambda e: e.flip(1))
    cumsum = staticmethod(lambda e: torch.cumsum(e, 1))
    prod = staticmethod(lambda e: torch.prod(e, 1))
    cross_entropy = staticmethod(lambda z: F.cross_entropy(z, torch.tensor(LABELS)))


@pytest.mark.parametrize("network", [mlp, deep, layer_norm, embedding, attention, pooled, mixed])
def test_network(network: Callable[[Any, dict[str, Any]], Any]) -> None:
    """Loss, gradients, and the Hessian along a direction."""
    leaves: dict[str, Expr] = {k: sg.input(k, v.shape, "float64") for k, v in DATA.items()}
    tensors = {k: torch.tensor(v, requires_grad=True) for k, v in DATA.items()}
    loss, expected = network(Ours, leaves), network(Theirs, tensors)
    slopes = torch.autograd.grad(
        expected, list(tensors.values()), create_graph=True, allow_unused=True
    )
    used = [k for k, slope in zip(tensors, slopes) if slope is not None]
    directions = {k: RNG.normal(size=DATA[k].shape) for k in used}
    along = sum(
        (s * torch.tensor(directions[k])).sum() for k, s in zip(tensors, slopes) if s is not None
    )
    seconds = torch.autograd.grad(along, [tensors[k] for k in used], materialize_grads=True)
    wrt = [leaves[k] for k in used]
    outputs = [loss, *sg.grad(loss, wrt), *sg.hvp(loss, wrt, [directions[k] for k in used])]
    found = evaluate(outputs, {leaves[k]: v for k, v in DATA.items()})
    theirs = [expected, *(s for s in slopes if s is not None), *seconds]
    for a, b in zip(found, theirs):
        reference = b.detach().numpy()
        scale = max(1.0, float(np.abs(reference).max()))
        np.testing.assert_allclose(a, reference, rtol=0, atol=1e-10 * scale)
