"""Pooling: values and gradients of every kind of window, the forms that are compiled, errors.

The references are the definition (tests/windowed.py) and PyTorch in float64, where it is installed.
Images have no ties but where a test says so: symgrad splits their gradient, PyTorch gives it to the
first. Every case runs on each of TARGETS.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import windowed
from gradcheck import check_first, check_second
from test_convolution import TARGETS, close, compiled, ours, theirs, torch, with_torch

import symgrad as sg
from symgrad.errors import DTypeError, ShapeError
from symgrad.node import Reduce, Reindex, Reshape, toposort

# name: (image, options); the number of axes of space is that of the image less two
WINDOWS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "tiles": ((2, 3, 8, 6), {"kernel_size": 2}),
    "tiles with a rest": ((2, 3, 9, 7), {"kernel_size": 2}),
    "tiles, not square": ((2, 3, 9, 8), {"kernel_size": (3, 2)}),
    "whole image": ((2, 3, 5, 4), {"kernel_size": (5, 4)}),
    "overlapping": ((2, 3, 9, 9), {"kernel_size": 3, "stride": 2}),
    "overlapping, padded": ((2, 3, 8, 9), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "every position": ((2, 2, 6, 6), {"kernel_size": 3, "stride": 1, "padding": 1}),
    "gaps": ((2, 3, 9, 10), {"kernel_size": 2, "stride": 3}),
    "two strides": ((2, 2, 7, 9), {"kernel_size": (2, 3), "stride": (1, 2), "padding": (0, 1)}),
    "ceil": ((2, 3, 8, 7), {"kernel_size": 3, "ceil_mode": True}),
    "ceil, strided": ((2, 3, 8, 9), {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    "ceil, padded": (
        (2, 3, 7, 8),
        {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    ),
    "ceil, last window outside": (
        (1, 1, 5, 6),
        {"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True},
    ),
    "padded tiles": ((2, 2, 6, 6), {"kernel_size": 2, "padding": 1}),
    "of one": ((2, 3, 4, 4), {"kernel_size": 1}),
    "of one, strided": ((2, 3, 5, 5), {"kernel_size": 1, "stride": 2}),
    "1-D": ((2, 3, 9), {"kernel_size": 2}),
    "1-D, overlapping": ((2, 3, 9), {"kernel_size": 4, "stride": 3, "padding": 2}),
}
DILATED: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "dilated": ((2, 3, 9, 9), {"kernel_size": 3, "stride": 2, "dilation": 2, "padding": 1}),
    "dilated tiles": ((2, 3, 8, 8), {"kernel_size": 2, "dilation": (1, 2)}),
    "1-D, dilated": ((2, 3, 11), {"kernel_size": 3, "dilation": 3}),
}
POOLS = {
    **{f"max {k}": ("max", v, {}) for k, v in {**WINDOWS, **DILATED}.items()},
    **{f"avg {k}": ("avg", v, {}) for k, v in WINDOWS.items()},
    **{
        f"avg {k}, real elements": ("avg", v, {"count_include_pad": False})
        for k, v in WINDOWS.items()
        if "pad" in str(v[1])
    },
}


def image(shape: tuple[int, ...]) -> np.ndarray:
    """No two elements of one channel are equal."""
    return np.random.default_rng(sum(shape)).permutation(np.prod(shape)).reshape(shape) / 10.0


@with_torch
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", POOLS)
def test_pooling_equals_pytorch(name: str, target: str) -> None:
    kind, (shape, options), more = POOLS[name]
    function = f"{kind}_pool{len(shape) - 2}d"
    options = {**options, **more}
    found = ours(getattr(sg.nn, function), [image(shape)], options, target)
    true = theirs(getattr(torch.nn.functional, function), [image(shape)], options)
    for what, a, b in zip(("value", "gradient"), found, true):
        close(a, b, what)


@pytest.mark.parametrize("name", POOLS)
def test_pooling_by_definition(name: str) -> None:
    kind, (shape, options), more = POOLS[name]
    layer = getattr(sg.nn, f"{kind}_pool{len(shape) - 2}d")
    found = ours(layer, [image(shape)], {**options, **more}, "interpret")[0]
    include = kind == "avg" and more.get("count_include_pad", True)
    law = np.max if kind == "max" else np.mean
    close(found, windowed.pool(image(shape), law, **options, include=include))


def random_window(seed: int) -> tuple[tuple[int, ...], dict[str, Any]]:
    rng = np.random.default_rng(seed)
    kernel, stride = rng.integers(1, 5, 2), rng.integers(1, 5, 2)
    padding = [int(rng.integers(0, k // 2 + 1)) for k in kernel]
    size = [int(k + rng.integers(0, 8)) for k in kernel]
    return (2, 2, *size), {
        "kernel_size": tuple(map(int, kernel)),
        "stride": tuple(map(int, stride)),
        "padding": tuple(padding),
        "ceil_mode": bool(rng.integers(0, 2)),
    }


@with_torch
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_random_windows(kind: str, target: str) -> None:
    mine, other = (getattr(m, f"{kind}_pool2d") for m in (sg.nn, torch.nn.functional))
    for seed in range(25):
        shape, options = random_window(seed)
        true = theirs(other, [image(shape)], options)
        for what, a, b in zip(
            ("value", "slope"), ours(mine, [image(shape)], options, target), true
        ):
            close(a, b, f"{what} of {seed}: {shape} {options}")


@with_torch
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("output", [1, 2, 3, (4, 7), (2, 5), (8, 1)])
def test_adaptive_average(output: Any, target: str) -> None:
    values = [image((2, 3, 8, 7))]
    found = ours(sg.nn.adaptive_avg_pool2d, values, {"output_size": output}, target)
    true = theirs(torch.nn.functional.adaptive_avg_pool2d, values, {"output_size": output})
    for a, b in zip(found, true):
        close(a, b)


def test_global_average() -> None:
    x = sg.input("x", (sg.dim("n", max=4), 3, 5, 4), dtype="float64")
    value = image((2, 3, 5, 4))
    flat, kept = sg.nn.GlobalAvgPool2d()(x), sg.nn.GlobalAvgPool2d(keepdims=True)(x)
    a, b = sg.function([x], [flat, kept], target="interpret")(value)
    close(a, value.mean(axis=(2, 3)))
    close(b, value.mean(axis=(2, 3), keepdims=True))


@with_torch
@pytest.mark.parametrize("target", TARGETS)
def test_batch_of_run_time_size(target: str) -> None:
    x = sg.input("x", (sg.dim("n", max=18), 2, 8, 9), dtype="float64")
    y = sg.nn.max_pool2d(sg.nn.avg_pool2d(x, 3, 2, 1), 2)
    f = sg.function([x], [y, sg.grad(sg.sum(y * y), x)], target=target)
    for n in (1, 5, 16, 18):
        value = torch.tensor(image((n, 2, 8, 9)), requires_grad=True)
        true = torch.nn.functional.max_pool2d(torch.nn.functional.avg_pool2d(value, 3, 2, 1), 2)
        (true * true).sum().backward()
        found = f(value.detach().numpy())
        close(found[0], true.detach().numpy())
        close(found[1], value.grad.numpy())


# -- derivatives ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "name", ["max tiles", "max overlapping, padded", "avg tiles", "avg ceil, padded", "max 1-D"]
)
def test_derivatives_against_differences(name: str) -> None:
    kind, (shape, options), _ = POOLS[name]
    x = sg.input("x", shape, dtype="float64")
    y = getattr(sg.nn, f"{kind}_pool{len(shape) - 2}d")(x, **options)
    point = {x: image(shape)}
    check_first(y, point, [x])
    check_second(sg.tanh(y * 0.05), point, [x])


@pytest.mark.parametrize("target", TARGETS)
def test_ties_share_the_gradient(target: str) -> None:
    value = np.zeros((1, 1, 4, 4))
    value[0, 0, :2, :2] = [[3, 3], [1, 3]]
    for options in ({}, {"stride": 2, "padding": 0, "dilation": 1}):
        x = sg.input("x", (1, 1, 4, 4), dtype="float64")
        slope = sg.grad(sg.sum(sg.nn.max_pool2d(x, 2, **options)), x)
        found = sg.function([x], slope, target=target)(value)[0, 0]
        np.testing.assert_allclose(found[:2, :2], [[1 / 3, 1 / 3], [0, 1 / 3]])
        np.testing.assert_allclose(found[2:, 2:], np.full((2, 2), 0.25))
    # windows that share elements, through the map of the gradient
    x = sg.input("x", (1, 1, 1, 3), dtype="float64")
    slope = sg.grad(sg.sum(sg.nn.max_pool2d(x, (1, 2), 1)), x)
    found = sg.function([x], slope, target=target)(np.array([[[[2.0, 2.0, 2.0]]]]))
    np.testing.assert_allclose(found[0, 0, 0], [0.5, 1, 0.5])


@pytest.mark.parametrize("target", TARGETS)
def test_padding_is_never_the_largest(target: str) -> None:
    x = sg.input("x", (1, 1, 4, 4), dtype="float64")
    y = sg.nn.max_pool2d(x, 3, 2, 1)
    value, slope = sg.function([x], [y, sg.grad(sg.sum(y), x)], target=target)(
        np.full((1, 1, 4, 4), -7.0)
    )
    assert (value == -7).all()
    assert np.isclose(slope.sum(), 4)


# -- the forms that are compiled ------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_tiles_are_reshapes(kind: str) -> None:
    x = sg.input("x", (2, 3, 8, 8))
    y = getattr(sg.nn, f"{kind}_pool2d")(x, 2)
    nodes = toposort(compiled([y, sg.grad(sg.sum(y * y), x)]))
    assert not any(isinstance(n, Reindex) for n in nodes)
    assert any(isinstance(n, Reshape) for n in nodes)


def test_overlapping_windows_are_read_back_at_their_place() -> None:
    """The gradient compares the image itself with the maxima around it, tap by tap."""
    x = sg.input("x", (2, 3, 9, 9))
    y = sg.nn.max_pool2d(x, 3, 2, 1)
    (slope,) = compiled([sg.grad(sg.sum(y * sg.input("dy", y.shape)), x)])
    choice = slope.args[0]
    assert choice.shape == (2, 3, 9, 9, 3, 3) and choice.name == "where"
    here = choice.args[0].args
    assert any(a.kind == "contract" and a.args == (x,) for a in here)
    assert all(isinstance(a.args[0], Reduce) or a.args == (x,) for a in here)


@pytest.mark.parametrize("name", ["max overlapping, padded", "avg overlapping", "max 1-D"])
def test_rewriting_is_exact(name: str) -> None:
    kind, (shape, options), _ = POOLS[name]
    x = sg.input("x", shape, dtype="float64")
    y = getattr(sg.nn, f"{kind}_pool{len(shape) - 2}d")(x, **options)
    for e in (y, sg.grad(sg.sum(y * y), x)):
        assert sg.equivalent(e, compiled([e])[0])


# -- layers and errors ----------------------------------------------------------------------------
LAYERS: dict[str, tuple[tuple[int, ...], tuple[Any, ...], dict[str, Any]]] = {
    "MaxPool1d": ((2, 3, 9), (3, 2, 1, 2), {}),
    "MaxPool2d": ((2, 3, 9, 8), ((3, 2),), {"ceil_mode": True}),
    "AvgPool1d": ((2, 3, 9), (4, 2), {"ceil_mode": True}),
    "AvgPool2d": ((2, 3, 9, 8), (3, 2, 1), {"count_include_pad": False}),
}


@with_torch
@pytest.mark.parametrize("name", LAYERS)
def test_layer_equals_pytorch(name: str) -> None:
    shape, given, options = LAYERS[name]
    layer = getattr(sg.nn, name)(*given, **options)
    assert layer.parameters() == []
    values = [image(shape)]
    found = ours(layer, values, {}, "interpret")
    for a, b in zip(found, theirs(getattr(torch.nn, name)(*given, **options), values, {})):
        close(a, b, name)


X = sg.input("image", (2, 4, 8, 8))
ERRORS = {
    "axes": (lambda: sg.nn.max_pool2d(sg.input("x", (4, 8)), 2), r"max_pool2d: takes images \(n, "),
    "too large": (
        lambda: sg.nn.avg_pool2d(X, 9),
        r"avg_pool2d: the kernel \(9, 9\) is larger than the image \(2, 4, 8, 8\) \(input 'image'",
    ),
    "padding": (
        lambda: sg.nn.max_pool2d(X, 3, padding=2),
        r"padding \(2, 2\) is more than half of the kernel \(3, 3\)",
    ),
    "padding's name": (lambda: sg.nn.max_pool2d(X, 3, padding="same"), "padding is an int or one"),
    "kernel": (lambda: sg.nn.max_pool2d(X, 0), "kernel_size must be an int or 2 ints from 1"),
    "adaptive": (lambda: sg.nn.adaptive_avg_pool2d(X, (2, 0)), r"output_size .* got \(2, 0\)"),
    "layer": (
        lambda: sg.nn.MaxPool2d(9, name="pool")(X),
        r"max_pool2d 'pool': the kernel \(9, 9\)",
    ),
    "layer's stride": (lambda: sg.nn.AvgPool1d(2, -1), "avg_pool1d: stride must be an int from 1"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_operation_shapes_and_line(name: str) -> None:
    make, message = ERRORS[name]
    with pytest.raises(ShapeError, match=message) as caught:
        make()
    assert "test_pooling.py:" in str(caught.value)


def test_integers_are_no_images() -> None:
    with pytest.raises(DTypeError, match="max_pool2d: takes float32 or float64, got int32"):
        sg.nn.max_pool2d(sg.input("x", (1, 1, 3, 3), dtype="int32"), 2)
