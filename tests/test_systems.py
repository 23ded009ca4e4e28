"""The README's table of systems: every row is there, its names exist, its evidence names the row.

In: README.md. A row reads `| B3 | what it is | `sg.losses.mse_loss` ... | [file](file), ... |`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import symgrad as sg

ROOT = Path(__file__).parent.parent
COUNTS = {"A": 11, "B": 10, "C": 9, "D": 8, "E": 8, "F": 14}  # rows of each part of the lectures
IDS = [f"{part}{k + 1}" for part, count in COUNTS.items() for k in range(count)]
ROW = re.compile(r"^\| ([A-F]\d+) \| (.+?) \| (.+) \| (.+?) \|$", re.MULTILINE)
TABLE = {match[1]: match for match in ROW.finditer((ROOT / "README.md").read_text("utf-8"))}


def test_the_table_has_every_row_once_in_order() -> None:
    assert [m[1] for m in ROW.finditer((ROOT / "README.md").read_text("utf-8"))] == IDS


@pytest.mark.parametrize("row", IDS)
def test_a_row_calls_names_that_exist(row: str) -> None:
    names = re.findall(r"\bsg((?:\.[A-Za-z_]\w*)+)", TABLE[row][3])
    assert names or "`" in TABLE[row][3], "a row shows the line of public API that does it"
    for path in names:
        found = sg
        for part in path[1:].split("."):
            found = getattr(found, part)


@pytest.mark.parametrize("row", IDS)
def test_the_evidence_of_a_row_names_it(row: str) -> None:
    files = re.findall(r"\]\(([^)]+)\)", TABLE[row][4])
    assert files, "a row links an example or a test"
    texts = [(ROOT / file).read_text("utf-8") for file in files]
    named = rf"(?<![A-Za-z0-9]){row}(?![0-9])"
    assert any(re.search(named, text) for text in texts), f"{files}: none names {row}"
