"""The reader of IDX files that the examples share, and two of the examples in full (rows D1, D2).

Whole MNIST and Fashion-MNIST are read from SYMGRAD_DATA; the tests that train on them are skipped
where it is not set.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module examples/data/images.py."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    from data import images

    return images


def idx(array: np.ndarray) -> bytes:
    kinds = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}
    kind = kinds[array.dtype.str[1:]]
    sizes = np.array(array.shape, ">i4").tobytes()
    return (
        bytes([0, 0, kind, array.ndim])
        + sizes
        + array.astype(array.dtype.newbyteorder(">")).tobytes()
    )


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
def test_idx_files_are_read_back(reader: Any, tmp_path: Path, dtype: str) -> None:
    array = np.random.default_rng(0).integers(0, 99, (5, 3, 2)).astype(dtype)
    plain, packed = tmp_path / "a-idx3", tmp_path / "b-idx3.gz"
    plain.write_bytes(idx(array))
    packed.write_bytes(gzip.compress(idx(array)))
    np.testing.assert_array_equal(reader.read_idx(plain), array)
    np.testing.assert_array_equal(reader.read_idx(packed, rows=2), array[:2])
    np.testing.assert_array_equal(reader.read_idx(packed, rows=9), array)


def test_damaged_files_are_named(reader: Any, tmp_path: Path) -> None:
    whole = idx(np.zeros((5, 3), "u1"))
    for content, message in (
        (whole[:-1], r"ends early: its header says \[5, 3\]"),
        (b"<html>not here</html>", "is no IDX file"),
        (b"", "is no IDX file"),
        (whole[:7], "is no IDX file"),
    ):
        path = tmp_path / "damaged"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{path} {message}"):
            reader.read_idx(path)


def test_a_missing_set_says_what_to_download(
    reader: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("SYMGRAD_DATA", str(tmp_path))
    with pytest.raises(SystemExit) as stop:
        reader.images("mnist")
    for said in ("train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz", "https://"):
        assert said in str(stop.value)
    assert str(tmp_path / "mnist") in str(stop.value)
    parts = reader.images("mnist", quick=True)
    assert "embedded digits" in capsys.readouterr().out
    assert parts["train"]["x"].shape == (997, 1, 28, 28)
    assert sorted(set(parts["test"]["y"])) == list(range(10))


def test_a_set_is_cut_and_scaled(
    reader: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYMGRAD_DATA", str(tmp_path))
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for part, count in (("train", 40), ("t10k", 12)):
        pixels = rng.integers(0, 256, (count, 28, 28)).astype("u1")
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(pixels))
        labels = rng.integers(0, 10, count).astype("u1")
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    parts = reader.images("fashion-mnist", held_out=10)
    assert [len(parts[p]["y"]) for p in ("train", "validation", "test")] == [30, 10, 12]
    assert parts["train"]["x"].dtype == np.float32 and parts["train"]["y"].dtype == np.int32
    assert abs(parts["train"]["x"].mean()) < 1e-5 and abs(parts["train"]["x"].std() - 1) < 1e-5
    unit = reader.images("fashion-mnist", held_out=10, scale="unit")
    np.testing.assert_array_equal(
        unit["test"]["x"][:, 0] * 255, np.rint(unit["test"]["x"][:, 0] * 255)
    )
    assert unit["train"]["x"].min() == 0 and unit["train"]["x"].max() == 1


@pytest.mark.parametrize("name, least", [("mnist_lenet", 0.989), ("fashion_mlp", 0.883)])
def test_whole_sets_are_learned(name: str, least: float, tmp_path: Path) -> None:
    if not os.environ.get("SYMGRAD_DATA"):
        pytest.skip("SYMGRAD_DATA is not set: the examples say what to download")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) >= least
