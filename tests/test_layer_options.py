"""Every layer in every option, trained natively for fifty steps: equal to PyTorch's to 1e-10.

Rows C1 (fully connected), C2 (convolution), C3 (pooling), C4 (activations), C5 (softmax layers), C7
(batch normalisation, running statistics included), C9 (residual connections).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symgrad as sg

torch = pytest.importorskip("torch")
nn, theirs = sg.nn, torch.nn
STEPS, TOLERANCE = 50, 1e-10
DOUBLE = {"dtype": torch.float64}
ROWS, IMAGE = (6, 5), (3, 4, 7, 6)


def function(name: str, **options: Any) -> Callable[..., Any]:
    """A function of torch.nn.functional with its options."""
    return lambda x: getattr(theirs.functional, name)(x, **options)


# Ours, PyTorch's, the shape of the input.
Case = tuple[Callable[[], Any], Callable[[], Any], tuple[int, ...]]
LAYERS: dict[str, Case] = {
    "linear": (lambda: nn.Linear(5, 3), lambda: theirs.Linear(5, 3, **DOUBLE), ROWS),
    "linear without bias": (
        lambda: nn.Linear(5, 3, bias=False),
        lambda: theirs.Linear(5, 3, bias=False, **DOUBLE),
        (2, 3, 5),
    ),
    "conv1d": (
        lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2),
        lambda: theirs.Conv1d(4, 6, 3, stride=2, padding=1, groups=2, **DOUBLE),
        (3, 4, 9),
    ),
    "conv2d": (lambda: nn.Conv2d(4, 5, 3), lambda: theirs.Conv2d(4, 5, 3, **DOUBLE), IMAGE),
    "conv2d options": (
        lambda: nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 2), (1, 2), groups=2, bias=False),
        lambda: theirs.Conv2d(4, 6, (3, 2), (2, 1), (1, 2), (1, 2), 2, bias=False, **DOUBLE),
        IMAGE,
    ),
    "conv2d same": (
        lambda: nn.Conv2d(4, 4, (3, 4), padding="same", groups=4),
        lambda: theirs.Conv2d(4, 4, (3, 4), padding="same", groups=4, **DOUBLE),
        IMAGE,
    ),
    "conv_transpose1d": (
        lambda: nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1),
        lambda: theirs.ConvTranspose1d(4, 6, 3, 2, 1, 1, **DOUBLE),
        (3, 4, 5),
    ),
    "conv_transpose2d": (
        lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2, bias=False, dilation=2),
        lambda: theirs.ConvTranspose2d(4, 6, 3, 2, 1, 1, 2, False, 2, **DOUBLE),
        (2, 4, 4, 3),
    ),
    "max_pool1d": (lambda: nn.MaxPool1d(3, 2, 1), lambda: theirs.MaxPool1d(3, 2, 1), (3, 4, 9)),
    "max_pool2d": (lambda: nn.MaxPool2d(2), lambda: theirs.MaxPool2d(2), IMAGE),
    "max_pool2d options": (
        lambda: nn.MaxPool2d((3, 2), stride=(2, 1), padding=1),
        lambda: theirs.MaxPool2d((3, 2), stride=(2, 1), padding=1),
        IMAGE,
    ),
    "avg_pool1d": (lambda: nn.AvgPool1d(3, 2, 1), lambda: theirs.AvgPool1d(3, 2, 1), (3, 4, 9)),
    "avg_pool2d": (lambda: nn.AvgPool2d(2), lambda: theirs.AvgPool2d(2), IMAGE),
    "avg_pool2d options": (
        lambda: nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
        lambda: theirs.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
        IMAGE,
    ),
    "global_avg_pool2d": (
        nn.GlobalAvgPool2d,
        lambda: lambda x: x.mean((2, 3)),
        IMAGE,
    ),
    "batch_norm": (lambda: nn.BatchNorm(5), lambda: theirs.BatchNorm1d(5, **DOUBLE), ROWS),
    "batch_norm of images": (
        lambda: nn.BatchNorm(4, momentum=0.3, eps=1e-2),
        lambda: theirs.BatchNorm2d(4, momentum=0.3, eps=1e-2, **DOUBLE),
        IMAGE,
    ),
    "batch_norm without scale": (
        lambda: nn.BatchNorm(4, affine=False),
        lambda: theirs.BatchNorm2d(4, affine=False, **DOUBLE),
        IMAGE,
    ),
    "layer_norm": (lambda: nn.LayerNorm(5), lambda: theirs.LayerNorm(5, **DOUBLE), ROWS),
    "layer_norm options": (
        lambda: nn.LayerNorm((7, 6), eps=0.1),
        lambda: theirs.LayerNorm((7, 6), eps=0.1, **DOUBLE),
        IMAGE,
    ),
    "layer_norm without scale": (
        lambda: nn.LayerNorm(5, affine=False),
        lambda: theirs.LayerNorm(5, elementwise_affine=False, **DOUBLE),
        ROWS,
    ),
    "group_norm": (lambda: nn.GroupNorm(2, 4), lambda: theirs.GroupNorm(2, 4, **DOUBLE), IMAGE),
    "group_norm options": (
        lambda: nn.GroupNorm(4, 4, eps=0.1, affine=False),
        lambda: theirs.GroupNorm(4, 4, eps=0.1, affine=False, **DOUBLE),
        IMAGE,
    ),
    "prelu": (nn.PReLU, lambda: theirs.PReLU(**DOUBLE), ROWS),
    "prelu by channel": (
        lambda: nn.PReLU(4, init=0.1),
        lambda: theirs.PReLU(4, init=0.1, **DOUBLE),
        IMAGE,
    ),
    "residual": (
        lambda: nn.Residual(nn.tanh, nn.Linear(5, 5, dtype="float64")),
        lambda: Skip(),
        ROWS,
    ),
    "flatten": (nn.Flatten, theirs.Flatten, IMAGE),
    **{
        name: (
            lambda n=name, o=ours: Apply(n, o),
            lambda n=known, o=options: function(n, **o),
            ROWS,
        )
        for name, ours, known, options in [
            ("relu", {}, "relu", {}),
            ("leaky_relu", {"negative_slope": 0.2}, "leaky_relu", {"negative_slope": 0.2}),
            ("elu", {"alpha": 0.5}, "elu", {"alpha": 0.5}),
            ("selu", {}, "selu", {}),
            ("gelu", {"approximate": "tanh"}, "gelu", {"approximate": "tanh"}),
            ("silu", {}, "silu", {}),
            ("softplus", {"beta": 2.0}, "softplus", {"beta": 2.0, "threshold": 1e3}),
            ("sigmoid", {}, "sigmoid", {}),
            ("hard_sigmoid", {}, "hardsigmoid", {}),
            ("tanh", {}, "tanh", {}),
            ("softmax", {"axis": 0}, "softmax", {"dim": 0}),
            ("log_softmax", {}, "log_softmax", {"dim": -1}),
        ]
    },
}


class Apply:
    """A function of sg.nn in the place of a layer."""

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        self.name, self.options = name, options

    def __call__(self, x: sg.Expr) -> sg.Expr:
        return getattr(nn, self.name)(x, **self.options)  # type: ignore[no-any-return]


class Skip(theirs.Module):
    """x + W tanh(x) + b."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = theirs.Linear(5, 5, **DOUBLE)

    def forward(self, x: Any) -> Any:
        return x + self.inner(torch.tanh(x))


def made(make: Callable[[], Any]) -> Any:
    """Our layer, in float64."""
    layer = make()
    if isinstance(layer, nn.Module):
        layer.dtype = "float64"
    return layer


def leaves(layer: Any) -> list[Any]:
    if not isinstance(layer, nn.Module):
        return []
    return [*layer.parameters(), *layer.states()]


def pairs(state: Any, layer: Any, other: Any) -> list[tuple[Any, Any]]:
    """Our parameters and states beside PyTorch's; those count batches too."""
    ours = leaves(layer)
    if not isinstance(other, theirs.Module):
        return []
    named = {**dict(other.named_parameters()), **dict(other.named_buffers())}
    named.pop("num_batches_tracked", None)
    known = {name.split(".")[-1]: tensor for name, tensor in named.items()}
    assert len(ours) == len(known)
    return [(p, known[p.name.split(".")[-1]]) for p in ours]


def turned(value: Any, layer: Any) -> Any:
    """A weight as PyTorch has it: (out, in) of a fully connected layer."""
    linear = isinstance(layer, (nn.Linear, nn.Residual))
    return value.T if linear and value.ndim == 2 else value


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", LAYERS)
def test_fifty_steps_equal_pytorchs(name: str) -> None:
    ours, other, shape = LAYERS[name]
    layer, known = made(ours), other()
    rng = np.random.default_rng(0)
    start = rng.normal(size=shape[1:])
    x = sg.input("x", shape, dtype="float64")
    scale = sg.parameter("scale", shape[1:], start, "float64")
    training = nn.module.takes_training(layer)
    y = layer(x * scale, training=True) if training else layer(x * scale)
    t = sg.input("t", y.shape, dtype="float64")
    step = sg.train_step(
        sg.losses.mse_loss(y, t), sg.optim.SGD(0.02, momentum=0.9, weight_decay=0.01)
    )
    both = pairs(step.state, layer, known)
    with torch.no_grad():
        for p, tensor in both:
            tensor.copy_(torch.tensor(turned(step.state[p], layer)))
    factor = torch.tensor(start, requires_grad=True)
    trained = [factor, *(known.parameters() if isinstance(known, theirs.Module) else ())]
    optimizer = torch.optim.SGD(trained, lr=0.02, momentum=0.9, weight_decay=0.01)
    for _ in range(STEPS):
        X, T = rng.normal(size=shape), rng.normal(size=y.shape)
        loss = ((known(torch.tensor(X) * factor) - torch.tensor(T)) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert step(X, T) == pytest.approx(loss.item(), rel=TOLERANCE)
    close(step.state["scale"], factor)
    for p, tensor in both:
        close(turned(step.state[p], layer), tensor)
    if training:
        known.eval()
        tested = sg.function([x], layer(x), state=step.state, target="interpret")
        close(tested(X), known(torch.tensor(X)))


def close(ours: Any, other: Any) -> None:
    np.testing.assert_allclose(ours, other.detach().numpy(), rtol=TOLERANCE, atol=TOLERANCE)


def test_fifty_steps_of_an_embedding_with_padding() -> None:
    layer = nn.Embedding(7, 4, padding_idx=2, dtype="float64")
    known = theirs.Embedding(7, 4, padding_idx=2, **DOUBLE)
    i = sg.input("i", (3, 5), dtype="int64")
    t = sg.input("t", (3, 5, 4), dtype="float64")
    step = sg.train_step(sg.losses.mse_loss(layer(i), t), sg.optim.Adam(0.05))
    weight = layer.weight
    np.testing.assert_array_equal(step.state[weight][2], 0)
    known.weight.data.copy_(torch.tensor(step.state[weight]))
    optimizer = torch.optim.Adam(known.parameters(), lr=0.05)
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        index, T = rng.integers(0, 7, (3, 5)), rng.normal(size=(3, 5, 4))
        loss = ((known(torch.tensor(index)) - torch.tensor(T)) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert step(index, T) == pytest.approx(loss.item(), rel=TOLERANCE)
    close(step.state[weight], known.weight)
    np.testing.assert_array_equal(step.state[weight][2], 0)


@pytest.mark.parametrize("causal, bias", [(False, True), (True, False)])
def test_fifty_steps_of_attention(causal: bool, bias: bool) -> None:
    layer = nn.MultiHeadAttention(8, 2, bias=bias, name="mha", dtype="float64")
    known = theirs.MultiheadAttention(8, 2, bias=bias, batch_first=True, **DOUBLE)
    x = sg.input("x", (2, 5, 8), dtype="float64")
    t = sg.input("t", (2, 5, 8), dtype="float64")
    step = sg.train_step(sg.losses.mse_loss(layer(x, causal=causal), t), sg.optim.SGD(0.1, 0.9))

    def joined(kind: str) -> Any:
        inner = [step.state[f"mha.{part}.{kind}"] for part in ("query", "key", "value")]
        return np.concatenate([v.T for v in inner])

    def both() -> list[tuple[Any, Any]]:
        found = [(joined("weight"), known.in_proj_weight)]
        found.append((step.state["mha.out.weight"].T, known.out_proj.weight))
        if bias:
            found.append((joined("bias"), known.in_proj_bias))
            found.append((step.state["mha.out.bias"], known.out_proj.bias))
        return found

    with torch.no_grad():
        for ours, tensor in both():
            tensor.copy_(torch.tensor(ours))
    optimizer = torch.optim.SGD(known.parameters(), lr=0.1, momentum=0.9)
    mask = torch.triu(torch.ones(5, 5, dtype=torch.bool), 1) if causal else None
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        X, T = rng.normal(size=(2, 5, 8)), rng.normal(size=(2, 5, 8))
        z = torch.tensor(X)
        loss = ((known(z, z, z, attn_mask=mask)[0] - torch.tensor(T)) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert step(X, T) == pytest.approx(loss.item(), rel=TOLERANCE)
    for ours, tensor in both():
        close(ours, tensor)
