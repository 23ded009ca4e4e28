"""The object cache: what is put comes back whole or not at all, from any number of processes."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codegen import cache
from codegen.cache import Cache, compiler_version, key, sources


def test_put_and_get(tmp_path: Path) -> None:
    store = Cache(tmp_path)
    assert store.get(key("a")) is None
    assert store.put(key("a"), b"\x7fELF" * 100, {"arena": 64, "names": ["x", "y"]})
    assert store.get(key("a")) == (b"\x7fELF" * 100, {"arena": 64, "names": ["x", "y"]})
    assert store.get(key("b")) is None
    assert store.put(key("a"), b"new", {})
    assert store.get(key("a")) == (b"new", {})
    assert store.put(key("empty"), b"", {}) and store.get(key("empty")) == (b"", {})


def test_keys_separate_their_parts() -> None:
    parts = [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), (b"abc",), (1,), ("1",)]
    keys = [key(*p) for p in parts]
    assert len(set(keys)) == len(keys)
    assert key("ab", "c") == keys[0] and len(keys[0]) == 64


def test_environment_chooses_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYMGRAD_CACHE", str(tmp_path / "here"))
    assert cache.put(key(1), b"code", {})
    assert cache.get(key(1)) == (b"code", {})
    assert cache.folder() == tmp_path / "here"
    for off in ("off", "0", "OFF"):
        monkeypatch.setenv("SYMGRAD_CACHE", off)
        assert cache.folder() is None
        assert not cache.put(key(2), b"code", {})
        assert cache.get(key(1)) is None
    monkeypatch.delenv("SYMGRAD_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.folder() == tmp_path / "xdg" / "symgrad"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.folder() == tmp_path / ".cache" / "symgrad"


@pytest.mark.parametrize("seed", range(30))
def test_damage_is_noticed_and_removed(tmp_path: Path, seed: int) -> None:
    store = Cache(tmp_path)
    store.put(key("a"), os.urandom(500), {"n": 1})
    path = store.path(key("a"))
    assert path is not None
    data = bytearray(path.read_bytes())
    rng = random.Random(seed)
    if seed % 3 == 0:
        del data[rng.randrange(len(data)) :]
    elif seed % 3 == 1:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    else:
        data += b"more"
    path.write_bytes(data)
    assert store.get(key("a")) is None
    assert not path.exists()
    assert store.put(key("a"), b"again", {})
    assert store.get(key("a")) == (b"again", {})


def test_least_recently_used_goes_first(tmp_path: Path) -> None:
    store = Cache(tmp_path, max_bytes=5500)
    for i in range(5):
        assert store.put(key(i), bytes(1000), {})
        path = store.path(key(i))
        assert path is not None
        os.utime(path, (time.time() - 100 + i,) * 2)
    assert store.get(key(0)) is not None  # used again: now the youngest
    assert store.put(key(5), bytes(1000), {})
    assert [i for i in range(6) if store.get(key(i))] == [0, 2, 3, 4, 5]
    assert store.size() <= 5500
    assert not store.put(key("huge"), bytes(6000), {})
    assert len([i for i in range(6) if store.get(key(i))]) == 5
    store.clear()
    assert store.size() == 0


def test_size_limit_from_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYMGRAD_CACHE_SIZE", "3")
    assert Cache().max_bytes == 3_000_000
    monkeypatch.setenv("SYMGRAD_CACHE_SIZE", "much")
    assert Cache().max_bytes == 512_000_000


def test_abandoned_temporary_files_are_removed(tmp_path: Path) -> None:
    store = Cache(tmp_path)
    store.put(key(1), b"x", {})
    path = store.path(key(1))
    assert path is not None
    old, young = path.parent / ".old", path.parent / ".young"
    old.write_bytes(b"half")
    young.write_bytes(b"half")
    os.utime(old, (time.time() - 10_000,) * 2)
    store.evict()
    assert young.exists() and not old.exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    store = Cache(file)
    assert not store.put(key(1), b"x", {})
    assert store.get(key(1)) is None
    assert store.size() == 0


def _work(root: str, seed: int, failures: multiprocessing.Queue[str]) -> None:
    """Put and get random entries; whatever is found must be what belongs to its key."""
    rng, store = random.Random(seed), Cache(root, max_bytes=60_000)
    for _ in range(150):
        i = rng.randrange(20)
        code = hashlib.sha256(str(i).encode()).digest() * 150
        if rng.random() < 0.5:
            store.put(key(i), code, {"i": i})
        elif rng.random() < 0.1:
            path = store.path(key(i))
            if path and path.exists():
                try:
                    os.truncate(path, 1000)
                except OSError:
                    pass
        else:
            found = store.get(key(i))
            if found is not None and found != (code, {"i": i}):
                failures.put(f"entry {i} is wrong")


def test_processes_share_a_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    failures = context.Queue()
    workers = [context.Process(target=_work, args=(str(tmp_path), s, failures)) for s in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert failures.empty()
    assert Cache(tmp_path, max_bytes=60_000).size() <= 60_000
    assert not [p for p in tmp_path.rglob(".*") if p.is_file()]


def test_compiler_version_without_importing_it() -> None:
    code = (
        "import sys; from codegen.cache import compiler_version; print(compiler_version());"
        "assert not any(m.startswith(('llvmlite', 'importlib.metadata')) for m in sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    import llvmlite

    assert shown == compiler_version() == llvmlite.__version__


def test_sources_follow_content_and_names(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1")
    one = sources(tmp_path)
    assert one == sources(tmp_path)
    (tmp_path / "a.py").write_text("x = 2")
    two = sources(tmp_path)
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert len({one, two, sources(tmp_path)}) == 3
