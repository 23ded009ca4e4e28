"""ADBench's objectives: value and gradient as published, as PyTorch's, as central differences'."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
for folder in (ROOT / "examples", ROOT / "tests" / "benchmarks"):
    sys.path.append(str(folder))

import adbench_gmm  # noqa: E402
import adbench_lstm  # noqa: E402
from data.adbench import random_gmm, random_lstm, read_gmm, read_lstm, slope_error  # noqa: E402
from data.find import find  # noqa: E402

VALUE = "objective_calculation_correctness.scalar"
GRADIENT = "jacobian_calculation_correctness.expected_gradient"


def published(kind: str, name: str) -> tuple[Path, dict[str, Any]]:
    """An instance of the benchmark's unit tests, and the literals in them."""
    path, literals = find("adbench", kind, name), find("adbench", "expected.json")
    if path is None or literals is None:
        pytest.skip(f"SYMGRAD_DATA has no adbench/{kind}/{name} (github.com/microsoft/ADBench)")
    return path, json.loads(literals.read_text())[kind]


def as_published(found: dict[str, Any], literals: dict[str, Any]) -> None:
    np.testing.assert_allclose(found["value"], literals[VALUE], rtol=0, atol=1e-8)
    np.testing.assert_allclose(flat(found), literals[GRADIENT], rtol=0, atol=1e-8)


def flat(found: dict[str, Any]) -> np.ndarray:
    """The gradients one after another, as the benchmark writes them."""
    _, *gradients = found.values()
    return np.concatenate([g.ravel() for g in gradients])


@pytest.mark.parametrize("target", [None, "interpret"])
def test_the_mixture_is_as_published(target: str | None) -> None:
    path, literals = published("gmm", "test.txt")
    case = read_gmm(path)
    as_published(adbench_gmm.compiled(case, target=target)(*case[:4]), literals)


MIXTURES = [(1, 1, 1, 0), (1, 4, 9, 2), (2, 3, 1, 1), (5, 4, 33, 3), (12, 9, 64, 0)]


@pytest.mark.parametrize("d, k, n, m", MIXTURES)
def test_the_mixture_equals_pytorch(d: int, k: int, n: int, m: int) -> None:
    pytest.importorskip("torch")
    import adbench_torch

    case = random_gmm(d, k, n, m, seed=d)
    found = adbench_gmm.compiled(case)(*case[:4]).values()
    for form in ("centred", "products"):
        for ours, theirs in zip(found, adbench_torch.gmm(case, form)()):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("d, k, n, m", MIXTURES)
def test_the_mixtures_gradient_is_its_slope(d: int, k: int, n: int, m: int) -> None:
    case = random_gmm(d, k, n, m, seed=d)
    assert slope_error(adbench_gmm.compiled(case), case[:4], 3) < 1e-7


def test_points_far_from_every_mean_have_a_finite_gradient() -> None:
    """exp(-|Q (x - u)|^2 / 2) is 0 for every mean; its logarithm is not needed."""
    case = random_gmm(3, 4, 10)
    case = case._replace(x=case.x + 1e4)
    found = adbench_gmm.compiled(case)(*case[:4])
    assert np.isfinite(found["value"]) and np.isfinite(flat(found)).all()


# -- the LSTM ----------------------------------------------------------------------------------
@pytest.mark.parametrize("target", [None, "interpret"])
def test_the_lstm_is_as_published(target: str | None) -> None:
    path, literals = published("lstm", "lstm_l2_c1024.txt")
    case = read_lstm(path)
    as_published(adbench_lstm.compiled(case, target=target)(*case), literals)


TEXTS = [(1, 2, 1), (1, 3, 8), (2, 30, 14), (3, 17, 9), (4, 5, 33)]


@pytest.mark.parametrize("layers, t, h", TEXTS)
def test_the_lstm_equals_pytorch(layers: int, t: int, h: int) -> None:
    pytest.importorskip("torch")
    import adbench_torch

    case = random_lstm(layers, t, h, seed=t)
    found = adbench_lstm.compiled(case)(*case).values()
    for ours, theirs in zip(found, adbench_torch.lstm(case)()):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("layers, t, h", TEXTS)
def test_the_lstms_gradient_is_its_slope(layers: int, t: int, h: int) -> None:
    case = random_lstm(layers, t, h, seed=t)
    assert slope_error(adbench_lstm.compiled(case), case, 2) < 1e-6
