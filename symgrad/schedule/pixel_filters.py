"""Writing the weight gradient of a convolution with its channels in lanes.

In: a product over windows whose samples are summed (see `windows`), images `[N][H][W][C]`. Out: one
kernel, or two where the sum is cut into bands of lines (see `filters`):

    for every band of lines x, for the outputs o, for the taps k, l, for parts of c:
        acc[c, o] = 0
        for the samples n, for the places x, y of the band that this tap reads inside the image:
            acc[c, o] += X[n,x',y',c] * Y'[n,x,y,o]        all c, o in registers
        part[band] = acc
    W' = sum of part[band]

Outputs run in lanes as they lie in Y'; the image is read as scalars.
"""

from __future__ import annotations

import itertools
import math
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Mapping, Sequence

from codegen.loops import Poly
from symgrad.node import Contract, Expr
from symgrad.schedule.convolution import LATENCY, PORTS
from symgrad.schedule.filters import Filters
from symgrad.schedule.layout import Layout
from symgrad.schedule.tiling import ACCUMULATORS, Tiling, base_axes, largest, split
from symgrad.schedule.windows import Phase, Windows
from symgrad.schedule.writer import Writer
from symgrad.sizes import maximum


def pixel_filter_tiling(n: Contract, w: Windows, layouts: Mapping[Expr, Layout]) -> Tiling | None:
    """The tiling of a weight gradient without rows: image by scalars, outputs in lanes."""
    if layouts[w.base].lane is not None or not w.over_samples:
        return None
    other = 1 - w.image
    outputs = w.outputs(n)
    arg, axes = base_axes(n.ins[other], n.args[other])
    if arg not in layouts:
        arg, axes = n.args[other], {k: i for i, k in enumerate(n.ins[other])}
    if outputs is None or outputs not in axes:
        return None
    inside = [k for k in n.ins[w.image] if k in n.out and k != outputs and k not in w.places]
    layout = layouts[arg]
    convert = None
    if layout.lane is not None or layout.order[-1] != axes[outputs]:
        rest = [a for a in range(arg.ndim) if a != axes[outputs]]
        convert = arg, Layout((*rest, axes[outputs]))
    return Tiling(outputs, w.image, other, False, largest(inside, n.extents), None, convert)


@dataclass
class PixelFilters(Filters):
    """Writes the sums over bands, outputs in lanes; `combine` writes their sum."""

    def write(self) -> Writer:
        w = self.w
        self._place_parts()
        w.independent = True
        with w.loop("band", self.bands) as band, ExitStack() as stack:
            extra = [k for k in self.n.out if k not in self._tiled()]
            index = {k: self._whole(stack, k) for k in extra}
            for phases in itertools.product(*(a.phases() for a in self.windows.axes)):
                self._outputs(index, band, Poly(), phases)
        return w

    def _beside(self) -> int:
        """Samples of a band."""
        return math.prod(maximum(self.extents[k]) for k in self.samples)

    def _outputs(
        self, index: dict[int, Poly], band: Poly, block: Poly, phases: Sequence[Phase]
    ) -> None:
        wide, whole = self._wide(), self.size_out // self.lanes
        for start, width, count in split(whole, wide) if whole else []:
            with self.w.loop("o", count) as part:
                at = part * width + start
                self._taps(index, band, block, phases, at, width, self._most(width))
        rest = self.size_out % self.lanes
        if rest:
            self.live = Poly.of(rest)
            self._taps(index, band, block, phases, Poly.of(whole), 1, self._most(1))
            self.live = None

    def _wide(self) -> int:
        """Panels side by side: the number that takes the fewest cycles."""
        panels = max(1, self.size_out // self.lanes)
        return min(range(1, min(panels, 6) + 1), key=lambda j: (self._cycles(j, panels), -j))

    def _cycles(self, wide: int, panels: int) -> float:
        total = 0.0
        for _, j, count in split(panels, wide):
            most = self._most(j)
            beside = self._taps_side_by_side(most)
            last = self.windows.axes[-1].places
            for _, taps, some in split(last, beside):
                for _, channels, parts in split(self.channels, most):
                    i = taps * channels
                    cost = max(i * j / PORTS, (i + j) / PORTS, LATENCY)
                    total += cost * count * some * parts
        return total

    def _most(self, wide: int) -> int:
        budget = ACCUMULATORS[self.registers]
        return budget[wide] if wide in budget else max(1, (self.registers - 6) // wide)
