"""Few images, which would leave lanes idle: channels run in lanes instead.

Every shape, forward and both gradients, on every vector width against PyTorch in double precision;
which axis is chosen; whole networks against the graph interpreter; the tiles of a line.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgrad as sg
from symgrad.nn import models
from symgrad.node import toposort
from symgrad.schedule.kept import is_view
from symgrad.schedule.orders import pointwise_products, window_products
from symgrad.schedule.pixels import tiles
from symgrad.schedule.primitive import primitive
from symgrad.schedule.rows import row_size
from symgrad.schedule.windows import Sliding

# name -> (image, weight, options); one axis where the image has one
SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "one image": ((1, 16, 8, 8), (16, 16, 3, 3), {"padding": 1}),
    "outputs past a panel": ((1, 20, 5, 6), (40, 20, 3, 3), {"padding": 1}),
    "few channels": ((4, 3, 9, 7), (6, 3, 5, 5), {"stride": 2, "padding": 2}),
    "one channel": ((3, 1, 9, 7), (24, 1, 3, 3), {"stride": 2, "padding": 1, "dilation": 2}),
    "large windows": ((5, 5, 12, 12), (20, 5, 11, 11), {"stride": 4, "padding": 5}),
    "one tap": ((8, 4, 6, 6), (8, 4, 1, 1), {}),
    "one tap, stride": ((7, 4, 6, 6), (8, 4, 1, 1), {"stride": 2}),
    "windows side by side": ((2, 8, 9, 9), (8, 8, 3, 3), {"stride": 3}),
    "wide padding": ((3, 8, 4, 4), (8, 8, 3, 3), {"padding": 3}),
    "the whole image": ((3, 16, 5, 5), (32, 16, 5, 5), {}),
    "a line": ((6, 16, 1, 9), (16, 16, 1, 3), {"padding": (0, 1)}),
    "groups": ((2, 32, 8, 8), (64, 16, 3, 3), {"padding": 1, "groups": 2}),
    "narrow groups": ((2, 8, 8, 8), (16, 4, 3, 3), {"padding": 1, "groups": 2}),
    "depthwise": ((2, 32, 8, 8), (32, 1, 3, 3), {"stride": 2, "padding": 1, "groups": 32}),
    "a block and a little": ((17, 16, 8, 8), (48, 16, 3, 3), {"padding": 1}),
    "a block and four": ((20, 8, 6, 6), (16, 8, 3, 3), {"stride": 2}),
    "many outputs": ((1, 16, 16, 16), (128, 16, 3, 3), {"stride": 2, "padding": 1}),
    "odd everything": ((1, 7, 13, 13), (9, 7, 4, 4), {"stride": 3, "padding": 2, "dilation": 2}),
    "large weights": ((1, 96, 4, 4), (160, 96, 3, 3), {"padding": 1}),
    "sequence": ((2, 12, 30), (24, 12, 5), {"padding": 2}),
    "sequence, stride": ((1, 3, 31), (17, 3, 4), {"stride": 3, "dilation": 2}),
}
TARGETS = ("native", "avx2", "sse2")


def check(name: str, target: str) -> None:
    """The result and its gradients by the image and the weight."""
    torch = pytest.importorskip("torch")
    image, weight, options = SHAPES[name]
    rng = np.random.default_rng(sum(image))
    values = [rng.normal(size=image), rng.normal(size=weight)]
    layer = f"conv{len(image) - 2}d"
    x, w = (sg.input(f"x{i}", v.shape, dtype="float64") for i, v in enumerate(values))
    y = getattr(sg.nn, layer)(x, w, **options)
    cotangent = rng.normal(size=y.shape)
    c = sg.input("c", y.shape, dtype="float64")
    step = sg.function([x, w, c], [y, *sg.grad((y * c).sum(), [x, w])], target=target)
    found = step(*values, cotangent)
    tensors = [torch.tensor(v, requires_grad=True) for v in values]
    true = getattr(torch.nn.functional, layer)(*tensors, **options)
    true.backward(torch.tensor(cotangent))
    for a, b in zip(found, (true.detach(), *(t.grad for t in tensors))):
        scale = max(1.0, float(b.abs().max()))
        assert float(np.abs(a - b.numpy()).max()) / scale < 1e-10


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", SHAPES)
def test_few_images_equal_pytorch(name: str, target: str) -> None:
    check(name, target)


# -- which axis runs in lanes ----------------------------------------------------------------------


def rows(batch: Any, channels: int, outputs: int, kernel: int = 3, lanes: int = 16) -> Any:
    """The rows of a convolution and its weight gradient."""
    x = sg.input("x", (batch, channels, 12, 12))
    w = sg.parameter("w", (outputs, channels, kernel, kernel))
    loss = sg.nn.conv2d(x, w, padding=kernel // 2).sum()
    nodes = toposort(primitive([loss, *sg.grad(loss * loss, [w])]))

    def in_memory(n: Any) -> bool:
        return not is_view(n)

    found = {**pointwise_products(nodes, in_memory), **window_products(nodes, in_memory)}
    return row_size(nodes, found, lanes)


@pytest.mark.parametrize("batch", [1, 2, 4, 8, 17])
def test_few_images_have_no_rows(batch: int) -> None:
    assert rows(batch, 16, 32) is None


@pytest.mark.parametrize("batch", [12, 16, 24, 32, 64])
def test_many_images_have_rows(batch: int) -> None:
    assert rows(batch, 16, 32) == batch


def test_rows_where_channels_are_fewer_still() -> None:
    """Eight samples leave half of the lanes idle, two outputs seven eighths."""
    assert rows(8, 16, 2, kernel=5) == 8


def test_a_batch_of_run_time_size_has_rows() -> None:
    batch = sg.dim("batch", 64)
    assert rows(batch, 16, 32) == batch


@pytest.mark.parametrize(("batch", "few"), [(4, True), (32, False)])
def test_the_schedule_says_what_runs_in_lanes(batch: int, few: bool) -> None:
    x = sg.input("x", (batch, 16, 12, 12))
    w = sg.parameter("w", (32, 16, 3, 3))
    step = sg.function([x], sg.nn.conv2d(x, w), target="avx512")
    assert step.stage("schedule").startswith("few images: channels run in lanes") == few


def test_an_image_turns_by_tiles() -> None:
    """A single image too, whose axis of samples has no neighbours."""
    x = sg.input("x", (1, 16, 12, 12))
    w = sg.parameter("w", (32, 16, 3, 3))
    step = sg.function([x], sg.nn.conv2d(x, w), target="avx512")
    assert step.stage("loops").count("transpose p") == 3


def test_windows_of_few_images_are_pooled_by_channels() -> None:
    """Neighbours in the result fill the lanes, not the few taps of a window."""
    x = sg.input("x", (2, 3, 20, 20))
    maps = sg.nn.max_pool2d(sg.nn.relu(sg.nn.Conv2d(3, 32, 3, name="c")(x)), 3, 2)
    loss = sg.mean(sg.square(sg.nn.Conv2d(32, 16, 3, name="d")(maps)))
    step = sg.train_step(loss, sg.optim.SGD(0.1), target="avx512")
    assert "lanes l < 3" not in step.stage("loops")


def test_branches_side_by_side_lie_as_what_reads_them() -> None:
    """The order of axes goes through parts and borders: gradients of a concatenation lie with
    their channels innermost, as convolutions write and read them."""
    x = sg.input("x", (2, 3, 12, 12))
    a, b = (sg.nn.Conv2d(3, width, 3, padding=1, name=f"c{width}")(x) for width in (16, 32))
    pooled = sg.nn.max_pool2d(sg.concatenate([a, b], axis=1), 3, 1, 1)
    loss = sg.mean(sg.square(sg.nn.Conv2d(48, 16, 3, name="d")(pooled)))
    step = sg.train_step(loss, sg.optim.SGD(0.1), target="avx512")
    assert "lanes l < 12" not in step.stage("loops"), "a line of the image runs in lanes"


# -- networks --------------------------------------------------------------------------------------


def gradients(batch: int, target: str) -> None:
    """A small network with all that images meet: statistics, pools, flattening, a dense layer."""
    x = sg.input("x", (batch, 3, 8, 8), dtype="float64")
    y = sg.input("y", (batch,), dtype="int32")
    net = models.vgg_small(4, (8, 20), 8, dropout=0.0, dtype="float64")
    loss = sg.losses.cross_entropy(net(x, training=True), y)
    weights = net.parameters()
    outputs = [loss, *sg.grad(loss, weights)]
    rng = np.random.default_rng(5)
    image, labels = rng.normal(size=x.shape), rng.integers(0, 4, batch).astype("int32")
    found, true = (
        sg.function([x, y], outputs, target=t)(image, labels) for t in (target, "interpret")
    )
    for a, b in zip(found, true):
        assert np.abs(np.asarray(a) - b).max() <= 1e-9 * max(1.0, np.abs(b).max())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("batch", [1, 3])
def test_networks_of_few_images(batch: int, target: str) -> None:
    gradients(batch, target)


# -- tiles of a line -------------------------------------------------------------------------------

LINES = {
    "same": Sliding(2, 0, 1, -1, 1, 1, 1, 9, 9, 3),
    "stride": Sliding(2, 0, 1, -2, 2, 1, 1, 9, 5, 5),
    "dilation": Sliding(2, 0, 1, -2, 1, 2, 1, 20, 20, 3),
    "gradient": Sliding(2, 0, 1, 1, 1, -1, 1, 9, 9, 3),
    "gradient, stride": Sliding(2, 0, 1, 1, 1, -1, 2, 5, 9, 3),
    "nothing inside": Sliding(2, 0, 1, -7, 1, 1, 1, 2, 9, 3),
}


@pytest.mark.parametrize("most", [1, 2, 5, 13])
@pytest.mark.parametrize("line", LINES)
def test_tiles_read_every_tap_inside_once(line: str, most: int) -> None:
    slide = LINES[line]
    for phase in slide.phases():
        seen: list[tuple[int, int]] = []
        places: list[int] = []
        for tile in tiles(slide, phase, most):
            for k in range(tile.repeats):
                start = tile.start + k * tile.width
                places += range(start, start + tile.width)
                for first, taps, low, high in tile.stretches:
                    seen += [(start + i, first + m) for i in range(low, high) for m in range(taps)]
        at = phase.offset
        inside = [
            (q, m)
            for q in range(phase.places)
            for m in range(phase.taps)
            if 0 <= at + phase.step * q + phase.dilation * m < slide.size
        ]
        assert sorted(places) == list(range(phase.places))
        assert sorted(seen) == inside
