"""Every example runs by itself; the digits example by the command line, to its accuracy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Every file that does something when it is run; the others are what these share.
EXAMPLES = sorted(p for p in (ROOT / "examples").glob("*.py") if "__main__" in p.read_text())


def run(*command: str, cwd: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True
    )
    if done.stderr.startswith("this example needs"):  # a library that is optional
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path: Path, tmp_path: Path) -> None:
    float(run(str(path), "--quick", cwd=tmp_path).split()[-1])  # the last word is its result


def test_the_digits_are_learned(tmp_path: Path) -> None:
    """The first thing a newcomer does, and what the README promises of it."""
    shown = run("-m", "symgrad.cli", "train", str(ROOT / "examples/digits_mlp.py"), cwd=tmp_path)
    (row,) = [line for line in shown.splitlines() if "test accuracy" in line]
    assert float(row.split("│")[2]) >= 0.975
