"""What calls give back belongs to the caller: no later call changes it, whoever holds what."""

import numpy as np
import pytest

import symgrad as sg

RNG = np.random.default_rng(4)


def scaled(shape=(64, 48)):
    """A function whose result is large enough to be handed out as it lies."""
    x = sg.input("x", shape)
    return sg.function([x], x * 2.0 + 1.0)


def fresh(shape=(64, 48)):
    return RNG.standard_normal(shape).astype("float32")


def test_kept_results_stay():
    f = scaled()
    inputs = [fresh() for _ in range(8)]
    results = [f(x) for x in inputs]
    for x, y in zip(inputs, results):
        np.testing.assert_array_equal(y, x * np.float32(2) + np.float32(1))
    assert len({y.ctypes.data for y in results}) == 8


PARTS = {
    "transpose": lambda y: y.T,
    "slice": lambda y: y[3:5, ::2],
    "ravel": lambda y: y.ravel(),
    "memoryview": memoryview,
}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_keeps_its_memory(name):
    f, part = scaled(), PARTS[name]
    x = fresh()
    held = part(f(x))
    expected = np.array(part(x * np.float32(2) + np.float32(1)))
    for _ in range(4):
        f(fresh())
    np.testing.assert_array_equal(np.array(held), expected)


def test_dropped_results_are_written_again():
    f = scaled()
    first = f(fresh()).ctypes.data
    assert all(f(fresh()).ctypes.data == first for _ in range(5))
    places = set()
    for _ in range(10):
        y = f(fresh())  # the one before is held during the call
        places.add(y.ctypes.data)
    assert len(places) == 2


def test_a_result_as_an_argument():
    f = scaled()
    y = x = fresh()
    for _ in range(5):
        y, x = f(y), x * np.float32(2) + np.float32(1)
        np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(f(f(fresh() * 0)), np.full((64, 48), 3, "float32"))


def test_results_may_be_written():
    f = scaled()
    x = fresh()
    f(x)[:] = np.nan
    assert np.isfinite(f(x)).all()


def test_run_time_sizes():
    n = sg.dim("n", max=100)
    x = sg.input("x", (n, 40))
    f = sg.function([x], [x * 3.0, x.sum(axis=1)])
    kept = []
    for rows in (100, 60, 3, 100, 49, 51, 100):
        a = fresh((rows, 40))
        kept.append((a, *f(a)))
    for a, y, s in kept:
        np.testing.assert_array_equal(y, a * np.float32(3))
        np.testing.assert_allclose(s, a.sum(axis=1), rtol=1e-4, atol=1e-5)
    assert kept[2][1].base is None  # three rows do not keep the memory of a hundred


def test_one_expression_twice():
    x = sg.input("x", (64, 64))
    y = sg.exp(x)
    f = sg.function([x], {"a": y, "b": y, "c": y + 1.0})
    a = fresh((64, 64))
    got = f(a)
    f(fresh((64, 64)))
    np.testing.assert_allclose(got["a"], np.exp(a), rtol=1e-6)
    np.testing.assert_array_equal(got["a"], got["b"])
    np.testing.assert_allclose(got["c"], np.exp(a) + 1, rtol=1e-6)
    got["a"][:] = 0
    assert got["b"].any()


def test_whole_passes_leave_results_alone():
    n = sg.dim("n", max=64)
    x = sg.input("x", (n, 32))
    w = sg.parameter("w", (32, 32), init=fresh((32, 32)))
    y = x @ w
    step = sg.train_step((y * y).mean(), sg.optim.SGD(0.01), outputs={"y": y})
    a = fresh((64, 32))
    held = step(a)["y"]
    before = held.copy()
    step.run({"x": fresh((640, 32))}, batch_size=64, epochs=2)
    np.testing.assert_array_equal(held, before)
