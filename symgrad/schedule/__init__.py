"""From mathematics to loops: layouts, fusion, tiles, memory. See `build` for the pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from symgrad.schedule.layout import Layout, row_major

if TYPE_CHECKING:
    from symgrad.schedule.build import Schedule, schedule

__all__ = ["Layout", "Schedule", "row_major", "schedule"]


def __getattr__(name: str) -> Any:
    """The scheduler itself is loaded when it is asked for: a start from the object cache needs
    only layouts."""
    if name in ("Schedule", "schedule"):
        from symgrad.schedule import build

        return getattr(build, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
