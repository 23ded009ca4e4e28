"""The rewriter as a whole: identities, normal forms, the log, speed, random graphs."""

from __future__ import annotations

import math
import time
import warnings
from typing import Any, Iterator

import numpy as np
import pytest
import test_rewrite_naive as naive

import symgrad as sg
from symgrad import interpret, rewrite
from symgrad.equivalent import equivalent
from symgrad.node import Constant, Contract, Expr, Input, Map, Parameter, Reduce, toposort
from symgrad.rewrite import engine


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules that go in circles are an error here."""
    monkeypatch.setattr(engine, "STRICT", True)


# -- what the rules are for -----------------------------------------------------------------------
@pytest.mark.parametrize("n", [32, sg.dim("batch", 256)], ids=["int", "dim"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softmax_with_cross_entropy_ends_at_p_minus_y(n: Any, dtype: str) -> None:
    z, y = sg.input("z", (n, 10), dtype), sg.input("y", (n,), "int32")
    hot = sg.one_hot(y, 10, dtype=dtype)
    wanted = sg.simplify((sg.nn.softmax(z) - hot) / n)
    p = sg.exp(z) / sg.sum(sg.exp(z), axis=-1, keepdims=True)
    losses = {
        "losses.cross_entropy": sg.losses.cross_entropy(z, y),
        "through log of softmax": -sg.mean(sg.sum(hot * sg.log(p), axis=-1)),
        "through nn.log_softmax": -sg.mean(sg.sum(hot * sg.nn.log_softmax(z), axis=-1)),
        "nll_loss": sg.losses.nll_loss(sg.nn.log_softmax(z), y),
        "by logsumexp": sg.mean(sg.log(sg.sum(sg.exp(z), axis=-1)) - sg.sum(hot * z, axis=-1)),
        "shifted by hand": -sg.mean(
            sg.sum(hot * sg.log(sg.nn.softmax(z - sg.max(z, axis=-1, keepdims=True))), axis=-1)
        ),
        "picked by a sum": -sg.mean(sg.log(sg.sum(hot * p, axis=-1))),
    }
    for name, loss in losses.items():
        assert sg.simplify(sg.grad(loss, z)) is wanted, name
    assert "exp" in {e.name for e in toposort([wanted])}


@pytest.mark.parametrize("n", [32, sg.dim("batch", 256)], ids=["int", "dim"])
def test_sigmoid_with_binary_cross_entropy_ends_at_a_minus_y(n: Any) -> None:
    z, y = sg.input("z", (n,)), sg.input("y", (n,))
    for a in (1 / (1 + sg.exp(-z)), sg.sigmoid(z), sg.exp(z) / (sg.exp(z) + 1)):
        wanted = sg.simplify((a - y) / n)
        for loss in (
            sg.mean(-(y * sg.log(a) + (1 - y) * sg.log(1 - a))),
            -sg.mean(y * sg.log(a) + (1 - y) * sg.log(1 - a)),
            sg.mean(-y * sg.log(a) - (1 - y) * sg.log(1 - a)),
            sg.sum(-(y * sg.log(a) + (1 - y) * sg.log(1 - a))) / n,
            sg.losses.bce_with_logits_loss(z, y),
        ):
            assert sg.simplify(sg.grad(loss, z)) is wanted


def test_softmax_backward_needs_one_sum() -> None:
    z, g = sg.input("z", (8, 5)), sg.input("g", (8, 5))
    p = sg.nn.softmax(z)
    got = sg.simplify(sg.grad(sg.sum(g * p), z))
    wanted = sg.simplify(p * (g - sg.sum(g * p, axis=-1, keepdims=True)))
    assert equivalent(got, wanted)
    assert len(toposort([got])) <= len(toposort([wanted])) + 1


def test_intermediate_wrt_survives() -> None:
    x, W = sg.input("x", (4, 3)), sg.parameter("W", (3, 2))
    z = sg.log(sg.exp(x @ W))  # itself rewritten, and still what is differentiated by
    loss = sg.sum(sg.log(sg.sum(sg.exp(z), axis=-1)))
    by_z, by_W = sg.grad(loss, [z, W])
    assert sg.simplify(by_z) is sg.simplify(sg.nn.softmax(x @ W))
    assert sg.simplify(by_W) is sg.simplify(x.T @ sg.nn.softmax(x @ W))


def test_kept_nodes_are_atoms() -> None:
    x = sg.input("x", (3,))
    e = sg.exp(x)
    assert rewrite.run([sg.log(e)])[0][0] is x
    new, log = rewrite.run([sg.log(e) + 0], keep=[e])
    assert new[0] is sg.log(e)
    assert all("kept" not in repr(n) for r in log for n in toposort([r.before, r.after]))


def test_what_is_not_done_to_floats() -> None:
    x, y = sg.input("x", (3,)), sg.input("y", (3,))
    k = sg.input("k", (3,), "int32")
    assert sg.simplify((x + y) - x).op == "sub"
    assert sg.simplify(x - x).op == "sub"
    assert sg.simplify(x * 0).op == "mul"
    assert sg.simplify(x / x).op == "div"
    assert sg.simplify((x + 1e8) - 1e8).op == "add"
    assert interpret.evaluate([sg.simplify(k * 0)], {k: [1, 2, 3]})[0].tolist() == [0, 0, 0]


# -- normal forms ---------------------------------------------------------------------------------
def test_equal_things_become_one_node() -> None:
    x, y = sg.input("x", (6, 4)), sg.input("y", (6, 4))
    r = sg.input("r", (4,))
    same = [
        (x * y, y * x),
        (x - 2, -2 + x),
        (x / 4, 0.25 * x),
        (-(x - y), y - x),
        (x + -y, x - y),
        (x * 2 * y, 2 * (y * x)),
        (x**2, x * x),
        (sg.sum(x, axis=0).sum(), sg.sum(x)),
        (sg.sum(3 * x), 3 * sg.sum(x)),
        (sg.exp(sg.broadcast_to(r, (6, 4))), sg.broadcast_to(sg.exp(r), (6, 4))),
        (sg.sum(x * r, axis=0), r * sg.sum(x, axis=0)),
        (sg.sum(sg.broadcast_to(r, (6, 4)), axis=0), 6 * r),
        (x.T.T, x),
        ((x.T + y.T), (x + y).T),
        (sg.einsum("ij,ij->", x, y), sg.sum(x * y)),
        (sg.expand_dims(r, 0).reshape(4), r),
        (sg.mean(x, axis=1, keepdims=True) + x, x + sg.mean(x, axis=1)[:, None]),
        (x @ y.T, sg.einsum("ik,jk->ij", x, y)),
        (1 / (1 + sg.exp(-x)), sg.sigmoid(x)),
        (sg.log(sg.sigmoid(x)), -sg.log(1 + sg.exp(-x))),
        (sg.log_sigmoid(x) if hasattr(sg, "log_sigmoid") else -sg.nn.softplus(-x),
         sg.log(1 / (1 + sg.exp(-x)))),
    ]  # fmt: skip
    for a, b in same:
        assert sg.simplify(a) is sg.simplify(b), f"{a}   {b}"


def corpus() -> Iterator[tuple[str, list[Expr]]]:
    """Losses with their gradients: the naive formulas, networks, every loss."""
    for name, (scalar, _, _, _) in naive.SCALAR.items():
        x = sg.input("x", (5,))
        yield name, [scalar(x), sg.grad(sg.sum(scalar(x)), x)]
    for name, (vector, _, _) in naive.VECTOR.items():
        x = sg.input("x", (5, 3))
        yield name, [vector(x), sg.grad(sg.sum(vector(x)), x)]
    for name in ("mlp", "layer_norm", "attention"):
        yield name, network(name)


def network(kind: str, layers: int = 3, width: int = 8) -> list[Expr]:
    n = sg.dim("batch", 16)
    x, y = sg.input("x", (n, width)), sg.input("y", (n,), "int32")
    h: Expr = x
    for i in range(layers):
        h = sg.nn.Linear(width, width, name=f"fc{i}")(h)
        if kind == "layer_norm":
            h = sg.nn.LayerNorm(width, name=f"norm{i}")(h)
        if kind == "attention":
            scores = sg.exp(h @ sg.parameter(f"k{i}", (width, width)))
            h = (scores / sg.sum(scores, axis=-1, keepdims=True)) * h
        h = sg.tanh(h)
    loss = sg.losses.cross_entropy(sg.nn.Linear(width, 10, name="out")(h), y)
    weights = [e for e in toposort([loss]) if type(e) is Parameter]
    return [loss, *sg.optim.Adam(1e-3).updates(weights, sg.grad(loss, weights)).values()]


@pytest.mark.parametrize("stages", [rewrite.SIMPLIFY, rewrite.STAGES], ids=["simplify", "all"])
def test_rewriting_twice_is_rewriting_once(stages: tuple[str, ...]) -> None:
    for name, outputs in corpus():
        once, _ = rewrite.run(outputs, stages)
        twice, log = rewrite.run(once, stages)
        assert all(a is b for a, b in zip(once, twice)), f"{name}: {'; '.join(map(str, log))}"


def test_the_order_of_stages_does_not_matter() -> None:
    """What was prepared before differentiation and what was not end as the same nodes, so that a
    loss and its gradient share everything."""
    for name, outputs in corpus():
        direct, _ = rewrite.run(outputs)
        prepared, _ = rewrite.run(rewrite.prepare(outputs)[0])
        assert all(a is b for a, b in zip(direct, prepared)), name


def test_a_loss_shares_its_nodes_with_its_gradient() -> None:
    z, y = sg.input("z", (8, 5)), sg.input("y", (8,), "int32")
    p = sg.exp(z) / sg.sum(sg.exp(z), axis=-1, keepdims=True)
    loss = -sg.mean(sg.sum(sg.one_hot(y, 5) * sg.log(p), axis=-1))
    new, _ = rewrite.run([loss, sg.grad(loss, z)])
    assert sum(e.name == "exp" for e in toposort(new)) == 1


def test_results_do_not_depend_on_memory_addresses() -> None:
    def text(seed: int) -> list[str]:
        garbage = [Input(f"g{i}", (2,)) for i in range(seed * 7)]  # moves what comes after
        outputs = network("layer_norm")
        new, log = rewrite.run(outputs)
        del garbage
        return [f"{r.rule} {r.before.name}" for r in log] + [
            f"{e.name} {e.shape}" for e in toposort(new)
        ]

    assert text(0) == text(3)


# -- the log --------------------------------------------------------------------------------------
def test_log_names_the_rule_and_the_line() -> None:
    z = sg.input("z", (4, 3))
    p = sg.exp(z) / sg.sum(sg.exp(z), axis=-1, keepdims=True)  # the softmax line
    loss = -sg.mean(sg.log(p))
    new, log = rewrite.run([loss])
    entry = next(r for r in log if r.rule == "softmax")
    assert entry.stage == "stabilise" and entry.before.name == "div"
    assert entry.where.file == __file__ and "the softmax line" in entry.where.text
    assert "softmax" in str(entry) and "test_rewrite.py" in str(entry)
    assert all(e.where.file == __file__ for e in toposort(new))


def test_unknown_stage() -> None:
    with pytest.raises(ValueError, match="no stage 'fold'"):
        rewrite.run([sg.input("x", ())], ["fold"])


def test_simplify_takes_forms() -> None:
    x = sg.input("x", (2,))
    got = sg.simplify({"a": sg.log(sg.exp(x)), "b": [x + 0, (x * 1,)]})
    assert list(got) == ["a", "b"] and got["a"] is x
    assert got["b"][0] is x and got["b"][1][0] is x and isinstance(got["b"][1], tuple)
    with pytest.raises(TypeError, match="expressions"):
        sg.simplify("x")


# -- products -------------------------------------------------------------------------------------
def cost(outputs: list[Expr]) -> int:
    """Multiplications in contractions."""
    return sum(
        math.prod(int(s) for s in e.extents.values())
        for e in toposort(outputs)
        if isinstance(e, Contract) and len(e.args) > 1
    )


def checked(e: Expr, seed: int = 0) -> Expr:
    """All stages, with the value compared."""
    (new,), _ = rewrite.run([e])
    rng = np.random.default_rng(seed)
    env = {a: rng.normal(size=a.shape) for a in toposort([e]) if isinstance(a, Input)}
    before, after = interpret.evaluate([e], env)[0], interpret.evaluate([new], env)[0]
    np.testing.assert_allclose(after, before, rtol=1e-9, atol=1e-9)
    return new


def test_chains_are_multiplied_in_the_cheapest_order() -> None:
    a, b = sg.input("a", (30, 40), "float64"), sg.input("b", (40, 50), "float64")
    v, w = sg.input("v", (50,), "float64"), sg.input("w", (50, 2), "float64")
    assert cost([checked(a @ b @ v)]) == 40 * 50 + 30 * 40
    assert cost([checked((a @ b) @ w)]) == 40 * 50 * 2 + 30 * 40 * 2
    assert cost([checked(sg.sum(a @ b, axis=1))]) == 30 * 40
    assert cost([checked(sg.einsum("ik,kj,jl->il", a, b, w))]) == 40 * 50 * 2 + 30 * 40 * 2
    u = sg.input("u", (2, 7), "float64")
    assert cost([checked(sg.einsum("ik,kj,jl,lm->im", a, b, w, u))]) <= (
        40 * 50 * 2 + 30 * 40 * 2 + 30 * 2 * 7
    )
    r = sg.input("r", (2, 7, 1), "float64")  # the axis of size 1 is no other operand's
    checked(sg.einsum("ik,kj,jl,lmz->im", a, b, w, r))


def test_a_product_with_two_readers_is_computed_once() -> None:
    a, b = sg.input("a", (30, 40), "float64"), sg.input("b", (40, 50), "float64")
    v = sg.input("v", (50,), "float64")
    product = a @ b
    new, _ = rewrite.run([product, product @ v])
    assert any(e is new[0] for e in toposort([new[1]]))


def test_a_broadcast_product_is_a_contraction() -> None:
    a, b = sg.input("a", (3, 4), "float64"), sg.input("b", (4, 5), "float64")
    e = checked(sg.sum(a[:, :, None] * b[None, :, :], axis=1))
    assert isinstance(e, Contract) and len(e.args) == 2
    assert max(math.prod(n.shape) for n in toposort([e])) <= 20


def test_transposes_are_read_through() -> None:
    a, b = sg.input("a", (3, 4), "float64"), sg.input("b", (5, 4), "float64")
    for e in (checked(a @ b.T), checked((b @ a.T).T), checked((a.T * 2).T @ b.T)):
        assert not any(
            isinstance(n, Contract) and len(n.args) == 1 and not n.summed for n in toposort([e])
        )


# -- random graphs --------------------------------------------------------------------------------
UNARY = ("neg", "exp", "log", "sqrt", "abs", "tanh", "sigmoid", "square", "log1p", "expm1",
         "softplus", "sin", "cos", "cosh", "sinh", "relu", "stop_gradient")  # fmt: skip
BINARY = ("add", "sub", "mul", "div", "maximum", "minimum")


def random_graph(seed: int, size: int = 14) -> list[Expr]:
    """A few outputs of a graph that is built from what rules look for."""
    rng = np.random.default_rng(seed)
    pick = rng.integers
    n, k = 3, 4
    pool: list[Expr] = [
        Input("x", (n, k), "float64"), Input("y", (n, k), "float64"), Input("r", (n,), "float64"),
        Input("c", (k,), "float64"), Input("s", (), "float64"),
        *(Constant.of(v) for v in (0.0, 1.0, -1.0, 2.0, 0.5, -0.3)),
    ]  # fmt: skip

    def full(e: Expr) -> Expr:
        if e.shape == (n, k) or not e.shape:
            return e
        axis = 0 if e.shape == (n,) else 1
        return Contract.of([[axis]], [0, 1], e, sizes={0: n, 1: k})

    for _ in range(size):
        a, b = pool[pick(len(pool))], pool[pick(len(pool))]
        kind = pick(8)
        if kind <= 1:
            pool.append(Map.of(UNARY[pick(len(UNARY))], a))
        elif kind <= 4:
            if a.shape != b.shape:
                a, b = full(a), full(b)
            pool.append(Map.of(BINARY[pick(len(BINARY))], a, b))
        elif kind == 5 and a.ndim:
            keep = [axis for axis in range(a.ndim) if pick(2)]
            pool.append(Contract.of([range(a.ndim)], keep, a))
        elif kind == 6 and a.shape == (n, k):
            pool.append(Reduce.of("max", a, [int(pick(2))]))
        elif a.shape == (n, k) and b.shape == (n, k):
            pool.append(Contract.of([[0, 1], [2, 1]], [0, 2], a, b))
            pool.append(Contract.of([[0, 1]], [0], pool[-1]))
            pool[-2] = Contract.of([[0, 1], [1, 2]], [0, 2], pool[-2], b)
    return pool[-3:]


@pytest.mark.parametrize("block", range(4))
def test_random_graphs_keep_their_values_and_end(block: int) -> None:
    for seed in range(block * 150, (block + 1) * 150):
        outputs = random_graph(seed)
        label = f"random_graph({seed})"
        new, _ = rewrite.run(outputs)
        again, log = rewrite.run(new)
        assert all(a is b for a, b in zip(new, again)), f"{label}: {'; '.join(map(str, log))}"
        rng = np.random.default_rng(seed)
        leaves = [a for a in toposort(outputs) if isinstance(a, Input)]
        env = {a: rng.uniform(0.3, 1.5, a.shape) * rng.choice([-1, 1, 1], a.shape) for a in leaves}
        for a, b in zip(interpret.evaluate(outputs, env), interpret.evaluate(new, env)):
            fine = np.isfinite(a) & (np.abs(a) < 1e6)
            np.testing.assert_allclose(b[fine], a[fine], rtol=1e-6, atol=1e-6, err_msg=label)


def test_gradients_of_random_graphs_are_those_of_the_naive_graph() -> None:
    from symgrad.derive.reverse import cotangents

    for seed in range(120):
        outputs = [e for e in random_graph(seed, 9) if e.dtype == "float64"]
        loss = sg.sum(outputs[-1])
        leaves = [a for a in toposort([loss]) if isinstance(a, Input)]
        if not leaves:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stable = sg.grad(loss, leaves)
        raw = cotangents([(loss, Constant.of(1.0))], leaves)
        rng = np.random.default_rng(seed)
        env = {a: rng.uniform(0.3, 1.5, a.shape) for a in leaves}
        pairs = [(s, raw[id(a)]) for s, a in zip(stable, leaves) if id(a) in raw]
        new, _ = rewrite.run([s for s, _ in pairs])
        got = interpret.evaluate(new, env)
        wanted = interpret.evaluate([r for _, r in pairs], env)
        for a, b in zip(wanted, got):
            fine = np.isfinite(a) & (np.abs(a) < 1e6)
            np.testing.assert_allclose(b[fine], a[fine], rtol=1e-6, atol=1e-6, err_msg=str(seed))


# -- speed ----------------------------------------------------------------------------------------
def seconds(layers: int) -> float:
    best = math.inf
    for _ in range(3):
        outputs = network("mlp", layers)
        start = time.process_time()
        rewrite.run(outputs)
        best = min(best, time.process_time() - start)
    return best


def test_time_grows_with_the_graph() -> None:
    small, large = seconds(8), seconds(64)
    assert large < 8 * 2 * small, f"8 layers {small:.4f} s, 64 layers {large:.4f} s"
    assert large < 0.4, f"{large:.3f} s for 64 layers"


def test_a_deep_graph_does_not_recurse() -> None:
    e = sg.input("x", (4,))
    for _ in range(5000):
        e = sg.tanh(e * 1.5)
    assert rewrite.run([e])[0][0].height == e.height
