"""Part D of the lectures, architectures: rows D1 to D8. Parameters are counted at full size without
compiling; gradients are checked in float64 at small widths of the same networks.

What they reach on real data is in the examples (mnist_lenet, fashion_networks, full_size,
shakespeare, sinusoid); that they equal PyTorch's is in test_large_models and test_text.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lecture_rows import check, check_network, close, labels, leaf, nll, start

import symgrad as sg

RNG = np.random.default_rng(0)
F64: dict[str, Any] = {"dtype": "float64"}
models = sg.nn.models


def count(model: sg.nn.Module) -> int:
    return sum(p.size for p in model.parameters())


def classified(model: Any, *image: int, rows: int = 2, classes: int = 3) -> tuple[sg.Expr, dict]:
    """The cross-entropy of a network on random images, and a point for all its leaves."""
    rng = np.random.default_rng(0)
    x, y = leaf("x", rows, *image), labels("y", rows)
    scores = model(x, training=True)
    heads = scores if isinstance(scores, tuple) else (scores,)
    losses = [sg.losses.cross_entropy(z, y) * share for z, share in zip(heads, (1, 0.3, 0.3))]
    data = {x: rng.normal(size=(rows, *image)), y: rng.integers(0, classes, rows)}
    # Of one size and the same in any order of tests: initial values depend on automatic names.
    weights = {p: 0.4 * rng.normal(size=p.shape) for p in model.parameters()}
    return sum(losses[1:], losses[0]), {**data, **weights}


def test_D1_mlp() -> None:
    """Layers W x + b with ReLU between, cross-entropy at the end."""
    sizes = (6, 5, 4, 3)
    layers = [sg.nn.Linear(i, o, **F64) for i, o in zip(sizes, sizes[1:])]
    model = sg.nn.Sequential(layers[0], sg.nn.relu, layers[1], sg.nn.relu, layers[2])

    def formula(x: Any, y: Any, *weights: Any) -> Any:
        for W, b in zip(weights[::2], weights[1::2]):
            x = np.maximum(x, 0) if W is not weights[0] else x
            x = x @ W + b
        return nll(x, y).mean()

    loss, point = classified(model, 6, rows=8)
    check(loss, point, model.parameters(), formula, step=1e-5)
    assert count(model) == 6 * 5 + 5 + 5 * 4 + 4 + 4 * 3 + 3


def test_D2_lenet5() -> None:
    """Convolution 6 at 5x5, pool, convolution 16 at 5x5, pool, 120, 84, 10: 61,706 parameters."""
    assert count(models.lenet()) == 61_706
    model = models.lenet(classes=3, **F64)
    loss, point = classified(model, 1, 28, 28)
    check_network(loss, point, model.parameters())


def test_D3_alexnet() -> None:
    """61,100,840 parameters in a single tower at 224x224 and 1000 classes."""
    full = models.alexnet()
    assert count(full) == 61_100_840
    assert full(sg.input("x", (1, 3, 224, 224))).shape == (1, 1000)
    model = models.alexnet_small(3, widths=(3, 4, 5, 4, 4), hidden=6, dropout=0.0, **F64)
    loss, point = classified(model, 1, 28, 28)
    check_network(loss, point, model.parameters())


def test_D4_vgg() -> None:
    """138,357,544 and 143,667,240 parameters."""
    assert count(models.vgg16()) == 138_357_544
    assert count(models.vgg19()) == 143_667_240
    stages = ((3,), (4, 4))
    model = models.VGG(stages, classes=3, hidden=5, side=2, dropout=0.0, **F64)
    loss, point = classified(model, 3, 8, 8)
    check_network(loss, point, model.parameters())


def test_D5_googlenet() -> None:
    """Nine inception modules, auxiliary heads weighted 0.3 in training, none of them at test."""
    assert count(models.googlenet()) == 13_004_888
    assert count(models.googlenet(heads=False)) == 6_624_904
    inception = type(models.googlenet_small(divisor=16).inception3a)(3, 2, 2, 3, 1, 2, 2, **F64)
    head = sg.nn.Linear(9, 3, **F64)
    model = sg.nn.Sequential(inception, sg.nn.GlobalAvgPool2d(), sg.nn.Flatten(), head)
    loss, point = classified(model, 3, 5, 5)
    check_network(loss, point, model.parameters())


def test_D5_auxiliary_heads_train_what_is_before_them() -> None:
    """The gradient of a head is in what it reads, and in nothing behind."""
    model = models.googlenet_small(3, divisor=16, dropout=0.0)
    x, y = sg.input("x", (2, 1, 28, 28)), sg.input("y", (2,), dtype="int32")
    logits, aux2, aux1 = model(x, training=True)
    step = sg.train_step(sg.losses.cross_entropy(aux1, y), sg.optim.SGD(0.1))
    names = {p.name.split(".")[0] for p in step.state.parameters.values()}
    assert {"conv1", "inception4a", "aux1"} <= names
    assert not {"inception4b", "aux2", "fc"} & names
    whole = sg.function([x], model(x), target="interpret")
    assert not [name for name in whole.state if name.startswith("aux")]


def test_D6_resnet() -> None:
    """y = F(x) + x or F(x) + W x: 11,689,512 parameters in 18 layers; 20 for small images."""
    assert count(models.resnet18()) == 11_689_512
    assert count(models.resnet20()) == 272_474
    model = models.resnet_small(1, 3, 1, widths=(3, 4), **F64)
    loss, point = classified(model, 1, 8, 8, rows=3)
    check_network(loss, point, model.parameters())


def test_D7_causal_transformer() -> None:
    """The next token from those before it: no score depends on a later token."""
    model = models.gpt(7, tokens=5, width=8, heads=2, blocks=2, **F64)
    tokens, y = labels("tokens", 3, 5), labels("y", 3, 5)
    logits = model(tokens)
    point = {tokens: RNG.integers(0, 7, (3, 5)), y: RNG.integers(0, 7, (3, 5)), **start(model)}
    check_network(sg.losses.cross_entropy(logits, y), point, model.parameters())
    f = sg.function([tokens], logits)
    before = f(point[tokens])
    changed = point[tokens].copy()
    changed[:, 3:] = (changed[:, 3:] + 1) % 7
    after = f(changed)
    close(after[:, :3], before[:, :3])
    assert (after[:, 3:] != before[:, 3:]).any()


def test_D8_sinusoidal_regression() -> None:
    """y = sum_m v_m tanh(w_m x + b_m) + c for M = 1, 3, 10 by conjugate gradients from several
    starts; the validation set picks M."""
    optimize = pytest.importorskip("scipy.optimize")
    x, t = leaf("x", 25, 1), leaf("t", 25, 1)
    data = {}
    for part in ("train", "validation"):
        X = RNG.uniform(0, 1, (25, 1))
        data[part] = {"x": X, "t": np.sin(2 * np.pi * X) + 0.1 * RNG.normal(size=(25, 1))}
    errors = {}
    for M in (1, 3, 10):
        first, last = sg.nn.Linear(1, M, **F64), sg.nn.Linear(M, 1, **F64)
        weights = [first.weight, first.bias, last.weight, last.bias]
        loss = sg.losses.mse_loss(last(sg.tanh(first(x))), t)

        def formula(x: Any, t: Any, w: Any, b: Any, v: Any, c: Any) -> Any:
            return ((np.tanh(x @ w + b) @ v + c - t) ** 2).mean()

        X, T = data["train"].values()
        check(loss, {x: X, t: T, **start(first, last)}, weights, formula)
        f = sg.flatten_function(loss, [first, last], data=data["train"])
        score = sg.function([x, t], loss, state=f.state)
        found = []
        for seed in range(4):
            theta = 2 * np.random.default_rng(seed).normal(size=f.size)
            best = optimize.minimize(f, theta, jac=True, method="CG", options={"maxiter": 300})
            f.assign(best.x)
            found.append((float(score(**data["validation"])), best.fun))
        errors[M] = min(found)
    assert errors[1][0] > 3 * errors[3][0]
    assert min(errors, key=lambda M: errors[M]) in (3, 10)
