"""Losses: values and gradients equal PyTorch's to 1e-10 in float64; formulas; errors.

Rows B1 (cross-entropy), B2 (negative log-likelihood), B3 (squared and absolute error), B4 (binary
cross-entropy), B5 (KL divergence), B6 (support vector machines, task losses softened).
"""

import numpy as np
import pytest
from graphs import evaluate

import symgrad as sg
from symgrad.errors import DTypeError, InputError, ShapeError
from symgrad.node import Input

RNG = np.random.default_rng(0)
N, C = 7, 5
SCORES = RNG.normal(size=(N, C)) * 3
LABELS = RNG.integers(0, C, N)
PROBABILITIES = RNG.dirichlet(np.ones(C), N)
UNIT = RNG.uniform(0.01, 0.99, size=(N, C))
BINARY = RNG.integers(0, 2, size=(N, C)).astype(float)
SIGNS = 2 * BINARY - 1
WEIGHT = RNG.uniform(0.5, 2.0, C)
SOME = np.where(np.arange(N) % 3 == 1, -100, LABELS)  # some labels left out
LOG_P = np.log(RNG.dirichlet(np.ones(C), N))

# ours, PyTorch's functional, prediction, target, options
CASES = {
    "cross_entropy": ("cross_entropy", SCORES, LABELS, {}),
    "cross_entropy smooth": ("cross_entropy", SCORES, LABELS, {"label_smoothing": 0.1}),
    "cross_entropy soft": ("cross_entropy", SCORES, PROBABILITIES, {}),
    "cross_entropy soft smooth": (
        "cross_entropy",
        SCORES,
        PROBABILITIES,
        {"label_smoothing": 0.2},
    ),
    "nll_loss": ("nll_loss", LOG_P, LABELS, {}),
    "mse_loss": ("mse_loss", SCORES, UNIT, {}),
    "l1_loss": ("l1_loss", SCORES, UNIT, {}),
    "huber_loss": ("huber_loss", SCORES, UNIT, {}),
    "huber_loss delta": ("huber_loss", SCORES, UNIT, {"delta": 2.5}),
    "bce_loss": ("bce_loss", UNIT, BINARY, {}),
    "bce_loss soft": ("bce_loss", UNIT, RNG.uniform(size=(N, C)), {}),
    "bce_with_logits_loss": ("bce_with_logits_loss", SCORES, BINARY, {}),
    "bce_with_logits_loss soft": ("bce_with_logits_loss", SCORES, UNIT, {}),
    "kl_div": ("kl_div", LOG_P, PROBABILITIES, {}),
    "kl_div log target": ("kl_div", LOG_P, np.log(PROBABILITIES), {"log_target": True}),
    "cross_entropy weight": ("cross_entropy", SCORES, LABELS, {"weight": WEIGHT}),
    "cross_entropy weight smooth": (
        "cross_entropy",
        SCORES,
        LABELS,
        {"weight": WEIGHT, "label_smoothing": 0.1},
    ),
    "cross_entropy weight soft": (
        "cross_entropy",
        SCORES,
        PROBABILITIES,
        {"weight": WEIGHT, "label_smoothing": 0.1},
    ),
    "cross_entropy ignore": ("cross_entropy", SCORES, SOME, {"ignore_index": -100}),
    "cross_entropy ignore a class": ("cross_entropy", SCORES, LABELS, {"ignore_index": 2}),
    "cross_entropy all": (
        "cross_entropy",
        SCORES,
        SOME,
        {"ignore_index": -100, "weight": WEIGHT, "label_smoothing": 0.3},
    ),
    "nll_loss weight": ("nll_loss", LOG_P, LABELS, {"weight": WEIGHT}),
    "nll_loss ignore": ("nll_loss", LOG_P, SOME, {"weight": WEIGHT, "ignore_index": -100}),
    "bce_loss weight": ("bce_loss", UNIT, BINARY, {"weight": WEIGHT}),
    "bce_with_logits_loss weight": ("bce_with_logits_loss", SCORES, UNIT, {"weight": WEIGHT}),
    "bce_with_logits_loss all": (
        "bce_with_logits_loss",
        SCORES,
        UNIT,
        {"weight": WEIGHT, "pos_weight": WEIGHT[::-1].copy()},
    ),
}
THEIRS = {
    "bce_loss": "binary_cross_entropy",
    "bce_with_logits_loss": "binary_cross_entropy_with_logits",
}


def torch_loss(loss, prediction, target, **options):
    torch = pytest.importorskip("torch")
    p = torch.tensor(prediction, requires_grad=True)
    options = {k: torch.tensor(v) if np.ndim(v) else v for k, v in options.items()}
    value = getattr(torch.nn.functional, THEIRS.get(loss, loss))(p, torch.tensor(target), **options)
    value.sum().backward()
    return value.detach().numpy(), p.grad.numpy()


def ours(loss, prediction, target, **options):
    z = Input("z", np.shape(prediction), "float64")
    t = Input("t", np.shape(target), np.asarray(target).dtype)
    value = getattr(sg.losses, loss)(z, t, **options)
    slope = sg.grad(value.sum(), z)
    return evaluate([value, slope], {z: prediction, t: target})


@pytest.mark.filterwarnings("ignore:reduction")  # PyTorch announces a change of its kl_div
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", CASES)
def test_equals_pytorch(name, reduction):
    loss, prediction, target, options = CASES[name]
    options = {**options, "reduction": reduction}
    for a, b in zip(
        ours(loss, prediction, target, **options), torch_loss(loss, prediction, target, **options)
    ):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def predicted(torch, loss):
    """What a network's last layer gives to this loss: (ours, PyTorch's) of scores z."""
    if loss == "bce_loss":
        return sg.nn.sigmoid, torch.sigmoid
    if loss in ("nll_loss", "kl_div"):
        return sg.nn.log_softmax, lambda z: torch.log_softmax(z, -1)
    return (lambda z: z), (lambda z: z)


@pytest.mark.filterwarnings("ignore:reduction")
@pytest.mark.parametrize("name", CASES)
def test_fifty_native_steps_equal_pytorchs(name):
    """Every option in a step that trains: all three reductions in one loss."""
    torch = pytest.importorskip("torch")
    loss, _, target, options = CASES[name]
    x, t = sg.input("x", (N, 4), dtype="float64"), sg.input("t", target.shape, dtype=target.dtype)
    start = RNG.normal(size=(4, C))
    W = sg.parameter("W", (4, C), start, "float64")
    w = torch.tensor(start, requires_grad=True)
    our_last, their_last = predicted(torch, loss)
    known = {k: torch.tensor(v) if np.ndim(v) else v for k, v in options.items()}
    f, g = getattr(sg.losses, loss), getattr(torch.nn.functional, THEIRS.get(loss, loss))

    def total(of, prediction, target, given):
        rows = of(prediction, target, reduction="none", **given)
        mean = of(prediction, target, reduction="mean", **given)
        return (
            mean + 0.1 * of(prediction, target, reduction="sum", **given) + 0.01 * (rows**2).sum()
        )

    step = sg.train_step(total(f, our_last(x @ W), t, options), sg.optim.SGD(0.01, momentum=0.9))
    optimizer = torch.optim.SGD([w], lr=0.01, momentum=0.9)
    for X in np.random.default_rng(1).normal(size=(50, N, 4)):
        value = total(g, their_last(torch.tensor(X) @ w), torch.tensor(target), known)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        assert step(X, target) == pytest.approx(value.item(), rel=1e-10)
    np.testing.assert_allclose(step.state["W"], w.detach().numpy(), rtol=1e-10, atol=1e-10)


def test_bce_clamps_as_pytorch_does():
    p = np.array([0.0, 1.0, 0.0, 1.0, 1e-44, 1e-43, 1e-30])
    t = np.array([0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0])
    value, slope = ours("bce_loss", p, t, reduction="none")
    np.testing.assert_allclose(value, torch_loss("bce_loss", p, t, reduction="none")[0])
    assert np.isfinite(slope).all()


def test_bce_of_a_sigmoid_is_not_clamped():
    z, t = Input("z", (4,), "float64"), Input("t", (4,), "float64")
    at = {z: np.array([-1000.0, 1000.0, -1000.0, 3.0]), t: np.array([1.0, 0.0, 0.0, 1.0])}
    loss = sg.losses.bce_loss(sg.nn.sigmoid(z), t, reduction="sum")
    value, slope = evaluate([sg.simplify(loss), sg.simplify(sg.grad(loss, z))], at)
    assert value == pytest.approx(2000 + np.log1p(np.exp(-3)), rel=1e-14)
    np.testing.assert_allclose(slope, [-1, 1, 0, -1 / (1 + np.exp(3))], atol=1e-15)


def test_cross_entropy_at_large_logits():
    z, y = Input("z", (3, 4), "float64"), Input("y", (3,), "int32")
    at = {z: np.array([[1000, -1000, 0, 1], [-1000] * 4, [1e4, 1e4, 0, 0]]), y: [1, 2, 0]}
    loss = sg.losses.cross_entropy(z, y, reduction="none")
    value = evaluate(sg.simplify(loss), at)
    np.testing.assert_allclose(value, [2000, np.log(4), np.log(2)], rtol=1e-14)
    assert np.isfinite(evaluate(sg.simplify(sg.grad(loss.sum(), z)), at)).all()


def test_bce_with_logits_at_large_logits():
    z, t = np.array([1000.0, -1000, 1000, -1000]), np.array([1.0, 0, 0, 1])
    value, slope = ours("bce_with_logits_loss", z, t, reduction="none")
    np.testing.assert_array_equal(value, [0, 0, 1000, 1000])
    np.testing.assert_array_equal(slope, [0, 0, 1, -1])


def test_pos_weight():
    torch = pytest.importorskip("torch")
    value, _ = ours("bce_with_logits_loss", SCORES, BINARY, pos_weight=2.5)
    weight = torch.tensor(2.5, dtype=torch.float64)
    theirs, _ = torch_loss("bce_with_logits_loss", SCORES, BINARY, pos_weight=weight)
    np.testing.assert_allclose(value, theirs, rtol=1e-12)


@pytest.mark.parametrize("target", ["interpret", "native"])
def test_labels_that_are_left_out_are_known_when_called(target):
    z, y = sg.input("z", (N, C), dtype="float64"), sg.input("y", (N,), dtype="int64")
    loss = sg.losses.cross_entropy(z, y, ignore_index=-100)
    f = sg.function([z, y], loss, target=target)
    expected, _ = torch_loss("cross_entropy", SCORES, SOME)
    assert f(SCORES, SOME) == pytest.approx(float(expected), rel=1e-12)
    for wrong in (-1, C, -99):
        with pytest.raises(InputError, match=rf"'y'\[2\] is {wrong}: .* in 0..{C - 1} or -100"):
            f(SCORES, np.where(np.arange(N) == 2, wrong, SOME))
    strict = sg.function([z, y], loss + sg.losses.nll_loss(z, y), target=target)
    with pytest.raises(InputError, match=r"'y'\[1\] is -100"):  # one use leaves nothing out
        strict(SCORES, SOME)


def test_kl_div_batchmean_and_zero_targets():
    q = PROBABILITIES.copy()
    q[0, :2] = 0
    options = {"reduction": "batchmean"}
    for a, b in zip(ours("kl_div", LOG_P, q, **options), torch_loss("kl_div", LOG_P, q, **options)):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_nll_ignores_impossible_classes():
    log_p = np.array([[0.0, -np.inf], [-np.inf, 0.0]])
    value, slope = ours("nll_loss", log_p, np.array([0, 1]))
    assert value == 0
    np.testing.assert_array_equal(slope, [[-0.5, 0], [0, -0.5]])


def test_sequences_of_scores():
    z = Input("z", (2, 3, C), "float64")
    y = Input("y", (2, 3), "int64")
    value = sg.losses.cross_entropy(z, y, reduction="none")
    assert value.shape == (2, 3)
    at = {z: SCORES[:6].reshape(2, 3, C), y: LABELS[:6].reshape(2, 3)}
    flat = ours("cross_entropy", SCORES[:6], LABELS[:6], reduction="none")[0]
    np.testing.assert_allclose(evaluate(value, at).reshape(-1), flat)


def test_hinge():
    value, _ = ours("hinge_loss", SCORES, SIGNS, reduction="none")
    np.testing.assert_allclose(value, np.maximum(0, 1 - SIGNS * SCORES))


def test_multiclass_hinge():
    torch = pytest.importorskip("torch")
    value, slope = ours("multiclass_hinge_loss", SCORES, LABELS)
    z = torch.tensor(SCORES, requires_grad=True)
    theirs = torch.nn.functional.multi_margin_loss(z, torch.tensor(LABELS)) * C
    theirs.backward()
    np.testing.assert_allclose(value, theirs.item(), rtol=1e-12)
    np.testing.assert_allclose(slope, z.grad.numpy(), atol=1e-12)


def test_multiclass_hinge_task_loss():
    rows = np.arange(N)
    raised = SCORES + 1
    raised[rows, LABELS] -= 1
    exact = raised.max(1) - SCORES[rows, LABELS]
    value, _ = ours("multiclass_hinge_loss", SCORES, LABELS, form="max", reduction="none")
    np.testing.assert_allclose(value, exact, rtol=1e-12)
    cost = RNG.uniform(size=(C, C)) * (1 - np.eye(C))
    own = SCORES[rows, LABELS]
    costs = {"form": "max", "reduction": "none", "task_loss": cost}
    value, _ = ours("multiclass_hinge_loss", SCORES, LABELS, **costs)
    np.testing.assert_allclose(value, (SCORES + cost[LABELS]).max(1) - own, rtol=1e-12)
    z, y = Input("z", (N, C), "float64"), Input("y", (N,), "int64")
    near = sg.simplify(sg.losses.multiclass_hinge_loss(z, y, epsilon=1e-3, **costs))
    value = evaluate(near, {z: SCORES, y: LABELS})
    np.testing.assert_allclose(value, (SCORES + cost[LABELS]).max(1) - own, atol=2e-3)
    free = {"form": "max", "epsilon": 1.0, "task_loss": np.zeros((C, C))}
    for a, b in zip(
        ours("multiclass_hinge_loss", SCORES, LABELS, **free), ours("cross_entropy", SCORES, LABELS)
    ):
        np.testing.assert_allclose(a, b, atol=1e-14)
    soft = {"form": "max", "epsilon": 0.5, "reduction": "none"}
    value, _ = ours("multiclass_hinge_loss", SCORES, LABELS, **soft)
    exact = 0.5 * np.log(np.exp(raised / 0.5).sum(1)) - SCORES[rows, LABELS]
    np.testing.assert_allclose(value, exact, rtol=1e-12)


def test_errors_name_the_loss():
    z, wide = Input("z", (N, C)), Input("w", (N, C + 1))
    y, short = Input("y", (N,), "int32"), Input("s", (N - 1,), "int32")
    for loss in ("mse_loss", "l1_loss", "huber_loss", "bce_loss", "kl_div", "hinge_loss"):
        with pytest.raises(ShapeError, match=rf"{loss}: .*\({N}, {C}\).*\({N}, {C + 1}\)"):
            getattr(sg.losses, loss)(z, wide)
        with pytest.raises(DTypeError, match=loss):
            getattr(sg.losses, loss)(y, y)
        with pytest.raises(InputError, match=f"{loss}: reduction"):
            getattr(sg.losses, loss)(z, z, reduction="average")
    for loss in ("cross_entropy", "nll_loss", "multiclass_hinge_loss"):
        with pytest.raises(ShapeError, match=f"{loss}: labels"):
            getattr(sg.losses, loss)(z, short)
    with pytest.raises(ShapeError, match="cross_entropy: probabilities"):
        sg.losses.cross_entropy(z, wide)
    with pytest.raises(DTypeError, match="nll_loss: labels must be int"):
        sg.losses.nll_loss(z, z)
    with pytest.raises(DTypeError, match="cross_entropy: labels must be int"):
        sg.losses.cross_entropy(z, Input("b", (N,), "bool"))
    with pytest.raises(InputError, match="label_smoothing"):
        sg.losses.cross_entropy(z, y, label_smoothing=1.5)
    with pytest.raises(InputError, match="delta"):
        sg.losses.huber_loss(z, z, delta=-1)
    with pytest.raises(InputError, match="form"):
        sg.losses.multiclass_hinge_loss(z, y, form="mean")


def test_targets_may_be_integers_and_lists():
    z = Input("z", (3,))
    loss = sg.losses.mse_loss(z, [1, 2, 3])
    assert loss.dtype == "float32"
    assert evaluate(loss, {z: np.zeros(3)}) == pytest.approx(14 / 3)
