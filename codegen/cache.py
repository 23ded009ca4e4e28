"""Compiled objects kept on disk, so that a second start compiles nothing.

In: a key made of everything the object depends on. Out: the object and its metadata, or None.
The folder is the platform's cache folder (`$XDG_CACHE_HOME/symgrad`, `~/.cache/symgrad`, ...), or
what SYMGRAD_CACHE names; "off" or "0" there turns caching off. SYMGRAD_CACHE_SIZE bounds the
folder in megabytes (512 when unset); the entries unused for longest go first.

An entry is one file: a header, the metadata as JSON, the object, and a digest over all of it.
Files appear by an atomic rename, so processes may share the folder; an entry that is damaged
counts as absent and is removed. A folder that cannot be written only costs the caching.

>>> cache = Cache()
>>> name = key("program text", "znver4", compiler_version())
>>> cache.put(name, object_code, {"arena": 4096})
>>> cache.get(name)
(b'\\x7fELF...', {'arena': 4096})
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Iterator

MAGIC = b"SYMGRAD1"
HEADER = struct.Struct("<8sQQ32s")  # magic, bytes of metadata, bytes of object, sha256 of both
DEFAULT_MEGABYTES = 512
ABANDONED = 3600.0  # seconds after which an unfinished temporary file belongs to nobody

# -- keys ----------------------------------------------------------------------------------------


def key(*parts: object) -> str:
    """A digest of the parts; each is delimited, so ("ab", "c") differs from ("a", "bc")."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        digest.update(f"{type(part).__name__}:{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()


def compiler_version() -> str:
    """Version of the llvmlite that would compile, found without importing it."""
    spec = find_spec("llvmlite")
    if spec is None or spec.origin is None:
        return "none"
    package = Path(spec.origin).parent
    for folder in package.parent.glob("llvmlite-*.*-info"):  # dist-info or egg-info
        return folder.name.removeprefix("llvmlite-").rpartition(".")[0]
    from importlib.metadata import PackageNotFoundError, version  # slow: 20 ms

    try:
        return version("llvmlite")
    except PackageNotFoundError:
        return "unknown"


def sources(*folders: str | os.PathLike[str]) -> str:
    """A digest of all Python files below the folders: a changed compiler makes new objects."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(Path(folder).rglob("*.py")):
            data = path.read_bytes()
            digest.update(f"{path.relative_to(folder)}:{len(data)}:".encode())
            digest.update(data)
    return digest.hexdigest()


def version() -> str:
    """What an object made by this package depends on, besides its program and its target."""
    return key(compiler_version(), sources(Path(__file__).parent))


# -- the folder ----------------------------------------------------------------------------------


def folder() -> Path | None:
    """Where entries are kept by default; None when caching is turned off or has no home."""
    chosen = os.environ.get("SYMGRAD_CACHE", "")
    if chosen.lower() in ("off", "0", "false", "no"):
        return None
    if chosen:
        return Path(chosen).expanduser()
    try:
        home = Path.home()
    except RuntimeError:  # no home folder, as in some containers
        return None
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "symgrad"


def limit() -> int:
    """The most bytes the folder may hold."""
    try:
        return int(float(os.environ["SYMGRAD_CACHE_SIZE"]) * 1e6)
    except (KeyError, ValueError, OverflowError):
        return DEFAULT_MEGABYTES * 1_000_000


class Cache:
    """A folder of entries. Both arguments default to what the environment says, at each use."""

    def __init__(
        self, root: str | os.PathLike[str] | None = None, max_bytes: int | None = None
    ) -> None:
        self._root = None if root is None else Path(root)
        self._max_bytes = max_bytes

    @property
    def root(self) -> Path | None:
        return folder() if self._root is None else self._root

    @property
    def max_bytes(self) -> int:
        return limit() if self._max_bytes is None else self._max_bytes

    def path(self, name: str) -> Path | None:
        """The file of an entry; None when caching is off."""
        root = self.root
        return None if root is None else root / name[:2] / name[2:]

    def get(self, name: str) -> tuple[bytes, dict[str, Any]] | None:
        """The object and metadata put under this key, or None. A damaged entry is removed."""
        path = self.path(name)
        if path is None:
            return None
        try:
            data = path.read_bytes()
        except OSError:
            return None
        entry = _decode(data)
        try:
            if entry is None:
                path.unlink()
            else:
                os.utime(path)  # last use, for eviction
        except OSError:
            pass
        return entry

    def put(self, name: str, code: bytes, meta: dict[str, Any]) -> bool:
        """Keep an object; whether it was written. Never raises for want of a writable folder."""
        path = self.path(name)
        data = _encode(code, meta)
        if path is None or len(data) > self.max_bytes:
            return False
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _replace(path, data)
        except OSError:
            return False
        self.evict()
        return path.exists()

    def evict(self) -> None:
        """Bring the folder below its bound, the entries unused for longest first."""
        used = sorted(self._entries(), key=lambda e: e[1], reverse=True)
        total, bound, now = 0, self.max_bytes, time.time()
        for size, touched, path in used:
            if path.name.startswith("."):  # being written, or left behind by a killed process
                if now - touched > ABANDONED:
                    _remove(path)
                continue
            total += size
            if total > bound:
                _remove(path)

    def size(self) -> int:
        """Bytes held by all entries."""
        return sum(size for size, _, _ in self._entries())

    def clear(self) -> None:
        """Remove every entry."""
        for _, _, path in self._entries():
            _remove(path)

    def _entries(self) -> Iterator[tuple[int, float, Path]]:
        """Size, time of last use and path of every file, except those that vanish meanwhile."""
        root = self.root
        for shard in _scan(root) if root else []:
            if len(shard.name) == 2 and shard.is_dir(follow_symlinks=False):
                for file in _scan(shard.path):
                    try:
                        status = file.stat(follow_symlinks=False)
                    except OSError:
                        continue
                    yield status.st_size, status.st_mtime, Path(file.path)


def _scan(path: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError:
        return []


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError:
        pass  # another process was faster, or still has it open


def _replace(path: Path, data: bytes) -> None:
    """Write a file so that nobody ever sees half of it."""
    temporary = path.parent / f".{os.getpid()}.{os.urandom(8).hex()}"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        _remove(temporary)
        raise


def _encode(code: bytes, meta: dict[str, Any]) -> bytes:
    text = json.dumps(meta, separators=(",", ":")).encode()
    digest = hashlib.sha256(text + code).digest()
    return HEADER.pack(MAGIC, len(text), len(code), digest) + text + code


def _decode(data: bytes) -> tuple[bytes, dict[str, Any]] | None:
    """The parts of an entry, or None when it is not whole."""
    if len(data) < HEADER.size:
        return None
    magic, text_size, code_size, digest = HEADER.unpack_from(data)
    body = data[HEADER.size :]
    if magic != MAGIC or len(body) != text_size + code_size:
        return None
    if hashlib.sha256(body).digest() != digest:
        return None
    return body[text_size:], json.loads(body[:text_size])


_default = Cache()


def get(name: str) -> tuple[bytes, dict[str, Any]] | None:
    """`Cache.get` of the default folder."""
    return _default.get(name)


def put(name: str, code: bytes, meta: dict[str, Any]) -> bool:
    """`Cache.put` into the default folder."""
    return _default.put(name, code, meta)
