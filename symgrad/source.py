"""Where in the user's own code an expression was built: the provenance of every node.

In: nothing (the call stack). Out: a `Source` that prints as `model.py:12` and quotes the line.
"""

from __future__ import annotations

import functools
import linecache
import sys
from dataclasses import dataclass, replace
from pathlib import Path

# Frames that are nobody's own line; parameters of layers are made in a `cached_property`.
_PACKAGE = str(Path(__file__).parent)
_PASSED = (_PACKAGE, functools.__file__)
_override: list[Source] = []


@dataclass(frozen=True)
class Source:
    """One line of the user's code."""

    file: str
    line: int
    function: str
    derivative: bool = False  # built by differentiating what this line computes

    @property
    def text(self) -> str:
        """The line itself, stripped; empty when the file cannot be read."""
        return linecache.getline(self.file, self.line).strip()

    @property
    def derived(self) -> Source:
        """The same line, as the place of derivatives."""
        return self if self.derivative else replace(self, derivative=True)

    def __str__(self) -> str:
        return f"{Path(self.file).name}:{self.line}"


def here() -> Source:
    """The innermost frame outside symgrad."""
    if _override:
        return _override[-1]
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PASSED):
        frame = frame.f_back
    code = frame.f_code
    return Source(code.co_filename, frame.f_lineno, code.co_name)


class at:
    """Nodes built inside belong to `source`: derivatives and rewrites keep their origin's line."""

    __slots__ = ("source",)  # entered for every node that is rebuilt, so no generator

    def __init__(self, source: Source) -> None:
        self.source = source

    def __enter__(self) -> None:
        _override.append(self.source)

    def __exit__(self, *_: object) -> None:
        _override.pop()


def quote(source: Source) -> str:
    """`  at model.py:12: h = x @ W`, the last line of every shape error."""
    text = source.text
    return f"\n  at {source}" + (f": {text}" if text else "")
