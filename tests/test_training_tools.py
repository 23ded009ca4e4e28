"""What surrounds a training step: early stopping (row F7), plateaus (E5), scores (F12), noise (F6),
standardised inputs (F13), Monte-Carlo dropout (C6), soft sharing (F8, F9)."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import evaluate

import symgrad as sg
from symgrad.errors import DTypeError, InputError, ShapeError

TARGETS = ["interpret", "native"]
RNG = np.random.default_rng(0)


def line(target="interpret", lr=0.1, optimizer=sg.optim.SGD):
    """A step that fits a line, its loss, and data."""
    n = sg.dim("n", 8)
    x, t = sg.input("x", (n, 2), dtype="float64"), sg.input("t", (n, 1), dtype="float64")
    layer = sg.nn.Linear(2, 1, name="fc", dtype="float64")
    loss = sg.losses.mse_loss(layer(x), t)
    X = RNG.normal(size=(20, 2))
    data = {"x": X, "t": X @ [[1.0], [2.0]] + 0.1}
    return sg.train_step(loss, optimizer(lr), target=target), loss, data


# -- scores --------------------------------------------------------------------------------------
@pytest.mark.parametrize("target", TARGETS)
def test_a_score_is_the_mean_over_all_rows(target):
    step, loss, data = line(target)
    score = sg.scorer({"loss": loss, "double": loss * 2}, step.state, target=target)
    found = score(data)  # 20 rows by 8, 8, 4
    exact = np.mean((data["x"] @ step.state["fc.weight"] + step.state["fc.bias"] - data["t"]) ** 2)
    assert found == {"loss": pytest.approx(exact), "double": pytest.approx(2 * exact)}
    step.run(data, batch_size=8)
    assert score(data)["loss"] < exact
    with pytest.raises(InputError, match="scorer: expected a dict"):
        sg.scorer(loss, step.state)
    with pytest.raises(InputError, match="scorer: 'loss' must be a float scalar"):
        sg.scorer({"loss": sg.input("z", (3,))})


# -- callbacks -----------------------------------------------------------------------------------
@pytest.mark.parametrize("target", TARGETS)
def test_early_stopping_restores_the_best_state(target):
    step, _, data = line(target, lr=0.01, optimizer=sg.optim.Adam)
    values = iter([5.0, 3.0, 3.5, 3.2, 2.95, 4.0, 4.1, 4.2, 0.0])
    states = []

    def monitor():
        states.append({name: step.state[name] for name in step.state})
        return next(values)

    stop = sg.callbacks.EarlyStopping(step, monitor, patience=3, min_delta=0.01)
    losses = step.run(data, batch_size=8, epochs=50, callback=stop)
    assert len(losses) == 8 and stop.stopped and (stop.best, stop.best_epoch) == (2.95, 4)
    for name, value in states[4].items():  # moments and the counter too
        np.testing.assert_array_equal(step.state[name], value)
    assert int(step.state["adam.count"]) == 15


def test_early_stopping_by_the_loss_itself_and_upwards():
    step, _, data = line()
    stop = sg.callbacks.EarlyStopping(step, patience=2)
    losses = step.run(data, batch_size=8, epochs=4, callback=stop, shuffle=False)
    assert not stop.stopped and stop.best == min(losses)
    stop.restore()
    values = iter([0.1, 0.5, 0.4, 0.3])
    stop = sg.callbacks.EarlyStopping(step, lambda: next(values), patience=2, mode="max")
    assert len(step.run(data, batch_size=8, epochs=9, callback=stop)) == 4
    assert (stop.best, stop.best_epoch) == (0.5, 1)


@pytest.mark.parametrize(
    "options", [{}, {"factor": 0.5, "patience": 2, "cooldown": 3}, {"mode": "max", "patience": 1}]
)
def test_plateaus_equal_pytorchs(options):
    torch = pytest.importorskip("torch")
    step, _, data = line(lr=0.1)
    values = np.round(np.abs(RNG.normal(size=60)) + np.linspace(2, 0.5, 60), 1)
    values[30:] = 1.0
    here = iter(values)
    slower = sg.callbacks.ReduceOnPlateau(step, lambda: next(here), min_lr=1e-3, **options)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, min_lr=1e-3, **options)
    for epoch, value in enumerate(values):
        assert slower(epoch, 0.0) is False
        theirs.step(value)
        assert step.lr == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6), epoch
    assert step.lr < 0.1


def test_all_groups_are_slowed_and_all_callbacks_called():
    step, loss, data = line()
    w, b = (p for p in step.state.parameters.values() if p.name.startswith("fc."))
    step = sg.train_step(loss, {"w": (sg.optim.SGD(0.1), w), "b": sg.optim.SGD(0.2)})
    seen = []
    slower = sg.callbacks.ReduceOnPlateau(step, lambda: 1.0, factor=0.5, patience=0)
    stop = [slower, lambda epoch, loss: epoch == 2, lambda epoch, loss: seen.append(epoch)]
    step.run(data, batch_size=8, epochs=9, callback=stop)
    assert seen == [0, 1, 2]
    assert step.lr == pytest.approx({"w": 0.025, "b": 0.05})


def test_callbacks_refuse_what_they_cannot_do():
    step, loss, data = line()
    fading = sg.train_step(loss, sg.optim.SGD(sg.schedules.cosine(0.1, 10)), target="interpret")
    stop, slower = sg.callbacks.EarlyStopping, sg.callbacks.ReduceOnPlateau
    for make, message in (
        (lambda: stop(loss), "EarlyStopping: expected a training step, got"),
        (lambda: stop(step, 3.0), "EarlyStopping: monitor must be a function.*3.0"),
        (lambda: stop(step, mode="best"), 'mode is "min" or "max", got \'best\''),
        (lambda: stop(step, patience=-1), "patience must be a non-negative int, got -1"),
        (lambda: stop(step, min_delta=-0.1), "min_delta must be .* got -0.1"),
        (lambda: slower(step, factor=1.0), r"ReduceOnPlateau: factor must be in \[0, 1\), got 1.0"),
        (lambda: slower(step, cooldown=1.5), "cooldown must be .* got 1.5"),
        (lambda: slower(fading), "is a schedule"),
        (lambda: step.run(data, 8, callback=[3]), "callback must be a function .* got 3"),
    ):
        with pytest.raises(InputError, match=message):
            make()


# -- noise ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("target", TARGETS)
def test_noise_is_drawn_natively_and_reproducibly(target):
    """On inputs, weights and labels: new at each step, the same in every run of one seed (F6)."""
    x, y = sg.input("x", (500, 3)), sg.input("y", (500,), dtype="int32")
    w = sg.parameter("w", (3, 40), init=sg.init.ones())
    outputs = {
        "input": sg.nn.gaussian_noise(x, 0.5),
        "weight": sg.nn.gaussian_noise(w, 0.1),
        "label": sg.nn.label_noise(y, 10, 0.3),
    }

    def made(seed):
        return sg.function([x, y], outputs, seed=seed, target=target)

    X, Y = np.zeros((500, 3), "float32"), np.full(500, 4, "int32")
    f = made(1)
    first, second, again, other = f(X, Y), f(X, Y), made(1)(X, Y), made(2)(X, Y)
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name])
        assert (value != second[name]).any() and (value != other[name]).any()
    assert first["input"].std() == pytest.approx(0.5, rel=0.1)
    assert (first["weight"] - 1).std() == pytest.approx(0.1, rel=0.2)
    changed = first["label"] != 4
    assert changed.mean() == pytest.approx(0.27, abs=0.07) and first["label"].dtype == "int32"
    assert set(first["label"]) <= set(range(10))
    with pytest.raises(InputError, match=r"'y'\[0\] is 10"):
        made_loss = sg.losses.cross_entropy(x @ w[:, :10], sg.nn.label_noise(y, 10, 0.3))
        sg.function([x, y], made_loss, target=target)(X, Y + 6)


def test_noise_is_off_unless_training():
    x, y = sg.input("x", (4, 3)), sg.input("y", (4,), dtype="int32")
    layer = sg.nn.GaussianNoise(0.3)
    assert layer(x) is x and layer(x, training=True) is not x
    assert sg.nn.label_noise(y, 3, 0.3, training=False) is y
    with pytest.raises(DTypeError, match="label_noise: labels must be int32 or int64, got float32"):
        sg.nn.label_noise(x, 3)


@pytest.mark.parametrize("target", TARGETS)
def test_dropout_at_test_time_gives_the_spread(target):
    """Monte-Carlo dropout: mean and spread of many passes with the noise on (C6)."""
    x = sg.input("x", (1, 50))
    model = sg.nn.Sequential(sg.nn.Dropout(0.4), sg.nn.Linear(50, 1, init=sg.init.ones()))
    X = np.ones((1, 50), "float32")
    sure = sg.function([x], model(x), target=target)
    noisy = sg.function([x], model(x, training=True), state=sure.state, target=target)
    draws = np.array([noisy(X).item() for _ in range(400)])
    assert sure(X) == sure(X)
    assert draws.mean() == pytest.approx(sure(X).item(), abs=1.5)
    assert draws.std() == pytest.approx(np.sqrt(50 * 0.4 / 0.6), rel=0.15)  # n p / (1 - p)


# -- standardised inputs -------------------------------------------------------------------------
@pytest.mark.parametrize("target", TARGETS)
def test_statistics_are_the_training_sets_and_stored_with_the_model(target, tmp_path):
    train = RNG.normal(3, 5, size=(100, 4)).astype("float32")
    train[:, 2] = 7.0
    x = sg.input("x", (sg.dim("n", 100), 4))

    def model(scale):
        return sg.nn.Sequential(scale, sg.nn.Linear(4, 1, name="fc"))(x)

    scale = sg.nn.Standardize(train, name="scale")
    y = model(scale)
    step = sg.train_step(sg.mean(sg.square(y)), sg.optim.SGD(0.1), target=target)
    step(train)
    assert [p.name for p in scale.parameters()] == []
    np.testing.assert_allclose(step.state["scale.mean"], train.mean(0), rtol=1e-6)
    np.testing.assert_allclose(step.state["scale.std"][[0, 1, 3]], train.std(0)[[0, 1, 3]], 1e-6)
    assert step.state["scale.std"][2] == 1
    sg.save(tmp_path / "model.safetensors", step.state)
    fresh = sg.function([x], model(sg.nn.Standardize(4, name="scale")), target=target)
    sg.load(tmp_path / "model.safetensors", fresh.state)
    trained = sg.function([x], y, state=step.state, target=target)
    np.testing.assert_array_equal(fresh(train[:7]), trained(train[:7]))


def test_channels_of_images_are_standardised():
    images = RNG.normal(2, 3, size=(20, 3, 5, 5)) * np.array([1, 10, 100])[:, None, None]
    x = sg.input("x", (20, 3, 5, 5), dtype="float64")
    scale = sg.nn.Standardize(images, axis=(0, 2, 3), dtype="float64")
    value = evaluate(scale(x), {x: images})
    np.testing.assert_allclose(value.mean((0, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(value.std((0, 2, 3)), 1, rtol=1e-12)
    assert scale.shape == (3, 1, 1)
    with pytest.raises(ShapeError, match=r"standardize: the input .* does not fit"):
        scale(sg.input("z", (20, 4, 5, 5), dtype="float64"))
    with pytest.raises(ShapeError, match=r"standardize: axis must be 0.*got \(1,\)"):
        sg.nn.Standardize(images, axis=(1,))
    for bad in (np.zeros((0, 3)), np.array([[np.nan]]), np.array([["a"]])):
        with pytest.raises(InputError, match="standardize: the data"):
            sg.nn.Standardize(bad)


# -- shared and related weights ------------------------------------------------------------------
def test_tasks_are_drawn_together():
    """Soft sharing, norm(a - b)^2 (F8), and norm(abar)^2 + lambda/T sum norm(a_t - abar)^2 (F9)."""
    tasks = [sg.parameter(f"a{t}", (3, 2), RNG.normal(size=(3, 2)), "float64") for t in range(4)]
    values = [np.asarray(p.init) for p in tasks]
    penalty = sg.regularizers.task_relationship(tasks, 0.3, spread=2.0)
    mean = np.mean(values, axis=0)
    apart = sum(np.sum((a - mean) ** 2) for a in values)
    assert evaluate(penalty, {}) == pytest.approx(0.3 * ((mean**2).sum() + 2.0 / 4 * apart))
    for slope, a in zip(evaluate(sg.grad(penalty, tasks), {}), values):
        exact = 0.3 * (2 * mean / 4 + 2.0 / 4 * 2 * (a - mean))
        np.testing.assert_allclose(slope, exact, rtol=1e-12)
    tied = sg.regularizers.tie(tasks[0], tasks[1], 0.5)
    assert evaluate(tied, {}) == pytest.approx(0.5 * ((values[0] - values[1]) ** 2).sum())
    for wrong in ([], tasks[:1], [tasks[0], sg.parameter("b", (2, 2))]):
        with pytest.raises(ShapeError, match="task_relationship: the weights of two tasks or more"):
            sg.regularizers.task_relationship(wrong)
