"""Tables of a notebook: HTML that looks right on light and dark pages.

In: titles, rows of cells, a caption. Out: HTML; cells are escaped unless they are `Html`.

>>> table(["kernel", "time"], [["h1_tanh", "0.7 us"]])
'<table class="symgrad-table">...</table>'
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

STYLE = """
<style>
.symgrad-table { border-collapse: collapse; margin: .4em 0; }
.symgrad-table caption { text-align: left; padding: .2em 0; font-weight: 600; }
.symgrad-table th, .symgrad-table td { text-align: left !important; vertical-align: top;
  padding: .15em .8em .15em 0; border-top: 1px solid #8884; }
.symgrad-table td.number { text-align: right !important; white-space: nowrap; }
.symgrad-table code, .symgrad-table pre { background: none; font-size: .92em; margin: 0; }
.symgrad-table .where { opacity: .65; white-space: nowrap; }
</style>
"""


class Html(str):
    """Text that is HTML already."""


class Number(str):
    """Text that stands at the right of its cell."""


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> str:
    """A table with its style."""
    top = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    head = "".join(f"<th>{html.escape(h)}</th>" for h in heads)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>\n" for row in rows)
    return (
        f'{STYLE}<table class="symgrad-table">{top}<thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table>"
    )


def _cell(value: object) -> str:
    if isinstance(value, Html):
        return f"<td>{value}</td>"
    kind = ' class="number"' if isinstance(value, (int, float, Number)) else ""
    return f"<td{kind}>{html.escape(str(value))}</td>"


def code(text: str) -> Html:
    """A word of code or of mathematics."""
    return Html(f"<code>{html.escape(text)}</code>")


def where(text: str) -> Html:
    """A line of the user's."""
    return Html(f'<span class="where">{html.escape(text)}</span>')


def listed(lines: Iterable[str]) -> Html:
    """Lines of mathematics below each other."""
    return Html("<br>".join(code(line) for line in lines))


def folded(summary: str, text: str) -> Html:
    """Long text behind a line to click on."""
    return Html(
        f"<details><summary>{html.escape(summary)}</summary>"
        f"<pre>{html.escape(text)}</pre></details>"
    )
