"""Names of the grammar as LLVM writes them.

In: any name. Out: text that stands for it and for no other name.

>>> local("x"), quoted("batch*2")
('%x', '"batch\\2A2"')
"""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*\Z")


def local(name: str) -> str:
    """A parameter or label of this name."""
    return "%" + quoted(name)


def quoted(name: str) -> str:
    if _PLAIN.match(name):
        return name
    body = "".join(c if c.isalnum() and c.isascii() or c in "._-" else _hex(c) for c in name)
    return f'"{body}"'


def _hex(character: str) -> str:
    return "".join(f"\\{byte:02X}" for byte in character.encode())
