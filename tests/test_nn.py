"""Layers and functions: values and gradients equal PyTorch's to 1e-10; names; sharing; errors."""

import gc

import numpy as np
import pytest
from graphs import evaluate, initial_values

import symgrad as sg
from symgrad import names
from symgrad.errors import DTypeError, InputError, ShapeError
from symgrad.nn import statistics
from symgrad.node import Input, Parameter, toposort

RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(size=(5, 6)) * 4, np.zeros((1, 6))])

# name: (ours, PyTorch's functional, its options)
FUNCTIONS = {
    "relu": (sg.nn.relu, "relu", {}),
    "leaky_relu": (lambda x: sg.nn.leaky_relu(x, 0.2), "leaky_relu", {"negative_slope": 0.2}),
    "leaky_relu default": (sg.nn.leaky_relu, "leaky_relu", {}),
    "elu": (sg.nn.elu, "elu", {}),
    "elu alpha": (lambda x: sg.nn.elu(x, 0.5), "elu", {"alpha": 0.5}),
    "selu": (sg.nn.selu, "selu", {}),
    "gelu": (sg.nn.gelu, "gelu", {}),
    "gelu tanh": (lambda x: sg.nn.gelu(x, "tanh"), "gelu", {"approximate": "tanh"}),
    "silu": (sg.nn.silu, "silu", {}),
    "softplus": (sg.nn.softplus, "softplus", {"threshold": 100}),
    "softplus beta": (lambda x: sg.nn.softplus(x, 2), "softplus", {"beta": 2, "threshold": 100}),
    "sigmoid": (sg.nn.sigmoid, "sigmoid", {}),
    "hard_sigmoid": (sg.nn.hard_sigmoid, "hardsigmoid", {}),
    "tanh": (sg.nn.tanh, "tanh", {}),
    "softmax": (sg.nn.softmax, "softmax", {"dim": -1}),
    "softmax axis 0": (lambda x: sg.nn.softmax(x, axis=0), "softmax", {"dim": 0}),
    "log_softmax": (sg.nn.log_softmax, "log_softmax", {"dim": -1}),
    "layer_norm": (sg.nn.layer_norm, "layer_norm", {"normalized_shape": (6,)}),
    "layer_norm both": (
        lambda x: sg.nn.layer_norm(x, (6, 6), eps=0.1),
        "layer_norm",
        {"normalized_shape": (6, 6), "eps": 0.1},
    ),
    "group_norm": (lambda x: sg.nn.group_norm(x, 3), "group_norm", {"num_groups": 3}),
}


def both(ours, theirs, *arrays):
    """Values and gradients by our interpreter and by PyTorch, for a random cotangent."""
    torch = pytest.importorskip("torch")
    inputs = [Input(f"x{i}", a.shape, "float64") for i, a in enumerate(arrays)]
    y = ours(*inputs)
    cotangent = np.random.default_rng(1).normal(size=y.shape)
    slopes = sg.grad((y * sg.constant(cotangent)).sum(), inputs)
    found = evaluate([y, *slopes], dict(zip(inputs, arrays)))
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    value = theirs(*tensors)
    value.backward(torch.tensor(cotangent))
    return found, [value.detach().numpy(), *(t.grad.numpy() for t in tensors)]


def close(pair, tolerance=1e-10):
    for a, b in zip(*pair):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_equals_pytorch(name):
    functional = pytest.importorskip("torch").nn.functional
    ours, theirs, options = FUNCTIONS[name]
    close(both(ours, lambda x: getattr(functional, theirs)(x, **options), X))


def test_extreme_inputs_are_finite_after_rewriting():
    x = Input("x", (5,), "float64")
    at = {x: np.array([-1000.0, -30, 0, 30, 1000])}
    for name in sg.nn.__all__:
        function = getattr(sg.nn, name)
        takes_axes = ("prelu", "batch_norm", "group_norm", "attention")
        if not callable(function) or isinstance(function, type) or name in takes_axes:
            continue
        if "conv" in name or "pool" in name:  # of images; in test_convolution and test_pooling
            continue
        if name in ("dropout", "label_noise", "parameters_of", "record", "updates_of"):
            continue
        y = function(x)
        for e in (y, sg.grad(y.sum(), x)):
            assert np.isfinite(evaluate(sg.simplify(e), at)).all(), name


def test_prelu():
    functional = pytest.importorskip("torch").nn.functional
    for slope in (np.array([0.3]), RNG.normal(size=6)):
        close(both(sg.nn.prelu, functional.prelu, X, slope))
    image = RNG.normal(size=(2, 6, 3, 3))
    close(both(sg.nn.prelu, functional.prelu, image, RNG.normal(size=6)))
    with pytest.raises(ShapeError, match="prelu"):
        sg.nn.prelu(Input("x", (2, 6)), Input("w", (5,)))


def test_attention():
    functional = pytest.importorskip("torch").nn.functional
    theirs = functional.scaled_dot_product_attention
    q, k, v = (RNG.normal(size=(2, 3, 5, 4)) for _ in range(3))
    close(both(sg.nn.attention, theirs, q, k, v))
    close(
        both(
            lambda *a: sg.nn.attention(*a, causal=True),
            lambda *a: theirs(*a, is_causal=True),
            q,
            k,
            v,
        )
    )
    torch = pytest.importorskip("torch")
    allowed = RNG.uniform(size=(5, 5)) > 0.3
    allowed[:, 0] = True
    close(
        both(
            lambda *a: sg.nn.attention(*a, mask=allowed, scale=0.7),
            lambda *a: theirs(*a, attn_mask=torch.tensor(allowed), scale=0.7),
            q,
            k,
            v,
        )
    )
    added = RNG.normal(size=(5, 5))
    close(
        both(
            lambda *a: sg.nn.attention(*a, mask=added),
            lambda *a: theirs(*a, attn_mask=torch.tensor(added)),
            q,
            k,
            v,
        )
    )


# -- layers -----------------------------------------------------------------------------------
def check_layer(layer, theirs, x, call=lambda layer, x: layer(x)):
    """Output and all gradients of a layer, with its parameters copied into PyTorch's."""
    torch = pytest.importorskip("torch")
    node = Input("x", x.shape, "float64")
    y = call(layer, node)
    cotangent = np.random.default_rng(1).normal(size=y.shape)
    params = layer.parameters()
    slopes = sg.grad((y * sg.constant(cotangent)).sum(), [node, *params])
    rng = np.random.default_rng(2)
    values = {p: rng.normal(size=p.shape) for p in params}
    found = evaluate([y, *slopes], {**values, node: x})
    own = dict(theirs.named_parameters())
    assert len(own) == len(params)
    with torch.no_grad():
        for p in params:
            label = p.name.split(".", 1)[1]
            value = values[p].T if isinstance(layer, sg.nn.Linear) else values[p]
            own[label].copy_(torch.tensor(value))
    tensor = torch.tensor(x, requires_grad=True)
    out = theirs(tensor)
    out.backward(torch.tensor(cotangent))
    close(([found[0]], [out.detach().numpy()]))
    close(([found[1]], [tensor.grad.numpy()]))
    for p, g in zip(params, found[2:]):
        expected = own[p.name.split(".", 1)[1]].grad.numpy()
        close(([g.T if isinstance(layer, sg.nn.Linear) and g.ndim == 2 else g], [expected]))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 6), (6,), (2, 3, 6)])
def test_linear(shape, bias):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Linear(6, 4, bias=bias, dtype=torch.float64)
    ours = sg.nn.Linear(6, 4, bias=bias, name="fc", dtype="float64")
    check_layer(ours, theirs, RNG.normal(size=shape))


def test_normalising_layers():
    torch = pytest.importorskip("torch")
    nn, f64 = torch.nn, {"dtype": torch.float64}
    image = RNG.normal(size=(3, 6, 2, 2)) * 3 + 1
    layer = sg.nn.LayerNorm((2, 2), name="n", dtype="float64")
    check_layer(layer, nn.LayerNorm((2, 2), **f64), image)
    layer = sg.nn.GroupNorm(3, 6, name="n", dtype="float64")
    check_layer(layer, nn.GroupNorm(3, 6, **f64), image)
    check_layer(sg.nn.PReLU(6, name="n", dtype="float64"), nn.PReLU(6, **f64), image)

    def train(layer, x):
        return layer(x, training=True)

    batch_norm = sg.nn.BatchNorm(6, name="n", dtype="float64")
    check_layer(batch_norm, nn.BatchNorm2d(6, **f64), image, train)
    check_layer(batch_norm, nn.BatchNorm1d(6, **f64), X, train)


def test_running_statistics_equal_pytorch():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.BatchNorm1d(6, momentum=0.3, dtype=torch.float64)
    ours = sg.nn.BatchNorm(6, momentum=0.3, name="bn", dtype="float64")
    x = Input("x", (6, 6), "float64")
    updates = sg.nn.updates_of(ours(x, training=True).sum())
    assert {s.name for s in updates} == {"bn.running_mean", "bn.running_var"}
    values = {}
    for i in range(5):
        batch = X * (i + 1) + i
        theirs(torch.tensor(batch))
        values.update(evaluate(updates, {**values, x: batch}))
    np.testing.assert_allclose(values[ours.running_mean], theirs.running_mean.numpy(), rtol=1e-12)
    np.testing.assert_allclose(values[ours.running_var], theirs.running_var.numpy(), rtol=1e-12)
    theirs.eval()
    tested = evaluate(ours(x), {**values, x: X})
    np.testing.assert_allclose(tested, theirs(torch.tensor(X)).detach().numpy(), rtol=1e-10)


def test_statistics_are_recorded_once_per_operand():
    x, y = Input("x", (4, 3)), Input("y", (4, 3))
    layer = sg.nn.BatchNorm(3, name="bn")
    assert layer(x, training=True) is layer(x, training=True)
    assert sg.nn.updates_of(layer(x)) == {}  # at test time nothing moves
    a = layer(x, training=True)
    b = layer(y, training=True)
    mean = layer.running_mean
    once = sg.nn.updates_of(a.sum())[mean]
    twice = sg.nn.updates_of((a + b).sum())[mean]
    at = {x: np.ones((4, 3)), y: np.full((4, 3), 2.0)}
    np.testing.assert_allclose(evaluate(once, at), 0.1)
    np.testing.assert_allclose(evaluate(twice, at), 0.9 * 0.1 + 0.2)  # x first, then y


def test_records_die_with_their_nodes():
    gc.collect()
    before = len(statistics._records)
    y = sg.nn.BatchNorm(3)(Input("x", (4, 3)), training=True)
    assert len(statistics._records) == before + 1
    del y
    gc.collect()
    assert len(statistics._records) == before


def test_run_time_batch_statistics():
    n = sg.dim("n", max=8)
    x = Input("x", (n, 3), "float64")
    layer = sg.nn.BatchNorm(3, name="bn", dtype="float64")
    updates = sg.nn.updates_of(layer(x, training=True))
    for rows in (1, 2, 8):
        batch = RNG.normal(size=(rows, 3))
        var = evaluate(updates, {x: batch})[layer.running_var]
        unbiased = batch.var(axis=0, ddof=1) if rows > 1 else np.zeros(3)
        np.testing.assert_allclose(var, 0.9 + 0.1 * unbiased)


def test_multi_head_attention():
    torch = pytest.importorskip("torch")
    ours = sg.nn.MultiHeadAttention(8, 2, name="mha", dtype="float64")
    theirs = torch.nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64)
    x = Input("x", (3, 5, 8), "float64")
    y = ours(x, causal=True)
    values = initial_values(y)
    values = {p: RNG.normal(size=p.shape) for p in values}
    projections = (ours.query, ours.key, ours.value)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(
            torch.tensor(np.concatenate([values[p.weight].T for p in projections]))
        )
        theirs.in_proj_bias.copy_(
            torch.tensor(np.concatenate([values[p.bias] for p in projections]))
        )
        theirs.out_proj.weight.copy_(torch.tensor(values[ours.out.weight].T))
        theirs.out_proj.bias.copy_(torch.tensor(values[ours.out.bias]))
    at = RNG.normal(size=(3, 5, 8))
    tensor = torch.tensor(at)
    mask = torch.triu(torch.ones(5, 5, dtype=torch.bool), diagonal=1)
    expected, _ = theirs(tensor, tensor, tensor, attn_mask=mask)
    np.testing.assert_allclose(
        evaluate(y, {**values, x: at}), expected.detach().numpy(), rtol=1e-10, atol=1e-12
    )
    assert [p.name for p in ours.parameters()][:2] == ["mha.query.weight", "mha.query.bias"]
    with pytest.raises(ShapeError, match="heads"):
        sg.nn.MultiHeadAttention(8, 3)


def test_embedding():
    layer = sg.nn.Embedding(10, 4, name="tokens", dtype="float64")
    t = Input("t", (2, 3), "int32")
    y = layer(t)
    at = {t: [[0, 9, 3], [3, 3, 1]]}
    weight = initial_values(y)[layer.weight]
    np.testing.assert_array_equal(evaluate(y, at), weight[np.array(at[t])])
    slope = evaluate(sg.grad(y.sum(), layer.weight), at)
    np.testing.assert_array_equal(slope[:, 0], [1, 1, 0, 3, 0, 0, 0, 0, 0, 1])
    assert weight.std() == pytest.approx(1, abs=0.4)


def test_default_initialisation_is_pytorchs():
    layer = sg.nn.Linear(100, 500, name="fc")
    values = initial_values(layer(Input("x", (1, 100))))
    for value in values.values():
        assert np.abs(value).max() <= 0.1
        assert np.abs(value).max() > 0.098


# -- dropout ----------------------------------------------------------------------------------
def test_dropout():
    x = Input("x", (200, 50), "float64")
    layer = sg.nn.Dropout(0.3)
    assert layer(x) is x and sg.nn.Dropout(0.0)(x, training=True) is x
    y = layer(x, training=True)
    value, slope = evaluate([y, sg.grad(y.sum(), x)], {x: np.ones((200, 50))})
    assert set(np.unique(value)) == {0.0, 1 / 0.7}
    assert (value == 0).mean() == pytest.approx(0.3, abs=0.02)
    np.testing.assert_array_equal(slope, value)
    assert layer(x, training=True) is not y  # other numbers for every call
    for p in (1.0, -0.1, 2, float("nan"), "half", True):
        with pytest.raises(InputError, match=r"\[0, 1\)"):
            sg.nn.Dropout(p)
        with pytest.raises(InputError, match=r"\[0, 1\)"):
            sg.nn.dropout(x, p)


# -- containers, names ------------------------------------------------------------------------
def test_sequential_passes_training_only_where_it_is_taken():
    seen = []

    def mine(x, training):
        seen.append(training)
        return x

    model = sg.nn.Sequential(
        sg.nn.Linear(3, 3), sg.nn.relu, mine, sg.nn.Dropout(0.5), sg.nn.Residual(sg.nn.Dropout(0.5))
    )
    x = Input("x", (2, 3))
    assert any(e.kind == "random" for e in toposort([model(x, training=True)]))
    assert not any(e.kind == "random" for e in toposort([model(x)]))
    assert seen == [True, False]
    assert len(model) == 5 and model[1] is sg.nn.relu
    with pytest.raises(InputError, match="element 0"):
        sg.nn.Sequential(3)


def test_reusing_a_layer_shares_its_parameters():
    layer = sg.nn.Linear(3, 3, name="fc")
    model = sg.nn.Sequential(layer, sg.nn.tanh, layer)
    assert [p.name for p in model.parameters()] == ["fc.weight", "fc.bias"]
    y = model(Input("x", (2, 3)))
    assert sum(isinstance(e, Parameter) for e in toposort([y])) == 2


def test_names():
    named = sg.nn.Sequential(sg.nn.Linear(2, 2), sg.nn.relu, sg.nn.PReLU(name="act"), name="body")
    assert [p.name for p in named.parameters()] == [
        "body.0.weight",
        "body.0.bias",
        "body.act.weight",
    ]

    class Net(sg.nn.Module):
        def __init__(self):
            self.first = sg.nn.Linear(2, 2)
            self.blocks = [sg.nn.Residual(sg.nn.Linear(2, 2, bias=False)) for _ in range(2)]
            self.scale = sg.parameter("scale", ())

        def __call__(self, x, training=False):
            x = self.first(x) * self.scale
            for block in self.blocks:
                x = block(x, training)
            return x

    net = Net()
    y = net(Input("x", (3, 2)))
    assert {p.name for p in net.parameters()} == {
        "first.weight",
        "first.bias",
        "blocks.0.0.weight",
        "blocks.1.0.weight",
        "scale",
    }
    assert {e for e in toposort([y]) if isinstance(e, Parameter)} == set(net.parameters())


def test_automatic_names_are_numbered_by_graph():
    def build():
        model = sg.nn.Sequential(
            sg.nn.Linear(2, 2), sg.nn.Linear(2, 2), sg.nn.MultiHeadAttention(2, 1)
        )
        model(Input("x", (1, 3, 2)))
        return model.parameters()

    first, second = build(), build()
    assert not {p.name for p in first} & {p.name for p in second}  # no clash in one graph
    names.settle(first)
    names.settle(second)
    assert [p.name for p in first] == [p.name for p in second]
    assert first[0].name == "linear1.weight" and first[3].name == "linear2.bias"
    assert first[4].name == "multi_head_attention1.query.weight"
    third = build()
    names.settle(third, taken=["linear1.weight"])
    assert third[0].name == "linear2.weight"


def test_residual_and_flatten():
    x = Input("x", (2, 3), "float64")
    block = sg.nn.Residual(sg.nn.tanh)
    np.testing.assert_allclose(evaluate(block(x), {x: X[:2, :3]}), X[:2, :3] + np.tanh(X[:2, :3]))
    wide = sg.nn.Residual(sg.nn.Linear(3, 5), shortcut=sg.nn.Linear(3, 5))
    assert wide(x).shape == (2, 5) and len(wide.parameters()) == 4
    with pytest.raises(ShapeError, match="shortcut"):
        sg.nn.Residual(sg.nn.Linear(3, 5))(x)
    n = sg.dim("n", max=4)
    assert sg.nn.Flatten()(Input("i", (n, 3, 2, 2))).shape == (n, 12)


def test_unnamed_residuals_share_no_names():
    """Two blocks with shortcuts in one network: each shortcut has a number of its own."""

    def block(i, o):
        return sg.nn.Residual(sg.nn.Linear(i, o), shortcut=sg.nn.Sequential(sg.nn.Linear(i, o)))

    model = sg.nn.Sequential(block(2, 3), block(3, 4))
    y = model(sg.input("x", (5, 2)))
    assert sg.train_step(y.sum(), sg.optim.SGD(0.1), target="interpret").state.keys()
    assert len({p.name for p in model.parameters()}) == 8


def test_errors_name_the_layer():
    x = Input("x", (2, 3))
    with pytest.raises(ShapeError, match=r"linear 'fc': the input \(2, 3\) must end in 4 features"):
        sg.nn.Linear(4, 2, name="fc")(x)
    with pytest.raises(ShapeError, match="in_features must be a positive int, got 0"):
        sg.nn.Linear(0, 2)
    with pytest.raises(ShapeError, match="batch_norm 'bn': takes"):
        sg.nn.BatchNorm(4, name="bn")(x)
    with pytest.raises(ShapeError, match="layer_norm"):
        sg.nn.LayerNorm(4)(x)
    with pytest.raises(ShapeError, match="groups"):
        sg.nn.GroupNorm(2, 3)
    with pytest.raises(DTypeError, match="relu: takes float32 or float64"):
        sg.nn.relu(Input("i", (2,), "int32"))
    with pytest.raises(InputError, match="approximate"):
        sg.nn.gelu(x, "erf")
    with pytest.raises(InputError, match="float32 or float64"):
        sg.nn.Linear(3, 3, dtype="int32")
    with pytest.raises(InputError, match="name"):
        sg.nn.Linear(3, 3, name="")


# -- penalties --------------------------------------------------------------------------------
def test_regularizers_leave_biases_out():
    """Penalties are for weights, by the kind of parameter (rows F1, F2, F3)."""
    layer = sg.nn.Linear(3, 4, name="fc", dtype="float64")
    W, b = layer.parameters()
    at = {W: RNG.normal(size=(3, 4)), b: RNG.normal(size=4)}
    reg = sg.regularizers
    w = at[W]
    for penalty, expected in (
        (reg.l1(layer, 0.1), 0.1 * np.abs(w).sum()),
        (reg.l2([W, b], 0.1), 0.1 * (w**2).sum()),
        (reg.l2(layer, biases=True), (w**2).sum() + (at[b] ** 2).sum()),
        (reg.group_lasso(W), 2 * np.linalg.norm(w, axis=1).sum()),
        (reg.tie(W, W * 2, 3.0), 3 * (w**2).sum()),
    ):
        assert evaluate(penalty, at) == pytest.approx(expected, rel=1e-12)
    slope = sg.grad(reg.l2(W, 0.1), W)
    np.testing.assert_allclose(evaluate(slope, at), 0.2 * w)
    zero = evaluate(sg.grad(reg.group_lasso(W), W), {W: np.zeros((3, 4))})
    np.testing.assert_array_equal(zero, np.zeros((3, 4)))
    with pytest.raises(InputError, match="no weights"):
        reg.l1(b)
    with pytest.raises(ShapeError, match="tie"):
        reg.tie(W, b)
