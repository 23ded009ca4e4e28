"""Automatic names: `linear1`, `linear2` for what the user did not name.

In: `automatic(kind)` when a layer is first used. Out: a name no other has, until `settle`, called
when a graph is compiled, numbers the layers of that graph from 1 in order of creation. So a model
that is built twice in one process has the same names, and the same initial values, both times.
"""

from __future__ import annotations

import itertools
import weakref
from typing import Any, Iterable

from symgrad.node import Parameter

_counts: dict[str, itertools.count[int]] = {}
_settled: dict[str, str] = {}  # provisional label -> the label it got
# Parameters whose label is provisional, by id (expressions overload ==), with label and suffix.
_open: dict[int, tuple[weakref.ref[Any], str, str, str]] = {}


def automatic(kind: str) -> str:
    """A provisional label."""
    return f"{kind}{next(_counts.setdefault(kind, itertools.count(1)))}"


def current(label: str) -> str:
    """What a provisional label is called now."""
    return _settled.get(label, label)


def register(parameter: Parameter, kind: str, label: str) -> None:
    """Say that the name of `parameter` starts with the provisional `label`."""
    if label in _settled:
        return
    key, suffix = id(parameter), parameter.name[len(label) :]
    _open[key] = (weakref.ref(parameter, lambda _: _open.pop(key, None)), kind, label, suffix)


def settle(parameters: Iterable[Parameter], taken: Iterable[str] = ()) -> None:
    """Give the layers of these parameters their final names; `taken` are names used elsewhere."""
    parameters = sorted(parameters, key=lambda p: p.order)
    used = {name.split(".")[0] for name in taken}
    used |= {p.name.split(".")[0] for p in parameters if id(p) not in _open}
    for p in parameters:
        if id(p) not in _open:
            continue
        _, kind, label, suffix = _open.pop(id(p))
        if label not in _settled:
            free = (f"{kind}{i}" for i in itertools.count(1))
            _settled[label] = next(name for name in free if name not in used)
            used.add(_settled[label])
        p._name = _settled[label] + suffix


def alike(name: str, known: Iterable[str], most: int = 24) -> str:
    """The names there are, the one most like `name` first, for a message."""
    from difflib import SequenceMatcher

    def distance(other: str) -> float:
        return -SequenceMatcher(None, name.lower(), other.lower()).ratio()

    found = sorted(dict.fromkeys(known), key=distance)
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more
