"""Several optimizers and several losses in one native step; frozen layers (rows F4, F9, F10)."""

from __future__ import annotations

import numpy as np
import pytest

import symgrad as sg
from symgrad.errors import GraphError, InputError

TARGETS = ["interpret", "native"]
STEPS, ROWS = 50, 12
RNG = np.random.default_rng(0)
DATA = [(RNG.normal(size=(ROWS, 5)), RNG.integers(0, 3, ROWS)) for _ in range(STEPS)]


class Net:
    """Two layers, and their counterpart in PyTorch with the same weights."""

    def __init__(self):
        self.x = sg.input("x", (ROWS, 5), dtype="float64")
        self.y = sg.input("y", (ROWS,), dtype="int64")
        self.body = sg.nn.Linear(5, 8, name="body", dtype="float64")
        self.head = sg.nn.Linear(8, 3, name="head", dtype="float64")
        self.hidden = sg.tanh(self.body(self.x))
        self.logits = self.head(self.hidden)
        self.loss = sg.losses.cross_entropy(self.logits, self.y)

    def torch(self, state):
        torch = pytest.importorskip("torch")
        body, head = torch.nn.Linear(5, 8).double(), torch.nn.Linear(8, 3).double()
        for name, layer in (("body", body), ("head", head)):
            with torch.no_grad():
                layer.weight.copy_(torch.tensor(state[f"{name}.weight"].T))
                layer.bias.copy_(torch.tensor(state[f"{name}.bias"]))
        return body, head

    def equal(self, state, body, head):
        for name, layer in (("body", body), ("head", head)):
            for what, value in (("weight", layer.weight.T), ("bias", layer.bias)):
                theirs = value.detach().numpy()
                ours = state[f"{name}.{what}"]
                np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("form", ["list", "dict", "others"])
def test_groups_equal_pytorchs(form, target):
    torch = pytest.importorskip("torch")
    net = Net()
    slow = sg.optim.SGD(0.01, momentum=0.9, weight_decay=0.1)
    fast = sg.optim.Adam(0.05)
    groups = {
        "list": [(slow, net.body), (fast, net.head)],
        "dict": {"body": (slow, net.body), "head": (fast, [net.head.weight, net.head.bias])},
        "others": [(slow, net.body), fast],
    }[form]
    step = sg.train_step(net.loss, groups, target=target)
    body, head = net.torch(step.state)
    theirs = [
        torch.optim.SGD(body.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1),
        torch.optim.Adam(head.parameters(), lr=0.05),
    ]
    for i, (X, Y) in enumerate(DATA):
        if i == 20:
            step.lr = {"body": 0.002} if form == "dict" else [0.002, 0.05]
            theirs[0].param_groups[0]["lr"] = 0.002
        ours = step(X, Y)
        loss = torch.nn.functional.cross_entropy(
            head(torch.tanh(body(torch.tensor(X)))), torch.tensor(Y)
        )
        body.zero_grad(), head.zero_grad()
        loss.backward()
        for optimizer in theirs:
            optimizer.step()
        assert ours == pytest.approx(loss.item(), rel=1e-10)
    net.equal(step.state, body, head)
    assert step.lr == ({"body": 0.002, "head": 0.05} if form == "dict" else [0.002, 0.05])


@pytest.mark.parametrize("target", TARGETS)
def test_optimizers_of_one_kind_keep_their_own_states(target):
    net = Net()
    groups = [(sg.optim.Adam(0.1), net.body), (sg.optim.Adam(0.2), net.head)]
    step = sg.train_step(net.loss, groups, target=target)
    step(*DATA[0])
    assert {"adam1.lr", "adam1.m.body.weight", "adam2.lr", "adam2.v.head.bias"} <= {*step.state}
    net = Net()
    groups = {"a": (sg.optim.Adam(0.1), net.body), "b": (sg.optim.Adam(0.2, name="mine"), net.head)}
    assert {"adam.lr", "mine.lr"} <= {*sg.train_step(net.loss, groups, target=target).state}
    net = Net()
    groups = {"a": (sg.optim.Adam(0.1), net.body), "b": sg.optim.Adam(0.2)}
    assert {"adam.a.lr", "adam.b.lr"} <= {*sg.train_step(net.loss, groups, target=target).state}


@pytest.mark.parametrize("target", TARGETS)
def test_the_lagrangian_finds_the_constrained_minimum(target):
    """min norm(w - a)^2 subject to norm(w)^2 <= 1: descent on w, ascent on the multiplier (F4)."""
    a = np.array([3.0, 4.0])
    w = sg.parameter("w", (2,), dtype="float64")
    multiplier = sg.parameter("multiplier", (), dtype="float64")
    violated = sg.sum(w * w) - 1
    lagrangian = sg.sum(sg.square(w - sg.constant(a))) + multiplier * violated
    groups = {
        "w": (sg.optim.SGD(0.02), w),
        "multiplier": (
            sg.optim.SGD(0.1, maximize=True, constraints=sg.constraints.non_negative()),
            multiplier,
        ),
    }
    step = sg.train_step(lagrangian, groups, outputs={"violated": violated}, target=target)
    for _ in range(500):
        result = step()
    np.testing.assert_allclose(step.state["w"], a / 5, atol=1e-6)
    assert float(step.state["multiplier"]) == pytest.approx(4.0, abs=1e-5)  # |w - a| / |w|
    assert abs(result["violated"]) < 1e-6


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"])
def test_every_optimizer_ascends(kind):
    w = sg.parameter("w", (3,), init=np.ones(3), dtype="float64")
    hill = -sg.sum(w * w)
    step = sg.train_step(hill, getattr(sg.optim, kind)(0.05, maximize=True))
    first = step()
    assert all(step() > first for _ in range(5))


@pytest.mark.parametrize("target", TARGETS)
def test_several_losses_each_move_their_own(target):
    """Two players of one game, gradients taken before anything moves."""
    torch = pytest.importorskip("torch")
    u = sg.parameter("u", (4,), init=np.arange(4.0), dtype="float64")
    v = sg.parameter("v", (4,), init=np.ones(4), dtype="float64")
    x = sg.input("x", (4,), dtype="float64")
    first = sg.sum(sg.square(u - v * x))
    second = sg.sum(sg.square(v + u) * 0.5)
    step = sg.train_step(
        {"first": first, "second": second},
        {"first": (sg.optim.Adam(0.1), u), "second": (sg.optim.SGD(0.05, momentum=0.5), v)},
        outputs={"norm": sg.sum(u * u)},
        target=target,
    )
    U, V = (torch.tensor(step.state[name], requires_grad=True) for name in "uv")
    players = torch.optim.Adam([U], lr=0.1), torch.optim.SGD([V], lr=0.05, momentum=0.5)
    for X in RNG.normal(size=(STEPS, 4)):
        result = step(X)
        one = ((U - V * torch.tensor(X)) ** 2).sum()
        two = ((V + U) ** 2 * 0.5).sum()
        (U.grad,) = torch.autograd.grad(one, [U])
        (V.grad,) = torch.autograd.grad(two, [V])
        norm = (U * U).sum().item()
        for player in players:
            player.step()
        assert list(result) == ["loss", "first", "second", "norm"]
        expected = [one.item() + two.item(), one.item(), two.item(), norm]
        np.testing.assert_allclose(list(result.values()), expected, rtol=1e-10)
    np.testing.assert_allclose(step.state["u"], U.detach().numpy(), rtol=1e-10)
    np.testing.assert_allclose(step.state["v"], V.detach().numpy(), rtol=1e-10)
    assert "d second / d v" in step.stage("gradient")
    means = step.run({"x": RNG.normal(size=(1, 4))[0]}, batch_size=4, epochs=2)
    assert len(means) == 2


def kernels(f) -> int:
    return len(f._pipeline.schedule.program.calls)


def test_frozen_layers_cost_no_gradient_code():
    """A network whose body is frozen costs the body's inference and the head's training (F10)."""
    x, y = sg.input("x", (64, 20)), sg.input("y", (64,), dtype="int64")
    body = sg.nn.Sequential(
        sg.nn.Linear(20, 40, name="fc1"), sg.nn.tanh, sg.nn.Linear(40, 30, name="fc2"), sg.nn.tanh
    )
    head = sg.nn.Linear(30, 10, name="head")
    features = sg.input("features", (64, 30))

    def loss(h):
        return sg.losses.cross_entropy(head(h), y)

    def optimizer():
        return sg.optim.SGD(0.1)

    forward = sg.function([x], body(x))
    alone = sg.train_step(loss(features), optimizer())
    whole = sg.train_step(loss(body(x)), optimizer())
    frozen = {
        "frozen": sg.train_step(loss(body(x)), optimizer(), frozen=body),
        "parameters": sg.train_step(loss(body(x)), optimizer(), parameters=head),
        "stop_gradient": sg.train_step(loss(sg.stop_gradient(body(x))), optimizer()),
        "groups": sg.train_step(loss(body(x)), [(optimizer(), head)], frozen=body),
    }
    for name, step in frozen.items():
        assert kernels(step) <= kernels(forward) + kernels(alone) < kernels(whole), name
        assert "d loss / d fc1" not in step.stage("gradient"), name
        before = step.state["fc1.weight"]
        step(np.ones((64, 20), "float32"), np.zeros(64, int))
        np.testing.assert_array_equal(step.state["fc1.weight"], before)


def test_a_layer_under_a_trained_one_passes_the_gradient_on():
    """Freezing what lies above does not cut off what lies below."""
    net = Net()
    step = sg.train_step(net.loss, sg.optim.SGD(0.1), frozen=net.head)
    before = {name: step.state[name] for name in step.state}
    step(*DATA[0])
    assert np.abs(step.state["body.weight"] - before["body.weight"]).max() > 1e-4
    np.testing.assert_array_equal(step.state["head.weight"], before["head.weight"])


def test_errors():
    net, sgd = Net(), sg.optim.SGD
    other = sg.parameter("other", (2,))
    both = [(sgd(0.1), net.body), (sgd(0.1), [net.head, net.body.bias])]
    same = sgd(0.1)
    cases = [
        (InputError, r"'body.bias' is in group 0 and in group 1", net.loss, both),
        (InputError, r"'head.weight' is in no group", net.loss, [(sgd(0.1), net.body)]),
        (InputError, r"same optimizer object", net.loss, [(same, net.body), (same, net.head)]),
        (InputError, r"group 1 has no parameter to train", net.loss, [sgd(0.1), sgd(0.1)]),
        (InputError, r"group 0 has no parameters", net.loss, [(sgd(0.1), []), sgd(0.1)]),
        (InputError, r"there is no optimizer", net.loss, []),
        (InputError, r"group 'a' must be an optimizer, or a pair.*0.1", net.loss, {"a": 0.1}),
        (GraphError, r"does not depend on 'other'", net.loss, [(sgd(0.1), other), sgd(0.1)]),
        (InputError, r"several losses need a dict", {"a": net.loss}, sgd(0.1)),
        (InputError, r"each loss needs a group", {"a": net.loss}, {"b": sgd(0.1)}),
        (InputError, r'"loss" is the sum', {"loss": net.loss}, {"loss": sgd(0.1)}),
        (InputError, r"expected a dict of losses", {}, {"loss": sgd(0.1)}),
    ]
    for error, message, loss, optimizer in cases:
        with pytest.raises(error, match=message):
            sg.train_step(loss, optimizer)
    with pytest.raises(InputError, match="groups of optimizers say already"):
        sg.train_step(net.loss, [sgd(0.1)], parameters=net.body)
    with pytest.raises(GraphError, match="every parameter is frozen"):
        sg.train_step(net.loss, sgd(0.1), frozen=[net.body, net.head])
    with pytest.raises(GraphError, match="list of parameters is empty"):
        sg.train_step(net.loss, sgd(0.1), parameters=[])
    with pytest.raises(InputError, match="'a' is a loss"):
        sg.train_step({"a": net.loss}, {"a": sgd(0.1)}, outputs={"a": net.loss})
    step = sg.train_step(net.loss, [(sgd(0.1), net.body), sgd(0.2)], target="interpret")
    for wrong in (0.1, [0.1], {"a": 0.1}):
        with pytest.raises(InputError, match="lr: the rates of groups are a list"):
            step.lr = wrong
    with pytest.raises(InputError, match="learning rate must be"):
        step.lr = [0.5, -1.0]
    assert step.lr == pytest.approx([0.1, 0.2])  # all or none
