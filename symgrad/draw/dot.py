"""A scene as DOT, the language of Graphviz, for those who have it; open boxes are clusters.

In: a graph, its boxes, which are open. Out: text.

>>> document(graph, tree, set()).splitlines()[0]
'digraph "computation graph" {'
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from symgrad.draw.boxes import Tree
from symgrad.draw.graph import Graph
from symgrad.draw.scene import Mark, arrow_text, scene
from symgrad.draw.style import COLOURS


def document(graph: Graph, tree: Tree, opened: Collection[str], title: str = "") -> str:
    drawn = scene(graph, tree, "", opened, "down")
    marks = {m.key: m for m in drawn.marks}
    lines = [
        f"digraph {_quoted(title or 'computation graph')} {{",
        '  graph [rankdir=TB, compound=true, fontname="sans-serif"];',
        '  node [shape=box, style="rounded,filled", fontname="sans-serif", fontsize=11];',
        '  edge [fontname="sans-serif", fontsize=9];',
        *_inside(tree, "", marks, opened, 1),
    ]
    for a in drawn.arrows:
        says = arrow_text(a)
        style = ', style="dashed", constraint=false' if a.carried else ""
        colour = COLOURS[a.part].line
        lines.append(
            f"  {a.source} -> {a.target} [label={_quoted(says)}, color={_quoted(colour)}{style}];"
        )
    return "\n".join([*lines, "}"]) + "\n"


def _inside(
    tree: Tree, key: str, marks: dict[str, Mark], opened: Collection[str], depth: int
) -> list[str]:
    lines = []
    pad = "  " * depth
    for child in tree.boxes[key].children:
        if child in marks:
            lines.append(f"{pad}{_node(marks[child])}")
        elif child in tree.boxes:
            box = tree.boxes[child]
            lines += [
                f"{pad}subgraph cluster_{child} {{",
                f"{pad}  label={_quoted(box.title)}; style=rounded; "
                f"color={_quoted(COLOURS[box.part].line)};",
                *_inside(tree, child, marks, opened, depth + 1),
                f"{pad}}}",
            ]
    return lines


def _node(m: Mark) -> str:
    colour = COLOURS[m.look]
    settings: dict[str, Any] = {
        "label": m.title + ("\n" + m.says if m.says else ""),
        "fillcolor": colour.fill,
        "color": colour.line,
    }
    if m.kind == "box":
        settings["shape"] = "box3d"
    if m.shared or m.output:
        settings["penwidth"] = "2.4"
    return f"{m.key} [{', '.join(f'{k}={_quoted(v)}' for k, v in settings.items())}];"


def _quoted(text: str) -> str:
    shown = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{shown}"'
