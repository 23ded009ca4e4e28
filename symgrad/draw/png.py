"""A scene as PNG, by matplotlib where it is installed.

In: a `Scene`. Out: the bytes of an image.

>>> image(scene)[:4]
b'\\x89PNG'
"""

from __future__ import annotations

import io
from typing import Any

from symgrad.draw.scene import Scene
from symgrad.draw.style import COLOURS, INK, LETTER, PAPER, SMALL, SOFT
from symgrad.draw.svg import ROUND, bends, tip_corners
from symgrad.errors import InputError

DOTS = 160.0  # to the inch
POINT = 0.72  # of a pixel in an SVG, at 100 of these to the inch


def image(scene: Scene) -> bytes:
    """Raises InputError where there is no matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError(
            "draw: .png needs matplotlib (pip install matplotlib); .svg and .html need nothing"
        ) from None
    figure = Figure(figsize=(scene.width / 100, scene.height / 100), dpi=DOTS)
    FigureCanvasAgg(figure)
    figure.patch.set_facecolor(PAPER[0])
    axes: Any = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, scene.width)
    axes.set_ylim(scene.height, 0)
    axes.axis("off")
    _shapes(axes, scene)
    _texts(axes, scene)
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=DOTS, metadata={"Software": "symgrad"})
    return held.getvalue()


def _shapes(axes: Any, scene: Scene) -> None:
    from matplotlib.patches import PathPatch, Polygon
    from matplotlib.path import Path

    for o in scene.outlines:
        c = COLOURS[o.look]
        axes.add_patch(Polygon(o.corners, facecolor=c.fill, alpha=0.35, zorder=0, linewidth=0))
        line = Polygon(o.corners, fill=False, edgecolor=c.line, linestyle=":", linewidth=0.8)
        axes.add_patch(line)
    for a in scene.arrows:
        colour = COLOURS[a.part].line
        points, codes = [a.curve[0]], [Path.MOVETO]
        for _, *rest in bends(a, scene.sideways):
            points += rest
            codes += [Path.CURVE4] * 3
        look: dict[str, Any] = {"edgecolor": colour, "linestyle": "--" if a.carried else "-"}
        look.update({"alpha": 0.6, "linewidth": 0.7} if a.cross else {"linewidth": 1.0})
        axes.add_patch(PathPatch(Path(points, codes), fill=False, zorder=1, **look))
        axes.add_patch(Polygon(tip_corners(a, scene.sideways), color=colour, zorder=2, linewidth=0))
    for m in scene.marks:
        c = COLOURS[m.look]
        left, top, _, _ = m.place.sides
        look = {"facecolor": c.fill, "edgecolor": c.line, "zorder": 3, "linewidth": 1.0}
        if m.kind == "box":
            pile = _rounded(left + 4, top + 4, m.place.width, m.place.height, 8, alpha=0.55, **look)
            axes.add_patch(pile)
        look["linewidth"] = 1.9 if m.shared or m.output else 1.0
        corner = 8 if m.kind == "box" else ROUND.get(m.look, 5)
        axes.add_patch(_rounded(left, top, m.place.width, m.place.height, corner, **look))


def _texts(axes: Any, scene: Scene) -> None:
    for o in scene.outlines:
        colour = COLOURS[o.look].line
        small = {"fontsize": SMALL * POINT * 0.9, "weight": "bold", "va": "baseline"}
        axes.text(*o.at, o.title, color=colour, parse_math=False, **small)
    for m in scene.marks:
        middle = {"ha": "center", "va": "center", "zorder": 4, "parse_math": False}
        up = m.place.y - (7 if m.says else 0)
        weight = "bold" if m.kind == "box" else "normal"
        title = {"fontsize": LETTER * POINT * 0.9, "color": INK[0], "weight": weight}
        axes.text(m.place.x, up, m.title, **title, **middle)
        if m.says:
            says = {"fontsize": SMALL * POINT * 0.9, "color": SOFT[0]}
            axes.text(m.place.x, m.place.y + 9, m.says, **says, **middle)
    for a in scene.arrows:
        if a.label:
            halo = {"facecolor": PAPER[0], "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
            small = {"fontsize": SMALL * POINT * 0.9, "color": SOFT[0], "bbox": halo}
            axes.text(*a.at, a.label, ha="center", va="center", zorder=5, parse_math=False, **small)


def _rounded(x: float, y: float, w: float, h: float, corner: float, **look: Any) -> Any:
    from matplotlib.patches import FancyBboxPatch

    style = f"round,pad=0,rounding_size={min(corner, w / 2, h / 2)}"
    return FancyBboxPatch((x, y), w, h, boxstyle=style, **look)
