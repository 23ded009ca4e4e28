"""Text on a terminal: coloured, and paged where it is longer than the screen.

In: text, and what it is written in. Out: the same text on standard output, to the letter where that
is no terminal. Lines are never broken or padded, so what is copied is what was printed. Colours are
off with NO_COLOR, pages with PAGER=cat.

>>> page(step.stage("loops"), "loops")
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

LEXERS = {"llvm": "llvm", "assembly": "gas", "latex": "latex", "html": "html"}
# What stands out in mathematics, schedules, loops and tables, in this order.
STYLES = (
    (r"[\w.-]+\.py:\d+", "dim cyan"),
    (r"(?m)^(?:kernel )?[A-Za-z][\w.]*(?=\()", "bold"),
    (r"(?m)^[A-Z][a-z ]+$", "bold magenta"),
    (r"(?m)^\s*(?:∂\S+ )?[^\s=(]+(?= [=←] )", "green"),
    (r"\b(?:for|repeat|lanes|in|if|else|and|or|not)\b(?=.*:$)", "blue"),
    (r"(?m)^\s*[#;].*$", "dim"),
    (r"\[[^\]\n]*(?:lanes|tiles)[^\]\n]*\]", "dim"),
)


def page(text: str, written_in: str = "maths") -> None:
    """Print text, on pages if it is too long."""
    text = text.rstrip("\n")
    if not sys.stdout.isatty():
        print(text)
        return
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    shown = coloured(text, written_in)
    if len(text.splitlines()) < console.height - 1 or not sys.stdin.isatty():
        console.print(shown)
        return
    os.environ.setdefault("LESS", "-RFSX")  # colours, and long lines to the side
    with console.pager(styles=not console.no_color):
        console.print(shown)


def coloured(text: str, written_in: str) -> Text:
    """The same letters with styles."""
    from rich.text import Text

    lexer = LEXERS.get(written_in)
    if lexer is None:
        shown = Text(text)
        for pattern, style in STYLES:
            shown.highlight_regex(pattern, style)
        return shown
    from rich.syntax import Syntax

    theme, shown = Syntax.get_theme("ansi_dark"), Text()
    reader = Syntax("", lexer, tab_size=0).lexer  # tabs stay tabs
    if reader is None:
        return Text(text)
    for token, part in reader.get_tokens(text):
        colour = theme.get_style_for_token(token).color
        shown.append(part, colour.name if colour is not None else "")
    shown.right_crop(len(shown.plain) - len(text))  # the end of the last line
    return shown
