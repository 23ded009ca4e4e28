"""From mathematics to loops: layouts, fusion, tiles, memory. See `build` for the pipeline."""

from symgrad.schedule.build import Schedule, schedule
from symgrad.schedule.layout import Layout, row_major

__all__ = ["Layout", "Schedule", "row_major", "schedule"]
