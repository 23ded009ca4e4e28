"""Initial values: moments, bounds, determinism, errors."""

import math

import numpy as np
import pytest

from symgrad import init
from symgrad.errors import InputError, ShapeError
from symgrad.init import fans

SHAPE = (300, 200)
STD = {
    "normal": (init.normal(), 1.0),
    "normal(0, 0.1)": (init.normal(0.0, 0.1), 0.1),
    "uniform": (init.uniform(-1, 1), 1 / math.sqrt(3)),
    "xavier_uniform": (init.xavier_uniform(), math.sqrt(2 / 500)),
    "xavier_normal": (init.xavier_normal(2.0), 2 * math.sqrt(2 / 500)),
    "he_uniform": (init.he_uniform(), math.sqrt(2 / 300)),
    "he_normal": (init.he_normal(), math.sqrt(2 / 300)),
    "he_normal fan_out": (init.he_normal(a=1.0, mode="fan_out"), math.sqrt(1 / 200)),
    "lecun_normal": (init.lecun_normal(), math.sqrt(1 / 300)),
    "fan_in_uniform": (init.fan_in_uniform(), 1 / math.sqrt(3 * 300)),
}
BOUNDS = {
    "xavier_uniform": (init.xavier_uniform(), math.sqrt(6 / 500)),
    "he_uniform": (init.he_uniform(), math.sqrt(6 / 300)),
    "fan_in_uniform": (init.fan_in_uniform(), 1 / math.sqrt(300)),
}


@pytest.mark.parametrize("name", STD)
def test_moments(name):
    rule, std = STD[name]
    drawn = rule(SHAPE, np.random.default_rng(1))
    assert drawn.shape == SHAPE
    assert abs(drawn.mean()) < 4 * std / math.sqrt(drawn.size)
    assert drawn.std() == pytest.approx(std, rel=0.02)


@pytest.mark.parametrize("name", BOUNDS)
def test_bounds(name):
    rule, bound = BOUNDS[name]
    drawn = rule(SHAPE, np.random.default_rng(1))
    assert 0.99 * bound < np.abs(drawn).max() <= bound


def test_constants():
    rng = np.random.default_rng(0)
    assert (init.zeros()((2, 3), rng) == 0).all() and (init.ones()((), rng) == 1)
    assert (init.constant(0.25)((4,), rng) == 0.25).all()


@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (8, 3, 3, 3)])
def test_orthogonal(shape):
    q = init.orthogonal(2.0)(shape, np.random.default_rng(0)).reshape(shape[0], -1) / 2
    small = q @ q.T if q.shape[0] < q.shape[1] else q.T @ q
    np.testing.assert_allclose(small, np.eye(len(small)), atol=1e-12)


def test_fans():
    assert fans((784, 128)) == (784, 128)
    assert fans((64, 3, 5, 5)) == (75, 1600)  # (out, in, height, width)
    assert fans((10,)) == (10, 1) and fans(()) == (1, 1)


def test_the_lectures_rules():
    """N(0, 0.1), U(+-1/sqrt(fan_in)), Glorot, N(0, 1/(fan_in + fan_out)), He (row E6)."""
    rng, shape = np.random.default_rng(0), (300, 500)
    for rule, variance in (
        (init.normal(std=0.1**0.5), 0.1),
        (init.fan_in_uniform(), 1 / (3 * 300)),
        (init.xavier_uniform(), 2 / 800),
        (init.xavier_normal(gain=0.5**0.5), 1 / 800),
        (init.he_normal(), 2 / 300),
    ):
        drawn = rule(shape, rng)
        assert drawn.var() == pytest.approx(variance, rel=0.02), rule
        assert abs(drawn.mean()) < 0.01 * variance**0.5 * 4
    assert np.abs(init.xavier_uniform()(shape, rng)).max() <= (6 / 800) ** 0.5
    assert (init.zeros()(shape, rng) == 0).all()


def test_same_seed_same_values():
    a, b = (init.he_normal()(SHAPE, np.random.default_rng(5)) for _ in range(2))
    assert (a == b).all()


def test_errors():
    for make in (
        lambda: init.constant(math.nan),
        lambda: init.normal(0, -1),
        lambda: init.uniform(1, 0),
        lambda: init.he_normal(mode="fan"),
        lambda: init.xavier_normal("big"),
    ):
        with pytest.raises(InputError):
            make()
    with pytest.raises(ShapeError):
        init.orthogonal()((3,), np.random.default_rng(0))
