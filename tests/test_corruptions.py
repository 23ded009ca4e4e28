"""The tests notice when the product is broken: each line of tests/corruptions.py, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from corrupting import OutOfDate
from corruptions import CORRUPTIONS, Corruption

FAULTS_OF_THE_TABLE = (OutOfDate, NameError, SyntaxError)
_passed: set[tuple[Callable[..., Any], tuple[Any, ...]]] = set()


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYMGRAD_CACHE", "off")
    monkeypatch.delenv("SYMGRAD_CHECK", raising=False)


def passes(corruption: Corruption) -> None:
    """The check on the product as it is; once for all corruptions that share it."""
    key = (corruption.check, tuple(map(repr, corruption.arguments)))
    if key not in _passed:
        corruption.check(*corruption.arguments)
        _passed.add(key)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=[c.name for c in CORRUPTIONS])
def test_a_corruption_is_caught(corruption: Corruption) -> None:
    passes(corruption)
    try:
        with corruption.change():
            corruption.check(*corruption.arguments)
    except FAULTS_OF_THE_TABLE:
        raise
    except (Exception, pytest.fail.Exception):
        return
    pytest.fail(f"{corruption.check.__name__}{corruption.arguments} does not notice")


def test_the_table() -> None:
    names = [c.name for c in CORRUPTIONS]
    assert len(set(names)) == len(names) >= 48


@pytest.mark.filterwarnings("ignore")
def test_everything_is_mended_again() -> None:
    """After all corruptions every check passes."""
    for corruption in CORRUPTIONS:
        with corruption.change():
            pass
    _passed.clear()
    for corruption in CORRUPTIONS:
        passes(corruption)
