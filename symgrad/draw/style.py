"""How pictures look: colours of the parts by day and by night, sizes of letters.

In: a part of the picture. Out: colours, widths of texts in a system font.

>>> COLOURS["backward"].line
'#c2681c'
"""

from __future__ import annotations

from dataclasses import dataclass

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
LETTER, SMALL = 13.0, 10.5  # sizes of the two lines of a node


@dataclass(frozen=True)
class Colour:
    """Light and dark: what fills, the line around, and what is written in it."""

    fill: str
    line: str
    dark_fill: str
    dark_line: str


COLOURS = {
    "forward": Colour("#e7f0fd", "#2f6fc4", "#14263f", "#6aa5f0"),
    "backward": Colour("#fdeee0", "#c2681c", "#3b2412", "#f0a35e"),
    "update": Colour("#e6f5ea", "#2b8a4b", "#12301d", "#63c587"),
    "parameter": Colour("#f1e9fb", "#7a4bbf", "#291a41", "#b48df0"),
    "leaf": Colour("#ffffff", "#6b7280", "#22262d", "#a3abb8"),
    "reference": Colour("#f6f7f9", "#9aa3b0", "#1d2026", "#7d8795"),
}
INK, PAPER = ("#17191c", "#e9ecf1"), ("#ffffff", "#14161a")
SOFT = ("#5c6470", "#a5adb9")

LEGEND = {
    "forward": "forward",
    "backward": "backward",
    "update": "update",
    "parameter": "parameter",
    "leaf": "input, state",
}

_NARROW, _WIDE = set("iljtfrI.,:;'|()[]! "), set("mwMWΣ@⊙σ∂")


def width(text: str, size: float) -> float:
    """About how wide a text is; a little more, so that nothing is cut."""
    ems = sum(
        0.36 if c in _NARROW else 0.86 if c in _WIDE else 0.66 if c.isupper() else 0.58
        for c in text
    )
    return ems * size


def look(role: str, part: str) -> str:
    """The colour of a node."""
    if role == "parameter":
        return "parameter"
    if role in ("input", "state", "constant", "random", "slot"):
        return "leaf"
    return "reference" if role in ("reference", "stub") else part


def css(scope: str = "") -> str:
    """Rules for both themes: as the reader's system says, or as `data-theme` does."""
    light, dark = _rules(scope, 0), _rules(scope, 1)
    plain = f"""
{scope} text {{ font-family: {FONT}; font-size: {LETTER}px; text-anchor: middle; }}
{scope} .says, {scope} .shape {{ font-size: {SMALL}px; }}
{scope} .box text.title {{ font-weight: 600; }}
{scope} .arrow {{ fill: none; stroke-width: 1.4; }}
{scope} .arrow.cross {{ stroke-width: 1; stroke-dasharray: 1 0; opacity: .62; }}
{scope} .arrow.carried {{ stroke-dasharray: 5 4; }}
{scope} .mark > rect {{ stroke-width: 1.3; }}
{scope} .shared > rect {{ stroke-width: 2.6; }}
{scope} .output > rect {{ stroke-width: 2.6; }}
{scope} .reference > rect {{ stroke-dasharray: 4 3; }}
{scope} .hull polygon {{ stroke-width: 1; stroke-dasharray: 3 3; stroke-linejoin: round; }}
{scope} .hull text {{ text-anchor: start; font-size: {SMALL}px; font-weight: 600; }}
{scope} .legend text {{ text-anchor: start; font-size: {SMALL}px; }}
""".strip()
    night = f"@media (prefers-color-scheme: dark) {{\n{dark}\n}}"
    return f"{plain}\n{light}\n{night}"


def themes(scope: str) -> str:
    """The rules once more for a page that has its own switch."""
    return "\n".join(
        _rules(f':root[data-theme="{name}"] {scope}', k) for k, name in enumerate(("light", "dark"))
    )


def _rules(scope: str, k: int) -> str:
    paper, ink, soft = PAPER[k], INK[k], SOFT[k]
    lines = [
        f"{scope} .paper {{ fill: {paper}; }}",
        f"{scope} text {{ fill: {ink}; }}",
        f"{scope} .says, {scope} .shape, {scope} .legend text {{ fill: {soft}; }}",
        f"{scope} .shape {{ paint-order: stroke; stroke: {paper}; stroke-width: 3px; }}",
    ]
    for name, c in COLOURS.items():
        fill, line = (c.dark_fill, c.dark_line) if k else (c.fill, c.line)
        lines += [
            f"{scope} .{name} > rect {{ fill: {fill}; stroke: {line}; }}",
            f"{scope} .arrow.{name} {{ stroke: {line}; }}",
            f"{scope} .tip.{name} {{ fill: {line}; }}",
            f"{scope} .hull.{name} polygon {{ fill: {fill}; fill-opacity: .35; stroke: {line}; }}",
            f"{scope} .hull.{name} text {{ fill: {line}; }}",
        ]
    return "\n".join(lines)
