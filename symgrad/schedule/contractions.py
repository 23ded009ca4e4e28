"""Which kernels compute a product, and their writing.

In: a group of kind "product", layouts, what lies in memory. Out: what must be copied or prepared
before it, and its kernels, by the first of these that fits:

    winograd    3 x 3 windows, stride 1, enough channels         (winograd)
    rows        windows of an image with rows in lanes           (convolution)
    pixels      the same with channels in lanes                  (pixels)
    filters     the weight gradient of such windows              (filters, pixel_filters)
    tiles       any other product by register tiles              (products, tiling)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Collection, Mapping

from codegen.target import Target
from symgrad.node import Contract, Expr
from symgrad.schedule import winograd
from symgrad.schedule.aliases import aliases
from symgrad.schedule.convolution import Convolution, rows_tiling
from symgrad.schedule.filters import Filters, filter_tiling
from symgrad.schedule.groups import Fusion, Group
from symgrad.schedule.kept import is_leaf_in_memory, is_view
from symgrad.schedule.layout import Layout
from symgrad.schedule.pixel_filters import PixelFilters, pixel_filter_tiling
from symgrad.schedule.pixels import Pixels, pixel_tiling
from symgrad.schedule.products import Product
from symgrad.schedule.tiling import Tiling, tiling
from symgrad.schedule.windows import Windows
from symgrad.schedule.winograd_gradients import Gradients
from symgrad.schedule.winograd_images import Images, write_filters
from symgrad.schedule.writer import Memory, Writer

Place = tuple[str, Layout]
Copies = Mapping[tuple[Expr, Layout], str]


@dataclass
class Contractions:
    """Every product of one program. `made` are the transformed weights by their group."""

    windowed: Mapping[Contract, Windows]
    lane_axes: Mapping[Expr, int | None]
    layouts: Mapping[Expr, Layout]
    in_lanes: Mapping[Expr, Layout]  # what inputs are brought to before they are read
    memory: Memory
    target: Target
    pinned: Collection[Expr]  # views that are copied into memory
    tolerance: float = 0.0
    plans: dict[Contract, winograd.Plan] = field(default_factory=dict)
    tilings: dict[Contract, Tiling] = field(default_factory=dict)
    slid: dict[Contract, Windows] = field(default_factory=dict)  # over images in memory
    transformed: dict[winograd.Filters, tuple[Group, str]] = field(default_factory=dict)
    filters: dict[Group, winograd.Filters] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.aliases = aliases(list(self.layouts), self.layouts)
        ahead = {**self.layouts, **self.in_lanes}
        for n, found in self.windowed.items():
            plan = winograd.plan(n, found, ahead, self.tolerance)
            if plan is not None and (not is_view(plan.other) or plan.other in self.pinned):
                self.plans[n] = plan

    @property
    def alone(self) -> set[Expr]:
        """Products that take no epilogue: their sums are complete in the end only."""
        return {n for n in self.windowed if n not in self.plans and self._sums_alone(n)}

    def _sums_alone(self, n: Contract) -> bool:
        given = n, self.windowed[n], self.layouts
        if rows_tiling(*given) is not None or pixel_tiling(*given) is not None:
            return False
        # A product of samples and shifted weights is a weight gradient whose result is in lanes.
        sums = filter_tiling(*given) or pixel_filter_tiling(*given)
        return sums is not None or self.lane_axes[n] is None

    # -- before it ------------------------------------------------------------------------------
    def held(self, fusion: Fusion) -> dict[Expr, Layout]:
        """What products may read in memory, and how it lies there."""
        found = [a for a in self.layouts if a in fusion.named or is_leaf_in_memory(a)]
        found += [view for a in fusion.named for view in self.aliases.get(a, ())]
        return {a: self.layouts[a] for a in found}

    def prepare(
        self, group: Group, held: Mapping[Expr, Layout], fusion: Fusion
    ) -> tuple[Expr, Layout] | None:
        """Chooses how a product is computed; what must be copied for it, and into which layout."""
        n = group.nodes[0]
        assert isinstance(n, Contract)
        found = self.windowed.get(n)
        if found is not None and found.base in held:
            self.slid[n] = found
        else:
            found = None
        if found is None or self.plans.get(n) is not None and self.plans[n].other not in held:
            self.plans.pop(n, None)
        if n in self.plans:
            self._weights(group, self.plans[n], fusion)
            return None
        choice = None
        if found is not None:
            choice = (
                rows_tiling(n, found, self.layouts)
                or pixel_tiling(n, found, self.layouts)
                or filter_tiling(n, found, self.layouts)
                or pixel_filter_tiling(n, found, self.layouts)
            )
        if choice is None:
            choice = tiling(n, held, self.memory.symbols.lanes)
        self.tilings[n] = choice
        return choice.convert

    def copied(self, n: Contract) -> tuple[Expr, Layout] | None:
        """The operand that a product reads from a copy, and the copy's layout."""
        choice = self.tilings.get(n)
        return None if choice is None else choice.convert

    def _weights(self, group: Group, plan: winograd.Plan, fusion: Fusion) -> None:
        """The kernel that transforms the weights of a plan, once for all that read them."""
        if plan.filters is None:
            return
        if plan.filters not in self.transformed:
            weights = plan.filters.weights
            size = plan.filters.elements(self.memory.symbols.lanes)
            name = self.memory.fresh_buffer(f"{weights.name}_winograd", weights.dtype, size)
            first = fusion.new_copy(weights, "winograd")
            self.transformed[plan.filters] = first, name
            self.filters[first] = plan.filters
        fusion.depend(group, self.transformed[plan.filters][0])

    # -- its kernels ----------------------------------------------------------------------------
    def write_weights(self, group: Group) -> Writer:
        """The kernel of a group of kind "winograd"."""
        filters = self.filters[group]
        return write_filters(self.memory, filters, self.transformed[filters][1])

    def write(
        self, group: Group, cost: int, stored: Mapping[Expr, Place], copies: Copies
    ) -> list[Writer]:
        """The kernels of a product; `cost` counts the operations of its epilogue."""
        n = group.nodes[0]
        assert isinstance(n, Contract)
        how, writers = self._written(n, group.nodes[1:], cost, stored, copies)
        for w in writers:
            w.how = how
        return writers

    def _written(
        self,
        n: Contract,
        epilogue: list[Expr],
        cost: int,
        stored: Mapping[Expr, Place],
        copies: Copies,
    ) -> tuple[str, list[Writer]]:
        """How a product is computed, in words, and its kernels."""
        if n in self.plans:
            m = self.plans[n].algorithm.outputs
            return f"Winograd F({m}x{m})", self._winograd(self.plans[n], epilogue, cost, stored)
        choice = self.tilings[n]
        read = {} if choice.convert is None else {
            choice.convert[0]: (copies[choice.convert], choice.convert[1])
        }  # fmt: skip
        given = (n, choice, epilogue, stored, self.layouts, self.memory, self.target.registers,
                 cost, read)  # fmt: skip
        found = self.slid.get(n)
        if found is not None and rows_tiling(n, found, self.layouts) == choice:
            return "windows, rows in lanes", [Convolution(*given, found).write()]
        if found is not None and pixel_tiling(n, found, self.layouts) == choice:
            return "windows, channels in lanes", [Pixels(*given, found).write()]
        if found is not None and pixel_filter_tiling(n, found, self.layouts) == choice:
            sums = PixelFilters(*given, found)
            made = [w for w in (sums.write(), sums.combine()) if w is not None]
            return "filters, outputs in lanes", made
        if found is not None and filter_tiling(n, found, self.layouts) == choice:
            filters = Filters(*given, found)
            made = [w for w in (filters.write(), filters.combine()) if w is not None]
            return f"filters, {'rows' if choice.across else 'outputs'} in lanes", made
        return choice.words(n), [Product(*given).write()]

    def _winograd(
        self, plan: winograd.Plan, epilogue: list[Expr], cost: int, stored: Mapping[Expr, Place]
    ) -> list[Writer]:
        none: Mapping[Expr, Place] = {}
        given = (plan, epilogue, cost, stored, self.memory, self.target, none)
        if plan.filters is None:
            gradients = Gradients(*given)
            return [gradients.write(), gradients.combine()]
        return [Images(*given, self.transformed[plan.filters][1]).write()]
