"""Layered layout: no overlaps, arrows along the flow, the same every time."""

from __future__ import annotations

import random
import time

import drawings
import pytest

import symgrad as sg
from symgrad.draw.layout import Item, Link, layout, ranks, spaced
from symgrad.draw.scene import scene


def tangle(size: int, seed: int) -> tuple[list[Item], list[Link]]:
    chance = random.Random(seed)
    items = [
        Item(f"k{i}", 30 + 10 * chance.randrange(8), 20 + 10 * chance.randrange(3))
        for i in range(size)
    ]
    pairs = {(chance.randrange(max(0, i - 8), i), i) for i in range(1, size) for _ in range(2)}
    return items, [Link(f"k{a}", f"k{b}") for a, b in sorted(pairs)]


def overlaps(sides: list[tuple[float, float, float, float]]) -> int:
    return sum(
        a[0] < b[2] - 1e-6 and b[0] < a[2] - 1e-6 and a[1] < b[3] - 1e-6 and b[1] < a[3] - 1e-6
        for k, a in enumerate(sides)
        for b in sides[:k]
    )


@pytest.mark.parametrize("sideways", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_boxes_do_not_overlap_and_arrows_go_down(seed: int, sideways: bool) -> None:
    items, links = tangle(10 + 15 * seed, seed)
    found = layout(items, links, sideways)
    assert not overlaps([p.sides for p in found.places.values()])
    for link, curve in zip(links, found.curves):
        a, b = found.places[link.source], found.places[link.target]
        assert (a.sides[2] < b.sides[0]) if sideways else (a.sides[3] < b.sides[1])
        along = [x if sideways else y for x, y in curve]
        assert along == sorted(along)
    for place in found.places.values():
        left, top, right, bottom = place.sides
        assert 0 <= left and 0 <= top and right <= found.width and bottom <= found.height


def test_the_same_layout_every_time() -> None:
    items, links = tangle(60, 3)
    assert layout(items, links) == layout(items, links)


def test_derivatives_flow_back_up_beside_what_they_derive() -> None:
    items = [Item(k, 40, 20) for k in "abc"] + [Item(k, 40, 20, 1) for k in ("dc", "db", "da")]
    links = [Link("a", "b"), Link("b", "c"), Link("dc", "db"), Link("db", "da")]
    links += [Link("c", "dc"), Link("b", "db"), Link("a", "da")]
    found = layout(items, links)
    y = {k: p.y for k, p in found.places.items()}
    assert y["a"] < y["b"] < y["c"] and y["da"] < y["db"] < y["dc"]
    assert max(found.places[k].sides[2] for k in "abc") < min(
        found.places[k].sides[0] for k in ("da", "db", "dc")
    )


def test_circles_are_laid_out_too() -> None:
    items = [Item(k, 40, 20) for k in "abc"]
    links = [Link("a", "b"), Link("b", "c"), Link("c", "a")]
    assert ranks(items, links) == {"a": 0, "b": 1, "c": 2}
    assert len(layout(items, links).curves) == 3


def test_coordinates_are_the_nearest_that_keep_their_distance() -> None:
    assert spaced([0, 10, 20], [1, 1, 1], [5, 5]) == [0, 10, 20]
    assert spaced([10, 10], [1, 1], [4]) == [8, 12]
    assert spaced([10, 10], [3, 1], [4]) == [9, 13]


def test_a_thousand_nodes_in_seconds() -> None:
    items, links = tangle(1000, 0)
    start = time.perf_counter()
    layout(items, links)
    assert time.perf_counter() - start < 20  # 1.5 s on an idle machine


def test_shapes_cover_neither_nodes_nor_each_other() -> None:
    from symgrad.draw.scene import _around

    loss, parameters = drawings.two_layers()
    for direction in ("down", "right"):
        shown = sg.draw({"loss": loss}, wrt=parameters, direction=direction).scene()
        labels = [_around(a.at, a.label) for a in shown.arrows if a.label]
        assert len(labels) > 8
        assert not overlaps([*labels, *(m.place.sides for m in shown.marks)])


def test_every_level_of_a_large_network_is_small_and_free_of_overlaps() -> None:
    picture = sg.draw(drawings.residual())
    for key in picture.tree.boxes:
        shown = scene(picture.graph, picture.tree, key)
        assert len(shown.marks) < 60
        assert not overlaps([m.place.sides for m in shown.marks])
