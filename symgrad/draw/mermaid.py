"""A scene as a Mermaid flowchart, which many Markdown viewers draw; open boxes are subgraphs.

In: a graph, its boxes, which are open. Out: text.

>>> document(graph, tree, set()).splitlines()[0]
'flowchart TB'
"""

from __future__ import annotations

from collections.abc import Collection

from symgrad.draw.boxes import Tree
from symgrad.draw.graph import Graph
from symgrad.draw.scene import Mark, arrow_text, scene
from symgrad.draw.style import COLOURS

SHAPES = {"parameter": ("([", "])"), "leaf": ("(", ")"), "reference": ("(", ")")}
_ESCAPED = {c: f"#{ord(c)};" for c in '#"&<>[]{}()|`\\'}


def document(graph: Graph, tree: Tree, opened: Collection[str], title: str = "") -> str:
    drawn = scene(graph, tree, "", opened, "down")
    marks = {m.key: m for m in drawn.marks}
    lines = ["flowchart TB", *([f"  accTitle: {title}"] if title else [])]
    lines += _inside(tree, "", marks, 1)
    for a in drawn.arrows:
        says = arrow_text(a)
        arrow = "-.->" if a.carried else "-->"
        lines.append(f"  {a.source} {arrow}{f'|{_text(says)}|' if says else ''} {a.target}")
    for name in dict.fromkeys(m.look for m in drawn.marks):
        c = COLOURS[name]
        lines.append(f"  classDef {name} fill:{c.fill},stroke:{c.line},color:#17191c")
        keys = ",".join(m.key for m in drawn.marks if m.look == name)
        lines.append(f"  class {keys} {name}")
    return "\n".join(lines) + "\n"


def _inside(tree: Tree, key: str, marks: dict[str, Mark], depth: int) -> list[str]:
    lines = []
    pad = "  " * depth
    for child in tree.boxes[key].children:
        if child in marks:
            lines.append(f"{pad}{_node(marks[child])}")
        elif child in tree.boxes:
            lines += [
                f"{pad}subgraph {child}[{_text(tree.boxes[child].title)}]",
                *_inside(tree, child, marks, depth + 1),
                f"{pad}end",
            ]
    return lines


def _node(m: Mark) -> str:
    left, right = ("[[", "]]") if m.kind == "box" else SHAPES.get(m.look, ("[", "]"))
    says = f"{_escaped(m.title)}<br>{_escaped(m.says)}" if m.says else _escaped(m.title)
    return f'{m.key}{left}"{says}"{right}'


def _text(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    return "".join(_ESCAPED.get(c, c) for c in text)
