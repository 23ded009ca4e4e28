"""Optimizers: fifty steps equal PyTorch's to 1e-10 in float64, for every documented option.

Rows E1 (gradient descent), E2 (momentum, Nesterov), E3 (AdaGrad, RMSProp, Adam, AdamW), E5
(schedules), E8 (clipping), F1 (weight decay), F4 (projections).
"""

import math

import numpy as np
import pytest
from graphs import evaluate

import symgrad as sg
from symgrad.errors import GraphError, InputError, ShapeError
from symgrad.node import Input, Parameter

CASES = {
    "sgd": ("SGD", {"lr": 0.1}),
    "sgd decay": ("SGD", {"lr": 0.1, "weight_decay": 0.01}),
    "sgd momentum": ("SGD", {"lr": 0.1, "momentum": 0.9}),
    "sgd dampening": ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    "sgd nesterov": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "sgd maximize": ("SGD", {"lr": 0.01, "momentum": 0.5, "maximize": True}),
    "sgd everything": (
        "SGD",
        {"lr": 0.01, "momentum": 0.8, "dampening": 0.2, "weight_decay": 0.1, "maximize": True},
    ),
    "sgd maximize decay": ("SGD", {"lr": 0.01, "weight_decay": 0.1, "maximize": True}),
    "adam": ("Adam", {}),
    "adam options": ("Adam", {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-6}),
    "adam decay": ("Adam", {"lr": 0.02, "weight_decay": 0.1}),
    "adam amsgrad": ("Adam", {"lr": 0.02, "amsgrad": True}),
    "adam maximize": ("Adam", {"lr": 0.02, "weight_decay": 0.1, "maximize": True}),
    "adam no averages": ("Adam", {"lr": 0.02, "betas": (0.0, 0.9)}),
    "adam all": (
        "Adam",
        {"lr": 0.02, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1, "amsgrad": True},
    ),
    "adamw maximize": ("AdamW", {"lr": 0.02, "betas": (0.5, 0.9), "maximize": True}),
    "adamw": ("AdamW", {"lr": 0.02}),
    "adamw amsgrad": ("AdamW", {"lr": 0.02, "weight_decay": 0.3, "amsgrad": True}),
    "rmsprop": ("RMSprop", {}),
    "rmsprop momentum": ("RMSprop", {"momentum": 0.9, "alpha": 0.9, "eps": 1e-6}),
    "rmsprop centered": ("RMSprop", {"centered": True, "weight_decay": 0.1}),
    "rmsprop all": ("RMSprop", {"centered": True, "momentum": 0.5, "lr": 0.001}),
    "rmsprop maximize": ("RMSprop", {"lr": 0.001, "weight_decay": 0.1, "maximize": True}),
    "adagrad maximize": ("Adagrad", {"lr": 0.1, "maximize": True}),
    "adagrad": ("Adagrad", {"lr": 0.1}),
    "adagrad decay": ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1}),
    "adagrad start": ("Adagrad", {"lr": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-6}),
}
STEPS = 50


class Problem:
    """A small regression whose data change with every step."""

    def __init__(self, dtype="float64"):
        rng = np.random.default_rng(0)
        self.x, self.t = Input("x", (6, 3), dtype), Input("t", (6, 4), dtype)
        self.start = [rng.normal(size=(3, 4)), rng.normal(size=4)]
        self.params = [
            Parameter("W", (3, 4), self.start[0], dtype),
            Parameter("b", (4,), self.start[1], dtype, role="bias"),
        ]
        self.loss = sg.mean(sg.square(sg.tanh(self.x @ self.params[0] + self.params[1]) - self.t))
        self.grads = sg.grad(self.loss, self.params)
        self.data = [(rng.normal(size=(6, 3)), rng.normal(size=(6, 4))) for _ in range(STEPS)]

    def train(self, optimizer, on_step=None):
        """The parameters after all steps, by the interpreter."""
        updates = optimizer.updates(self.params, self.grads)
        values = {}
        for i, (x, t) in enumerate(self.data):
            if on_step is not None:
                on_step(i, values)
            values.update(evaluate(updates, {**values, self.x: x, self.t: t}))
        return [values[p] for p in self.params]

    def torch(self, make, on_step=None, clip=None):
        """The same by PyTorch; `make` gives the optimizer for its parameters."""
        torch = pytest.importorskip("torch")
        params = [torch.tensor(v, requires_grad=True) for v in self.start]
        optimizer = make(torch, params)
        for i, (x, t) in enumerate(self.data):
            if on_step is not None:
                on_step(i, optimizer)
            optimizer.zero_grad()
            out = torch.tanh(torch.tensor(x) @ params[0] + params[1])
            ((out - torch.tensor(t)) ** 2).mean().backward()
            if clip is not None:
                clip(torch, params)
            optimizer.step()
        return [p.detach().numpy() for p in params]


def same(ours, theirs, tolerance=1e-10):
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_equals_pytorch(name):
    kind, options = CASES[name]
    problem = Problem()
    ours = problem.train(getattr(sg.optim, kind)(**options))
    same(ours, problem.torch(lambda torch, p: getattr(torch.optim, kind)(p, **options)))


@pytest.mark.parametrize("name", CASES)
def test_native_steps_equal_pytorchs(name):
    kind, options = CASES[name]
    problem = Problem()
    step = sg.train_step(problem.loss, getattr(sg.optim, kind)(**options))
    for x, t in problem.data:
        step(x, t)
    expected = problem.torch(lambda torch, p: getattr(torch.optim, kind)(p, **options))
    same([step.state[p] for p in problem.params], expected)


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"])
def test_defaults_are_pytorchs(kind):
    problem = Problem()
    ours = problem.train(getattr(sg.optim, kind)())
    same(ours, problem.torch(lambda torch, p: getattr(torch.optim, kind)(p)))


@pytest.mark.parametrize("kind", ["SGD", "Adam", "RMSprop"])
def test_float32_stays_close(kind):
    exact = Problem().train(getattr(sg.optim, kind)(lr=0.01))
    single = Problem("float32").train(getattr(sg.optim, kind)(lr=0.01))
    assert all(v.dtype == np.float32 for v in single)
    same(single, exact, 2e-5)


SCHEDULES = {
    "step": (lambda: sg.schedules.step(0.1, 7, 0.5), "StepLR", {"step_size": 7, "gamma": 0.5}),
    "exponential": (lambda: sg.schedules.exponential(0.1, 0.9), "ExponentialLR", {"gamma": 0.9}),
    "cosine": (
        lambda: sg.schedules.cosine(0.1, STEPS, 0.01),
        "CosineAnnealingLR",
        {"T_max": STEPS, "eta_min": 0.01},
    ),
    "warmup": (
        lambda: sg.schedules.warmup(0.1, 10, start=0.02),
        "LinearLR",
        {"start_factor": 0.2, "total_iters": 10},
    ),
    "one_cycle options": (
        lambda: sg.schedules.one_cycle(0.1, STEPS, 0.4, 10.0, 100.0),
        "OneCycleLR",
        {
            "max_lr": 0.1,
            "total_steps": STEPS,
            "pct_start": 0.4,
            "div_factor": 10.0,
            "final_div_factor": 100.0,
            "cycle_momentum": False,
        },
    ),
    "one_cycle": (
        lambda: sg.schedules.one_cycle(0.1, STEPS),
        "OneCycleLR",
        {"max_lr": 0.1, "total_steps": STEPS, "cycle_momentum": False},
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_equal_pytorch(name):
    torch = pytest.importorskip("torch")
    make, kind, options = SCHEDULES[name]
    schedule = make()
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    theirs = getattr(torch.optim.lr_scheduler, kind)(optimizer, **options)
    for t in range(STEPS):
        assert schedule(t) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12), t
        optimizer.step()
        if t + 1 < STEPS:
            theirs.step()


def test_schedules_run_natively():
    """All of them in one step: each weight has moved by the sum of its rates."""
    made = {name.replace(" ", "_"): make() for name, (make, _, _) in SCHEDULES.items()}
    made["constant"] = sg.schedules.constant(0.25)
    weights = {name: sg.parameter(name, (), dtype="float64") for name in made}
    groups = {name: (sg.optim.SGD(made[name]), w) for name, w in weights.items()}
    step = sg.train_step(sum(weights.values(), sg.constant(0.0, "float64")), groups)
    total = dict.fromkeys(made, 0.0)
    for t in range(STEPS):
        step()
        for name, schedule in made.items():
            total[name] -= schedule(t)
            assert step.state[name] == pytest.approx(total[name], rel=1e-10), (name, t)
    assert step.lr == made  # a schedule is itself


def test_a_schedule_runs_in_the_graph():
    schedule = sg.schedules.warmup(sg.schedules.cosine(0.1, 30), 10)
    problem = Problem()
    ours = problem.train(sg.optim.Adagrad(schedule))

    def rate(i, optimizer):
        optimizer.param_groups[0]["lr"] = schedule(i)

    same(ours, problem.torch(lambda torch, p: torch.optim.Adagrad(p, lr=1.0), rate))


def test_schedules_by_hand():
    warm = sg.schedules.warmup(0.5, 10)
    assert [warm(t) for t in (0, 5, 10, 99)] == pytest.approx([0, 0.25, 0.5, 0.5])
    assert sg.schedules.constant(0.3)(17) == 0.3
    assert sg.schedules.cosine(0.1, 10)(25) == 0
    plotted = sg.schedules.step(1.0, 2)(np.arange(5))
    np.testing.assert_allclose(plotted, [1, 1, 0.1, 0.1, 0.01])


def test_setting_the_rate_between_steps():
    problem = Problem()
    optimizer = sg.optim.SGD(0.1)

    def halve(i, values):
        if i == 20:
            values[optimizer.lr_state] = 0.05

    ours = problem.train(optimizer, halve)

    def halve_theirs(i, theirs):
        if i == 20:
            theirs.param_groups[0]["lr"] = 0.05

    same(ours, problem.torch(lambda torch, p: torch.optim.SGD(p, lr=0.1), halve_theirs))


def test_clipping_equals_pytorch():
    problem = Problem()
    ours = problem.train(sg.optim.SGD(0.1, clip_norm=0.05))
    theirs = problem.torch(
        lambda torch, p: torch.optim.SGD(p, lr=0.1),
        clip=lambda torch, p: torch.nn.utils.clip_grad_norm_(p, 0.05),
    )
    same(ours, theirs)
    ours = problem.train(sg.optim.Adam(0.1, clip_value=0.01))
    theirs = problem.torch(
        lambda torch, p: torch.optim.Adam(p, lr=0.1),
        clip=lambda torch, p: torch.nn.utils.clip_grad_value_(p, 0.01),
    )
    same(ours, theirs)


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 3e-7)])
def test_bias_correction_is_accurate(dtype, tolerance):
    p = Parameter("p", (2,), None, dtype)
    optimizer = sg.optim.Adam()
    optimizer.updates([p], [Input("g", (2,), dtype)])
    for t in (1, 2, 10, 1000, 10**6, 10**9):
        for beta in (0.9, 0.999, 0.9999):
            exact = -math.expm1(t * math.log(beta))
            ours = evaluate(optimizer._correction(beta), {optimizer.count: t - 1})
            assert abs(ours - exact) <= tolerance * exact, (t, beta)


def test_states_are_named_after_parameters_and_counted():
    problem = Problem()
    updates = sg.optim.Adam().updates(problem.params, problem.grads)
    names = {p.name for p in updates}
    assert names == {"W", "b", "adam.m.W", "adam.v.W", "adam.m.b", "adam.v.b", "adam.count"}
    again = sg.optim.SGD(0.1, name="second").updates(problem.params, problem.grads)
    assert {p.name for p in again} == {"W", "b"}  # plain SGD keeps nothing


def test_an_optimizer_of_ones_own():
    class Signs(sg.optim.Optimizer):
        def rule(self, p, g):
            m = self.moment("m", p)
            return {p: p - self.rate(p) * sg.sign(0.9 * m + 0.1 * g), m: 0.99 * m + 0.01 * g}

    problem = Problem()
    updates = Signs(0.5).updates(problem.params, dict(zip(problem.params, problem.grads)))
    x, t = problem.data[0]
    values = {problem.x: x, problem.t: t}
    W, g = problem.params[0], evaluate(problem.grads[0], values)
    moved = evaluate(updates, values)[W]
    np.testing.assert_allclose(moved, problem.start[0] - 0.5 * np.sign(0.1 * g))


def test_decay_without_momentum_is_a_factor():
    """w (1 - lr * decay) - lr * g, not lr * (g + decay * w)."""
    problem = Problem()
    optimizer = sg.optim.SGD(0.1, weight_decay=0.5)
    W = problem.params[0]
    update = optimizer.updates([W], problem.grads[:1])[W]
    assert update.op == "sub" and update.args[0].op == "mul" and W in update.args[0].args


DECAYS = {
    "an option": lambda fc: (sg.optim.SGD(0.1, weight_decay=0.5), 0.0),
    "a penalty": lambda fc: (sg.optim.SGD(0.1), sg.regularizers.l2(fc, 0.25)),
}


@pytest.mark.parametrize("how", DECAYS)
def test_the_compiled_update_shows_decay_as_a_factor(how):
    """w <- (1 - eps alpha) w - eps grad, from weight_decay and from an L2 penalty (row F1)."""
    x, t = sg.input("x", (6, 3)), sg.input("t", (6, 4))
    fc = sg.nn.Linear(3, 4, bias=False, name="fc")
    optimizer, penalty = DECAYS[how](fc)
    loss = sg.losses.mse_loss(fc(x), t, reduction="sum") + penalty
    step = sg.train_step(loss, optimizer)
    (line,) = [s for s in step.stage("rewritten").splitlines() if s.startswith("fc.weight'")]
    assert "fc.weight' = (1 - 0.5 sgd.lr) fc.weight - " in line, line
    W, X, T = step.state["fc.weight"], np.ones((6, 3), "float32"), np.ones((6, 4), "float32")
    step(X, T)
    grad = 2 * X.T @ (X @ W - T)
    np.testing.assert_allclose(step.state["fc.weight"], (1 - 0.1 * 0.5) * W - 0.1 * grad, rtol=1e-5)


def test_constraints():
    problem = Problem()
    W, b = problem.params
    W_, b_ = problem.train(sg.optim.SGD(0.1, constraints=sg.constraints.max_norm(0.5)))
    assert np.linalg.norm(W_, axis=0).max() <= 0.5 + 1e-12
    assert np.linalg.norm(b_) > 0.5  # biases are left alone
    _, b_ = problem.train(sg.optim.SGD(0.1, constraints={b: sg.constraints.non_negative()}))
    assert (b_ >= 0).all()
    W_, _ = problem.train(sg.optim.Adam(0.1, constraints=sg.constraints.unit_norm()))
    np.testing.assert_allclose(np.linalg.norm(W_, axis=0), 1)
    ball = sg.constraints.max_norm(2.0, axis=None)
    zero = Parameter("z", (2, 3), None, "float64")
    np.testing.assert_array_equal(evaluate(ball(zero), {}), np.zeros((2, 3)))


@pytest.mark.parametrize("rate", [math.nan, math.inf, -math.inf, -0.1, "fast", None, True])
def test_bad_rates(rate):
    for kind in ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad"):
        with pytest.raises(InputError, match="learning rate"):
            getattr(sg.optim, kind)(rate)
    optimizer = sg.optim.SGD(0.1)
    with pytest.raises(InputError, match="learning rate"):
        optimizer.lr = rate
    with pytest.raises(InputError, match="learning rate"):
        optimizer.check_lr(rate)
    assert optimizer.lr == 0.1


def test_bad_options():
    for make in (
        lambda: sg.optim.Adam(betas=(1.0, 0.9)),
        lambda: sg.optim.Adam(betas=0.9),
        lambda: sg.optim.Adam(eps=-1e-8),
        lambda: sg.optim.SGD(momentum=-0.1),
        lambda: sg.optim.SGD(nesterov=True),
        lambda: sg.optim.SGD(nesterov=True, momentum=0.9, dampening=0.1),
        lambda: sg.optim.AdamW(weight_decay=math.nan),
        lambda: sg.optim.RMSprop(alpha=1.5),
        lambda: sg.optim.Adagrad(lr_decay=-1),
        lambda: sg.optim.SGD(clip_norm=0),
        lambda: sg.optim.SGD(clip_value=math.inf),
        lambda: sg.schedules.step(0.1, 0),
        lambda: sg.schedules.exponential(math.nan, 0.9),
        lambda: sg.schedules.one_cycle(0.1, 100, pct_start=2),
        lambda: sg.constraints.max_norm(-1),
    ):
        with pytest.raises(InputError):
            make()
    problem = Problem()
    with pytest.raises(GraphError, match="2 parameters, 1 gradients"):
        sg.optim.SGD().updates(problem.params, problem.grads[:1])
    with pytest.raises(ShapeError, match="'W' is"):
        sg.optim.SGD().updates(problem.params, problem.grads[::-1])
    with pytest.raises(InputError, match="no gradient for b"):
        sg.optim.SGD().updates(problem.params, {problem.params[0]: problem.grads[0]})
