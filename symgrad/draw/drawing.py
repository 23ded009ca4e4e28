"""`sg.draw`: a picture of expressions, or of a compiled function with its kernels.

In: expressions or a function. Out: a `Drawing`, which shows itself in a notebook, and a file by the
suffix of its path: .svg, .png, .html, .dot (Graphviz) or .mmd (Mermaid).

>>> draw({"loss": loss}, "graph.svg", wrt=[W1, W2])
<Drawing of 34 nodes>
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from symgrad.draw.boxes import Tree, boxes
from symgrad.draw.graph import Graph, build
from symgrad.draw.scene import Scene, openings, scene, to_depth
from symgrad.errors import InputError
from symgrad.node import Expr, Input, Leaf, Parameter, toposort

if TYPE_CHECKING:
    from symgrad.compile.function import Function
    from symgrad.compile.provenance import KernelFacts

SUFFIXES = (".svg", ".png", ".html", ".dot", ".mmd")
MOST = 28  # marks of a picture that nobody can open boxes in


@dataclass
class Drawing:
    """A picture: `svg()`, `png()`, `html()`, `dot()`, `mermaid()`, or `save(path)`."""

    graph: Graph
    tree: Tree
    title: str = ""
    depth: int | None = None
    direction: str | None = None
    kernels: Callable[[], Sequence[KernelFacts]] = tuple  # asked for by a page only
    values: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def opened(self) -> set[str]:
        """The boxes that pictures show open: as `depth` says, else as many as stay readable."""
        if self.depth is not None:
            return to_depth(self.tree, self.depth)
        return openings(self.tree, MOST)

    def scene(self) -> Scene:
        return scene(self.graph, self.tree, "", self.opened, self.direction)

    def svg(self) -> str:
        from symgrad.draw import svg

        return svg.document(self.scene(), self.title)

    def png(self) -> bytes:
        from symgrad.draw import png

        return png.image(self.scene())

    def html(self) -> str:
        from symgrad.draw import html

        return html.page(self.graph, self.tree, self.title, self.kernels(), self.values, self.note)

    def dot(self) -> str:
        from symgrad.draw import dot

        return dot.document(self.graph, self.tree, self.opened, self.title)

    def mermaid(self) -> str:
        from symgrad.draw import mermaid

        return mermaid.document(self.graph, self.tree, self.opened, self.title)

    def save(self, path: str | os.PathLike[str]) -> None:
        """The file that the suffix says; it is there as a whole or not at all."""
        target = checked(path)
        printers: dict[str, Callable[[], str | bytes]] = {
            ".svg": self.svg,
            ".png": self.png,
            ".html": self.html,
            ".dot": self.dot,
            ".mmd": self.mermaid,
        }
        made = printers[target.suffix.lower()]()
        content = made.encode() if isinstance(made, str) else made
        half = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            half.write_bytes(content)
            half.replace(target)
        except OSError as error:
            half.unlink(missing_ok=True)
            raise InputError(f"draw: cannot write {target}: {error.strerror}") from None

    def _repr_svg_(self) -> str:
        return self.svg()

    def __repr__(self) -> str:
        return f"<Drawing of {len(self.graph.nodes)} nodes>"


def draw(
    what: Any,
    path: str | os.PathLike[str] | None = None,
    *,
    wrt: Any = None,
    data: Mapping[str, Any] | None = None,
    joined: bool = True,
    full: bool = False,
    simplify: bool | None = None,
    depth: int | None = None,
    direction: str | None = None,
    title: str = "",
) -> Drawing:
    """A picture of `what`: an expression, a list or dict of them, or a compiled function or step.

    path       a file to write: .svg .png .html .dot .mmd
    wrt        draw the gradients of a scalar by these as well
    data       inputs by name: the page then shows statistics of every value, the times of kernels
    joined     forward and backward in one graph; False sets them side by side, and what the
               derivatives read of the forward values is repeated there
    full       every node, also broadcasts, casts, reshapes and constants
    simplify   as rewritten for reading; by default where there are derivatives
    depth      how many levels of boxes are open in a still picture: 0 for none
    direction  "down" or "right": where values flow; by default what fits a screen better

    Derivatives flow back beside what they are the derivatives of. A thick frame is a shared value
    or an output. InputError for a suffix that is none of these, a folder that does not exist,
    nothing to draw.
    """
    if path is not None:
        checked(path)
    if direction not in (None, "down", "right"):
        raise InputError(f'draw: direction is "down" or "right", got {direction!r}')
    if depth is not None and (not isinstance(depth, int) or depth < 0):
        raise InputError(f"draw: depth is a number of levels, 0 or more, got {depth!r}")
    from symgrad.compile.function import Function

    if isinstance(what, Function):
        if wrt is not None or simplify is not None:
            raise InputError("draw: wrt and simplify are for expressions; a function has its own")
        made = _of_function(what, data, full, joined)
    else:
        made = _of_expressions(what, wrt, data, full, joined, simplify)
    made.title, made.depth, made.direction = title or made.title, depth, direction
    if path is not None:
        made.title = made.title or Path(path).stem
        made.save(path)
    return made


def checked(path: str | os.PathLike[str]) -> Path:
    """The path of a picture that can be written."""
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"draw: {target.name!r} must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        )
    if not target.parent.is_dir():
        raise InputError(f"draw: there is no folder {str(target.parent)!r}")
    return target


# -- expressions ----------------------------------------------------------------------------------


def _of_expressions(
    what: Any,
    wrt: Any,
    data: Mapping[str, Any] | None,
    full: bool,
    joined: bool,
    simplify: bool | None,
) -> Drawing:
    outputs = _named(what)
    if wrt is not None:
        outputs.update(_gradients(outputs, wrt))
    if simplify is None:
        simplify = any(e.where.derivative for e in toposort(outputs.values()))
    if simplify:
        from symgrad.rewrite.reading import Reader

        reader = Reader()
        outputs = {name: reader.read(e) for name, e in outputs.items()}
    graph = build(outputs, full=full, joined=joined)
    made = Drawing(graph, boxes(graph), ", ".join(outputs) if len(outputs) < 3 else "")
    if data is not None:
        from symgrad.compile import arguments
        from symgrad.state import Store

        nodes = toposort(outputs.values())
        store = Store(0)
        store.add([e for e in nodes if isinstance(e, Parameter)])
        leaves = [e for e in nodes if isinstance(e, Input)]
        arrays, sizes = arguments.bind(leaves, (), data)
        made.values = _values(graph, dict(zip(leaves, arrays)), store, sizes)
    return made


def _named(what: Any) -> dict[str, Expr]:
    """What to draw, by name: a dict's own, else the model's where it has one."""
    if isinstance(what, Expr):
        what = [what]
    if isinstance(what, Mapping):
        outputs = {str(name): e for name, e in what.items()}
    elif isinstance(what, (list, tuple)):
        flat: list[Any] = []
        for e in what:
            if isinstance(e, Mapping):
                flat += e.values()
            else:
                flat += e if isinstance(e, (list, tuple)) else [e]
        outputs = dict(zip(_names(flat), flat))
    else:
        raise InputError(
            f"draw: takes expressions or a compiled function, got {type(what).__name__}"
        )
    if not outputs:
        raise InputError("draw: there is nothing to draw")
    for name, e in outputs.items():
        if not isinstance(e, Expr):
            raise InputError(f"draw: {name!r} is no expression but {type(e).__name__}")
    return outputs


def _names(roots: Sequence[Any]) -> list[str]:
    from symgrad.show.names import from_model

    exprs = [e for e in roots if isinstance(e, Expr)]
    known = from_model(toposort(exprs), exprs)
    names: list[str] = []
    for k, e in enumerate(roots):
        own = e.name if isinstance(e, Leaf) else known.get(id(e), "")
        names.append(own if own and own not in names else f"output {k + 1}")
    return names


def _gradients(outputs: Mapping[str, Expr], wrt: Any) -> dict[str, Expr]:
    from symgrad.grad import grad, target_leaves

    name, loss = next(iter(outputs.items()))
    targets = target_leaves("draw", wrt)
    found = grad(loss, list(targets))
    return {f"∂{name}/∂{t.name}": g for t, g in zip(targets, found)}


# -- compiled functions ---------------------------------------------------------------------------


def _of_function(
    function: Function, data: Mapping[str, Any] | None, full: bool, joined: bool
) -> Drawing:
    pipeline = function._pipeline
    request = pipeline.rewritten
    graph = build(request.outputs, request.updates, full, joined)
    made = Drawing(graph, boxes(graph))
    if data is not None:
        from symgrad.compile import arguments

        if function._is_native:
            function.profile(**data)  # the kernels then know their times
        arrays, sizes = arguments.bind(function._leaves, (), data)
        made.values = _values(graph, dict(zip(function._leaves, arrays)), function.state, sizes)
        at = ", ".join(f"{name} {size}" for name, size in sizes.items())
        made.note = f"values of one call{f' at {at}' if at else ''}"
    made.kernels = lambda: function.kernels
    return made


def _values(
    graph: Graph, env: Mapping[Expr, Any], store: Any, sizes: Mapping[str, int]
) -> dict[str, Any]:
    """The value of every node, by the interpreter; those inside of loops have many."""
    from symgrad.interpret import evaluate

    shown = [n for n in graph.nodes if not n.expr.free]
    leaves = [e for e in toposort(n.expr for n in shown) if isinstance(e, Parameter)]
    known: dict[Expr, Any] = {p: store[p.name] for p in leaves if p not in env}
    known.update(env)
    found = evaluate([n.expr for n in shown], known, sizes, store.seed)
    return {n.key: value for n, value in zip(shown, found)}
