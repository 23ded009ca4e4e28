"""The text of single functions in a module's LLVM text or assembly, and comments above them.

In: text for readers, as `codegen.emit` and `codegen.assemble` give it. Out: the text by function.

>>> llvm_functions(text)["scale"].splitlines()[0]
'; y = w x'
>>> annotated(assembly, {"scale": ["y = w x"]}, "#")
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_DEFINED = re.compile(
    r'^((?:;[^\n]*\n)*define [^\n]*?@(?:"([^"\n]+)"|([\w.$-]+))\(.*?^\}$)', re.MULTILINE | re.DOTALL
)
_TYPE = re.compile(r'^\s*\.type\s+"?([^",\s]+)"?\s*,\s*@function.*$', re.MULTILINE)


def llvm_functions(text: str) -> dict[str, str]:
    """The functions that a module defines, each with the comments above it."""
    return {m[2] or m[3]: m[1] + "\n" for m in _DEFINED.finditer(text)}


def assembly_functions(text: str) -> dict[str, str]:
    """The functions in assembly for ELF, each up to its size, with the comments above it."""
    found: dict[str, str] = {}
    for m in _TYPE.finditer(text):
        name = m[1]
        end = re.compile(rf'^\s*\.size\s+"?{re.escape(name)}"?\s*,.*$', re.MULTILINE)
        last = end.search(text, m.end())
        start = m.end() + 1
        lines = text[start : last.start() if last else len(text)]
        found[name] = _above(text, m.start()) + lines
    return found


def _above(text: str, position: int) -> str:
    """The comment lines that end at a position, with those `annotated` writes between."""
    lines: list[str] = []
    for line in reversed(text[:position].splitlines()):
        if line[:1] not in ("#", "/"):
            break
        lines.append(line)
    return "".join(f"{line}\n" for line in reversed(lines))


def annotated(text: str, notes: Mapping[str, Sequence[str]], sign: str) -> str:
    """Assembly with lines of comment, behind a sign, above functions."""

    def commented(m: re.Match[str]) -> str:
        lines = notes.get(m[1], ())
        return "".join(f"{sign} {line}\n" for line in lines) + m[0]

    return _TYPE.sub(commented, text)
