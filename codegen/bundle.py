"""Several objects as one: a program's code and the entries that every program shares.

In: the object of a program. Out: bytes that the object cache keeps and `codegen.load` loads like
one object. The entries depend on the target only: they are compiled once for a process, and found
in the object cache after that. So are the threads, which come first where a program uses several:
an object that a process loads only once, whatever bundle it comes from.

>>> code = with_entries(assemble(emit(program, plan, target), target), target)
>>> load(code).symbol("step_call")
140234866360336
"""

from __future__ import annotations

import functools
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from codegen import cache, entry, threads
from codegen.target import Target

MAGIC = b"SYMGRADB"
HEADER = struct.Struct("<8sQ")  # magic, bytes of the JSON that follows


@dataclass(frozen=True)
class Bundle:
    """Objects in the order of loading, of which the first `common` are loaded once for a process;
    `exports` are the symbols that later ones use."""

    objects: Sequence[bytes]
    exports: Sequence[str]
    common: int = 0


def pack(bundle: Bundle) -> bytes:
    sizes = [len(code) for code in bundle.objects]
    facts = {"sizes": sizes, "exports": list(bundle.exports), "common": bundle.common}
    head = json.dumps(facts).encode()
    return HEADER.pack(MAGIC, len(head)) + head + b"".join(bundle.objects)


def unpack(code: bytes) -> Bundle | None:
    """The inverse of `pack`; None for what is no bundle."""
    if code[: len(MAGIC)] != MAGIC:
        return None
    size = HEADER.unpack_from(code)[1]
    at = HEADER.size + size
    head = json.loads(code[HEADER.size : at])
    objects = []
    for length in head["sizes"]:
        objects.append(code[at : at + length])
        at += length
    return Bundle(objects, head["exports"], head["common"])


def with_entries(code: bytes, target: Target) -> bytes:
    """A program's object together with the entries for its target, and with threads if it names
    them."""
    if not any(name.encode() in code for name in threads.EXPORTS):
        return pack(Bundle([code, _entries(target)], ["step"]))
    # The same bytes for all targets of a processor, so that a process has one pool of threads.
    plain = Target(target.triple, "generic", "", 4, False, 16)
    objects = [_pool(plain), code, _entries(target)]
    return pack(Bundle(objects, [*threads.EXPORTS, "step"], common=1))


@functools.cache
def _entries(target: Target) -> bytes:
    return _made("entries", entry.module(), target)


@functools.cache
def _pool(target: Target) -> bytes:
    return _made("threads", threads.text(target), target)


def _made(what: str, text: str, target: Target) -> bytes:
    name = cache.key(what, cache.version(), target)
    found = cache.get(name)
    if found is not None:
        return found[0]
    from codegen.assemble import assemble

    made = assemble(text, target)
    cache.put(name, made, {})
    return made
