"""How functions, reports, profiles, kernels and states look in a notebook.

In: these objects. Out: HTML tables; `print` gives the same as text.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING

from symgrad.show.tables import Html, Number, code, folded, listed, table, where
from symgrad.sizes import show

if TYPE_CHECKING:
    from symgrad.compile.function import Function
    from symgrad.compile.profile import Profile
    from symgrad.compile.provenance import KernelFacts
    from symgrad.expr import Expr
    from symgrad.rewrite import Rewrite
    from symgrad.state import Store


class Report(str):
    """A report: text, and a table of its kernels in a notebook."""

    kernels: list[KernelFacts]

    def __new__(cls, text: str, kernels: Iterable[KernelFacts] = ()) -> Report:
        made = super().__new__(cls, text)
        made.kernels = list(kernels)
        return made

    def _repr_html_(self) -> str:
        head, _, rest = self.partition("\nkernels\n")
        if not rest:
            return folded("report", self)
        layout = rest[rest.find("\n\n") + 2 :]
        text = "<br>".join(code(line) for line in head.strip().splitlines())
        return f"<p>{text}</p>{kernels(self.kernels)}{folded('memory', layout)}"


class Kernels(list["KernelFacts"]):
    """Kernels in the order of calls."""

    def _repr_html_(self) -> str:
        return kernels(self)


class Rewrites(list["Rewrite"]):
    """The log of what was rewritten, read with the names of the model's values."""

    def __init__(self, log: Iterable[Rewrite], model: Iterable[Expr] = ()) -> None:
        super().__init__(log)
        self.model = list(model)

    @cached_property
    def names(self) -> dict[int, str]:
        from symgrad.show.names import from_model
        from symgrad.show.parts import visible

        return from_model(visible(self.model))

    def __str__(self) -> str:
        return "\n".join(r.text(self.names) for r in self)

    def _repr_html_(self) -> str:
        from symgrad.show.brief import brief

        rows = [
            (
                r.stage,
                r.rule,
                code(brief(r.before, names=self.names)),
                code(brief(r.after, names=self.names)),
                where(str(r.where)),
            )
            for r in self
        ]
        return table(["stage", "rule", "before", "after", "line"], rows)


def kernels(found: Iterable[KernelFacts]) -> str:
    """A table of kernels."""
    rows = [
        (
            code(k.name),
            k.calls,
            Number(f"{k.flops or 0:,}"),
            Number(f"{k.bytes or 0:,}"),
            listed(k.maths),
            where(", ".join(map(str, k.sources))),
        )
        for k in found
    ]
    return table(["kernel", "calls", "flop", "bytes", "computes", "lines"], rows)


def kernel(k: KernelFacts) -> str:
    """One kernel with its code."""
    parts = [("loops", k.loops), ("LLVM", k.llvm), ("assembly", k.assembly)]
    return kernels([k]) + "".join(folded(name, text) for name, text in parts if text)


def profile(p: Profile) -> str:
    """Times with bars."""
    from symgrad.compile.profile import shown_time

    rows = []
    for row in p.rows:
        share = 100 * row.seconds / p.seconds if p.seconds else 0.0
        bar = Html(
            f'<div style="background:#4a90d9;height:.7em;margin-top:.35em;'
            f'width:{max(share * 1.2, 1):.0f}px" title="{share:.1f} %"></div>'
        )
        rows.append(
            (
                Number(shown_time(row.seconds)),
                bar,
                row.calls,
                Number(f"{row.gflops:.1f}"),
                Number(f"{row.gbytes:.1f}"),
                Number(f"{100 * row.floor:.0f} %"),
                code(row.kernel),
                listed(row.maths),
                where(", ".join(row.sources)),
            )
        )
    heads = "time|share|calls|GFLOP/s|GB/s|of floor|kernel|computes|lines".split("|")
    return table(heads, rows, str(p).splitlines()[0])


def function(f: Function) -> str:
    """What goes in, what comes out, what moves."""
    graph = f._request.graph
    rows = [
        *(_row("input", leaf.name, leaf) for leaf in graph.inputs),
        *(_row("output", name, e) for name, e in graph.outputs.items()),
        *(_row(p.kind, name, p) for name, p in f._store.parameters.items()),
    ]
    return table(["", "name", "shape", "dtype", "line"], rows, type(f).__name__)


def store(s: Store) -> str:
    """Every array with a glance at its values."""
    rows = []
    for name, p in s.parameters.items():
        value = s[name]
        glance = f"{float(value.mean()):.4g} ± {float(value.std()):.4g}" if value.size else ""
        rows.append((p.kind, code(name), show(p.shape), p.dtype, Number(glance)))
    return table(["", "name", "shape", "dtype", "mean ± deviation"], rows)


def _row(what: str, name: str, e: Expr) -> tuple[object, ...]:
    return what, code(name), show(e.shape), e.dtype, where(str(e.where))
