"""Whole training steps against PyTorch's: layers, losses and optimizers compiled together."""

import numpy as np
import pytest

import symgrad as sg

TARGETS = ["interpret", "native"]
STEPS, ROWS = 50, 12
OPTIMIZERS = {
    "sgd": ("SGD", {"lr": 0.1, "weight_decay": 0.01}),
    "nesterov": ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    "adam": ("Adam", {"lr": 0.01, "amsgrad": True}),
    "adamw": ("AdamW", {"lr": 0.01}),
    "rmsprop": ("RMSprop", {"lr": 0.01, "momentum": 0.9, "centered": True}),
    "adagrad": ("Adagrad", {"lr": 0.1, "lr_decay": 0.1}),
}


def batches(seed=0):
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(ROWS, 5)), rng.integers(0, 3, ROWS)) for _ in range(STEPS)]


def network(dtype):
    """Layers of several kinds, each with a counterpart in PyTorch."""
    nn = sg.nn
    return nn.Sequential(
        nn.Linear(5, 16, name="fc1", dtype=dtype),
        nn.LayerNorm(16, name="ln", dtype=dtype),
        nn.silu,  # with relu, a unit live in every row would have a shift that BatchNorm removes
        nn.Linear(16, 16, bias=False, name="fc2", dtype=dtype),  # BatchNorm takes a bias away
        nn.BatchNorm(16, name="bn", dtype=dtype),
        nn.Residual(nn.tanh, nn.Linear(16, 16, name="inner", dtype=dtype)),
        nn.gelu,
        nn.Linear(16, 3, name="fc3", dtype=dtype),
    )


def torch_network(torch, state):
    """The same network with the parameters of a state."""
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc3 = nn.Linear(5, 16), nn.Linear(16, 3)
            self.fc2 = nn.Linear(16, 16, bias=False)
            self.ln, self.bn, self.inner = nn.LayerNorm(16), nn.BatchNorm1d(16), nn.Linear(16, 16)

        def forward(self, x):
            h = self.bn(self.fc2(nn.functional.silu(self.ln(self.fc1(x)))))
            return self.fc3(nn.functional.gelu(h + self.inner(torch.tanh(h))))

    net = Net().double()
    with torch.no_grad():
        for name, p in net.named_parameters():
            value = state[name]
            p.copy_(torch.tensor(value.T if value.ndim == 2 else value))
    return net


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_equals_pytorch(name, target):
    torch = pytest.importorskip("torch")
    kind, options = OPTIMIZERS[name]
    x, y = sg.input("x", (ROWS, 5), dtype="float64"), sg.input("y", (ROWS,), dtype="int64")
    model = network("float64")
    loss = sg.losses.cross_entropy(model(x, training=True), y, label_smoothing=0.1)
    step = sg.train_step(loss, getattr(sg.optim, kind)(**options), seed=3, target=target)
    net = torch_network(torch, step.state)
    optimizer = getattr(torch.optim, kind)(net.parameters(), **options)
    for X, Y in batches():
        ours = step(X, Y)
        theirs = torch.nn.functional.cross_entropy(
            net(torch.tensor(X)), torch.tensor(Y), label_smoothing=0.1
        )
        optimizer.zero_grad()
        theirs.backward()
        optimizer.step()
        assert ours == pytest.approx(theirs.item(), rel=1e-10)
    for key, p in {**dict(net.named_parameters()), **dict(net.named_buffers())}.items():
        if key.endswith("num_batches_tracked"):
            continue
        value = p.detach().numpy()
        np.testing.assert_allclose(
            step.state[key], value.T if value.ndim == 2 else value, rtol=1e-10, atol=1e-10
        )
    predict = sg.function([x], model(x), state=step.state, target=target)
    net.eval()
    X = batches(1)[0][0]
    np.testing.assert_allclose(
        predict(X), net(torch.tensor(X)).detach().numpy(), rtol=1e-10, atol=1e-10
    )


class Everything:
    """Images and a word as input, and every kind of layer on the way to three classes."""

    def __init__(self):
        nn, f64 = sg.nn, {"dtype": "float64"}
        self.image = sg.input("image", (ROWS, 2, 9, 9), dtype="float64")
        self.word = sg.input("word", (ROWS,), dtype="int64")
        self.label = sg.input("label", (ROWS,), dtype="int64")
        self.body = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1, groups=2, name="conv1", **f64),
            nn.BatchNorm(4, momentum=0.2, name="bn", **f64),
            nn.PReLU(4, name="act", **f64),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.Conv2d(4, 6, 3, stride=2, bias=False, name="conv2", **f64),
            nn.GroupNorm(3, 6, name="gn", **f64),
            nn.silu,
            nn.AvgPool2d(2, stride=1),
            nn.Flatten(),
        )
        self.embedding = nn.Embedding(5, 6, padding_idx=0, name="word", **f64)
        self.head = nn.Sequential(
            nn.LayerNorm(6, name="ln", **f64),
            nn.Residual(nn.Linear(6, 6, name="inner", **f64), nn.tanh),
            nn.gelu,
            nn.Linear(6, 3, name="out", **f64),
        )

    def logits(self, training):
        return self.head(self.body(self.image, training=training) + self.embedding(self.word))


def torch_everything(torch, state):
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(2, 4, 3, padding=1, groups=2)
            self.bn, self.act = nn.BatchNorm2d(4, momentum=0.2), nn.PReLU(4)
            self.conv2 = nn.Conv2d(4, 6, 3, stride=2, bias=False)
            self.gn, self.word, self.ln = nn.GroupNorm(3, 6), nn.Embedding(5, 6, 0), nn.LayerNorm(6)
            self.inner, self.out = nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, image, word):
            F = nn.functional
            h = F.max_pool2d(self.act(self.bn(self.conv1(image))), 3, 2, 1)
            h = F.avg_pool2d(F.silu(self.gn(self.conv2(h))), 2, 1).flatten(1)
            h = self.ln(h + self.word(word))
            return self.out(F.gelu(h + torch.tanh(self.inner(h))))

    net = Net().double()
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.copy_(torch.tensor(turned(name, state[name])))
    return net


def turned(name, value):
    return value.T if name in ("inner.weight", "out.weight") else value


@pytest.mark.parametrize("target", TARGETS)
def test_one_network_with_everything(target):
    """All kinds of layers, a weighted and smoothed loss, a penalty, two optimizers; 50 steps."""
    torch = pytest.importorskip("torch")
    ours, weight = Everything(), np.array([0.5, 1.0, 2.0])
    logits = ours.logits(training=True)
    loss = sg.losses.cross_entropy(
        logits, ours.label, label_smoothing=0.1, weight=weight, ignore_index=-100
    ) + sg.regularizers.l2(ours.head, 0.01)
    groups = {
        "body": (sg.optim.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=0.01), ours.body),
        "head": sg.optim.AdamW(0.01, amsgrad=True, clip_norm=1.0),
    }
    step = sg.train_step(loss, groups, seed=2, target=target)
    net = torch_everything(torch, step.state)
    named = dict(net.named_parameters())
    first = [
        p for name, p in named.items() if name.split(".")[0] in "conv1 bn act conv2 gn".split()
    ]
    rest = [p for p in named.values() if not any(p is q for q in first)]
    optimizers = [
        torch.optim.SGD(first, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
        torch.optim.AdamW(rest, lr=0.01, amsgrad=True),
    ]
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        X = rng.normal(size=(ROWS, 2, 9, 9))
        word, label = rng.integers(0, 5, ROWS), rng.integers(0, 3, ROWS)
        label[rng.integers(0, ROWS)] = -100
        value = torch.nn.functional.cross_entropy(
            net(torch.tensor(X), torch.tensor(word)),
            torch.tensor(label),
            weight=torch.tensor(weight),
            label_smoothing=0.1,
        ) + 0.01 * sum((named[f"{layer}.weight"] ** 2).sum() for layer in ("inner", "out"))
        net.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        assert step(X, word, label) == pytest.approx(value.item(), rel=1e-10)
    kept = {k: v for k, v in net.named_buffers() if not k.endswith("tracked")}
    for name, p in {**named, **kept}.items():
        expected = turned(name, p.detach().numpy())
        np.testing.assert_allclose(step.state[name], expected, rtol=1e-10, atol=1e-10)
    net.eval()
    inputs = [ours.image, ours.word]
    predict = sg.function(inputs, ours.logits(False), state=step.state, target=target)
    expected = net(torch.tensor(X), torch.tensor(word)).detach().numpy()
    np.testing.assert_allclose(predict(X, word), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("target", TARGETS)
def test_the_rate_is_set_without_compiling_again(target):
    W = sg.parameter("W", (3,), init=np.ones(3))
    step = sg.train_step(sg.sum(W), sg.optim.SGD(0.5), target=target)
    step()
    step.lr = 0.25
    step()
    np.testing.assert_allclose(step.state["W"], 0.25)
    for rate in (float("nan"), -1.0):
        with pytest.raises(sg.errors.InputError, match="learning rate"):
            step.lr = rate
    assert step.lr == 0.25


@pytest.mark.parametrize("target", TARGETS)
def test_unnamed_models_start_equal(target):
    def losses():
        x, y = sg.input("x", (ROWS, 5)), sg.input("y", (ROWS,), dtype="int32")
        model = sg.nn.Sequential(sg.nn.Linear(5, 8), sg.nn.silu, sg.nn.Linear(8, 3))
        loss = sg.losses.cross_entropy(model(x), y)
        step = sg.train_step(loss, sg.optim.Adam(0.01), seed=1, target=target)
        return [step(X.astype("float32"), Y) for X, Y in batches()], list(step.state)

    first, second = losses(), losses()
    assert first == second
    assert first[1][:2] == ["linear1.weight", "linear1.bias"]


@pytest.mark.parametrize("target", TARGETS)
def test_a_constraint_and_a_penalty_train(target):
    x, y = sg.input("x", (ROWS, 5)), sg.input("y", (ROWS,), dtype="int32")
    layer = sg.nn.Linear(5, 3, name="fc")
    loss = sg.losses.cross_entropy(layer(x), y) + sg.regularizers.l1(layer, 0.01)
    optimizer = sg.optim.SGD(0.5, clip_norm=1.0, constraints=sg.constraints.max_norm(0.3))
    step = sg.train_step(loss, optimizer, target=target)
    for X, Y in batches():
        assert np.isfinite(step(X.astype("float32"), Y))
    assert np.linalg.norm(step.state["fc.weight"], axis=0).max() < 0.3001
