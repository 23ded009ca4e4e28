"""Where in the user's own code an expression was built: the provenance of every node.

In: nothing (the call stack). Out: a `Source` that prints as `model.py:12` and quotes the line. It
also says which layers were being called then, outermost first: pictures draw a box for each.
"""

from __future__ import annotations

import dis
import functools
import linecache
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeVar

# Frames that are nobody's own line; parameters of layers are made in a `cached_property`.
_PACKAGE = str(Path(__file__).parent)
_PASSED = (_PACKAGE, functools.__file__)
_override: list[Source] = []
_parts: tuple[Part, ...] = ()  # the calls of layers that are running
F = TypeVar("F", bound=Callable[..., Any])


class Part:
    """One call of a layer, or of a function such as a loss: what is built meanwhile belongs to it.

    A layer is not kept alive by the nodes that it built; `owner` is None when it is gone.
    """

    __slots__ = ("kind", "name", "_owner")

    def __init__(self, kind: str, owner: Any = None) -> None:
        self.kind = kind  # `Linear`, `cross_entropy`
        self.name: str | None = getattr(owner, "name", None)
        self._owner = None if owner is None else weakref.ref(owner)

    @property
    def owner(self) -> Any:
        return None if self._owner is None else self._owner()


def part_of(call: F, kind: str | None = None) -> F:
    """A function whose calls are parts of what is built: of its first argument, a layer, or of the
    kind that is given."""

    @functools.wraps(call)
    def within(*args: Any, **named: Any) -> Any:
        global _parts
        outer = _parts
        owner = args[0] if kind is None else None
        if owner is not None and outer and outer[-1].owner is owner:
            return call(*args, **named)  # `super().__call__(x)`
        _parts = (*outer, Part(kind or type(owner).__name__, owner))
        try:
            return call(*args, **named)
        finally:
            _parts = outer

    return within  # type: ignore[return-value]


def as_part(function: F) -> F:
    """A function whose calls are parts called like itself."""
    return part_of(function, function.__name__)


@dataclass(frozen=True)
class Source:
    """One line of the user's code."""

    file: str
    line: int
    function: str
    derivative: bool = False  # built by differentiating what this line computes
    parts: tuple[Part, ...] = field(default=(), compare=False, repr=False)  # outermost first
    # the variable that the value goes to; "" for none, None for a part of what a rewrite built
    stored: str | None = field(default="", compare=False, repr=False)

    @property
    def text(self) -> str:
        """The line itself, stripped; empty when the file cannot be read."""
        return linecache.getline(self.file, self.line).strip()

    @property
    def derived(self) -> Source:
        """The same line, as the place of derivatives."""
        return self if self.derivative else replace(self, derivative=True)

    @functools.cached_property
    def part(self) -> Source:
        """The same line, as the place of parts of the value that was built there."""
        return self if self.stored is None else replace(self, stored=None)

    def __str__(self) -> str:
        path = Path(self.file)
        in_notebook = path.parent.name.startswith("ipykernel_")  # files that exist in name only
        return f"{'cell' if in_notebook else path.name}:{self.line}"


def here() -> Source:
    """The innermost frame outside symgrad."""
    if _override:
        return _override[-1]
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PASSED):
        frame = frame.f_back
    code = frame.f_code
    return Source(code.co_filename, frame.f_lineno, code.co_name, False, _parts, _stored(frame))


# -- variables ----------------------------------------------------------------------------------
_RETURNED = "return"  # no name of a variable
_STORES = ("STORE_FAST", "STORE_NAME", "STORE_GLOBAL", "STORE_DEREF")
_variables: dict[int, tuple[CodeType, dict[int, str]]] = {}


def _stored(frame: FrameType | None) -> str:
    """The variable that takes the value of what a frame is at, as its next instruction says; of a
    value that is returned, the caller's variable."""
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.startswith(_PASSED):
            known = _variables.get(id(code))
            if known is None:
                if len(_variables) > 10_000:
                    _variables.clear()
                known = _variables[id(code)] = code, _stores(code)  # its id is taken while it lives
            name = known[1].get(frame.f_lasti, "")
            if name != _RETURNED:
                return name
        frame = frame.f_back
    return ""


def _stores(code: CodeType) -> dict[int, str]:
    """The variable stored behind each instruction of a function that has one."""
    found: dict[int, str] = {}
    steps = [i for i in dis.get_instructions(code) if i.opname != "EXTENDED_ARG"]
    for k, step in enumerate(steps[:-1]):
        name = _takes(steps[k + 1 : k + 4])
        # a name that a person can write; a frame may be at the caches of its instruction
        if name.isidentifier() and name.strip("_"):
            found.update(dict.fromkeys(range(step.offset, steps[k + 1].offset, 2), name))
    return found


def _takes(steps: list[dis.Instruction]) -> str:
    """The variable that the top of the stack goes to next."""
    if steps[0].opname in ("COPY", "DUP_TOP"):  # a = b = ..., (a := ...)
        steps = steps[1:]
    if not steps:
        return ""
    first, *rest = steps
    if first.opname == "RETURN_VALUE":
        return _RETURNED
    if first.opname.startswith(_STORES):
        return first.argval[0] if isinstance(first.argval, tuple) else str(first.argval)
    if rest and rest[0].opname == "STORE_ATTR" and first.opname.startswith("LOAD_"):
        return str(rest[0].argval)  # self.h = ...
    return ""


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
