"""Networks of many kinds, written once and trained twice: compiled by symgrad, and by PyTorch.

A network is a function of a namespace (symgrad's names or PyTorch's) and of values by name. Three
steps of an optimizer in float64 must give the same losses and the same parameters to 1e-10, at a
run-time batch size and at the same size as a constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import symgrad as sg

torch = pytest.importorskip("torch")
F = torch.nn.functional
torch.set_num_threads(1)

Values = dict[str, Any]
MAX = 48


# -- the two namespaces ------------------------------------------------------------------------


def _norm(mean: Any, sqrt: Any) -> Callable[..., Any]:
    def layer_norm(x: Any, weight: Any, bias: Any) -> Any:
        centred = x - mean(x)
        return centred / sqrt(mean(centred * centred) + 1e-5) * weight + bias

    return layer_norm


SG = SimpleNamespace(
    **{k: getattr(sg, k) for k in "exp log sqrt sin cos tanh where maximum einsum outer".split()},
    **{k: getattr(sg.nn, k) for k in "relu sigmoid softplus silu elu selu gelu".split()},
    abs=sg.abs,
    leaky_relu=sg.nn.leaky_relu,
    hard_sigmoid=sg.nn.hard_sigmoid,
    softmax=lambda x: sg.nn.softmax(x),
    log_softmax=lambda x: sg.nn.log_softmax(x),
    concat=lambda parts: sg.concatenate(parts, axis=-1),
    stack=lambda parts: sg.stack(parts, axis=1),
    sum=lambda x, axis=-1: sg.sum(x, axis=axis, keepdims=True),
    mean=lambda x, axis=-1: sg.mean(x, axis=axis, keepdims=True),
    max=lambda x, axis=-1: sg.max(x, axis=axis, keepdims=True),
    swap=lambda x: sg.transpose(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)),
    permute=sg.transpose,
    reshape=sg.reshape,
    cumsum=lambda x: sg.cumsum(x, axis=-1),
    clip=sg.clip,
    embed=lambda table, index: sg.take(table, index, axis=0),
    trace=sg.trace,
    cross_entropy=sg.losses.cross_entropy,
    mse=sg.losses.mse_loss,
    l1=sg.losses.l1_loss,
    huber=sg.losses.huber_loss,
    bce_logits=sg.losses.bce_with_logits_loss,
    layer_norm=_norm(lambda x: sg.mean(x, axis=-1, keepdims=True), sg.sqrt),
    prod=lambda x: sg.prod(x, axis=-1),
    logsumexp=lambda x: sg.logsumexp(x, axis=-1),
    tril=sg.tril,
)
TORCH = SimpleNamespace(
    **{
        k: getattr(torch, k) for k in "exp log sqrt sin cos tanh where maximum einsum outer".split()
    },
    **{k: getattr(F, k) for k in "relu sigmoid softplus silu elu selu gelu leaky_relu".split()},
    abs=torch.abs,
    hard_sigmoid=F.hardsigmoid,
    softmax=lambda x: torch.softmax(x, -1),
    log_softmax=lambda x: torch.log_softmax(x, -1),
    concat=lambda parts: torch.cat(parts, -1),
    stack=lambda parts: torch.stack(parts, 1),
    sum=lambda x, axis=-1: x.sum(axis, keepdim=True),
    mean=lambda x, axis=-1: x.mean(axis, keepdim=True),
    max=lambda x, axis=-1: x.amax(axis, keepdim=True),
    swap=lambda x: x.transpose(-1, -2),
    permute=torch.permute,
    reshape=torch.reshape,
    cumsum=lambda x: torch.cumsum(x, -1),
    clip=torch.clamp,
    embed=lambda table, index: table[index.long()],
    trace=torch.trace,
    cross_entropy=lambda z, y: F.cross_entropy(z, y.long()),
    mse=F.mse_loss,
    l1=F.l1_loss,
    huber=F.huber_loss,
    bce_logits=F.binary_cross_entropy_with_logits,
    layer_norm=_norm(lambda x: x.mean(-1, keepdim=True), torch.sqrt),
    prod=lambda x: torch.prod(x, -1),
    logsumexp=lambda x: torch.logsumexp(x, -1),
    tril=torch.tril,
)


# -- networks ----------------------------------------------------------------------------------


@dataclass
class Net:
    """Parameters and inputs by name with their shapes ("n" is the batch), and the loss.

    `ints` are inputs of labels and indices: shape, number of classes, dtype.
    """

    loss: Callable[[Any, Values], Any]
    params: dict[str, tuple[int, ...]]
    inputs: dict[str, tuple[Any, ...]]
    ints: dict[str, tuple[tuple[Any, ...], int, str]] = field(default_factory=dict)


NETS: dict[str, Net] = {}


def mlp(widths: list[int], act: str, head: str = "ce") -> Net:
    """A chain of layers with an activation between them."""
    params: dict[str, tuple[int, ...]] = {}
    for i, (a, b) in enumerate(zip(widths, widths[1:])):
        params |= {f"w{i}": (a, b), f"b{i}": (b,)}
    last = len(widths) - 2

    def loss(f: Any, v: Values) -> Any:
        h = v["x"]
        for i in range(last + 1):
            h = h @ v[f"w{i}"] + v[f"b{i}"]
            if i < last:
                h = getattr(f, act)(h)
        return f.cross_entropy(h, v["y"]) if head == "ce" else f.mse(h, v["t"])

    if head == "ce":
        return Net(loss, params, {"x": ("n", widths[0])}, {"y": (("n",), widths[-1], "int32")})
    return Net(loss, params, {"x": ("n", widths[0]), "t": ("n", widths[-1])})


for _act in "relu tanh sigmoid softplus silu elu selu gelu leaky_relu hard_sigmoid sin cos".split():
    NETS[f"activation {_act}"] = mlp([9, 15, 5], _act)
for _widths in (
    [1, 1], [1, 2, 3], [3, 1, 2], [2, 33, 2], [7, 17, 31, 9], [15, 100, 5], [33, 257, 3],
    [257, 7, 10], [100, 33, 17, 10], [5, 5, 5, 5, 5, 5, 5, 5, 4], [16, 16, 16], [31, 129, 1, 6],
):  # fmt: skip
    NETS[f"mlp {_widths}"] = mlp(_widths, "tanh", "ce" if _widths[-1] > 1 else "mse")
NETS["autoencoder"] = mlp([12, 7, 3, 7, 12], "tanh", "mse")


def network(params: Any, inputs: Any = None, ints: Any = None) -> Callable[[Any], Any]:
    def add(loss: Callable[[Any, Values], Any]) -> Any:
        NETS[loss.__name__] = Net(loss, params, inputs or {}, ints or {})
        return loss

    return add


@network({"a": (5, 6), "b": (3, 6), "w": (12, 4)}, {"x": ("n", 5), "z": ("n", 3)},
         {"y": (("n",), 4, "int64")})  # fmt: skip
def two_inputs(f: Any, v: Values) -> Any:
    h = f.concat([f.tanh(v["x"] @ v["a"]), f.relu(v["z"] @ v["b"])])
    return f.cross_entropy(h @ v["w"], v["y"])


@network({"w": (6, 9), "u": (9, 3)}, {"x": ("n", 6), "z": ("n", 6), "same": ("n", 1)})
def siamese(f: Any, v: Values) -> Any:
    def branch(x: Any) -> Any:
        return f.tanh(x @ v["w"]) @ v["u"]

    d = branch(v["x"]) - branch(v["z"])
    distance = f.sum(d * d)
    return (distance - v["same"] * f.sqrt(distance + 1e-3)).mean()


@network({"w": (7, 7), "u": (7, 7), "o": (7, 3)}, {"x": ("n", 7)}, {"y": (("n",), 3, "int32")})
def residual(f: Any, v: Values) -> Any:
    h = v["x"]
    for _ in range(3):
        h = h + f.relu(h @ v["w"]) @ v["u"]
    return f.cross_entropy(h @ v["o"], v["y"])


@network({"w": (6, 11), "g": (11,), "b": (11,), "o": (11, 4)}, {"x": ("n", 6)},
         {"y": (("n",), 4, "int32")})  # fmt: skip
def layer_norm(f: Any, v: Values) -> Any:
    return f.cross_entropy(f.gelu(f.layer_norm(v["x"] @ v["w"], v["g"], v["b"])) @ v["o"], v["y"])


@network({"w": (5, 8), "g": (8,), "b": (8,), "o": (8, 2)}, {"x": ("n", 5), "t": ("n", 2)})
def batch_statistics(f: Any, v: Values) -> Any:
    h = v["x"] @ v["w"]
    centred = h - f.mean(h, 0)
    h = centred / f.sqrt(f.mean(centred * centred, 0) + 1e-3) * v["g"] + v["b"]
    return f.mse(f.relu(h) @ v["o"], v["t"])


@network({"table": (13, 5), "w": (5, 4)}, {},
         {"k": (("n", 3), 13, "int64"), "y": (("n",), 4, "int32")})  # fmt: skip
def bag_of_words(f: Any, v: Values) -> Any:
    e = f.embed(v["table"], v["k"])
    return f.cross_entropy(f.mean(e, 1)[:, 0] @ v["w"], v["y"])


@network({"users": (11, 4), "items": (7, 4), "bu": (11,), "bi": (7,), "mu": ()},
         {"r": ("n",)}, {"u": (("n",), 11, "int32"), "i": (("n",), 7, "int64")})  # fmt: skip
def factorization(f: Any, v: Values) -> Any:
    p, q = f.embed(v["users"], v["u"]), f.embed(v["items"], v["i"])
    rating = f.sum(p * q)[:, 0] + f.embed(v["bu"], v["u"]) + f.embed(v["bi"], v["i"]) + v["mu"]
    return ((rating - v["r"]) ** 2).mean() + 0.01 * ((p * p).mean() + (q * q).mean())


@network({k: (8, 8) for k in "qkvo"} | {"w": (8, 16), "u": (16, 8), "g": (8,), "b": (8,)},
         {"x": ("n", 6, 8), "t": ("n", 6, 8)})  # fmt: skip
def transformer_block(f: Any, v: Values) -> Any:
    x = v["x"]
    h = f.layer_norm(x, v["g"], v["b"])

    def heads(e: Any) -> Any:
        return f.permute(f.reshape(e, (e.shape[0], 6, 2, 4)), (0, 2, 1, 3))

    q, k, w = heads(h @ v["q"]), heads(h @ v["k"]), heads(h @ v["v"])
    p = f.softmax(q @ f.swap(k) / 2.0)
    mixed = f.reshape(f.permute(p @ w, (0, 2, 1, 3)), (x.shape[0], 6, 8))
    x = x + mixed @ v["o"]
    x = x + f.gelu(f.layer_norm(x, v["g"], v["b"]) @ v["w"]) @ v["u"]
    return f.mse(x, v["t"])


@network({"table": (10, 6), "w": (6, 6)}, {}, {"k": (("n", 4), 10, "int32"),
         "y": (("n", 4), 10, "int32")})  # fmt: skip
def tied_language_model(f: Any, v: Values) -> Any:
    h = f.tanh(f.embed(v["table"], v["k"]) @ v["w"])
    logits = f.reshape(h @ v["table"].T, (-1, 10))
    return f.cross_entropy(logits, f.reshape(v["y"], (-1,)))


@network({"w": (9, 5), "b": (5,), "c": (9,)}, {"x": ("n", 9)})
def tied_autoencoder(f: Any, v: Values) -> Any:
    return f.mse(f.sigmoid(v["x"] @ v["w"] + v["b"]) @ v["w"].T + v["c"], v["x"])


@network({"w": (6, 10), "c": (10, 3), "r": (10, 2), "s": ()}, {"x": ("n", 6), "t": ("n", 2)},
         {"y": (("n",), 3, "int64")})  # fmt: skip
def two_tasks(f: Any, v: Values) -> Any:
    h = f.relu(v["x"] @ v["w"])
    weight = f.exp(-v["s"])
    return weight * f.cross_entropy(h @ v["c"], v["y"]) + 0.3 * f.mse(h @ v["r"], v["t"]) + v["s"]


@network({"w": (5, 1), "b": (1,)}, {"x": ("n", 5), "t": ("n", 1)})
def huber(f: Any, v: Values) -> Any:
    return f.huber(v["x"] @ v["w"] + v["b"], 3 * v["t"])


@network({"w": (5,), "b": ()}, {"x": ("n", 5), "t": ("n",)})
def hinge(f: Any, v: Values) -> Any:
    sign = f.where(v["t"] > 0, v["t"] * 0 + 1, v["t"] * 0 - 1)
    margin = 1 - sign * (v["x"] @ v["w"] + v["b"])
    return f.relu(margin).mean() + 0.05 * (v["w"] * v["w"]).sum()


@network({"w": (6, 4), "u": (6, 4)}, {"x": ("n", 6)})
def divergence(f: Any, v: Values) -> Any:
    log_p, log_q = f.log_softmax(v["x"] @ v["w"]), f.log_softmax(v["x"] @ v["u"])
    return (f.exp(log_p) * (log_p - log_q)).sum() / 10


@network({"g": (5, 3), "e": (3, 5, 4), "c": (3, 4)}, {"x": ("n", 5)}, {"y": (("n",), 4, "int32")})
def mixture_of_experts(f: Any, v: Values) -> Any:
    gate = f.softmax(v["x"] @ v["g"])
    experts = f.tanh(f.einsum("nd,edk->nek", v["x"], v["e"]) + v["c"])
    return f.cross_entropy(f.einsum("ne,nek->nk", gate, experts), v["y"])


@network({"w": (3, 8), "u": (8, 8), "b": (8,), "o": (8, 2)}, {"x": ("n", 5, 3), "t": ("n", 2)})
def recurrent(f: Any, v: Values) -> Any:
    h = 0.0
    for t in range(5):
        step = v["x"][:, t] @ v["w"] + v["b"]
        h = f.tanh(step if t == 0 else step + h @ v["u"])
    return f.mse(h @ v["o"], v["t"])


@network({"w": (3, 16), "u": (4, 16), "b": (16,), "o": (4, 1)}, {"x": ("n", 4, 3), "t": ("n", 1)})
def long_short_term_memory(f: Any, v: Values) -> Any:
    h: Any = None
    c: Any = None
    for t in range(4):
        z = v["x"][:, t] @ v["w"] + v["b"] + (0 if h is None else h @ v["u"])
        i, g, o, r = z[:, :4], z[:, 4:8], z[:, 8:12], z[:, 12:]
        new = f.sigmoid(i) * f.tanh(g)
        c = new if c is None else f.sigmoid(r) * c + new
        h = f.sigmoid(o) * f.tanh(c)
    return f.mse(h @ v["o"], v["t"])


@network({"w": (4, 5, 3), "b": (3,)}, {"x": ("n", 4), "z": ("n", 5)}, {"y": (("n",), 3, "int32")})
def bilinear(f: Any, v: Values) -> Any:
    return f.cross_entropy(f.einsum("ni,ijk,nj->nk", v["x"], v["w"], v["z"]) + v["b"], v["y"])


@network({"w": (3, 4, 6)}, {"x": ("n", 3, 4), "t": ("n", 3, 6)})
def batched_einsum(f: Any, v: Values) -> Any:
    return f.mse(f.einsum("nhi,hij->nhj", v["x"], v["w"]), v["t"])


@network({"w": (6, 6), "s": ()}, {"x": ("n", 6)})
def scalars_and_traces(f: Any, v: Values) -> Any:
    norm = f.trace(v["w"] @ v["w"].T)
    return f.exp(-v["s"]) * norm + v["s"] * ((v["x"] @ v["w"]) ** 2).mean()


@network({"w": (7, 5), "a": (5,)}, {"x": ("n", 7)}, {"y": (("n",), 5, "int32")})
def prelu(f: Any, v: Values) -> Any:
    h = v["x"] @ v["w"]
    return f.cross_entropy(f.where(h > 0, h, v["a"] * h), v["y"])


@network({"w": (6, 8), "u": (4, 3)}, {"x": ("n", 6), "t": ("n", 3)})
def gated_linear(f: Any, v: Values) -> Any:
    h = v["x"] @ v["w"]
    return f.mse((h[:, :4] * f.sigmoid(h[:, 4:])) @ v["u"], v["t"])


@network({"m": (3, 5), "s": (3, 5), "p": (3,)}, {"x": ("n", 5)})
def gaussian_mixture(f: Any, v: Values) -> Any:
    z = (v["x"][:, None, :] - v["m"]) * f.exp(-v["s"])
    each = -0.5 * f.sum(z * z)[:, :, 0] - f.sum(v["s"])[:, 0]
    return -f.logsumexp(each + f.log_softmax(v["p"])).mean()


@network({"w": (6, 3)}, {"x": ("n", 6), "t": ("n", 3)})
def logistic(f: Any, v: Values) -> Any:
    return f.bce_logits(v["x"] @ v["w"], f.sigmoid(v["t"]))


@network({"w": (6, 5)}, {"x": ("n", 6), "t": ("n", 5)})
def maxout_and_cumsum(f: Any, v: Values) -> Any:
    h = v["x"] @ v["w"]
    return f.l1(f.cumsum(h) + f.max(h), v["t"]) + 0.1 * f.maximum(h, v["t"]).mean()


@network({"w": (4, 4), "u": (4, 4)}, {"x": ("n", 5, 4), "t": ("n", 5, 4)})
def causal_attention(f: Any, v: Values) -> Any:
    scores = (v["x"] @ v["w"]) @ f.swap(v["x"] @ v["u"]) / 2.0
    mask = f.tril(scores * 0 + 1)
    return f.mse(f.softmax(f.where(mask > 0, scores, scores * 0 - 1e9)) @ v["x"], v["t"])


@network({"w": (8, 6), "v": (6, 8)}, {"x": ("n", 8)})
def contrastive(f: Any, v: Values) -> Any:
    h = f.tanh(v["x"] @ v["w"])
    h = h / f.sqrt(f.sum(h * h) + 1e-6)
    scores = h @ f.swap(h) / 0.5
    return (f.logsumexp(scores) - f.sum(h * h)[:, 0] / 0.5).mean() + ((h @ v["v"]) ** 2).mean()


@network({"w": (5, 5), "b": (5,)}, {"x": ("n", 5)})
def flow(f: Any, v: Values) -> Any:
    h = v["x"]
    total = 0.0
    for _ in range(2):
        s = f.tanh(h[:, :2] @ v["w"][:2, 2:] + v["b"][2:])
        h = f.concat([h[:, 2:] * f.exp(s) + h[:, :2] @ v["w"][:2, 2:], h[:, :2]])
        total = total + f.sum(s)
    return (0.5 * f.sum(h * h) - total).mean()


# -- running -----------------------------------------------------------------------------------


def sizes_of(shape: tuple[Any, ...], n: Any) -> tuple[Any, ...]:
    return tuple(n if s == "n" else s for s in shape)


def start(net: Net, batch: int, seed: int = 0) -> tuple[Values, Values]:
    """Values of the parameters and of the inputs."""
    rng = np.random.default_rng(seed)
    params = {k: rng.normal(size=s) / math.sqrt(max(1, *s[:1])) if s else rng.normal() * 0.1
              for k, s in ((k, tuple(s)) for k, s in net.params.items())}  # fmt: skip
    data: Values = {k: rng.normal(size=sizes_of(s, batch)) for k, s in net.inputs.items()}
    for k, (s, classes, dtype) in net.ints.items():
        data[k] = rng.integers(0, classes, sizes_of(s, batch)).astype(dtype)
    return {k: np.asarray(p) for k, p in params.items()}, data


def step_of(net: Net, n: Any, params: Values, optimizer: Any, dtype: str = "float64") -> Any:
    v: Values = {k: sg.input(k, sizes_of(s, n), dtype) for k, s in net.inputs.items()}
    v |= {k: sg.input(k, sizes_of(s, n), d) for k, (s, _, d) in net.ints.items()}
    v |= {k: sg.parameter(k, p.shape, p, dtype=dtype) for k, p in params.items()}
    return sg.train_step(net.loss(SG, v), optimizer)


def torch_run(
    net: Net, params: Values, batches: list[Values], optimizer: Any, dtype: Any = torch.float64
) -> tuple[list[float], Values]:
    weights = {k: torch.tensor(p, dtype=dtype, requires_grad=True) for k, p in params.items()}
    moving = optimizer(list(weights.values()))
    losses = []
    for data in batches:
        v = {k: torch.tensor(a) for k, a in data.items()}
        v = {k: a.to(dtype) if a.is_floating_point() else a for k, a in v.items()}
        moving.zero_grad()
        loss = net.loss(TORCH, {**v, **weights})
        loss.backward()
        moving.step()
        losses.append(loss.item())
    return losses, {k: w.detach().numpy() for k, w in weights.items()}


OPTIMIZERS = {
    "sgd": (lambda: sg.optim.SGD(0.05, momentum=0.9), lambda p: torch.optim.SGD(p, 0.05, 0.9)),
    # eps keeps gradients that are zero but for rounding from being scaled up to steps of lr
    "adam": (
        lambda: sg.optim.Adam(0.01, eps=1e-3),
        lambda p: torch.optim.Adam(p, 0.01, eps=1e-3),
    ),
}


def agree(found: Any, true: Any, tolerance: float, what: str) -> None:
    found, true = np.asarray(found, np.float64), np.asarray(true, np.float64)
    assert found.shape == true.shape, what
    error = np.abs(found - true).max() / max(1.0, np.abs(true).max())
    assert error <= tolerance, f"{what}: {error:.3g}"


def trained_alike(step: Any, net: Net, params: Values, data: list[Values], peer: Any,
                  tolerance: float = 1e-10) -> None:  # fmt: skip
    losses, weights = torch_run(net, params, data, peer)
    found = [step(**d) for d in data]
    agree(found, losses, tolerance, "losses")
    for k, w in weights.items():
        agree(step.state[k], w, tolerance, k)


@pytest.mark.parametrize("name", NETS)
def test_network(name: str) -> None:
    net = NETS[name]
    which = sorted(OPTIMIZERS)[len(name) % 2]
    mine, peer = OPTIMIZERS[which]
    batch = 2 + len(name) * 7 % 39
    params, _ = start(net, 1)
    data = [start(net, batch, seed)[1] for seed in (1, 2, 3)]
    dynamic = step_of(net, sg.dim("n", MAX), params, mine())
    trained_alike(dynamic, net, params, data, peer)
    static = step_of(net, batch, params, mine())
    found = [static(**d) for d in data]
    assert np.isfinite(found).all()
    for k in params:
        agree(static.state[k], dynamic.state[k], 1e-12, f"{k}, static and run-time batch")
