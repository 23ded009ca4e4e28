"""What gradients of normalisations are rewritten to: how many passes over the data they take."""

from __future__ import annotations

import numpy as np
import pytest

import symgrad as sg
from symgrad import rewrite
from symgrad.interpret import evaluate
from symgrad.nn import models
from symgrad.node import Contract, Expr, Map, toposort
from symgrad.rewrite import engine


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules that go in circles are an error here."""
    monkeypatch.setattr(engine, "STRICT", True)


def conv_norm_relu() -> tuple[Expr, list[Expr], Expr]:
    """A block of a residual network: its result, its gradients, and the cotangent."""
    n = sg.dim("n", max=8)
    leaves = [sg.input("x", (n, 3, 6, 6)), sg.input("w", (4, 3, 3, 3))]
    leaves += [sg.input("scale", (4,)), sg.input("shift", (4,))]
    x, w, scale, shift = leaves
    states = [sg.state("mean", (4,)), sg.state("var", (4,))]
    y = sg.nn.batch_norm(sg.nn.conv2d(x, w, padding=1), *states, scale, shift, training=True)
    y = sg.nn.relu(y)
    dy = sg.input("dy", y.shape)
    return y, sg.grad(sg.sum(y * dy), leaves), dy


def sums_over_images(outputs: list[Expr]) -> list[Expr]:
    return [
        e for e in toposort(outputs)
        if isinstance(e, Contract) and len(e.args) == 1 and e.summed and e.args[0].ndim == 4
    ]  # fmt: skip


def test_batch_norm_takes_two_sums_forward_and_two_back() -> None:
    y, gradients, _ = conv_norm_relu()
    forward, _ = rewrite.run([y])
    assert len(sums_over_images(forward)) == 2
    both, _ = rewrite.run([y, *gradients])
    assert len(sums_over_images(both)) == 4
    # the gradient by the shift is one of them, that by the scale is one times 1/deviation
    assert any(both[4] is s for s in sums_over_images(both))
    products = [e for e in toposort(both) if isinstance(e, Contract) and len(e.args) > 1]
    assert len(products) == 3
    # y, relu'(y), dz and the input's gradient: (a dz + b (mean - y)) - c
    images = [e for e in toposort(both) if isinstance(e, Map) and e.shape == y.shape]
    assert len(images) <= 15


def test_batch_norms_gradient_is_right() -> None:
    y, gradients, dy = conv_norm_relu()
    new, _ = rewrite.run([y, *gradients])
    rng = np.random.default_rng(0)
    leaves = [e for e in toposort([y, *gradients]) if e.kind == "input"]
    point = {e: rng.normal(size=(5, *e.shape[1:]) if e.ndim == 4 and e.name != "w" else e.shape)
             for e in leaves}  # fmt: skip
    point = {e: v.astype("float32") for e, v in point.items()}
    for a, b in zip(evaluate([y, *gradients], point, {"n": 5}), evaluate(new, point, {"n": 5})):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)


def test_only_deviations_from_the_own_mean_vanish() -> None:
    x, y, r = sg.input("x", (3, 4)), sg.input("y", (3, 4)), sg.input("r", (3, 1))
    centred = x - sg.mean(x, axis=1, keepdims=True)
    vanishes = sg.sum(sg.exp(y) + r * centred, axis=1)
    assert sg.simplify(vanishes) is sg.simplify(sg.sum(sg.exp(y), axis=1))
    rng = np.random.default_rng(0)
    values = {e: rng.normal(size=e.shape) for e in (x, y, r)}
    others = [
        sg.sum(sg.exp(y) + r * (x - sg.mean(y, axis=1, keepdims=True)), axis=1),
        sg.sum(sg.exp(y) + y * centred, axis=1),
        sg.sum(sg.exp(y) - r * (x - sg.mean(x)), axis=1),
        sg.sum(sg.exp(y) - centred / sg.exp(x), axis=1),
    ]
    for e in others:
        (new,) = rewrite.run([e])[0]
        found, true = evaluate([new, e], values)
        np.testing.assert_allclose(found, true, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["lenet", "vgg_small", "resnet_small", "gpt"])
def test_networks_are_in_normal_form(name: str) -> None:
    n = sg.dim("n", max=4)
    shapes = {"lenet": (n, 1, 28, 28), "gpt": (n, 64)}
    shape = shapes.get(name, (n, 3, 32, 32))
    net = getattr(models, name)()
    x = sg.input("x", shape, dtype="int32" if name == "gpt" else "float32")
    loss = sg.mean(sg.square(net(x, training=True)))
    new, _ = rewrite.run([loss, *sg.grad(loss, net.parameters())])
    again, log = rewrite.run(new)
    assert all(a is b for a, b in zip(new, again)), "; ".join(map(str, log))


@pytest.mark.parametrize("name", ["lenet", "vgg_small", "resnet20", "gpt"])
def test_every_product_is_differentiated_once(name: str) -> None:
    """A stable loss must not split the network below it: two products back for each forward, but
    for those that read the data."""
    n = sg.dim("n", max=4)
    shapes = {"lenet": (n, 1, 28, 28), "gpt": (n, 64)}
    shape = shapes.get(name, (n, 3, 32, 32))
    net = getattr(models, name)()
    x = sg.input("x", shape, dtype="int32" if name == "gpt" else "float32")
    y = sg.input("y", shape[:2] if name == "gpt" else (n,), dtype="int32")
    logits = net(x, training=True)
    if name == "gpt":
        logits, y = sg.reshape(logits, (-1, 65)), sg.reshape(y, -1)
    loss = sg.losses.cross_entropy(logits, y)

    def products(outputs: list[Expr]) -> int:
        nodes = [e for e in toposort(rewrite.run(outputs)[0]) if isinstance(e, Contract)]
        return sum(len(e.args) > 1 and all(a.ndim > 1 for a in e.args) for e in nodes)

    forward = products([loss])
    data = 0 if name == "gpt" else 1
    assert products([loss, *sg.grad(loss, net.parameters())]) == 3 * forward - data
