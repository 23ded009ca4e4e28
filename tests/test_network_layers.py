"""Networks of `sg.nn` layers against the same networks of PyTorch's, in float64 and float32.

Weights are copied from symgrad's state; losses, parameters and running statistics must agree after
some steps, and inference over the shared state must too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symgrad as sg

torch = pytest.importorskip("torch")
tn = torch.nn
torch.set_num_threads(1)

RNG = np.random.default_rng(5)
DTYPES = {"float64": torch.float64, "float32": torch.float32}
TOLERANCE = {"float64": 1e-10, "float32": 2e-5}


def close(found: Any, true: Any, dtype: str, what: str = "", slack: float = 1.0) -> None:
    found, true = np.asarray(found, np.float64), np.asarray(true, np.float64)
    assert found.shape == true.shape, what
    error = np.abs(found - true).max(initial=0) / max(1.0, np.abs(true).max(initial=0))
    assert error <= slack * TOLERANCE[dtype], f"{what}: {error:.3g}"


def copy_linear(layer: Any, state: Any, name: str) -> None:
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(state[f"{name}.weight"].T.copy()))
        if layer.bias is not None:
            layer.bias.copy_(torch.tensor(state[f"{name}.bias"]))


def same_linear(layer: Any, state: Any, name: str, dtype: str) -> None:
    close(state[f"{name}.weight"], layer.weight.detach().numpy().T, dtype, name)
    if layer.bias is not None:
        close(state[f"{name}.bias"], layer.bias.detach().numpy(), dtype, name)


# -- batch normalisation: two graphs over one state ------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_batch_norm(dtype: str) -> None:
    n = sg.dim("n", max=40)
    x, y = sg.input("x", (n, 7), dtype=dtype), sg.input("y", (n,), dtype="int32")
    net = sg.nn.Sequential(
        sg.nn.Linear(7, 9, name="fc1", dtype=dtype),
        sg.nn.BatchNorm(9, momentum=0.2, name="bn", dtype=dtype),
        sg.nn.relu,
        sg.nn.Dropout(0.0),
        sg.nn.Linear(9, 4, name="fc2", dtype=dtype),
    )
    step = sg.train_step(
        sg.losses.cross_entropy(net(x, training=True), y),
        sg.optim.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    )
    predict = sg.function([x], net(x), state=step.state)
    fc1, bn, fc2 = tn.Linear(7, 9), tn.BatchNorm1d(9, momentum=0.2), tn.Linear(9, 4)
    peer = tn.Sequential(fc1, bn, tn.ReLU(), fc2).to(DTYPES[dtype])
    copy_linear(fc1, step.state, "fc1")
    copy_linear(fc2, step.state, "fc2")
    moving = torch.optim.SGD(peer.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
    for size in (12, 2, 40, 17):
        a = RNG.normal(size=(size, 7)).astype(dtype)
        labels = RNG.integers(0, 4, size)
        peer.train()
        moving.zero_grad()
        loss = tn.functional.cross_entropy(peer(torch.tensor(a)), torch.tensor(labels))
        loss.backward()
        moving.step()
        slack = 20 if size == 2 else 5  # two rows of nearly one value are scaled up
        close(step(a, labels), loss.item(), dtype, "loss", slack)
        peer.eval()
        close(predict(a), peer(torch.tensor(a)).detach().numpy(), dtype, "eval", 50)
        close(step.state["bn.running_mean"], bn.running_mean.numpy(), dtype, "mean", 20)
        close(step.state["bn.running_var"], bn.running_var.numpy(), dtype, "var", 20)


# -- attention ---------------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [False, True])
def test_multi_head_attention(causal: bool) -> None:
    n = sg.dim("n", max=10)
    x, t = sg.input("x", (n, 6, 8), dtype="float64"), sg.input("t", (n, 6, 8), dtype="float64")
    layer = sg.nn.MultiHeadAttention(8, 2, name="mha", dtype="float64")
    step = sg.train_step(
        sg.losses.mse_loss(layer(x, causal=causal), t), sg.optim.Adam(0.01, eps=1e-4)
    )
    peer = tn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64)
    parts = [step.state[f"mha.{k}.weight"].T for k in ("query", "key", "value")]
    with torch.no_grad():
        peer.in_proj_weight.copy_(torch.tensor(np.concatenate(parts)))
    copy_linear(peer.out_proj, step.state, "mha.out")
    moving = torch.optim.Adam(peer.parameters(), 0.01, eps=1e-4)
    mask = torch.triu(torch.full((6, 6), -math.inf, dtype=torch.float64), 1) if causal else None
    for size in (3, 10, 1):
        a, b = RNG.normal(size=(2, size, 6, 8))
        moving.zero_grad()
        out = peer(*[torch.tensor(a)] * 3, attn_mask=mask, need_weights=False)[0]
        loss = tn.functional.mse_loss(out, torch.tensor(b))
        loss.backward()
        moving.step()
        close(step(a, b), loss.item(), "float64")
    same_linear(peer.out_proj, step.state, "mha.out", "float64")
    found = np.concatenate([step.state[f"mha.{k}.weight"].T for k in ("query", "key", "value")])
    close(found, peer.in_proj_weight.detach().numpy(), "float64")


@pytest.mark.parametrize("dtype", DTYPES)
def test_transformer_of_layers(dtype: str) -> None:
    """Embedding, positions, two pre-norm blocks, tied output: one compiled step, any batch."""
    n = sg.dim("n", max=6)
    k, y = sg.input("k", (n, 5), dtype="int64"), sg.input("y", (n, 5), dtype="int64")
    tokens = sg.nn.Embedding(11, 8, name="tokens", dtype=dtype)
    places = sg.parameter("places", (5, 8), sg.init.normal(std=0.1), dtype=dtype)
    h = tokens(k) + places
    names = []
    for i in range(2):
        ln1, ln2 = (sg.nn.LayerNorm(8, name=f"{i}.ln{j}", dtype=dtype) for j in (1, 2))
        mha = sg.nn.MultiHeadAttention(8, 4, name=f"{i}.mha", dtype=dtype)
        up = sg.nn.Linear(8, 20, name=f"{i}.up", dtype=dtype)
        down = sg.nn.Linear(20, 8, name=f"{i}.down", dtype=dtype)
        h = h + mha(ln1(h), causal=True)
        h = h + down(sg.nn.gelu(up(ln2(h))))
        names.append((up, down))
    logits = h @ tokens.weight.T
    loss = sg.losses.cross_entropy(sg.reshape(logits, (-1, 11)), sg.reshape(y, (-1,)))
    step = sg.train_step(loss, sg.optim.AdamW(1e-2, eps=1e-4, weight_decay=0.1))

    values = {
        p: torch.tensor(step.state[p], requires_grad=True)
        for p in step.state
        if not p.startswith("adamw")
    }
    moving = torch.optim.AdamW(list(values.values()), 1e-2, eps=1e-4, weight_decay=0.1)
    mask = torch.triu(torch.full((5, 5), -math.inf, dtype=DTYPES[dtype]), 1)

    def linear(name: str, a: Any) -> Any:
        return a @ values[f"{name}.weight"] + values[f"{name}.bias"]

    def forward(tokens: Any) -> Any:
        h = values["tokens.weight"][tokens] + values["places"]
        for i in range(2):
            a = tn.functional.layer_norm(
                h, (8,), values[f"{i}.ln1.weight"], values[f"{i}.ln1.bias"]
            )
            q, r, v = (
                linear(f"{i}.mha.{p}", a).reshape(-1, 5, 4, 2).transpose(1, 2)
                for p in ("query", "key", "value")
            )
            p = torch.softmax(q @ r.transpose(-1, -2) / math.sqrt(2) + mask, -1)
            h = h + linear(f"{i}.mha.out", (p @ v).transpose(1, 2).reshape(-1, 5, 8))
            a = tn.functional.layer_norm(
                h, (8,), values[f"{i}.ln2.weight"], values[f"{i}.ln2.bias"]
            )
            h = h + linear(f"{i}.down", tn.functional.gelu(linear(f"{i}.up", a)))
        return h @ values["tokens.weight"].T

    for size in (4, 6, 1, 5):
        words, following = RNG.integers(0, 11, (2, size, 5))
        moving.zero_grad()
        out = forward(torch.tensor(words)).reshape(-1, 11)
        true = tn.functional.cross_entropy(out, torch.tensor(following).reshape(-1))
        true.backward()
        moving.step()
        close(step(words, following), true.item(), dtype)
    for p, value in values.items():
        close(step.state[p], value.detach().numpy(), dtype, p, 10)


# -- every optimizer ---------------------------------------------------------------------------

OPTIMIZERS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "sgd": (lambda: sg.optim.SGD(0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "momentum": (lambda: sg.optim.SGD(0.1, 0.9), lambda p: torch.optim.SGD(p, 0.1, 0.9)),
    "nesterov": (
        lambda: sg.optim.SGD(0.1, momentum=0.9, nesterov=True),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    ),
    "decay": (
        lambda: sg.optim.SGD(0.1, 0.5, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, 0.1, 0.5, weight_decay=0.1),
    ),
    "adagrad": (lambda: sg.optim.Adagrad(0.1), lambda p: torch.optim.Adagrad(p, 0.1)),
    "rmsprop": (
        lambda: sg.optim.RMSprop(0.01, eps=1e-4),
        lambda p: torch.optim.RMSprop(p, 0.01, eps=1e-4),
    ),
    "adam": (lambda: sg.optim.Adam(0.01, eps=1e-4), lambda p: torch.optim.Adam(p, 0.01, eps=1e-4)),
    "adamw": (
        lambda: sg.optim.AdamW(0.01, eps=1e-4),
        lambda p: torch.optim.AdamW(p, 0.01, eps=1e-4),
    ),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer(name: str, dtype: str) -> None:
    """On a network of odd widths, a weight decay and all; five steps, the rate set in between."""
    mine, peer = OPTIMIZERS[name]
    x, t = sg.input("x", (21, 13), dtype=dtype), sg.input("t", (21, 3), dtype=dtype)
    net = sg.nn.Sequential(
        sg.nn.Linear(13, 33, name="a", dtype=dtype), sg.nn.silu,
        sg.nn.Linear(33, 5, bias=False, name="b", dtype=dtype), sg.nn.elu,
        sg.nn.Linear(5, 3, name="c", dtype=dtype),
    )  # fmt: skip
    step = sg.train_step(sg.losses.huber_loss(net(x), t), mine())
    layers = {"a": tn.Linear(13, 33), "b": tn.Linear(33, 5, bias=False), "c": tn.Linear(5, 3)}
    a, b, c = layers.values()
    other = tn.Sequential(a, tn.SiLU(), b, tn.ELU(), c).to(DTYPES[dtype])
    for key, layer in layers.items():
        copy_linear(layer, step.state, key)
    moving = peer(other.parameters())
    for i in range(5):
        p, q = RNG.normal(size=(21, 13)).astype(dtype), 2 * RNG.normal(size=(21, 3)).astype(dtype)
        if i == 3:
            step.lr = step.lr / 2
            moving.param_groups[0]["lr"] /= 2
        moving.zero_grad()
        loss = tn.functional.huber_loss(other(torch.tensor(p)), torch.tensor(q))
        loss.backward()
        moving.step()
        close(step(p, q), loss.item(), dtype)
    for key, layer in layers.items():
        same_linear(layer, step.state, key, dtype)


# -- losses ------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:reduction")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses(reduction: str) -> None:
    n = sg.dim("n", max=20)
    z, t = sg.input("z", (n, 4), dtype="float64"), sg.input("t", (n, 4), dtype="float64")
    y = sg.input("y", (n,), dtype="int64")
    f, options = tn.functional, {"reduction": reduction}
    p = sg.nn.sigmoid(z)
    pairs: dict[str, tuple[Any, Callable[[Any, Any, Any], Any]]] = {
        "cross_entropy": (
            sg.losses.cross_entropy(z, y, **options),
            lambda z, t, y: f.cross_entropy(z, y, **options)),
        "smooth": (
            sg.losses.cross_entropy(z, y, label_smoothing=0.1, **options),
            lambda z, t, y: f.cross_entropy(z, y, label_smoothing=0.1, **options)),
        "nll": (
            sg.losses.nll_loss(sg.nn.log_softmax(z), y, **options),
            lambda z, t, y: f.nll_loss(f.log_softmax(z, 1), y, **options)),
        "mse": (sg.losses.mse_loss(z, t, **options), lambda z, t, y: f.mse_loss(z, t, **options)),
        "l1": (sg.losses.l1_loss(z, t, **options), lambda z, t, y: f.l1_loss(z, t, **options)),
        "huber": (
            sg.losses.huber_loss(z, t, **options), lambda z, t, y: f.huber_loss(z, t, **options)),
        "bce": (
            sg.losses.bce_loss(p, sg.nn.sigmoid(t), **options),
            lambda z, t, y: f.binary_cross_entropy(z.sigmoid(), t.sigmoid(), **options)),
        "bce_logits": (
            sg.losses.bce_with_logits_loss(z, sg.nn.sigmoid(t), **options),
            lambda z, t, y: f.binary_cross_entropy_with_logits(z, t.sigmoid(), **options)),
        "kl": (
            sg.losses.kl_div(sg.nn.log_softmax(z), sg.nn.softmax(t), **options),
            lambda z, t, y: f.kl_div(f.log_softmax(z, 1), f.softmax(t, 1), **options)),
        "multiclass hinge": (
            sg.losses.multiclass_hinge_loss(z, y, **options),
            lambda z, t, y: 4 * f.multi_margin_loss(z, y, **options)),  # PyTorch divides by C
    }  # fmt: skip
    outputs: dict[str, Any] = {}
    for name, (loss, _) in pairs.items():
        outputs[name] = loss
        outputs[f"d {name}"] = sg.grad(loss.sum(), z)
    compiled = sg.function([z, t, y], outputs)
    for size in (1, 7, 20):
        a, b = RNG.normal(size=(2, size, 4))
        labels = RNG.integers(0, 4, size)
        found = compiled(a, b, labels)
        for name, (_, other) in pairs.items():
            leaf = torch.tensor(a, requires_grad=True)
            true = other(leaf, torch.tensor(b), torch.tensor(labels))
            true.sum().backward()
            close(found[name], true.detach().numpy(), "float64", f"{name} {size}")
            close(found[f"d {name}"], leaf.grad.numpy(), "float64", f"slope of {name}, {size}")


# -- one step, every batch size -------------------------------------------------------------------


def classifier(n: Any) -> Any:
    x, y = sg.input("x", (n, 20)), sg.input("y", (n,), dtype="int32")
    net = sg.nn.Sequential(
        sg.nn.Linear(20, 30, name="fc1"), sg.nn.relu,
        sg.nn.Linear(30, 17, name="fc2"), sg.nn.tanh, sg.nn.Linear(17, 10, name="fc3"),
    )  # fmt: skip
    logits = net(x)
    accuracy = (sg.argmax(logits, axis=1) == y).astype("float32").mean()
    loss = sg.losses.cross_entropy(logits, y)
    return sg.train_step(loss, sg.optim.SGD(0.1, momentum=0.9), outputs={"accuracy": accuracy})


def test_one_step_serves_every_batch_from_1_to_256() -> None:
    """Losses and parameters equal those of steps compiled for one size, and NumPy's at all."""
    dynamic = classifier(sg.dim("n", max=256))
    names = [k for k in dynamic.state if k.startswith("fc")]
    start = {k: dynamic.state[k] for k in dynamic.state}
    x = RNG.normal(size=(256, 20)).astype(np.float32)
    y = RNG.integers(0, 10, 256).astype(np.int32)

    def once(step: Any, size: int) -> tuple[Any, list[Any]]:
        for k, v in start.items():
            step.state[k] = v
        return step(x[:size], y[:size]), [step.state[k] for k in names]

    fixed = {1, 2, 3, 7, 8, 15, 16, 17, 31, 64, 100, 255, 256}
    for size in range(1, 257):
        result, after = once(dynamic, size)
        h = np.maximum(x[:size] @ start["fc1.weight"] + start["fc1.bias"], 0)
        h = np.tanh(h @ start["fc2.weight"] + start["fc2.bias"])
        z = h @ start["fc3.weight"] + start["fc3.bias"]
        z = z - z.max(1, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
        close(result["loss"], -log_p[np.arange(size), y[:size]].mean(), "float32", f"{size}")
        close(result["accuracy"], (z.argmax(1) == y[:size]).mean(), "float32", f"{size}")
        if size in fixed:
            static = classifier(size)
            for k, v in start.items():
                static.state[k] = v
            found = static(x[:size], y[:size])
            close(result["loss"], found["loss"], "float32", f"static {size}", 0.1)
            for k, value in zip(names, after):
                close(value, static.state[k], "float32", f"{k}, static {size}", 0.1)
