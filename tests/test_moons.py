"""Two moons: micrograd's demonstration, 100 % of the points after 100 steps."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import symgrad as sg

sys.path.append(str(Path(__file__).parent.parent / "examples"))

import common  # noqa: E402


@pytest.mark.parametrize("seed", range(3))
def test_the_moons_are_told_apart_after_100_steps(seed: int) -> None:
    """Layers of 2, 16, 16, 1 that start from U(-1, 1), ReLU, hinge loss with an L2 term, all points
    in every step, learning rates from 1 to 0.1."""
    points, labels = common.moons(100, noise=0.1, seed=seed)
    x, y = sg.input("x", (100, 2)), sg.input("y", (100,), dtype="int32")
    model = common.mlp(2, 16, 16, 1, init=sg.init.uniform(-1, 1))
    score = model(x)[:, 0]
    loss = sg.losses.hinge_loss(score, 2 * y - 1) + sg.regularizers.l2(model, 1e-4)
    right = sg.mean(((score > 0) == (y > 0)).astype("float32"))
    step = sg.train_step(loss, sg.optim.SGD(1.0), outputs={"accuracy": right}, seed=seed)
    for i in range(100):
        step.lr = 1 - 0.9 * i / 100
        result = step(points, labels)
    assert result["accuracy"] == 1.0 and result["loss"] < 0.02
