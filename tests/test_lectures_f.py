"""Part F of the lectures, regularization: rows F1 to F14, natively, in float64."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import pytest
from lecture_rows import check, close, draw, labels, leaf, softmax, start

import symgrad as sg

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Every test draws the same numbers, whichever ran before it."""
    RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state


F64: dict[str, Any] = {"dtype": "float64"}
X, T = RNG.normal(size=(12, 3)), RNG.normal(size=(12, 2))


def regression(*names: str) -> tuple[sg.Expr, sg.Expr, sg.nn.Linear, sg.Expr]:
    """Inputs, targets, a layer and its mean squared error."""
    x, t = leaf("x", 12, 3), leaf("t", 12, 2)
    layer = sg.nn.Linear(3, 2, name="fc", **F64)
    return x, t, layer, sg.losses.mse_loss(layer(x), t)


def error(x: Any, t: Any, W: Any, b: Any) -> Any:
    return ((x @ W + b - t) ** 2).mean()


def test_F1_weight_decay() -> None:
    """E + alpha/2 norm(W)^2 (Frobenius): w <- (1 - eps alpha) w - eps grad, and compiled so."""
    x, t, layer, E = regression()
    W, b = layer.weight, layer.bias
    alpha, eps = 0.3, 0.1
    J = E + sg.regularizers.l2(layer, alpha / 2)
    point = {x: X, t: T, **start(layer)}
    check(J, point, [W, b], lambda x, t, W, b: error(x, t, W, b) + alpha / 2 * (W**2).sum())
    assert sg.equivalent(sg.regularizers.l2(layer), sg.norm(W.reshape(-1)) ** 2)
    assert sg.equivalent(sg.grad(J, W), sg.grad(E, W) + alpha * W)
    gradient = point[W] - eps * (2 * X.T @ (X @ point[W] + point[b] - T) / T.size)
    for loss, decay in ((J, 0.0), (E, alpha)):  # as a term of the loss, as the optimizer's option
        step = sg.train_step(loss, sg.optim.SGD(eps, weight_decay=decay), parameters=W)
        step.state["fc.weight"], step.state["fc.bias"] = point[W], point[b]
        step(X, T)
        close(step.state["fc.weight"], gradient - eps * alpha * point[W])
        assert "fc.weight' = (1 - 0.3 sgd.lr) fc.weight - " in step.stage("rewritten")
    rate, lam = leaf("epsilon"), leaf("alpha")
    update = W - rate * sg.grad(E + lam / 2 * sg.sum(W * W), W)
    assert sg.equivalent(update, (1 - rate * lam) * W - rate * sg.grad(E, W))
    assert str(sg.simplify(update)).splitlines()[-1].startswith("(1 - α ε) fc.weight - ε ")


def test_F2_l1_drives_weights_to_zero() -> None:
    """The gradient is the data's + alpha sign(w); weights that do not pay end near 0."""
    x, t, layer, E = regression()
    W, b = layer.weight, layer.bias
    J = E + sg.regularizers.l1(layer, 0.2)
    point = {x: X, t: T, **start(layer)}
    check(J, point, [W, b], lambda x, t, W, b: error(x, t, W, b) + 0.2 * np.abs(W).sum(), 1e-4)
    assert sg.equivalent(sg.grad(J, W), sg.grad(E, W) + 0.2 * sg.sign(W))
    targets = X @ [[2.0, 0.0], [0.0, 0.0], [0.0, -2.0]]
    step = sg.train_step(J, sg.optim.SGD(sg.schedules.exponential(0.2, 0.99)))
    for _ in range(600):
        step(X, targets)
    w = step.state["fc.weight"]
    large = np.abs([w[0, 0], w[2, 1]])
    small = np.abs([w[0, 1], w[1, 0], w[1, 1], w[2, 0]])
    assert large.min() > 1 and small.max() < 5e-3


def test_F3_biases_are_not_penalised() -> None:
    """By parameter kind, in layers of every sort; with biases=True they are."""
    model = sg.nn.Sequential(
        sg.nn.Conv2d(1, 2, 3, **F64), sg.nn.BatchNorm(2, **F64), sg.nn.Flatten(),
        sg.nn.Linear(8, 3, **F64),
    )  # fmt: skip
    x, y = leaf("x", 2, 1, 4, 4), labels("y", 2)
    E = sg.losses.cross_entropy(model(x, training=True), y)
    for penalty, slope in ((sg.regularizers.l1, sg.sign), (sg.regularizers.l2, lambda w: 2 * w)):
        for p in model.parameters():
            total, data = sg.grad(E + penalty(model, 0.1), p), sg.grad(E, p)
            weight = p.name.endswith("weight") and p.ndim > 1
            assert sg.equivalent(total, data + 0.1 * slope(p) if weight else data), p.name
    b = model.parameters()[-1]
    assert sg.equivalent(sg.grad(sg.regularizers.l2(b, biases=True), b), 2 * b)


def test_F4_projection_onto_the_ball() -> None:
    """w - eps grad, then w min(1, k / norm(w)), norm over the whole matrix."""
    x, t, layer, E = regression()
    ball = sg.constraints.max_norm(0.5, axis=None)
    step = sg.train_step(E, sg.optim.SGD(0.3, constraints={layer.weight: ball}))
    point = start(layer)
    W, b = point.values()
    step.state["fc.weight"], step.state["fc.bias"] = W, b
    for _ in range(3):
        delta = 2 * (X @ W + b - T) / T.size
        W, b = W - 0.3 * X.T @ delta, b - 0.3 * delta.sum(0)
        W = W * min(1.0, 0.5 / np.linalg.norm(W))
        step(X, T)
        close(step.state["fc.weight"], W)
        close(step.state["fc.bias"], b)
        assert np.linalg.norm(step.state["fc.weight"]) <= 0.5 + 1e-12


def test_F4_lagrangian_min_max() -> None:
    """min over w, max over lambda >= 0 of f(w) + lambda (norm(w)^2 - k^2): descent and ascent from
    the same point, lambda max(0, .) afterwards; ends where the constraint holds with equality."""
    a = RNG.normal(size=4)
    a *= 2 / np.linalg.norm(a)
    w = sg.parameter("w", (4,), **F64)
    lam = sg.parameter("lam", (), **F64)
    L = sg.sum((w - a) ** 2) + lam * (sg.sum(w * w) - 1)
    check(
        L,
        draw(w, lam),
        [w, lam],
        lambda w, lam: ((w - a) ** 2).sum() + lam * ((w**2).sum() - 1),
    )
    ascent = sg.optim.SGD(0.1, maximize=True, constraints=sg.constraints.non_negative())
    step = sg.train_step(L, {"w": (sg.optim.SGD(0.05), w), "lam": (ascent, lam)})
    W, multiplier = np.zeros(4), 0.0
    for k in range(500):
        slope = 2 * (W - a) + 2 * multiplier * W
        W, multiplier = W - 0.05 * slope, max(0.0, multiplier + 0.1 * ((W**2).sum() - 1))
        step()
        if k < 20:
            close(step.state["w"], W)
            close(step.state["lam"], multiplier)
    close(step.state["w"], a / 2, 1e-6)  # norm 1
    close(step.state["lam"], 1.0, 1e-6)


def test_F5_dataset_augmentation() -> None:
    """Shifts, flips, crops, rotation, colour, noise: same numbers from the same seed, shapes and
    types kept, and each is what it is called."""
    images = RNG.uniform(size=(6, 3, 8, 8))
    augment = sg.augment
    for change in (
        lambda rng: augment.shift(images, 2, rng),
        lambda rng: augment.flip(images, rng),
        lambda rng: augment.crop(images, 8, rng, padding=2),
        lambda rng: augment.rotate(images, 20, rng),
        lambda rng: augment.color(images, rng, 0.2, 0.2, 0.2),
        lambda rng: augment.noise(images, 0.1, rng),
    ):
        first, again, other = change(1), change(1), change(2)
        assert first.shape == images.shape and first.dtype == images.dtype
        assert (first == again).all() and (first != other).any()
    flipped = augment.flip(images, 0)
    assert all((f == i).all() or (f == i[..., ::-1]).all() for f, i in zip(flipped, images))
    assert (augment.rotate(images, 0.0, 0) == images).all()
    moved = augment.shift(images, 2, 3)
    every = {(r, c) for r in range(-2, 3) for c in range(-2, 3)}
    padded = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)))
    for k in range(6):
        windows = [padded[k, :, 2 + r : 10 + r, 2 + c : 10 + c] for r, c in every]
        assert any((moved[k] == w).all() for w in windows)
    assert augment.crop(images, (5, 6), 0).shape == (6, 3, 5, 6)
    assert (augment.noise(images, 0.1, 0) - images).std() == pytest.approx(0.1, rel=0.1)


def test_F6_noise_on_inputs_weights_and_labels() -> None:
    """Drawn natively, new at each step, reproducible; label smoothing is (1 - s) onehot + s/C."""
    z, y = leaf("z", 5, 4), labels("y", 5)
    Y = RNG.integers(0, 4, 5)
    smooth = sg.losses.cross_entropy(z, y, label_smoothing=0.2)

    def formula(z: Any, y: Any) -> Any:
        q = 0.8 * np.eye(4)[y] + 0.2 / 4
        return -(q * np.log(softmax(z))).sum(1).mean()

    check(smooth, {z: RNG.normal(size=(5, 4)), y: Y}, [z], formula)
    x, w = leaf("x", 300, 3), sg.parameter("w", (3, 200), **F64)
    noisy = sg.nn.gaussian_noise(x, 0.5) @ sg.constant(np.eye(3))
    weights = sg.nn.gaussian_noise(w, 0.1)
    f = sg.function([x], [noisy, weights], seed=4)
    again = sg.function([x], [noisy, weights], seed=4)
    zeros = np.zeros((300, 3))
    once, twice, same = f(zeros), f(zeros), again(zeros)
    for a, b, c, std in zip(once, twice, same, (0.5, 0.1)):
        assert (a == c).all() and (a != b).any()
        assert a.std() == pytest.approx(std, rel=0.1)
    many = labels("many", 4000)
    changed = sg.function([many], sg.nn.label_noise(many, 10, 0.5))(np.zeros(4000, int))
    assert (changed != 0).mean() == pytest.approx(0.45, abs=0.04)
    twin = sg.grad(sg.sum(noisy * noisy), x)  # the noise of the forward pass, not a new one
    value, slope = sg.function([x], [noisy, twin], seed=1)(zeros)
    close(slope, 2 * value)


def test_F7_early_stopping_restores_the_best_weights() -> None:
    """Stops after `patience` epochs without a lower validation loss; the best weights come back."""
    x, t, layer, E = regression()
    step = sg.train_step(E, sg.optim.SGD(0.1))
    validation, seen = iter([3.0, 2.0, 1.0, 1.5, 1.2, 1.1, 0.5]), []

    def monitor() -> float:
        seen.append(step.state["fc.weight"].copy())
        return next(validation)

    stop = sg.callbacks.EarlyStopping(step, monitor, patience=3)
    losses = step.run({"x": X, "t": T}, batch_size=12, epochs=20, callback=stop)
    assert len(losses) == 6 and stop.best == 1.0
    assert (step.state["fc.weight"] == seen[2]).all() and (seen[5] != seen[2]).any()


def test_F8_tying_and_sharing() -> None:
    """Omega = norm(wA - wB)^2; a shared object gets the sum of the gradients of its uses."""
    a, b, x = leaf("a", 3, 3), leaf("b", 3, 3), leaf("x", 4, 3)
    omega = sg.regularizers.tie(a, b, 0.5)
    check(omega, draw(a, b), [a, b], lambda a, b: 0.5 * ((a - b) ** 2).sum())
    assert sg.equivalent(sg.grad(omega, a), a - b) and sg.equivalent(sg.grad(omega, b), b - a)
    layer = sg.nn.Linear(3, 3, bias=False, name="shared", **F64)
    loss = sg.sum(sg.tanh(layer(sg.tanh(layer(x)))))
    (W,) = layer.parameters()
    check(loss, draw(x, W), [W], lambda x, W: np.tanh(np.tanh(x @ W) @ W).sum())
    apart = sg.sum(sg.tanh(sg.tanh(x @ a) @ b))
    both = sg.function([x, a, b], sg.grad(apart, [a, b]))
    shared = sg.function([x, W], sg.grad(loss, W))
    point = draw(x, W)
    close(shared(*point.values()), sum(both(point[x], point[W], point[W])))


def test_F9_multi_task_learning() -> None:
    """Hard sharing, soft sharing, Omega = norm(abar)^2 + lambda/T sum_t norm(a_t - abar)^2."""
    tasks = [leaf(f"a{t}", 3, 2) for t in range(3)]

    def formula(*tasks: Any) -> Any:
        mean = sum(tasks) / 3
        return (mean**2).sum() + 0.7 / 3 * sum(((a - mean) ** 2).sum() for a in tasks)

    omega = sg.regularizers.task_relationship(tasks, spread=0.7)
    check(omega, draw(*tasks), tasks, formula)
    mean = sum(tasks[1:], tasks[0]) / 3
    slope = 2 / 3 * mean + 2 * 0.7 / 3 * (tasks[0] - mean)
    assert sg.equivalent(sg.grad(omega, tasks[0]), slope)
    soft = sg.regularizers.tie(tasks[0], tasks[1]) + sg.regularizers.tie(tasks[1], tasks[2])
    check(soft, draw(*tasks), tasks, lambda a, b, c: ((a - b) ** 2 + (b - c) ** 2).sum())
    x, W, U, V = leaf("x", 5, 4), leaf("W", 4, 3), leaf("U", 3, 1), leaf("V", 3, 2)
    h = sg.tanh(x @ W)  # one hidden layer for both
    hard = sg.sum((h @ U) ** 2) + sg.sum(sg.sin(h @ V))

    def shared(x: Any, W: Any, U: Any, V: Any) -> Any:
        h = np.tanh(x @ W)
        return ((h @ U) ** 2).sum() + np.sin(h @ V).sum()

    check(hard, draw(x, W, U, V), [W, U, V], shared)


def test_F10_frozen_layers_cost_no_gradient_code() -> None:
    """Transfer: with the first layers frozen there are no kernels but theirs forward."""
    x, y = sg.input("x", (32, 20)), sg.input("y", (32,), dtype="int32")
    body = [sg.nn.Linear(20, 20, name=f"body{k}") for k in range(4)]
    head = sg.nn.Linear(20, 3, name="head")
    base = sg.nn.Sequential(*[part for fc in body for part in (fc, sg.nn.relu)])
    loss = sg.losses.cross_entropy(head(base(x)), y)
    forward = len(sg.function([x, y], loss).kernels)
    whole = sg.train_step(loss, sg.optim.SGD(0.1))
    frozen = sg.train_step(loss, sg.optim.SGD(0.1), frozen=body)
    assert len(frozen.kernels) <= forward + 3  # the loss's slope, dW, db
    assert len(whole.kernels) >= len(frozen.kernels) + 2 * 3
    before = {k: v.copy() for k, v in frozen.state.items()}
    frozen(RNG.normal(size=(32, 20)), RNG.integers(0, 3, 32))
    for name, value in before.items():
        if name == "sgd.lr":
            continue
        assert (frozen.state[name] == value).all() == name.startswith("body"), name


def test_F11_ensembles_and_bagging() -> None:
    """Several models on bootstrap samples, probabilities averaged: by Jensen the mean of the
    probabilities has no larger loss than the mean of the losses."""
    x, y = leaf("x", 60, 2), labels("y", 60)
    points = RNG.normal(size=(60, 2))
    classes = (points[:, 0] * points[:, 1] > 0).astype(int)
    members = []
    for k in range(4):
        model = sg.nn.Sequential(
            sg.nn.Linear(2, 8, name=f"m{k}.fc1", **F64),
            sg.tanh,
            sg.nn.Linear(8, 2, name=f"m{k}.fc2", **F64),
        )
        loss = sg.losses.cross_entropy(model(x), y)
        step = sg.train_step(loss, sg.optim.Adam(0.05), seed=k)
        rows = np.random.default_rng(k).integers(0, 60, 60)  # with replacement
        for _ in range(60):
            step(points[rows], classes[rows])
        members.append((model, loss, step.state))
    average = sum(sg.nn.softmax(model(x)) for model, _, _ in members) / 4
    f = sg.function([x], average)
    for _, _, state in members:
        for name, value in state.items():
            if name in f.state:
                f.state[name] = value
    p = f(points)
    alone = [sg.function([x], sg.nn.softmax(m(x)), state=s)(points) for m, _, s in members]
    close(p, np.mean(alone, 0))
    losses = [float(sg.function([x, y], e, state=s)(points, classes)) for _, e, s in members]
    assert -np.log(p[np.arange(60), classes]).mean() <= np.mean(losses)


def test_F12_hidden_units_validation_and_monitoring() -> None:
    """The width is chosen on the validation set; accuracies of training and validation per epoch
    are there to be plotted."""
    points = RNG.normal(size=(90, 2))
    classes = (np.linalg.norm(points, axis=1) > 1.1).astype(np.int32)
    parts = {k: {"x": points[s], "y": classes[s]} for k, s in
             (("train", slice(0, 50)), ("validation", slice(50, 90)))}  # fmt: skip
    curves = {}
    for width in (1, 12):
        n = sg.dim("n", 50)
        x, y = sg.input("x", (n, 2), **F64), sg.input("y", (n,), dtype="int32")
        first, last = sg.nn.Linear(2, width, **F64), sg.nn.Linear(width, 2, **F64)
        z = last(sg.tanh(first(x)))
        accuracy = sg.mean(sg.argmax(z, axis=1) == y)
        step = sg.train_step(sg.losses.cross_entropy(z, y), sg.optim.Adam(0.05))
        score = sg.scorer({"accuracy": accuracy}, step.state)
        curve: list[list[float]] = []
        step.run(
            parts["train"],
            batch_size=25,
            epochs=60,
            callback=lambda *_, c=curve, s=score: c.append(
                [s(parts[k])["accuracy"] for k in parts]
            ),
        )
        curves[width] = np.array(curve)
        assert curves[width].shape == (60, 2)
    own = sg.function([x, y], z, state=step.state)(**parts["validation"])
    assert curves[12][-1, 1] == pytest.approx((own.argmax(1) == parts["validation"]["y"]).mean())
    assert curves[12][-1, 1] > curves[1][-1, 1] + 0.1


def test_F13_standardised_inputs(tmp_path: Any) -> None:
    """(x - mean) / std by the training set's statistics, which are in the file of the model."""
    train, test = RNG.normal(3, 5, (50, 3)), RNG.normal(0, 1, (12, 3))
    x = leaf("x", 12, 3)
    scale = sg.nn.Standardize(train, name="scale", **F64)
    layer = sg.nn.Linear(3, 2, name="fc", **F64)
    point = {x: test, **start(layer)}
    unit = (test - train.mean(0)) / train.std(0)
    check(
        layer(scale(x)),
        point,
        [x, layer.weight],
        lambda x, W, b: (x - train.mean(0)) / train.std(0) @ W + b,
    )
    f = sg.function([x], layer(scale(x)))
    sg.save(tmp_path / "model.safetensors", f.state)
    blank = sg.function(
        [x], sg.nn.Linear(3, 2, name="fc", **F64)(sg.nn.Standardize(3, name="scale", **F64)(x))
    )
    sg.load(tmp_path / "model.safetensors", blank.state)
    close(blank(test), f(test))
    close(f(test), unit @ f.state["fc.weight"] + f.state["fc.bias"])


def trial(setting: tuple[float, int, float]) -> float:
    """The validation loss of one setting (learning rate, width, decay), in its own process."""
    rate, width, decay = setting
    rng = np.random.default_rng(0)
    points = rng.normal(size=(160, 2))
    classes = (points[:, 0] * points[:, 1] > 0).astype(int)
    x, y = leaf("x", 80, 2), labels("y", 80)
    first, last = sg.nn.Linear(2, width, **F64), sg.nn.Linear(width, 2, **F64)
    loss = sg.losses.cross_entropy(last(sg.tanh(first(x))), y)
    step = sg.train_step(loss, sg.optim.AdamW(rate, weight_decay=decay), seed=0)
    for _ in range(100):
        step(points[:80], classes[:80])
    return float(sg.function([x, y], loss, state=step.state)(points[80:], classes[80:]))


def test_F14_hyperparameter_search_in_processes() -> None:
    """Learning rate, width and decay drawn by a library, each trial in a process of its own; what a
    process finds is what is found here. The example searches with Optuna."""
    selection = pytest.importorskip("sklearn.model_selection")
    space = {"rate": [1e-4, 0.05], "width": [2, 12], "decay": [0.0, 0.01]}
    drawn = selection.ParameterSampler(space, n_iter=4, random_state=1)
    settings = [(s["rate"], s["width"], s["decay"]) for s in drawn]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn) as pool:
        losses = list(pool.map(trial, settings))
    best = int(np.argmin(losses))
    assert losses[best] == trial(settings[best])
    assert settings[best][0] == 0.05 and losses[best] < 0.6 < max(losses)
