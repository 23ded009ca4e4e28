"""A graph as one page: boxes that open, search, zoom, and what is known of every node and kernel.

In: a graph, its boxes, facts. Out: one HTML file that refers to nothing outside itself.

    symgrad/draw/page.css, page.js      how it looks and behaves; both are put into the page
    #node=n12, #box=b3, #kernel=NAME    behind its address: where it opens

>>> page(graph, tree, "digits").startswith("<!doctype html>")
True
"""

from __future__ import annotations

import base64
import html
import json
import zlib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from symgrad.compile.provenance import KernelFacts
from symgrad.draw import facts
from symgrad.draw.boxes import Tree, summary
from symgrad.draw.graph import Graph
from symgrad.draw.scene import generations, openings, scene
from symgrad.draw.style import LEGEND, css, look, themes
from symgrad.draw.svg import content

MOST = 18  # marks of a level: inner boxes are open as long as there are no more
SMALL, OVERVIEW = 80, 26  # a graph of so few nodes has small boxes open in its overview


def page(
    graph: Graph,
    tree: Tree,
    title: str = "",
    kernels: Sequence[KernelFacts] = (),
    values: Mapping[str, Any] | None = None,
    note: str = "",
) -> str:
    """The page. `values` are arrays by key of a node, for their statistics."""
    nodes = facts.details(graph)
    for key, value in (values or {}).items():
        nodes[key]["stats"] = facts.statistics(value)
    found, texts = facts.kernels(graph, kernels, nodes)
    for key, home in tree.home.items():
        nodes[key]["home"] = home
    data = {
        "title": title,
        "note": note,
        "nodes": nodes,
        "boxes": {key: _level(graph, tree, key) for key in tree.boxes},
        "kernels": found,
    }
    packed = base64.b64encode(zlib.compress(json.dumps(texts).encode(), 9)).decode()
    said = html.escape(title or "computation graph")
    return _SHELL.format(
        title=said,
        style=f"{css('.scene')}\n{themes('.scene')}\n{_asset('page.css')}",
        legend=_legend(graph),
        data=_quoted(json.dumps(data, ensure_ascii=False, separators=(",", ":"))),
        code=packed,
        script=_asset("page.js"),
    )


def _level(graph: Graph, tree: Tree, key: str) -> dict[str, Any]:
    """One level: the inside of a box as SVG, and what its marks hold."""
    box = tree.boxes[key]
    opened = generations(tree, MOST, key)
    if not key and len(graph.nodes) <= SMALL:
        opened = openings(tree, OVERVIEW)
    drawn = scene(graph, tree, key, opened)
    return {
        "title": box.title,
        "kind": box.kind,
        "part": box.part,
        "says": summary(graph, box),
        "parent": box.parent if key else None,
        "inside": box.inside if key else [],
        "width": round(drawn.width, 1),
        "height": round(drawn.height, 1),
        "svg": content(drawn, active=True),
    }


def _legend(graph: Graph) -> str:
    used = {look(n.role, n.part) for n in graph.nodes}
    return "".join(
        f'<span><svg class="scene" width="14" height="14" aria-hidden="true"><g class="{key}">'
        f'<rect x="1" y="1" width="12" height="12" rx="3"/></g></svg>{name}</span>'
        for key, name in LEGEND.items()
        if key in used
    )


def _asset(name: str) -> str:
    return resources.files("symgrad.draw").joinpath(name).read_text(encoding="utf-8")


def _quoted(text: str) -> str:
    """JSON that cannot end the element it stands in."""
    return text.replace("</", "<\\/").replace("<!--", "<\\u0021--")


_SHELL = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<header>
<nav id="crumbs" aria-label="open boxes"></nav>
<div class="tools">
<input id="search" type="search" placeholder="search: name, operation, line" aria-label="search">
<button id="out" title="smaller (-)" aria-label="smaller">−</button>
<button id="fit" title="all of it (0)" aria-label="all of it">fit</button>
<button id="in" title="larger (+)" aria-label="larger">+</button>
<button id="kernels" title="list of kernels (k)">kernels</button>
<button id="theme" title="light or dark" aria-label="light or dark">◐</button>
</div>
</header>
<main>
<div id="stage"></div>
<aside id="panel" aria-live="polite"></aside>
<div id="found" hidden></div>
<footer>{legend}</footer>
</main>
<script type="application/json" id="data">{data}</script>
<script type="text/plain" id="code">{code}</script>
<script>
{script}
</script>
</body>
</html>
"""
