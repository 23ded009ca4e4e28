"""Functions and training steps: forms, inputs, updates, shared state, run, stages."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import symgrad as sg
from symgrad.errors import GraphError, InputError
from symgrad.interpret import evaluate

TARGETS = ["interpret", "native"]
RNG = np.random.default_rng(7)


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def classifier(n: Any, features: int = 5, classes: int = 3) -> tuple[Any, ...]:
    """x, y, the logits of a small network, and its loss."""
    x, y = sg.input("x", (n, features)), sg.input("y", (n,), dtype="int32")
    model = sg.nn.Sequential(
        sg.nn.Linear(features, 7, name="fc1"), sg.nn.tanh, sg.nn.Linear(7, classes, name="fc2")
    )
    logits = model(x)
    return x, y, logits, sg.losses.cross_entropy(logits, y)


def samples(rows: int, features: int = 5, classes: int = 3) -> tuple[Any, Any]:
    x = RNG.standard_normal((rows, features)).astype(np.float32)
    return x, np.argmax(x[:, :classes] + 0.1, axis=1).astype(np.int32)


# -- forms ------------------------------------------------------------------------------------


def test_results_have_the_form_of_the_outputs(target: str) -> None:
    x = sg.input("x", (4,))
    value = np.arange(4, dtype=np.float32)
    one = sg.function([x], sg.sum(x), target=target)(value)
    assert one == 6 and isinstance(one, np.float32)
    array = sg.function([x], x * 2, target=target)(value)
    assert array.dtype == np.float32 and array.tolist() == [0, 2, 4, 6]
    both = sg.function([x], [x + 1, sg.sum(x)], target=target)(value)
    assert isinstance(both, list) and both[0].tolist() == [1, 2, 3, 4] and both[1] == 6
    named = sg.function([x], {"a": x, "b": sg.max(x)}, target=target)(value)
    assert list(named) == ["a", "b"] and named["a"].tolist() == value.tolist() and named["b"] == 3


def test_results_are_copies(target: str) -> None:
    x = sg.input("x", (3,))
    f = sg.function([x], x + 1, target=target)
    first = f(np.zeros(3, np.float32))
    f(np.ones(3, np.float32))
    assert first.tolist() == [1, 1, 1]


def test_one_expression_twice_among_the_outputs(target: str) -> None:
    x = sg.input("x", (3,))
    f = sg.function([x], {"a": x + 1, "b": x + 1, "x": x}, target=target)
    result = f(np.zeros(3, np.float32))
    assert [v.tolist() for v in result.values()] == [[1, 1, 1], [1, 1, 1], [0, 0, 0]]


def test_constant_outputs_and_unused_inputs(target: str) -> None:
    x, y = sg.input("x", (3,)), sg.input("y", (2,))
    f = sg.function([x, y], [x * 2, sg.constant(3.0)], target=target)
    result = f(np.ones(3, np.float32), np.ones(2, np.float32))
    assert result[0].tolist() == [2, 2, 2] and float(result[1]) == 3


# -- inputs -----------------------------------------------------------------------------------


def test_inputs_by_position_and_by_name(target: str) -> None:
    x, y = sg.input("x", (2,)), sg.input("y", (2,))
    f = sg.function([x, y], x - y, target=target)
    a, b = np.array([3, 4], np.float32), np.array([1, 1], np.float32)
    for result in (f(a, b), f(a, y=b), f(x=a, y=b), f(y=b, x=a)):
        assert result.tolist() == [2, 3]
    assert f.inputs == ("x", "y")


def test_inputs_convert_under_same_kind(target: str) -> None:
    x = sg.input("x", (2, 2))
    f = sg.function([x], x.T, target=target)
    expected = [[1, 3], [2, 4]]
    for value in (
        [[1, 2], [3, 4]],
        [[1.0, 2.0], [3.0, 4.0]],
        np.array([[1, 2], [3, 4]], np.float64),
        np.array([[1, 2], [3, 4]], np.uint8),
        np.array([[1, 3], [2, 4]], np.float32).T,
        np.array([[1, 0, 2, 0], [3, 0, 4, 0]], np.float32)[:, ::2],
    ):
        assert f(value).tolist() == expected


def test_integers_and_bools_as_inputs(target: str) -> None:
    k, m = sg.input("k", (3,), dtype="int64"), sg.input("m", (3,), dtype="bool")
    f = sg.function([k, m], sg.where(m, k, -k), target=target)
    got = f(np.array([1, 2, 3], np.int32), np.array([True, False, True]))
    assert got.dtype == np.int64 and got.tolist() == [1, -2, 3]


def test_labels_may_be_int64(target: str) -> None:
    x, y, _, loss = classifier(sg.dim("batch", 8))
    f = sg.function([x, y], loss, target=target)
    a, b = samples(6)
    assert f(a, b) == f(a, b.astype(np.int64)) == f(a, b.astype(np.uint8))


def test_a_parameter_may_be_an_input(target: str) -> None:
    x, w = sg.input("x", (3,)), sg.parameter("w", (3,), init=np.ones(3))
    loss = sg.sum(x * w)
    f = sg.function([x, w], {"loss": loss, "dw": sg.grad(loss, w)}, target=target)
    result = f([1, 2, 3], [1, 1, 2])
    assert result["loss"] == 9 and result["dw"].tolist() == [1, 2, 3]
    assert len(f.state) == 0


def test_a_run_time_size_as_a_factor(target: str) -> None:
    n = sg.dim("n", 4)
    x, y = sg.input("x", (n * 2,)), sg.input("y", (n, 2))
    f = sg.function([x, y], sg.sum(x) + sg.sum(y), target=target)
    for rows in (1, 3, 4):
        assert f(np.ones(2 * rows, np.float32), np.ones((rows, 2), np.float32)) == 4 * rows
    with pytest.raises(InputError, match="multiple of 2"):
        f(np.ones(3, np.float32), np.ones((1, 2), np.float32))


# -- updates and state ------------------------------------------------------------------------


def test_updates_see_the_values_before_the_call(target: str) -> None:
    a = sg.state("a", (2,), init=np.array([1.0, 2.0]))
    b = sg.state("b", (2,), init=np.array([5.0, 6.0]))
    f = sg.function([], a + b, updates={a: b, b: a}, target=target)
    assert f().tolist() == [6, 8]
    assert f.state["a"].tolist() == [5, 6] and f.state["b"].tolist() == [1, 2]
    f()
    assert f.state["a"].tolist() == [1, 2] and f.state["b"].tolist() == [5, 6]


def test_a_counter(target: str) -> None:
    count = sg.state("count", (), init=0, dtype="int64")
    f = sg.function([], [], updates={count: count + 1}, target=target)
    assert f() == [] and f() == []
    assert f.state["count"] == 2 and f.state["count"].dtype == np.int64


def test_random_numbers_are_those_of_the_seed_and_the_call(target: str) -> None:
    u, z = sg.random.uniform((4, 5), stream=3), sg.random.normal((40,), dtype="float64", stream=9)
    f = sg.function([], [u, z], target=target)
    for step in range(3):
        expected = evaluate([u, z], {}, seed=0, step=step)
        for got, wanted in zip(f(), expected):
            np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-6)


def test_functions_share_parameters(target: str) -> None:
    x, y, logits, loss = classifier(sg.dim("batch", 16))
    step = sg.train_step(loss, sg.optim.SGD(0.1), target=target)
    predict = sg.function([x], logits, state=step.state, target=target)
    a, b = samples(16)
    before = predict(a)
    step(a, b)
    after = predict(a)
    assert np.abs(after - before).max() > 1e-4
    assert set(predict.state) == set(step.state)
    step.state["fc2.weight"] = np.zeros((7, 3))
    step.state["fc2.bias"] = [1, 2, 3]
    assert np.allclose(predict(a), [1, 2, 3])


def test_a_function_first_then_the_step_that_shares_its_state(target: str) -> None:
    x, y, logits, loss = classifier(sg.dim("batch", 16))
    predict = sg.function([x], logits, target=target)
    a, b = samples(9)
    before = predict(a)
    step = sg.train_step(loss, sg.optim.Adam(0.01), state=predict.state, target=target)
    assert np.array_equal(predict(a), before)
    step(a, b)
    assert not np.array_equal(predict(a), before)


def test_interpreted_and_native_functions_share_a_state() -> None:
    x, y, logits, loss = classifier(sg.dim("batch", 16))
    step = sg.train_step(loss, sg.optim.SGD(0.1), target="interpret")
    predict = sg.function([x], logits, state=step.state)
    plain = sg.function([x], logits, state=step.state, target="interpret")
    a, b = samples(16)
    for _ in range(3):
        step(a, b)
        assert np.allclose(predict(a), plain(a), atol=1e-5)


# -- training steps ---------------------------------------------------------------------------


def test_a_step_gives_a_float_or_a_dict_with_the_loss_first(target: str) -> None:
    x, y, logits, loss = classifier(sg.dim("batch", 8))
    a, b = samples(8)
    step = sg.train_step(loss, sg.optim.SGD(0.1), target=target)
    assert isinstance(step(a, b), float)
    correct = sg.mean((sg.argmax(logits, axis=1) == y).astype("float32"))
    step = sg.train_step(loss, sg.optim.SGD(0.1), outputs={"accuracy": correct}, target=target)
    result = step(a, b)
    assert list(result) == ["loss", "accuracy"]
    assert all(isinstance(v, float) for v in result.values())
    with_logits = sg.train_step(loss, sg.optim.SGD(0.1), outputs={"z": logits}, target=target)
    assert with_logits(a, b)["z"].shape == (8, 3)


def test_a_step_is_gradient_descent(target: str) -> None:
    x = sg.input("x", (4, 2))
    w = sg.parameter("w", (2,), init=np.array([1.0, -2.0]))
    loss = sg.mean((x @ w) ** 2)
    step = sg.train_step(loss, sg.optim.SGD(0.1), target=target)
    data = RNG.standard_normal((4, 2)).astype(np.float32)
    expected = np.array([1.0, -2.0])
    for _ in range(3):
        value = step(data)
        assert np.isclose(value, np.mean((data @ expected) ** 2), rtol=1e-5)
        expected = expected - 0.1 * 2 / 4 * data.T @ (data @ expected)
    assert np.allclose(step.state["w"], expected, rtol=1e-5)


def test_inputs_come_in_the_order_of_creation(target: str) -> None:
    late = sg.input("late", (2,))
    early = sg.input("early", (2,))
    w = sg.parameter("w", (2,), init=np.ones(2))
    step = sg.train_step(sg.sum(w * early - late), sg.optim.SGD(0.1), target=target)
    assert step.inputs == ("late", "early")


def test_only_chosen_parameters_are_trained(target: str) -> None:
    x, y, logits, loss = classifier(sg.dim("batch", 8))
    found = {
        p.name: p for p in sg.function([x], logits, target="interpret").state.parameters.values()
    }
    chosen = [found["fc2.weight"], found["fc2.bias"]]
    step = sg.train_step(loss, sg.optim.SGD(0.5), parameters=chosen, target=target)
    before = dict(step.state)
    step(*samples(8))
    moved = {name for name in before if not np.array_equal(step.state[name], before[name])}
    assert moved == {"fc2.weight", "fc2.bias"}


def test_what_is_behind_stop_gradient_is_not_trained(target: str) -> None:
    x = sg.input("x", (3,))
    a, b = sg.parameter("a", (3,), init=np.ones(3)), sg.parameter("b", (3,), init=np.ones(3))
    loss = sg.sum(sg.stop_gradient(x * a) * b)
    step = sg.train_step(loss, sg.optim.AdamW(0.1), target=target)
    assert not any(name.startswith("adamw.m.a") for name in step.state)
    step(np.ones(3, np.float32))
    assert step.state["a"].tolist() == [1, 1, 1] and step.state["b"].max() < 1


def test_the_learning_rate_is_set_between_calls(target: str) -> None:
    x = sg.input("x", (2,))
    w = sg.parameter("w", (2,), init=np.ones(2))
    step = sg.train_step(sg.sum(x * w), sg.optim.SGD(0.25), target=target)
    assert step.lr == 0.25
    step(np.ones(2, np.float32))
    assert step.state["w"].tolist() == [0.75, 0.75]
    step.lr = 0.5
    step(np.ones(2, np.float32))
    assert step.lr == 0.5 and step.state["w"].tolist() == [0.25, 0.25]


def test_a_schedule_cannot_be_set(target: str) -> None:
    w = sg.parameter("w", (2,), init=np.ones(2))
    rate = sg.schedules.exponential(0.1, 0.9)
    step = sg.train_step(sg.sum(w * w), sg.optim.SGD(rate), target=target)
    with pytest.raises(InputError, match="learning rate"):
        step.lr = 0.1


def test_two_steps_over_one_model_are_independent(target: str) -> None:
    x, y, _, loss = classifier(sg.dim("batch", 8))
    first = sg.train_step(loss, sg.optim.SGD(0.1), seed=1, target=target)
    second = sg.train_step(loss, sg.optim.SGD(0.1), seed=1, target=target)
    data = samples(8)
    first(*data)
    assert not np.array_equal(first.state["fc1.weight"], second.state["fc1.weight"])
    assert first(*data) != second(*data)


def test_the_native_step_is_the_interpreted_step() -> None:
    x, y, _, loss = classifier(sg.dim("batch", 40))
    for optimizer in (sg.optim.SGD(0.1, momentum=0.9), sg.optim.Adam(0.01)):
        native = sg.train_step(loss, optimizer, seed=3)
        plain = sg.train_step(loss, optimizer, seed=3, target="interpret")
        for rows in (40, 1, 17, 16, 33):
            data = samples(rows)
            assert np.isclose(native(*data), plain(*data), rtol=1e-4, atol=1e-6)
        for name in plain.state:
            assert np.allclose(native.state[name], plain.state[name], rtol=1e-3, atol=1e-5), name


# -- run --------------------------------------------------------------------------------------


def test_run_is_the_same_as_calls(target: str) -> None:
    x, y, _, loss = classifier(sg.dim("batch", 16))
    a, b = samples(50)
    one = sg.train_step(loss, sg.optim.SGD(0.1), target=target)
    two = sg.train_step(loss, sg.optim.SGD(0.1), target=target)
    (mean,) = one.run({"x": a, "y": b}, batch_size=16, shuffle=False)
    losses = [two(a[i : i + 16], b[i : i + 16]) * len(b[i : i + 16]) for i in range(0, 50, 16)]
    assert np.isclose(mean, sum(losses) / 50, rtol=1e-5)
    for name in one.state:
        assert np.allclose(one.state[name], two.state[name], rtol=1e-6, atol=1e-7)


def test_run_shuffles_by_the_seed(target: str) -> None:
    x, y, _, loss = classifier(sg.dim("batch", 16))
    a, b = samples(50)

    def losses(seed: int) -> list[float]:
        step = sg.train_step(loss, sg.optim.SGD(0.1), seed=seed, target=target)
        for name in ("fc1.weight", "fc2.weight"):
            step.state[name] = np.ones(step.state[name].shape)
        return step.run({"x": a, "y": b}, batch_size=16, epochs=3)

    assert losses(5) == losses(5)
    assert losses(5) != losses(6)


def test_run_shuffles_alike_on_both_backends() -> None:
    from symgrad.compile.shuffle import permutation

    x = sg.input("x", (1,))
    n = sg.dim("batch", 4)
    x = sg.input("x", (n,))
    w = sg.parameter("w", (), init=0.0)
    seen = sg.state("seen", (), init=0.0)
    loss = sg.mean(x) + 0 * w
    runs = []
    for target in TARGETS:
        step = sg.train_step(loss, sg.optim.SGD(0.0), seed=11, target=target)
        data = np.arange(23, dtype=np.float32) ** 2
        runs.append(step.run({"x": data}, batch_size=1, epochs=2))
    assert np.allclose(runs[0], runs[1])
    assert sorted(permutation(23, 11, 0).tolist()) == list(range(23))
    assert permutation(23, 11, 0).tolist() != permutation(23, 11, 1).tolist()
    assert seen.name == "seen"


def test_run_reports_and_stops(target: str) -> None:
    x, y, logits, loss = classifier(sg.dim("batch", 16))
    correct = sg.mean((sg.argmax(logits, axis=1) == y).astype("float32"))
    step = sg.train_step(loss, sg.optim.Adam(0.05), outputs={"accuracy": correct}, target=target)
    a, b = samples(64)
    seen: list[tuple[int, float]] = []
    losses = step.run(
        {"y": b, "x": a}, batch_size=16, epochs=9,
        callback=lambda epoch, value: seen.append((epoch, value)) or epoch == 4,
    )  # fmt: skip
    assert len(losses) == 5 and [v for _, v in seen] == losses
    assert losses[-1] < losses[0]
    assert set(step.means) == {"loss", "accuracy"} and step.means["loss"] == losses[-1]


def test_run_with_a_constant_input_and_a_static_batch(target: str) -> None:
    x, scale = sg.input("x", (4, 2)), sg.input("scale", ())
    w = sg.parameter("w", (2,), init=np.ones(2))
    step = sg.train_step(sg.mean(x @ w) * scale, sg.optim.SGD(0.0), target=target)
    data = np.arange(24, dtype=np.float32).reshape(12, 2)
    (mean,) = step.run({"x": data, "scale": 2.0}, batch_size=4, shuffle=False)
    assert np.isclose(mean, 2 * data.sum(axis=1).mean())


# -- reading ----------------------------------------------------------------------------------


def test_stages_are_text() -> None:
    x, y, _, loss = classifier(sg.dim("batch", 16))
    step = sg.train_step(loss, sg.optim.SGD(0.1))
    assert "loss = " in step.stage("expression")
    assert "d loss / d fc1.weight = " in step.stage("gradient")
    assert "fc1.weight' = " in step.stage("rewritten")
    assert "define void @step" in step.stage("llvm")
    for name in ("schedule", "loops", "assembly"):
        assert step.stage(name).strip()
    with pytest.raises(InputError, match="no stage"):
        step.stage("nothing")


def test_rewrites_and_report(target: str) -> None:
    x, y, _, loss = classifier(sg.dim("batch", 16))
    step = sg.train_step(loss, sg.optim.SGD(0.1), target=target)
    assert step.rewrites and all(r.rule and r.where for r in step.rewrites)
    assert "flop" in step.report()


def test_a_report_knows_the_arena() -> None:
    x, y, _, loss = classifier(sg.dim("batch", 16))
    step = sg.train_step(loss, sg.optim.SGD(0.1))
    arena = step._pipeline.plan.size
    assert f"{arena:,} bytes" in step.report()
    assert step._backend.function.arena_bytes == arena  # type: ignore[attr-defined]


# -- threads ----------------------------------------------------------------------------------


def test_calls_from_several_threads() -> None:
    x = sg.input("x", (64, 64))
    f = sg.function([x], sg.tanh(x @ x) * 2)
    values = [RNG.standard_normal((64, 64)).astype(np.float32) for _ in range(4)]
    expected = [f(v) for v in values]
    wrong: list[int] = []

    def work(k: int) -> None:
        for _ in range(50):
            if not np.array_equal(f(values[k]), expected[k]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_a_graph_without_outputs_is_refused() -> None:
    with pytest.raises(GraphError, match="nothing to compile"):
        sg.function([], [])
