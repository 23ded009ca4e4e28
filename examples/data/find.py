"""Where the larger data sets are: the folder that the environment variable SYMGRAD_DATA names.

>>> find("text", "names.txt")     # None where there is no such file
"""

from __future__ import annotations

import os
from pathlib import Path


def find(*parts: str) -> Path | None:
    """The path of a file or folder of SYMGRAD_DATA, if it is there."""
    folder = os.environ.get("SYMGRAD_DATA")
    path = Path(folder, *parts) if folder else None
    return path if path and path.exists() else None
