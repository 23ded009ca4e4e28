"""Machine code from the object cache, or compiled and put there.

In: a `Pipeline`. Out: `Code`: the object, and everything a start needs besides it. A start from the
cache differentiates nothing, rewrites nothing, schedules nothing, and imports neither LLVM nor
SymPy: the key is made from the request itself.

>>> find(pipeline).cached
True
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen import cache
from symgrad import scalar
from symgrad.compile.options import debug_level
from symgrad.node import Custom, Expr, Input, Map, Parameter, Scan, Slot, toposort
from symgrad.schedule.layout import Layout

if TYPE_CHECKING:
    from symgrad.compile.pipeline import Pipeline


@dataclass(frozen=True)
class Code:
    """An object and how to bind it: states are (position among the graph's parameters, buffer,
    layout); `checked` says that native code checks all that a call can get wrong."""

    object: bytes
    function: Mapping[str, Any]
    states: tuple[tuple[int, str, Layout], ...]
    outputs: Mapping[str, str]
    rng: str | None
    lanes: int
    checked: bool
    report: Mapping[str, Any]
    cached: bool = False


def find(pipeline: Pipeline) -> Code:
    """The code of a pipeline."""
    name = key(pipeline)
    if name is not None:
        entry = cache.get(name)
        if entry is not None:
            return _decoded(*entry)
    code = compiled(pipeline)
    if name is not None:
        cache.put(name, code.object, _encoded(code))
    return code


def compiled(pipeline: Pipeline) -> Code:
    """All stages, to the object."""
    from codegen.call import describe as describe_call
    from symgrad.compile import report
    from symgrad.compile.native import signature

    schedule = pipeline.schedule
    place = {id(p): i for i, p in enumerate(pipeline.request.graph.parameters)}
    states = [(place[id(p)], name, layout) for p, (name, layout) in schedule.states.items()]
    takes, checked = signature(pipeline)
    return Code(
        pipeline.object,
        describe_call(pipeline.plan.size, pipeline.plan.table, schedule.program.buffers, takes),
        tuple(states),
        dict(schedule.outputs),
        schedule.rng,
        schedule.program.lanes,
        checked,
        report.compiled(pipeline),
    )


def _encoded(code: Code) -> dict[str, Any]:
    states = [[i, name, list(layout.order), layout.lane] for i, name, layout in code.states]
    return {
        "function": dict(code.function),
        "states": states,
        "outputs": dict(code.outputs),
        "rng": code.rng,
        "lanes": code.lanes,
        "checked": code.checked,
        "report": dict(code.report),
    }


def _decoded(data: bytes, meta: Mapping[str, Any]) -> Code:
    states = [(i, name, Layout(tuple(order), lane)) for i, name, order, lane in meta["states"]]
    return Code(
        data,
        meta["function"],
        tuple(states),
        meta["outputs"],
        meta["rng"],
        meta["lanes"],
        meta["checked"],
        meta["report"],
        cached=True,
    )


# -- the key -----------------------------------------------------------------------------------


def key(pipeline: Pipeline) -> str | None:
    """A digest of all that the code depends on; None where that cannot be known."""
    graph = pipeline.request.graph
    placeholders = pipeline.request.gradients
    leaves = [*graph.inputs, *placeholders, *graph.parameters]
    described = describe(graph.roots, leaves)
    if described is None:  # then what it became: slower to find out, but it says everything
        described = describe(pipeline.rewritten.roots, leaves)
        if described is None:
            return None
    position = {id(leaf): i for i, leaf in enumerate(leaves)}
    return cache.key(
        version(),
        described,
        sorted((dim.name, dim.max) for dim in graph.dims.values()),  # a size prints as its name
        (len(graph.inputs), len(placeholders)),  # a parameter may be an argument of each call
        [*graph.outputs],
        [position[id(p)] for p in graph.updates],
        [(position[id(h)], w.loss, position[id(w.parameter)]) for h, w in placeholders.items()],
        [(i, pipeline.fixed[p]) for i, p in enumerate(graph.parameters) if p in pipeline.fixed],
        pipeline.lanes,
        pipeline.target,
        pipeline.options,
    )


@functools.cache
def version() -> str:
    """The compilers: LLVM's version, and the files that both packages consist of.

    By size and time of change, which is what tells Python itself that a file is another one:
    reading all of them would take longer than the rest of a cached start."""
    home = Path(__file__).parent.parent
    return cache.key(cache.compiler_version(), *_files(home), *_files(home.parent / "codegen"))


def _files(folder: Path) -> list[tuple[str, int, int]]:
    found: list[tuple[str, int, int]] = []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.is_dir():
                found += _files(Path(entry.path))
            elif entry.name.endswith(".py"):
                status = entry.stat()
                found.append((entry.path, status.st_size, status.st_mtime_ns))
    return found


def describe(roots: Iterable[Expr], leaves: list[Expr]) -> bytes | None:
    """A digest of a graph that does not depend on names or on the process; None when a derivative
    is a Python function of the user's, which has no digest."""
    position = {id(leaf): i for i, leaf in enumerate(leaves)}
    digest = hashlib.blake2b()
    roots = list(roots)
    order = toposort([*leaves, *roots])
    number = {id(node): i for i, node in enumerate(order)}
    for node in order:
        if isinstance(node, Custom):
            return None
        attrs: Any = node.attrs
        if isinstance(node, Map):
            user = scalar.OPS[node.op].user
            attrs = node.op if user is None else (node.op, repr(user))
        if isinstance(node, (Input, Parameter)):
            attrs = position.get(id(node))
        if isinstance(node, Slot):
            attrs = None
        if isinstance(node, Scan):  # slots by number: their names say nothing
            attrs = ([number.get(id(slot)) for slot in node.slots], *node.attrs[1:])
        args = [number[id(a)] for a in node.args]
        digest.update(repr((node.kind, attrs, node.shape, node.dtype, args)).encode())
    digest.update(repr([number[id(root)] for root in roots]).encode())
    return digest.digest()


def trace(code: Code) -> None:
    """What SYMGRAD_DEBUG says about where code came from."""
    if debug_level() and code.cached:
        print(f"symgrad: {len(code.object)} bytes of code from the cache", file=sys.stderr)
