"""Run-time sizes in every place: two of them, as vectors, squared, indexed, in second derivatives.

One compiled function, called with several sizes, against PyTorch in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgrad as sg

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

RNG = np.random.default_rng(7)
D = "float64"
N, M = sg.dim("n", max=20), sg.dim("m", max=12)


def close(found: Any, true: Any) -> None:
    found, true = np.asarray(found), np.asarray(true)
    assert found.shape == true.shape
    np.testing.assert_allclose(found, true, rtol=1e-10, atol=1e-10)


def leaf(value: Any) -> Any:
    return torch.tensor(value, requires_grad=True)


def weight(*shape: int) -> Any:
    return sg.parameter("w", shape, RNG.normal(size=shape), dtype=D)


def test_kernel_matrix_of_two_sizes() -> None:
    x, y, w = sg.input("x", (N, 3), dtype=D), sg.input("y", (M, 3), dtype=D), weight(3, 3)
    k = sg.exp(-((x[:, None] - (y @ w)[None]) ** 2).sum(axis=-1))
    loss = k.mean()
    best = sg.argmax(k, axis=0)
    f = sg.function([x, y], [k, sg.nn.softmax(k, axis=1), best, *sg.grad(loss, [w, x, y])])
    for a, b in ((1, 1), (20, 12), (7, 5), (3, 9)):
        tx, ty, tw = (leaf(RNG.normal(size=(s, 3))) for s in (a, b, 3))
        tw = leaf(f.state["w"])
        true = torch.exp(-((tx[:, None] - (ty @ tw)[None]) ** 2).sum(-1))
        true.mean().backward()
        found = f(tx.detach().numpy(), ty.detach().numpy())
        for one, other in zip(
            found,
            (true, torch.softmax(true, 1), true.argmax(0), tw.grad, tx.grad, ty.grad),
        ):
            close(one, other.detach())


def test_cross_attention_over_two_sizes() -> None:
    x, y, w = sg.input("x", (N, 4, 6), dtype=D), sg.input("y", (N, M, 6), dtype=D), weight(6, 6)
    p = sg.nn.softmax(x @ w @ sg.transpose(y, (0, 2, 1)), axis=-1)
    loss = ((p @ y) ** 2).mean()
    f = sg.function([x, y], [loss, *sg.grad(loss, [w, x, y])])
    for a, b in ((1, 1), (5, 12), (20, 3)):
        tx, ty = leaf(RNG.normal(size=(a, 4, 6))), leaf(RNG.normal(size=(a, b, 6)))
        tw = leaf(f.state["w"])
        true = ((torch.softmax(tx @ tw @ ty.transpose(1, 2), -1) @ ty) ** 2).mean()
        true.backward()
        found = f(tx.detach().numpy(), ty.detach().numpy())
        for one, other in zip(found, (true.detach(), tw.grad, tx.grad, ty.grad)):
            close(one, other)


def test_vector_of_a_run_time_size() -> None:
    x = sg.input("x", (N,), dtype=D)
    total = sg.cumsum(x, axis=0)
    f = sg.function(
        [x],
        [total, sg.argmax(x), sg.max(x), x[::-1], x.sum(), sg.prod(x), sg.var(x),
         sg.logsumexp(x, axis=0), sg.norm(x), sg.outer(x, x), sg.grad((total**2).sum(), x),
         sg.grad(sg.max(x), x), sg.grad(sg.prod(x), x)],
    )  # fmt: skip
    for size in (1, 2, 9, 20):
        a = RNG.normal(size=size)
        t = leaf(a)
        (torch.cumsum(t, 0) ** 2).sum().backward()
        true = [a.cumsum(), a.argmax(), a.max(), a[::-1], a.sum(), a.prod(), a.var(),
                np.log(np.exp(a).sum()), np.linalg.norm(a), np.outer(a, a), t.grad,
                (a == a.max()) * 1.0, a.prod() / a]  # fmt: skip
        for one, other in zip(f(a), true):
            close(one, other)


def test_matrix_of_two_run_time_sizes() -> None:
    x = sg.input("x", (N, M), dtype=D)
    norm, spread = sg.sqrt((x * x).sum()), (x * x).mean() - x.mean() ** 2
    f = sg.function(
        [x],
        [norm, sg.grad(norm, x), spread, sg.grad(spread, x), sg.var(x), sg.std(x, ddof=1),
         x.mean(), sg.logsumexp(x), sg.max(x), sg.norm(x)],
    )  # fmt: skip
    for a, b in ((3, 4), (20, 12), (2, 1)):
        v = RNG.normal(size=(a, b))
        size = np.linalg.norm(v)
        true = [size, v / size, v.var(), 2 * (v - v.mean()) / v.size, v.var(), v.std(ddof=1),
                v.mean(), np.log(np.exp(v).sum()), v.max(), size]  # fmt: skip
        for one, other in zip(f(v), true):
            close(one, other)


def test_gram_matrix_of_the_batch() -> None:
    x, w = sg.input("x", (N, 5), dtype=D), weight(5, 4)
    s = (x @ w) @ (x @ w).T
    loss = (s * s).mean() + (sg.nn.softmax(s) * s).mean()
    f = sg.function([x], [loss, sg.grad(loss, w)])
    for size in (1, 8, 20):
        a, tw = RNG.normal(size=(size, 5)), leaf(f.state["w"])
        t = (torch.tensor(a) @ tw) @ (torch.tensor(a) @ tw).T
        true = (t * t).mean() + (torch.softmax(t, -1) * t).mean()
        true.backward()
        found = f(a)
        close(found[0], true.detach())
        close(found[1], tw.grad)


def test_indices_into_the_batch() -> None:
    x, i, w = sg.input("x", (N, 3), dtype=D), sg.input("i", (N,), dtype="int64"), weight(3)
    step = sg.train_step((sg.take(x * w, i, axis=0) ** 2).sum(), sg.optim.SGD(0.0))
    a, k = RNG.normal(size=(5, 3)), np.array([4, 0, 0, 2, 1])
    close(step(a, k), ((a * step.state["w"])[k] ** 2).sum())
    with pytest.raises(sg.errors.InputError, match=r"'i'\[0\] is 5.*0\.\.4"):
        step(a, np.array([5, 0, 0, 0, 0]))
    with pytest.raises(sg.errors.InputError, match=r"'i'\[0\] is 3"):
        step.run({"x": a, "i": np.full(5, 3)}, batch_size=2)
    step.run({"x": a, "i": np.zeros(5, int)}, batch_size=2)


def test_second_derivatives_of_a_network() -> None:
    x, y = sg.input("x", (N, 4), dtype=D), sg.input("y", (N,), dtype="int32")
    w = weight(4, 3)
    v = sg.parameter("v", (3, 3), RNG.normal(size=(3, 3)), dtype=D)
    loss = sg.losses.cross_entropy(sg.tanh(x @ w) @ v, y)
    u = sg.input("u", (4, 3), dtype=D)
    h = sg.hessian(loss, [w, v])
    rows = sg.jacobian(sg.nn.softmax(x @ w), w)
    f = sg.function([x, y, u], [h[0][0], h[0][1], h[1][1], sg.hvp(loss, w, u), rows])
    for size in (1, 6, 20):
        a, labels = RNG.normal(size=(size, 4)), RNG.integers(0, 3, size)
        direction = RNG.normal(size=(4, 3))
        ta, tl = torch.tensor(a), torch.tensor(labels)

        def true(w: Any, v: Any, ta: Any = ta, tl: Any = tl) -> Any:
            return torch.nn.functional.cross_entropy(torch.tanh(ta @ w) @ v, tl)

        at = (torch.tensor(f.state["w"]), torch.tensor(f.state["v"]))
        second = torch.autograd.functional.hessian(true, at)
        found = f(a, labels, direction)
        close(found[0], second[0][0])
        close(found[1], second[0][1])
        close(found[2], second[1][1])
        close(found[3], np.einsum("abcd,cd->ab", second[0][0], direction))
        shares = torch.autograd.functional.jacobian(
            lambda w, ta=ta: torch.softmax(ta @ w, 1), at[0]
        )
        close(found[4], shares)


def test_transformer_block_of_any_batch_and_any_length() -> None:
    x = sg.input("x", (N, M, 8), dtype=D)
    attend = sg.nn.MultiHeadAttention(8, 2, name="a", dtype=D)
    norm = sg.nn.LayerNorm(8, name="ln", dtype=D)
    up, down = sg.nn.Linear(8, 16, name="up", dtype=D), sg.nn.Linear(16, 8, name="down", dtype=D)
    h = x + attend(norm(x))
    h = h + down(sg.nn.gelu(up(norm(h))))
    step = sg.train_step((h * h).mean(), sg.optim.SGD(0.1))
    values = {k: leaf(step.state[k]) for k in step.state if k != "sgd.lr"}
    F = torch.nn.functional

    def linear(name: str, v: Any) -> Any:
        return v @ values[f"{name}.weight"] + values[f"{name}.bias"]

    def normal(v: Any) -> Any:
        return F.layer_norm(v, (8,), values["ln.weight"], values["ln.bias"])

    for a, b in ((3, 5), (20, 12), (1, 1)):
        t = torch.tensor(RNG.normal(size=(a, b, 8)))
        q, k, v = (
            linear(f"a.{part}", normal(t)).reshape(a, b, 2, 4).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        mixed = torch.softmax(q @ k.transpose(-1, -2) / 2, -1) @ v
        h = t + linear("a.out", mixed.transpose(1, 2).reshape(a, b, 8))
        h = h + linear("down", F.gelu(linear("up", normal(h))))
        loss = (h * h).mean()
        gradients = torch.autograd.grad(loss, list(values.values()))
        close(step(t.numpy()), loss.item())
        values = {
            name: leaf((v - 0.1 * g).detach().numpy())
            for (name, v), g in zip(values.items(), gradients)
        }
    for name, v in values.items():
        close(step.state[name], v.detach())


def test_shapes_with_two_run_time_sizes() -> None:
    x = sg.input("x", (N, M, 3), dtype=D)
    centred = x - x.mean(axis=2, keepdims=True)
    f = sg.function(
        [x],
        [centred, sg.expand_dims(x[:, :, 0], 1), sg.squeeze(x[:, :, :1], 2),
         sg.reshape(x, (x.shape[0], -1, 3)), sg.var(x, axis=0, keepdims=True),
         sg.flip(x, axis=1), sg.cumsum(x, axis=1)],
    )  # fmt: skip
    for a, b in ((1, 1), (5, 4), (20, 12)):
        v = RNG.normal(size=(a, b, 3))
        true = [v - v.mean(2, keepdims=True), v[:, None, :, 0], v[:, :, 0], v,
                v.var(0, keepdims=True), v[:, ::-1], v.cumsum(1)]  # fmt: skip
        for one, other in zip(f(v), true):
            close(one, other)
    with pytest.raises(sg.errors.ShapeError, match="no size for -1"):
        sg.reshape(x, (-1, 3))
    with pytest.raises(sg.errors.ShapeError, match=r"has m\*n\*3 elements"):
        sg.reshape(x, (x.shape[0], 3))


@pytest.mark.parametrize("most, target", [(8, "native"), (3, "native"), (4, "avx2"), (2, "sse2")])
def test_a_few_rows_of_any_number(most: int, target: str) -> None:
    """Never as many as half of the lanes: tiles of 8, 4, 2 and 1 rows make up each number; the
    whole step against one of that batch alone."""

    def trained(batch: Any, steps: Any) -> Any:
        x = sg.input("x", (batch, steps, 5))
        last = sg.nn.LSTM(5, 20, name="lstm")(x)[0].mean(axis=1)
        model = sg.nn.Sequential(
            sg.nn.Linear(20, 37, name="a"), sg.nn.tanh, sg.nn.Linear(37, 4, name="b")
        )
        y = sg.input("y", (batch,), dtype="int32")
        loss = sg.losses.cross_entropy(model(sg.nn.layer_norm(last)), y)
        return sg.train_step(loss, sg.optim.SGD(0.1), seed=0, target=target)

    together = trained(sg.dim("batch", most), sg.dim("time", 6))
    first = {name: together.state[name] for name in together.state}
    for rows in range(1, most + 1):
        x = RNG.normal(size=(rows, 4, 5)).astype("float32")
        y = RNG.integers(0, 4, rows).astype("int32")
        alone = trained(rows, 4)
        for name, value in first.items():
            together.state[name] = alone.state[name] = value
        np.testing.assert_allclose(together(x, y), alone(x, y), rtol=1e-5)
        for name in first:
            np.testing.assert_allclose(
                together.state[name], alone.state[name], rtol=1e-4, atol=1e-6, err_msg=name
            )
