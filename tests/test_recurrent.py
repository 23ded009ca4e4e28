"""Recurrent layers against PyTorch in float64, to 1e-10: values, all gradients, every option."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgrad as sg
from symgrad import errors, nn

torch = pytest.importorskip("torch")

TARGETS = ["interpret", "native"]
TOLERANCE = 1e-10
TIME, BATCH, FEATURES, HIDDEN = 5, 3, 4, 6
LAYERS = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}
CELLS = {"RNNCell": nn.RNNCell, "LSTMCell": nn.LSTMCell, "GRUCell": nn.GRUCell}


def torch_parameters(ours: Any, theirs: torch.nn.Module) -> list[tuple[Any, torch.Tensor]]:
    """Pairs of parameters of one name."""
    named = dict(theirs.named_parameters())
    return [(p, named[p.name.split(".")[-1]]) for p in ours.parameters()]


def value_of(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """A weight as ours has it: transposed."""
    return tensor.detach().numpy().T.copy()


def compare(
    kind: str, target: str, given_state: bool = False, lengths: Any = None, **options: Any
) -> None:
    """Outputs, last states and gradients of a weighted sum of both."""
    torch.manual_seed(1)
    rng = np.random.default_rng(2)
    batch_first = options.pop("batch_first", True)
    theirs = getattr(torch.nn, kind)(
        FEATURES,
        HIDDEN,
        num_layers=options.get("num_layers", 1),
        batch_first=batch_first,
        dtype=torch.float64,
        **{k: v for k, v in options.items() if k != "num_layers"},
    )
    ours = LAYERS[kind](
        FEATURES, HIDDEN, batch_first=batch_first, name="net", dtype="float64", **options
    )
    shape = (BATCH, TIME, FEATURES) if batch_first else (TIME, BATCH, FEATURES)
    x = sg.input("x", shape, "float64")
    pairs = torch_parameters(ours, theirs)
    inputs: list[Any] = [x, *(p for p, _ in pairs)]
    values = [rng.normal(size=shape), *(value_of(t) for _, t in pairs)]
    state: Any = None
    tensors = [torch.tensor(values[0], requires_grad=True)]
    if given_state:
        rows = len(ours.weights)
        count = 2 if kind == "LSTM" else 1
        states = [sg.input(f"s{i}", (rows, BATCH, HIDDEN), "float64") for i in range(count)]
        inputs += states
        values += [rng.normal(size=s.shape) for s in states]
        tensors += [torch.tensor(v, requires_grad=True) for v in values[-count:]]
        state = tuple(states) if count == 2 else states[0]
    their_state = tuple(tensors[1:]) if kind == "LSTM" else (tensors[1] if given_state else None)
    if not given_state:
        their_state = None
    if lengths is None:
        ys, last = ours(x, state)
        their_ys, their_last = theirs(tensors[0], their_state)
    else:
        ys, last = ours(x, state, lengths=sg.constant(np.array(lengths)))
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            tensors[0], torch.tensor(lengths), batch_first=batch_first, enforce_sorted=False
        )
        packed_ys, their_last = theirs(packed, their_state)
        their_ys, _ = torch.nn.utils.rnn.pad_packed_sequence(
            packed_ys, batch_first=batch_first, total_length=TIME
        )
    results = [ys, *(last if isinstance(last, tuple) else [last])]
    their_results = [their_ys, *(their_last if isinstance(their_last, tuple) else [their_last])]
    weights = [rng.normal(size=r.shape) for r in results]
    loss = sum((r * sg.constant(w)).sum() for r, w in zip(results, weights))
    their_loss = sum((r * torch.tensor(w)).sum() for r, w in zip(their_results, weights))
    their_loss.backward()  # type: ignore[union-attr]
    count = len(pairs)
    expected = [tensors[0].grad.numpy(), *(t.grad.numpy().T for _, t in pairs)]  # type: ignore[union-attr]
    expected += [t.grad.numpy() for t in tensors[1:]]  # type: ignore[union-attr]
    run = sg.function(inputs, [*results, *sg.grad(loss, inputs)], target=target)
    found = run(*values)
    for mine, their in zip(found, [r.detach().numpy() for r in their_results]):
        np.testing.assert_allclose(mine, their, rtol=TOLERANCE, atol=TOLERANCE)
    for leaf, mine, their in zip(inputs, found[len(results) :], expected):
        np.testing.assert_allclose(
            mine, their, rtol=TOLERANCE, atol=TOLERANCE, err_msg=str(leaf.name)
        )
    assert count == len(list(theirs.parameters()))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", LAYERS)
def test_one_layer(kind: str, target: str) -> None:
    compare(kind, target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", LAYERS)
def test_several_layers_in_both_directions_from_a_state(kind: str, target: str) -> None:
    compare(kind, target, given_state=True, num_layers=2, bidirectional=True)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", LAYERS)
def test_without_bias_time_first(kind: str, target: str) -> None:
    compare(kind, target, bias=False, batch_first=False)


@pytest.mark.parametrize("target", TARGETS)
def test_relu(target: str) -> None:
    compare("RNN", target, nonlinearity="relu", num_layers=3)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", LAYERS)
def test_variable_lengths(kind: str, target: str) -> None:
    compare(kind, target, lengths=[5, 1, 3], bidirectional=True)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", CELLS)
def test_cells(kind: str, target: str) -> None:
    torch.manual_seed(3)
    rng = np.random.default_rng(4)
    theirs = getattr(torch.nn, kind)(FEATURES, HIDDEN, dtype=torch.float64)
    ours = CELLS[kind](FEATURES, HIDDEN, name="cell", dtype="float64")
    x = sg.input("x", (BATCH, FEATURES), "float64")
    count = 2 if kind == "LSTMCell" else 1
    states = [sg.input(f"s{i}", (BATCH, HIDDEN), "float64") for i in range(count)]
    pairs = torch_parameters(ours, theirs)
    inputs = [x, *states, *(p for p, _ in pairs)]
    values = [rng.normal(size=e.shape) for e in inputs[: 1 + count]]
    tensors = [torch.tensor(v, requires_grad=True) for v in values]
    values += [value_of(t) for _, t in pairs]
    new = ours(x, tuple(states) if count == 2 else states[0])
    new = new if count == 2 else [new]
    their_new = theirs(tensors[0], tuple(tensors[1:]) if count == 2 else tensors[1])
    their_new = their_new if count == 2 else [their_new]
    loss = sum((i + 1) * sg.sin(e).sum() for i, e in enumerate(new))
    sum((i + 1) * torch.sin(e).sum() for i, e in enumerate(their_new)).backward()  # type: ignore[union-attr]
    run = sg.function(inputs, [*new, *sg.grad(loss, inputs)], target=target)
    found = run(*values)
    expected = [e.detach().numpy() for e in their_new]
    expected += [t.grad.numpy() for t in tensors]  # type: ignore[union-attr]
    expected += [t.grad.numpy().T for _, t in pairs]  # type: ignore[union-attr]
    for mine, their in zip(found, expected):
        np.testing.assert_allclose(mine, their, rtol=TOLERANCE, atol=TOLERANCE)
    zero = ours(x)
    assert (zero[0] if count == 2 else zero).shape == (BATCH, HIDDEN)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", LAYERS)
def test_one_function_for_every_length_and_batch(kind: str, target: str) -> None:
    time, batch = sg.dim("time", 7), sg.dim("batch", 5)
    net = LAYERS[kind](FEATURES, HIDDEN, name="net")
    x = sg.input("x", (batch, time, FEATURES))
    y = sg.input("y", (batch, HIDDEN))
    outputs, last = net(x)
    last = last[0] if kind == "LSTM" else last
    loss = sg.mean(sg.square(last[0] - y))
    parameters = net.parameters()
    run = sg.function([x, y], [outputs, loss, *sg.grad(loss, parameters)], target=target)
    rng = np.random.default_rng(0)
    for steps, rows in ((7, 5), (1, 1), (4, 3)):
        fixed_x = sg.input("x", (rows, steps, FEATURES))
        fixed_y = sg.input("y", (rows, HIDDEN))
        fixed, fixed_last = net(fixed_x)
        fixed_last = fixed_last[0] if kind == "LSTM" else fixed_last
        fixed_loss = sg.mean(sg.square(fixed_last[0] - fixed_y))
        other = sg.function(
            [fixed_x, fixed_y],
            [fixed, fixed_loss, *sg.grad(fixed_loss, parameters)],
            target="interpret",
        )
        X = rng.normal(size=(rows, steps, FEATURES)).astype("float32")
        Y = rng.normal(size=(rows, HIDDEN)).astype("float32")
        for a, b in zip(run(X, Y), other(X, Y)):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("target", TARGETS)
def test_it_learns_to_remember(target: str) -> None:
    """The sign of the first element of a sequence, told by the state after the last."""
    rng = np.random.default_rng(0)
    x, y = sg.input("x", (32, 6, 1)), sg.input("y", (32,))
    gru = nn.GRU(1, 8, name="gru")
    out = nn.Linear(8, 1, name="out")
    logit = out(gru(x)[1][0])[:, 0]
    loss = sg.mean(sg.nn.softplus(logit) - y * logit)
    step = sg.train_step(loss, sg.optim.Adam(0.03), seed=0, target=target)
    values = []
    for _ in range(60):
        X = rng.normal(size=(32, 6, 1)).astype("float32")
        values.append(float(step(X, (X[:, 0, 0] > 0).astype("float32"))))
    assert np.mean(values[-10:]) < 0.6 * np.mean(values[:5])


def test_dropout_acts_between_layers_while_training() -> None:
    net = nn.LSTM(FEATURES, HIDDEN, num_layers=2, dropout=0.5, name="net")
    x = sg.input("x", (BATCH, TIME, FEATURES))
    run = sg.function([x], [net(x)[0], net(x, training=True)[0], net(x)[0]], target="interpret")
    plain, dropped, again = run(np.ones((BATCH, TIME, FEATURES), "float32"))
    assert (plain == again).all() and (plain != dropped).any()
    one = nn.LSTM(FEATURES, HIDDEN, dropout=0.5, name="one")  # nothing is between its layers
    run = sg.function([x], [one(x)[0], one(x, training=True)[0]], target="interpret")
    plain, dropped = run(np.ones((BATCH, TIME, FEATURES), "float32"))
    assert (plain == dropped).all()


def test_a_sequence_without_a_batch() -> None:
    net = nn.GRU(FEATURES, HIDDEN, name="net")
    ys, last = net(sg.input("x", (TIME, FEATURES)))
    assert ys.shape == (TIME, HIDDEN) and last.shape == (1, HIDDEN)


def test_parameters_are_named_as_in_pytorch() -> None:
    net = nn.GRU(FEATURES, HIDDEN, num_layers=2, bidirectional=True, name="net")
    theirs = torch.nn.GRU(FEATURES, HIDDEN, num_layers=2, bidirectional=True)
    names = {p.name.removeprefix("net."): p.shape for p in net.parameters()}
    assert names == {n: tuple(p.shape)[::-1] for n, p in theirs.named_parameters()}


X = sg.input("x", (BATCH, TIME, FEATURES))
BAD: list[tuple[str, Any, type[Exception], str]] = [
    ("features", lambda: nn.LSTM(5, 6)(X), errors.ShapeError, r"must end in 5 features"),
    ("length 0", lambda: nn.GRU(4, 6)(sg.input("x", (3, 0, 4))), errors.ShapeError, "length 0"),
    ("axes", lambda: nn.RNN(4, 6)(sg.input("x", (4,))), errors.ShapeError, "takes"),
    ("state", lambda: nn.GRU(4, 6)(X, sg.input("h", (3, 6))), errors.ShapeError, r"\(1, 3, 6\)"),
    ("pair", lambda: nn.LSTM(4, 6)(X, sg.input("h", (1, 3, 6))), errors.InputError, "pair"),
    ("cell state", lambda: nn.GRUCell(4, 6)(X, X), errors.ShapeError, r"\(3, 5, 6\)"),
    ("dropout 1", lambda: nn.LSTM(4, 6, dropout=1.0), errors.InputError, r"\[0, 1\)"),
    ("dropout -1", lambda: nn.GRU(4, 6, dropout=-0.1), errors.InputError, r"\[0, 1\)"),
    ("layers", lambda: nn.RNN(4, 6, num_layers=0), errors.ShapeError, "num_layers"),
    ("hidden", lambda: nn.RNN(4, -6), errors.ShapeError, "hidden"),
    ("function", lambda: nn.RNN(4, 6, nonlinearity="gelu"), errors.InputError, "nonlinearity"),
    ("lengths", lambda: nn.GRU(4, 6)(X, lengths=np.ones(2, "int32")), errors.ShapeError, "length"),
    ("integers", lambda: nn.GRU(4, 6)(sg.input("x", (3, 5, 4), "int32")), errors.DTypeError, "flo"),
]  # fmt: skip


@pytest.mark.parametrize("name,make,error,message", BAD, ids=[b[0] for b in BAD])
def test_errors(name: str, make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        make()
    assert "test_recurrent.py" in str(caught.value)
