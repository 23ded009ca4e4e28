"""A scene as SVG: shapes and text only, light or dark as the reader's system is.

In: a `Scene`. Out: a document, or the part of it that a page takes.

>>> document(scene).startswith('<svg xmlns="http://www.w3.org/2000/svg"')
True
"""

from __future__ import annotations

import html

from symgrad.draw.layout import Point
from symgrad.draw.scene import Arrow, Mark, Outline, Scene
from symgrad.draw.style import LEGEND, SMALL, css, width

BAR = 30.0  # the height of the legend
ROUND = {"parameter": 10, "leaf": 14, "reference": 14}


def document(scene: Scene, title: str = "") -> str:
    """A whole file, with a legend."""
    wide, high = max(scene.width, 200.0), scene.height + BAR
    said = html.escape(title or "computation graph")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="symgrad-graph" role="img" '
        f'width="{_n(wide)}" height="{_n(high)}" viewBox="0 0 {_n(wide)} {_n(high)}">\n'
        f"<title>{said}</title>\n<style>\n{css('.symgrad-graph')}\n</style>\n"
        f'<rect class="paper" width="100%" height="100%"/>\n'
        f"{content(scene)}\n{legend(scene)}\n</svg>\n"
    )


def content(scene: Scene, active: bool = False) -> str:
    """All shapes of a scene; `active` ones can be reached by the keyboard."""
    parts = [_outline(o) for o in reversed(scene.outlines)]
    order = sorted(range(len(scene.arrows)), key=lambda k: not scene.arrows[k].cross)
    parts += [_arrow(scene.arrows[k], scene.sideways) for k in order]
    parts += [_mark(m, active) for m in scene.marks]
    parts += [_label(a) for a in scene.arrows if a.label]
    return "\n".join(parts)


def legend(scene: Scene) -> str:
    """The colours that occur."""
    used = {m.look for m in scene.marks}
    x, y, parts = 18.0, scene.height + 6, []
    for look, name in LEGEND.items():
        if look in used:
            parts.append(
                f'<g class="{look}"><rect x="{_n(x)}" y="{_n(y)}" width="12" height="12" rx="3"/>'
                f'</g><text x="{_n(x + 17)}" y="{_n(y + 10)}">{name}</text>'
            )
            x += 32 + width(name, SMALL)
    return f'<g class="legend">{"".join(parts)}</g>'


def _mark(m: Mark, active: bool) -> str:
    left, top, _, _ = m.place.sides
    classes = ["mark", m.kind, m.look]
    classes += ["shared"] if m.shared else []
    classes += ["output"] if m.output else []
    reach = f' tabindex="0" role="button" aria-label="{_attribute(_spoken(m))}"' if active else ""
    middle = m.place.y + (4.5 if not m.says else -2.5)
    body = (
        f'<rect x="{_n(left)}" y="{_n(top)}" width="{_n(m.place.width)}" '
        f'height="{_n(m.place.height)}" rx="{ROUND.get(m.look, 5)}"/>'
    )
    if m.kind == "box":  # a pile: it opens
        body = (
            f'<rect x="{_n(left + 4)}" y="{_n(top + 4)}" width="{_n(m.place.width)}" '
            f'height="{_n(m.place.height)}" rx="8" opacity=".55"/>'
        ) + body.replace('rx="5"', 'rx="8"')
    body += (
        f'<text class="title" x="{_n(m.place.x)}" y="{_n(middle)}">{html.escape(m.title)}</text>'
    )
    if m.says:
        body += (
            f'<text class="says" x="{_n(m.place.x)}" y="{_n(m.place.y + 12.5)}">'
            f"{html.escape(m.says)}</text>"
        )
    tip = f"<title>{html.escape(_spoken(m))}</title>"
    return f'<g class="{" ".join(classes)}" data-key="{m.goal or m.key}"{reach}>{tip}{body}</g>'


def _spoken(m: Mark) -> str:
    said = [m.title, m.says]
    if m.node is not None and m.kind == "node":
        said.append(str(m.node.expr.where))
        if m.shared:
            said.append(f"read {m.shared} times")
    return ", ".join(s for s in said if s)


def _arrow(a: Arrow, sideways: bool) -> str:
    classes = ["arrow", a.part]
    classes += ["cross"] if a.cross else []
    classes += ["carried"] if a.carried else []
    return (
        f'<path class="{" ".join(classes)}" data-from="{a.source}" data-to="{a.target}" '
        f'd="{path(a, sideways)}"/><path class="tip {a.part}" d="{tip(a, sideways)}"/>'
    )


def path(a: Arrow, sideways: bool) -> str:
    """A smooth curve through the points, leaving and entering rows at right angles."""
    (x, y), *rest = a.curve
    shown = f"M{_n(x)},{_n(y)}"
    for start, bend, other, end in bends(a, sideways):
        straight = start[0] == end[0] == bend[0] or start[1] == end[1] == bend[1]
        corners = [end] if straight else [bend, other, end]
        shown += " L" if straight else " C"
        shown += " ".join(f"{_n(px)},{_n(py)}" for px, py in corners)
    return shown


def bends(a: Arrow, sideways: bool) -> list[tuple[Point, Point, Point, Point]]:
    """The cubic curves of an arrow: their ends, and the two points that bend them."""
    if len(a.curve) == 3:  # within a row: below it
        (x, y), (mx, my), (nx, ny) = a.curve
        one, other = ((mx, y), (mx, ny)) if sideways else ((x, my), (nx, my))
        return [((x, y), one, one, (mx, my)), ((mx, my), other, other, (nx, ny))]
    found = []
    for (x, y), (nx, ny) in zip(a.curve, a.curve[1:]):
        mx, my = (x + nx) / 2, (y + ny) / 2
        one, other = ((mx, y), (mx, ny)) if sideways else ((x, my), (nx, my))
        found.append(((x, y), one, other, (nx, ny)))
    return found


def tip_corners(a: Arrow, sideways: bool) -> list[Point]:
    """The head of an arrow, in the direction in which its curve ends."""
    (px, py), (x, y) = a.curve[-2], a.curve[-1]
    if sideways:
        s = 7.0 if x > px else -7.0
        return [(x, y), (x - s, y - 3.6), (x - s, y + 3.6)]
    s = 7.0 if y > py else -7.0
    return [(x, y), (x - 3.6, y - s), (x + 3.6, y - s)]


def tip(a: Arrow, sideways: bool) -> str:
    corners = " L".join(f"{_n(x)},{_n(y)}" for x, y in tip_corners(a, sideways))
    return f"M{corners} z"


def _label(a: Arrow) -> str:
    x, y = a.at
    return f'<text class="shape" x="{_n(x)}" y="{_n(y + 3.5)}">{html.escape(a.label)}</text>'


def _outline(o: Outline) -> str:
    corners = " ".join(f"{_n(x)},{_n(y)}" for x, y in o.corners)
    x, y = o.at
    return (
        f'<g class="hull {o.look}"><polygon points="{corners}"/>'
        f'<text x="{_n(x)}" y="{_n(y)}">{html.escape(o.title)}</text></g>'
    )


def _attribute(text: str) -> str:
    return html.escape(text, quote=True)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
