"""Several objects as one: a program's code and the entries that every program shares.

In: the object of a program. Out: bytes that the object cache keeps and `codegen.load` loads like
one object. The entries depend on the target only: they are compiled once for a process, and found
in the object cache after that.

>>> code = with_entries(assemble(emit(program, plan, target), target), target)
>>> load(code).symbol("step_call")
140234866360336
"""

from __future__ import annotations

import functools
import json
import struct
from collections.abc import Sequence

from codegen import cache, entry
from codegen.target import Target

MAGIC = b"SYMGRADB"
HEADER = struct.Struct("<8sQ")  # magic, bytes of the JSON that follows


def pack(objects: Sequence[bytes], exports: Sequence[str]) -> bytes:
    """Objects in the order of loading; `exports` are the symbols that later ones use."""
    head = json.dumps({"sizes": [len(code) for code in objects], "exports": list(exports)}).encode()
    return HEADER.pack(MAGIC, len(head)) + head + b"".join(objects)


def unpack(code: bytes) -> tuple[list[bytes], list[str]] | None:
    """The objects and exports of a bundle; None for what is no bundle."""
    if code[: len(MAGIC)] != MAGIC:
        return None
    size = HEADER.unpack_from(code)[1]
    at = HEADER.size + size
    head = json.loads(code[HEADER.size : at])
    objects = []
    for length in head["sizes"]:
        objects.append(code[at : at + length])
        at += length
    return objects, head["exports"]


def with_entries(code: bytes, target: Target) -> bytes:
    """A program's object together with the entries for its target."""
    return pack([code, _entries(target)], ["step"])


@functools.cache
def _entries(target: Target) -> bytes:
    name = cache.key("entries", cache.version(), target)
    found = cache.get(name)
    if found is not None:
        return found[0]
    from codegen.assemble import assemble

    made = assemble(entry.module(), target)
    cache.put(name, made, {})
    return made
