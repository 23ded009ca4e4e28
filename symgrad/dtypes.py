"""Element types: float32 and float64 to compute, int32, int64 and bool for labels and masks.

>>> promote(["int32", "float32"])
'float32'
"""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from symgrad import source
from symgrad.errors import DTypeError

ORDER = ("bool", "int32", "int64", "float32", "float64")  # a later one wins, as in PyTorch
ITEMSIZE = {"bool": 1, "int32": 4, "int64": 8, "float32": 4, "float64": 8}


def canonical(dtype: Any) -> str:
    """The name of a dtype given as a name, a NumPy dtype or a Python type."""
    if isinstance(dtype, str) and dtype in ITEMSIZE:
        return dtype
    if dtype is float:
        return "float32"
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in ORDER:
        raise DTypeError(
            f"dtype {name!r} is not supported: one of {', '.join(ORDER)}"
            + source.quote(source.here())
        )
    return name


def is_float(dtype: str) -> bool:
    return dtype in ("float32", "float64")


def is_integer(dtype: str) -> bool:
    return dtype in ("int32", "int64")


def promote(names: Sequence[str]) -> str:
    """The common type: float beats int beats bool, then the wider one."""
    return max(names, key=ORDER.index)
