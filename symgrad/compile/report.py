"""`step.report()`: what the compiled code consists of, and how much memory it takes.

In: a pipeline and what runs it. Out: text. What is said of kernels comes from the pipeline, whose
names and lines are those of this model; beside the object in the cache there is only what is not
known without compiling: the size of the code, and how long the stages took.

>>> print(step.report())
12 kernels in 14 calls, 27.3 Mflop at batch 64, ...
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from symgrad import dtypes
from symgrad.compile.graph import Graph
from symgrad.compile.notebook import Report
from symgrad.node import Contract, Expr, Map, Reduce, Scan, ScatterAdd
from symgrad.sizes import maximum, show

if TYPE_CHECKING:
    from symgrad.compile.backend import Backend
    from symgrad.compile.pipeline import Pipeline


def report(pipeline: Pipeline, backend: Backend) -> Report:
    """The report as text, a table in notebooks."""
    native = getattr(backend, "native", backend)
    if not hasattr(native, "code"):
        return Report(_interpreted(pipeline.rewritten))
    text = _text({**facts(pipeline), **native.code.report}, native.code.cached)
    return Report(text, pipeline.provenance.facts)


def compiled(pipeline: Pipeline) -> dict[str, Any]:
    """What only a compile tells, as JSON."""
    return {
        "code": len(pipeline.object),
        "seconds": dict(pipeline.times),
        "rewrites": len(pipeline.log),
    }


def facts(pipeline: Pipeline) -> dict[str, Any]:
    """What else a report says."""
    from codegen import memory
    from codegen.loops import PLANNED

    known = pipeline.provenance
    program, plan, graph = pipeline.schedule.program, pipeline.plan, pipeline.rewritten
    kernels = [(fact, known.notes(fact.name)) for fact in known.facts]
    size = {b.name: b.size * dtypes.ITEMSIZE[b.dtype] for b in program.buffers}
    by_role: dict[str, int] = {}
    for b in program.buffers:
        if b.role not in PLANNED:
            by_role[b.role] = by_role.get(b.role, 0) + size[b.name]
    return {
        "target": f"{pipeline.target.cpu}, {program.lanes} lanes, {_threads(program.threads)}",
        "kernels": kernels,
        "calls": sum(fact.calls for fact, _ in kernels),
        "flops": flops(graph),
        "sizes": {name: dim.max for name, dim in graph.dims.items()},
        "nodes": len(graph.nodes),
        "arena": plan.size,
        "recomputed": [
            f"{known.wording.name(n)} {show(n.shape)} from {n.where}" for n in known.recomputed
        ],
        "kept": pipeline.schedule.before,
        "roles": by_role,
        "layout": memory.report(known.plan),
    }


def flops(graph: Graph) -> int:
    """Arithmetic operations of one call at the largest sizes: a multiplication and an addition
    for every term of a product, one operation for every element of anything else."""
    times: dict[Expr, int] = {}  # how often a slot gets a new value: the steps of all its loops
    for node in reversed(graph.nodes):  # outer loops are behind inner ones
        if isinstance(node, Scan):
            steps = maximum(node.length) * _repeated(node, times)
            times.update((slot, steps) for slot in node.slots)
    return sum(_flops(node) * _repeated(node, times) for node in graph.nodes)


def _repeated(node: Expr, times: Mapping[Expr, int]) -> int:
    return max((times[slot] for slot in node.free), default=1)


def _flops(node: Expr) -> int:
    if isinstance(node, Contract):
        if not node.summed and len(node.args) == 1:
            return 0
        terms = math.prod(maximum(s) for s in node.extents.values())
        return terms * (len(node.args) - 1 + (1 if node.summed else 0))
    if isinstance(node, (Reduce, ScatterAdd)):
        return math.prod(map(maximum, node.args[0].shape))
    return math.prod(map(maximum, node.shape)) if isinstance(node, Map) else 0


def _text(known: Mapping[str, Any], cached: bool) -> str:
    sizes = ", ".join(f"{name} {size}" for name, size in known["sizes"].items())
    lines = [
        f"{len(known['kernels'])} kernels in {known['calls']} calls for {known['target']}",
        f"{_count(known['flops'])}flop a call" + (f" at {sizes}" if sizes else ""),
        f"{known['nodes']} nodes after {known['rewrites']} rewrites, "
        f"{_bytes(known['code'])} of code" + (" (from the cache)" if cached else ""),
    ]
    spent = {name: s for name, s in known["seconds"].items() if s >= 1e-4}
    lines.append("compiled in " + ", ".join(f"{n} {s * 1e3:.1f} ms" for n, s in spent.items()))
    roles = {"input": "inputs", "output": "outputs", "state": "parameters and states"}
    held = [
        f"{label} {_bytes(known['roles'][r])}" for r, label in roles.items() if r in known["roles"]
    ]
    total = known["arena"] + known["roles"].get("output", 0) + known["roles"].get("state", 0)
    lines += [
        f"memory: arena {_bytes(known['arena'])}" + "".join(f", {h}" for h in held),
        f"peak {_bytes(total)} besides inputs and code",
        *_recomputed(known),
        "",
        "kernels",
    ]
    for kernel, notes in known["kernels"]:
        often = f" x{kernel.calls}" if kernel.calls != 1 else ""
        lines.append(f"  {kernel.name}{often}: {_count(kernel.flops)}flop, {_few(kernel.bytes)}")
        lines += [f"      {note}" for note in notes]
    return "\n".join([*lines, "", known["layout"]]) + "\n"


def _recomputed(known: Mapping[str, Any]) -> list[str]:
    """What is computed a second time to hold less, equal lines once."""
    values = known["recomputed"]
    if not values:
        return []
    times = {text: values.count(text) for text in values}
    return [
        f"computed again instead of kept: {len(values)} values; keeping them takes an arena of "
        f"{_bytes(known['kept'])}",
        *(f"  {text}" + (f" x{n}" if n > 1 else "") for text, n in times.items()),
    ]


def _interpreted(graph: Graph) -> str:
    return f"{len(graph.nodes)} nodes, {_count(flops(graph))}flop a call, run by NumPy\n"


def _threads(count: int) -> str:
    return "one thread" if count == 1 else f"up to {count} threads"


def _count(number: int) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} "


def _bytes(number: int) -> str:
    short = _few(number)
    return short if number < 1000 else f"{short} ({number:,} bytes)"


def _few(number: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} bytes"
