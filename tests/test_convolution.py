"""Convolutions: values, derivatives of both orders, the forms they are rewritten to, errors.

The references are the definition (tests/windowed.py) and PyTorch in float64, where it is installed.
Every case runs on each of TARGETS.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import windowed
from gradcheck import check_first, check_second

import symgrad as sg
from symgrad import rewrite
from symgrad.errors import DTypeError, ShapeError
from symgrad.interpret import evaluate
from symgrad.node import Contract, Expr, Input, Reindex, toposort

try:
    import torch

    torch.set_num_threads(1)
except ImportError:
    torch = None
with_torch = pytest.mark.skipif(torch is None, reason="PyTorch is not installed")

TARGETS = ("interpret", "native")

# name: (dimensions, image, weight, options)
CONVOLUTIONS: dict[str, tuple[int, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "plain": (2, (2, 3, 8, 8), (4, 3, 3, 3), {}),
    "padded": (2, (2, 3, 7, 7), (5, 3, 3, 3), {"padding": 1}),
    "5x5 padded by 2": (2, (2, 1, 9, 9), (6, 1, 5, 5), {"padding": 2}),
    "stride 2": (2, (2, 3, 9, 9), (4, 3, 3, 3), {"stride": 2, "padding": 1}),
    "stride 2, even size": (2, (2, 3, 8, 8), (4, 3, 3, 3), {"stride": 2, "padding": 1}),
    "stride 3": (2, (2, 2, 11, 10), (3, 2, 4, 4), {"stride": 3, "padding": 2}),
    "stride 4, 11x11": (2, (1, 3, 23, 23), (4, 3, 11, 11), {"stride": 4, "padding": 2}),
    "stride over kernel": (2, (2, 2, 9, 9), (3, 2, 2, 2), {"stride": 3}),
    "two strides": (2, (2, 2, 9, 8), (3, 2, 3, 2), {"stride": (1, 3), "padding": (2, 0)}),
    "dilated": (2, (2, 2, 9, 9), (3, 2, 3, 3), {"dilation": 2, "padding": 2}),
    "dilated, strided": (2, (2, 2, 11, 9), (3, 2, 3, 2), {"dilation": (2, 3), "stride": 2}),
    "groups": (2, (2, 4, 6, 6), (6, 2, 3, 3), {"groups": 2, "padding": 1}),
    "groups, strided": (2, (2, 6, 7, 7), (6, 2, 3, 3), {"groups": 3, "stride": 2}),
    "depthwise": (2, (2, 4, 6, 6), (4, 1, 3, 3), {"groups": 4, "padding": 1}),
    "depthwise, two each": (2, (2, 3, 6, 6), (6, 1, 3, 3), {"groups": 3, "stride": 2}),
    "kernel over image": (2, (2, 2, 3, 4), (3, 2, 5, 6), {"padding": 2}),
    "kernel is image": (2, (2, 3, 4, 5), (6, 3, 4, 5), {}),
    "few positions": (2, (2, 2, 7, 7), (3, 2, 5, 5), {}),
    "1x1": (2, (2, 3, 4, 5), (4, 3, 1, 1), {}),
    "1x1, strided": (2, (2, 3, 5, 6), (4, 3, 1, 1), {"stride": 2}),
    "1x1, padded": (2, (2, 3, 4, 5), (4, 3, 1, 1), {"padding": 1}),
    "one row": (2, (2, 3, 1, 9), (4, 3, 1, 3), {"padding": (0, 1)}),
    "not square": (2, (2, 2, 5, 9), (3, 2, 2, 4), {"padding": (1, 2)}),
    "same": (2, (2, 2, 6, 7), (3, 2, 3, 5), {"padding": "same"}),
    "same, even kernel": (2, (2, 2, 6, 7), (3, 2, 4, 2), {"padding": "same"}),
    "same, dilated": (2, (2, 2, 6, 7), (3, 2, 2, 3), {"padding": "same", "dilation": 3}),
    "valid": (2, (2, 2, 6, 7), (3, 2, 3, 3), {"padding": "valid", "stride": 2}),
    "one of all": (2, (1, 1, 3, 3), (1, 1, 2, 2), {}),
    "1-D": (1, (2, 3, 9), (4, 3, 3), {}),
    "1-D, strided": (1, (2, 3, 10), (4, 3, 4), {"stride": 3, "padding": 2}),
    "1-D, groups": (1, (2, 4, 9), (4, 2, 3), {"groups": 2, "dilation": 2, "padding": 2}),
    "1-D, depthwise": (1, (2, 4, 9), (4, 1, 3), {"groups": 4, "padding": "same"}),
}
TRANSPOSED: dict[str, tuple[int, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "plain": (2, (2, 3, 4, 5), (3, 4, 3, 3), {}),
    "doubling": (2, (2, 3, 4, 5), (3, 2, 4, 4), {"stride": 2, "padding": 1}),
    "rest": (2, (2, 3, 4, 5), (3, 2, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    "gaps": (2, (2, 2, 3, 3), (2, 3, 2, 2), {"stride": 3, "output_padding": (1, 2)}),
    "dilated": (2, (2, 2, 3, 4), (2, 3, 3, 2), {"dilation": 2, "output_padding": 1}),
    "groups": (2, (2, 4, 4, 3), (4, 3, 3, 3), {"groups": 2, "stride": 2}),
    "depthwise": (2, (2, 3, 4, 4), (3, 1, 3, 3), {"groups": 3, "stride": 2, "padding": 1}),
    "1x1": (2, (2, 3, 4, 4), (3, 5, 1, 1), {}),
    "from one position": (2, (2, 3, 1, 1), (3, 2, 4, 4), {}),
    "1-D": (1, (2, 3, 5), (3, 4, 4), {"stride": 2, "padding": 1}),
    "1-D, groups": (1, (2, 4, 5), (4, 2, 3), {"stride": 3, "groups": 2, "output_padding": 2}),
}


def function(transposed: bool, axes: int) -> Callable[..., Expr]:
    return getattr(sg.nn, f"conv_transpose{axes}d" if transposed else f"conv{axes}d")


def torchs(transposed: bool, axes: int) -> Callable[..., Any]:
    return getattr(torch.nn.functional, function(transposed, axes).__name__)


def arrays(transposed: bool, image: Any, weight: Any, options: dict[str, Any]) -> list[np.ndarray]:
    rng = np.random.default_rng(len(str(weight)) + sum(image))
    outputs = weight[1] * options.get("groups", 1) if transposed else weight[0]
    return [rng.normal(size=s) for s in (image, weight, (outputs,))]


def close(found: Any, true: Any, what: str = "") -> None:
    found, true = np.asarray(found), np.asarray(true)
    assert found.shape == true.shape, what
    scale = max(1.0, float(np.abs(true).max(initial=0)))
    error = float(np.abs(found - true).max(initial=0)) / scale
    assert error <= 1e-10, f"{what}: {error:.3g}"


def ours(layer: Any, values: list[np.ndarray], options: Any, target: str) -> list[np.ndarray]:
    """The result, and its gradient by every operand for a fixed cotangent."""
    inputs = [sg.input(f"x{i}", v.shape, dtype="float64") for i, v in enumerate(values)]
    y = layer(*inputs, **options)
    cotangent = np.random.default_rng(1).normal(size=y.shape)
    outputs = [y, *sg.grad((y * sg.constant(cotangent)).sum(), inputs)]
    return list(sg.function(inputs, outputs, target=target)(*values))


def theirs(layer: Any, values: list[np.ndarray], options: Any) -> list[np.ndarray]:
    tensors = [torch.tensor(v, requires_grad=True) for v in values]
    y = layer(*tensors, **options)
    y.backward(torch.tensor(np.random.default_rng(1).normal(size=tuple(y.shape))))
    return [y.detach().numpy(), *(t.grad.numpy() for t in tensors)]


def check(transposed: bool, case: Any, target: str) -> None:
    axes, image, weight, options = case
    values = arrays(transposed, image, weight, options)
    found = ours(function(transposed, axes), values, options, target)
    true = theirs(torchs(transposed, axes), values, options)
    for name, a, b in zip(("value", "by the image", "by the weight", "by the bias"), found, true):
        close(a, b, name)


@with_torch
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution_equals_pytorch(name: str, target: str) -> None:
    check(False, CONVOLUTIONS[name], target)


@with_torch
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", TRANSPOSED)
def test_transposed_convolution_equals_pytorch(name: str, target: str) -> None:
    check(True, TRANSPOSED[name], target)


@with_torch
@pytest.mark.parametrize("target", TARGETS)
def test_taps_behind_an_image_of_one_column(target: str) -> None:
    """The index along the columns is the tap itself, and leaves the image."""
    check(False, (2, (3, 8, 2, 1), (4, 8, 2, 2), {"padding": "same"}), target)


def check_definition(transposed: bool, name: str, target: str = "interpret") -> None:
    """The value by the definition, the gradients by linearity: <dx, v> = <dy, conv(v)>."""
    axes, image, weight, options = (TRANSPOSED if transposed else CONVOLUTIONS)[name]
    x, w, b = arrays(transposed, image, weight, options)
    y, dx, dw, db = ours(function(transposed, axes), [x, w, b], options, target)
    dy = np.random.default_rng(1).normal(size=y.shape)
    rng = np.random.default_rng(2)
    v, u, c = (rng.normal(size=a.shape) for a in (x, w, b))
    if not transposed:
        close(y, windowed.convolve(x, w, b, **options), "value")
        images, weights = windowed.convolve(v, w, **options), windowed.convolve(x, u, **options)
        close(np.vdot(dx, v), np.vdot(dy, images), "by the image")
        close(np.vdot(dw, u), np.vdot(dy, weights), "by the weight")
    else:  # the transpose of the convolution from the result to the image
        back = {k: o for k, o in options.items() if k != "output_padding"}
        plain = y - b.reshape((-1, *[1] * axes))
        cut = tuple(slice(0, n) for n in x.shape)  # a rest behind the last window makes no image
        result = windowed.convolve(dy, w, **back)[cut]
        close(dx, result, "by the image")
        close(np.vdot(plain, dy), np.vdot(x, result), "value")
        close(np.vdot(dw, u), np.vdot(x, windowed.convolve(dy, u, **back)[cut]), "by the weight")
    close(db, dy.sum(axis=(0, *range(2, dy.ndim))), "by the bias")


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution_by_definition(name: str) -> None:
    check_definition(False, name)


@pytest.mark.parametrize("name", TRANSPOSED)
def test_transposed_convolution_by_definition(name: str) -> None:
    check_definition(True, name)


def random_case(seed: int) -> tuple[int, tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    rng = np.random.default_rng(seed)
    axes, groups = int(rng.choice([1, 2, 2])), int(rng.choice([1, 1, 2, 3]))
    draw = lambda low, high: tuple(int(v) for v in rng.integers(low, high, axes))  # noqa: E731
    kernel, stride, padding, dilation = draw(1, 6), draw(1, 5), draw(0, 4), draw(1, 4)
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel)]
    size = tuple(max(1, r - 2 * p) + int(rng.integers(0, 7)) for r, p in zip(reach, padding))
    n, c, o = (int(v) for v in rng.integers(1, 4, 3))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return axes, (n, c * groups, *size), (o * groups, c, *kernel), options


@with_torch
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("block", range(4))
def test_random_convolutions(block: int, target: str) -> None:
    for seed in range(10 * block, 10 * block + 10):
        case = random_case(seed)
        check(False, case, target)
        axes, image, weight, options = case
        made = torch.empty(image), torch.empty(weight), None
        out = tuple(torchs(False, axes)(*made, **options).shape)
        # the transpose takes images of the result's shape back to the image's
        sizes = zip(image[2:], options["padding"], options["dilation"], weight[2:])
        left = [size + 2 * p - d * (k - 1) - 1 for size, p, d, k in sizes]
        rest = tuple(a % s for a, s in zip(left, options["stride"]))
        check(True, (axes, out, weight, {**options, "output_padding": rest}), target)


@with_torch
@pytest.mark.parametrize("target", TARGETS)
def test_batch_of_run_time_size(target: str) -> None:
    n = sg.dim("n", max=20)
    x = sg.input("x", (n, 4, 6, 6), dtype="float64")
    w = sg.input("w", (6, 2, 3, 3), dtype="float64")
    options = {"stride": 2, "padding": 1, "groups": 2}
    y = sg.tanh(sg.nn.conv2d(x, w, **options))
    f = sg.function([x, w], [y, *sg.grad(sg.sum(y * y), [x, w])], target=target)
    for size in (1, 3, 16, 17, 20):
        rng = np.random.default_rng(size)
        values = [rng.normal(size=(size, 4, 6, 6)), rng.normal(size=(6, 2, 3, 3))]
        tensors = [torch.tensor(v, requires_grad=True) for v in values]
        true = torch.tanh(torch.nn.functional.conv2d(*tensors, **options))
        (true * true).sum().backward()
        for a, b in zip(f(*values), [true.detach(), *(t.grad for t in tensors)]):
            close(a, b.numpy(), f"batch {size}")


@pytest.mark.parametrize("name", ["l", "n", "b1", "y2", "r", "acc3", "p0"])
def test_run_time_sizes_named_like_what_is_inside_a_kernel(name: str) -> None:
    x = sg.input("x", (sg.dim(name, max=20), 2, 5, 6))
    w = sg.input("w", (3, 2, 3, 3))
    y = sg.tanh(sg.nn.conv2d(x, w, padding=1))
    outputs = [y, *sg.grad(sg.sum(y * y), [x, w])]
    rng = np.random.default_rng(0)
    values = [rng.normal(size=(19, 2, 5, 6)), rng.normal(size=(3, 2, 3, 3))]
    found, true = (
        sg.function([x, w], outputs, target=target)(*(v.astype("float32") for v in values))
        for target in ("native", "interpret")
    )
    for a, b in zip(found, true):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


# -- derivatives ----------------------------------------------------------------------------------
DERIVED = ["plain", "stride 2, even size", "dilated, strided", "groups", "depthwise",
           "1x1, strided", "kernel is image", "1-D, strided"]  # fmt: skip
DERIVED_BACK = ["rest", "groups", "1-D"]
BOTH = [(False, k) for k in DERIVED] + [(True, k) for k in DERIVED_BACK]


def declared(transposed: bool, name: str) -> tuple[Expr, list[Input], dict[Expr, np.ndarray]]:
    axes, image, weight, options = (TRANSPOSED if transposed else CONVOLUTIONS)[name]
    values = arrays(transposed, image, weight, options)[:2]
    inputs = [sg.input(f"x{i}", v.shape, dtype="float64") for i, v in enumerate(values)]
    y = function(transposed, axes)(*inputs, **options)
    return y, inputs, dict(zip(inputs, values))


@pytest.mark.parametrize(("transposed", "name"), BOTH)
def test_derivatives_against_differences(transposed: bool, name: str) -> None:
    y, inputs, point = declared(transposed, name)
    check_first(y, point, inputs)
    check_second(sg.tanh(y * 0.2), point, inputs)


@with_torch
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("transposed", "name"), BOTH)
def test_second_order_equals_pytorch(transposed: bool, name: str, target: str) -> None:
    y, inputs, point = declared(transposed, name)
    axes, _, _, options = (TRANSPOSED if transposed else CONVOLUTIONS)[name]
    rng = np.random.default_rng(3)
    along = [rng.normal(size=v.shape) for v in point.values()]
    loss = sg.sum(sg.tanh(y * 0.2))
    product = sg.hvp(loss, inputs, [sg.constant(d) for d in along])
    slopes = sg.grad(loss, inputs)
    again = sg.grad(sum(sg.sum(g * sg.constant(d)) for g, d in zip(slopes, along)), inputs)
    found = sg.function(inputs, [*product, *again], target=target)(*point.values())

    tensors = [torch.tensor(v, requires_grad=True) for v in point.values()]
    true = torch.tanh(torchs(transposed, axes)(*tensors, **options) * 0.2).sum()
    first = torch.autograd.grad(true, tensors, create_graph=True)
    inner = sum((g * torch.tensor(d)).sum() for g, d in zip(first, along))
    second = [g.numpy() for g in torch.autograd.grad(inner, tensors)]
    for a, b in zip(found, second + second):
        close(a, b, name)


# -- the forms that are compiled ------------------------------------------------------------------
def compiled(outputs: list[Expr]) -> list[Expr]:
    return rewrite.run(outputs)[0]


def products(e: Expr) -> list[Contract]:
    return [n for n in toposort([e]) if isinstance(n, Contract) and len(n.args) > 1]


def windows_of(e: Expr) -> list[Reindex]:
    return [n for n in toposort([e]) if isinstance(n, Reindex)]


@pytest.mark.parametrize("name", [k for k, v in CONVOLUTIONS.items() if "1x1" not in k])
def test_gradients_are_one_product_over_windows(name: str) -> None:
    y, (x, w), _ = declared(False, name)
    dy = sg.input("dy", y.shape, dtype="float64")
    forward, dx, dw = compiled([y, *sg.grad(sg.sum(y * dy), [x, w])])
    for what, e in (("y", forward), ("dx", dx), ("dw", dw)):
        assert len(products(e)) == 1, what
        assert len(products(e)[0].args) == 2, what
    if name != "kernel is image":
        (read,) = windows_of(dx)
        strides = CONVOLUTIONS[name][3].get("stride", 1)
        axes = CONVOLUTIONS[name][0]
        wanted = strides if isinstance(strides, tuple) else (strides,) * axes
        spatial = [m[2] for m in read.maps[-axes:]]
        positions = y.shape[-axes:]
        for divisor, stride, count in zip(spatial, wanted, positions):
            assert divisor == stride or count == 1
        assert windows_of(forward) == windows_of(dw)  # the same windows


def test_maps_of_the_gradients() -> None:
    """The maps that the schedule relies on: position first, then the tap; divisor the stride."""
    x, w = sg.input("x", (2, 3, 9, 9)), sg.input("w", (4, 3, 3, 3))
    y = sg.nn.conv2d(x, w, stride=2, padding=1)
    dy = sg.input("dy", y.shape)
    forward, dx, dw = compiled([y, *sg.grad(sg.sum(y * dy), [x, w])])
    same = [(0, ((0, 1),), 1), (0, ((1, 1),), 1)]
    (read,) = windows_of(forward)
    assert list(read.maps) == [*same, (-1, ((2, 2), (4, 1)), 1), (-1, ((3, 2), (5, 1)), 1)]
    (back,) = windows_of(dx)
    assert list(back.maps) == [*same, (1, ((2, 1), (4, -1)), 2), (1, ((3, 1), (5, -1)), 2)]
    assert back.fill == 0 and back.args[0] is dy and back.shape == (2, 4, 9, 9, 3, 3)
    assert isinstance(dx, Contract) and dx.args == (back, w)
    assert isinstance(dw, Contract) and set(dw.args) == {dy, read}


def test_1x1_is_a_product_of_images() -> None:
    x, w = sg.input("x", (2, 3, 5, 5)), sg.input("w", (4, 3, 1, 1))
    y = sg.nn.conv2d(x, w)
    dy = sg.input("dy", y.shape)
    outputs = compiled([y, *sg.grad(sg.sum(y * dy), [x, w])])
    assert not any(windows_of(e) for e in outputs)
    assert all(len(products(e)) == 1 for e in outputs)
    assert isinstance(outputs[0], Contract) and set(outputs[0].args) == {x, w}
    assert isinstance(outputs[1], Contract) and set(outputs[1].args) == {dy, w}


@pytest.mark.parametrize(("transposed", "name"), BOTH)
def test_second_order_stores_no_product_of_windows(transposed: bool, name: str) -> None:
    y, inputs, point = declared(transposed, name)
    loss = sg.sum(sg.tanh(y))
    directions = [sg.input(f"v{i}", v.shape, dtype="float64") for i, v in enumerate(point.values())]
    slopes = sg.grad(loss, inputs)
    again = sg.grad(sum(sg.sum(g * d) for g, d in zip(slopes, directions)), inputs)
    forward = [sg.jvp(y, inputs, directions)]
    for outputs in (again, sg.hvp(loss, inputs, directions), forward):
        nodes = toposort(compiled(list(outputs)))
        most = max(4, y.ndim + (CONVOLUTIONS[name][3].get("groups", 1) > 1 if not transposed
                                else TRANSPOSED[name][3].get("groups", 1) > 1))  # fmt: skip
        large = [n for n in nodes if n.ndim > most and not isinstance(n, Reindex)]
        assert not large, large


def test_padding_before_is_padding_inside() -> None:
    x, w = sg.input("x", (2, 3, 5, 6)), sg.input("w", (4, 3, 3, 3))
    outside = sg.nn.conv2d(sg.pad(x, ((0, 0), (0, 0), (1, 1), (2, 2))), w)
    inside = sg.nn.conv2d(x, w, padding=(1, 2))
    assert compiled([outside])[0] is compiled([inside])[0]


@pytest.mark.parametrize("name", ["stride 2", "groups", "depthwise", "few positions", "1x1"])
def test_rewriting_is_exact(name: str) -> None:
    y, (x, w), _ = declared(False, name)
    for e in (y, *sg.grad(sg.sum(y * y), [x, w])):
        assert sg.equivalent(e, compiled([e])[0])


def test_rewriting_is_near_linear() -> None:
    def nodes(depth: int) -> int:
        h = sg.input("x", (2, 3, 8, 8))
        weights = [sg.input(f"w{i}", (3, 3, 3, 3)) for i in range(depth)]
        for w in weights:
            h = sg.tanh(sg.nn.conv2d(h, w, padding=1))
        outputs, log = rewrite.run(sg.grad(sg.sum(h), weights))
        return len(toposort(outputs)) + len(log)

    assert nodes(16) <= 2.2 * nodes(8)


def test_maps_of_views() -> None:
    """A map of a spread value reads the value itself, but still fills where it leaves the axis."""
    v = sg.input("v", (4,), dtype="float64")
    spread = sg.broadcast_to(v, (3, 4))
    value = np.arange(1.0, 5.0)
    for shift in (0, 1, -2):
        e = Reindex.of(spread, [(shift, ((0, 1),), 1), (0, ((1, 1),), 1)], (3, 4))
        (new,) = compiled([e])
        found, true = evaluate([new, e], {v: value})
        np.testing.assert_array_equal(found, true)


# -- layers ---------------------------------------------------------------------------------------
LAYERS = {
    "Conv1d": ((2, 4, 9), (4, 6, 3), {"stride": 2, "padding": 1, "groups": 2}),
    "Conv2d": ((2, 3, 7, 7), (3, 5, (3, 2)), {"stride": (2, 1), "dilation": 2, "padding": "valid"}),
    "ConvTranspose1d": ((2, 4, 5), (4, 6, 3), {"stride": 2, "output_padding": 1}),
    "ConvTranspose2d": ((2, 4, 5, 4), (4, 6, 3), {"stride": 2, "groups": 2, "dilation": 2}),
}


@with_torch
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_layer_equals_pytorch(name: str, bias: bool, target: str) -> None:
    shape, channels, options = LAYERS[name]
    layer = getattr(sg.nn, name)(*channels, bias=bias, name="conv", dtype="float64", **options)
    other = getattr(torch.nn, name)(*channels, bias=bias, dtype=torch.float64, **options)
    x = sg.input("x", shape, dtype="float64")
    f = sg.function([x], layer(x), target=target, seed=4)
    assert layer.weight.shape == tuple(other.weight.shape)
    with torch.no_grad():
        other.weight.copy_(torch.tensor(f.state["conv.weight"]))
        if bias:
            other.bias.copy_(torch.tensor(f.state["conv.bias"]))
    value = np.random.default_rng(0).normal(size=shape)
    close(f(value), other(torch.tensor(value)).detach().numpy(), name)


@with_torch
@pytest.mark.parametrize("name", LAYERS)
def test_first_weights_are_pytorchs_default(name: str) -> None:
    kind = getattr(sg.nn, name)
    options = {"groups": 4} if "2d" in name else {}
    layer, other = kind(16, 64, 3, **options), getattr(torch.nn, name)(16, 64, 3, **options)
    rng = np.random.default_rng(0)
    for mine, true in ((layer.weight, other.weight), (layer.bias, other.bias)):
        drawn = mine.init(mine.shape, rng)
        bound = float(true.abs().max().detach())
        assert 0.9 * bound < np.abs(drawn).max() < 1.1 * bound
        assert abs(drawn.std() / float(true.std().detach()) - 1) < 0.25
    fan = math.prod(layer.weight.shape[1:])
    assert np.abs(layer.weight.init(layer.weight.shape, rng)).max() <= 1 / math.sqrt(fan)


def test_layer_names_and_sharing() -> None:
    conv = sg.nn.Conv2d(3, 3, 3, padding=1, name="c")
    assert [p.name for p in conv.parameters()] == ["c.weight", "c.bias"]
    x = sg.input("x", (2, 3, 4, 4))
    y = conv(conv(x))
    assert sum(n.name == "c.weight" for n in toposort([y]) if n.kind == "parameter") == 1


@with_torch
@pytest.mark.parametrize("target", TARGETS)
def test_layers_of_other_kinds_take_images(target: str) -> None:
    net = sg.nn.Sequential(
        sg.nn.Conv2d(3, 8, 3, stride=2, name="conv", dtype="float64"),
        sg.nn.GroupNorm(4, 8, name="gn", dtype="float64"),
        sg.nn.PReLU(8, name="act", dtype="float64"),
        sg.nn.Dropout(0.0),
        sg.nn.LayerNorm((8, 3, 4), name="ln", dtype="float64"),
        sg.nn.Flatten(),
        sg.nn.Linear(96, 4, name="fc", dtype="float64"),
    )
    other = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2),
        torch.nn.GroupNorm(4, 8),
        torch.nn.PReLU(8),
        torch.nn.LayerNorm((8, 3, 4)),
        torch.nn.Flatten(),
        torch.nn.Linear(96, 4),
    ).double()
    x = sg.input("x", (sg.dim("n", max=6), 3, 8, 9), dtype="float64")
    loss = sg.mean(sg.square(net(x, training=True)))
    step = sg.train_step(loss, sg.optim.SGD(0.1), target=target, seed=3)
    with torch.no_grad():
        for p, tensor in zip(net.parameters(), other.parameters()):
            value = torch.tensor(step.state[p.name])
            tensor.copy_(value.T if value.ndim == 2 else value)
    value = np.random.default_rng(0).normal(size=(5, 3, 8, 9))
    true = other(torch.tensor(value)).square().mean()
    true.backward()
    close(step(value), true.detach().numpy())
    for p, tensor in zip(net.parameters(), other.parameters()):
        moved = (tensor.detach() - 0.1 * tensor.grad).numpy()
        close(step.state[p.name], moved.T if moved.ndim == 2 else moved, p.name)


@pytest.mark.parametrize("target", TARGETS)
def test_dropout_of_images(target: str) -> None:
    x = sg.input("x", (4, 3, 8, 8))
    drop = sg.nn.Dropout(0.25)
    y = drop(x, training=True)
    value, slope = sg.function([x], [y, sg.grad(sg.sum(y), x)], target=target)(
        np.ones((4, 3, 8, 8), np.float32)
    )
    np.testing.assert_allclose(value, slope)
    assert set(np.unique(value.round(4))) == {np.float32(0), np.float32(1.3333)}
    assert abs(value.mean() - 1) < 0.1


# -- errors ---------------------------------------------------------------------------------------
X = sg.input("image", (2, 4, 8, 8))
W = sg.input("kernel", (6, 4, 3, 3))
n = sg.dim("n", max=4)
ERRORS = {
    "channels": (
        lambda: sg.nn.conv2d(X, sg.input("w", (6, 3, 3, 3))),
        r"conv2d: the weight \(6, 3, 3, 3\) takes 3 channels, the image \(2, 4, 8, 8\) has 4 .*"
        r"input 'image', input 'w'",
    ),
    "groups": (
        lambda: sg.nn.conv2d(X, W, groups=3),
        r"conv2d: 3 groups do not divide the 4 channels of \(2, 4, 8, 8\) and the 6",
    ),
    "grouped weight": (
        lambda: sg.nn.conv2d(X, W, groups=2),
        r"conv2d: the weight .* takes 8 channels in 2 groups, the image \(2, 4, 8, 8\) has 4",
    ),
    "too large": (
        lambda: sg.nn.conv2d(X, sg.input("w", (6, 4, 5, 5)), dilation=3, padding=1),
        r"the kernel \(5, 5\) of dilation \(3, 3\) is larger than the image \(2, 4, 8, 8\) padded",
    ),
    "axes": (
        lambda: sg.nn.conv2d(sg.input("x", (4, 8, 8)), W),
        r"conv2d: takes images \(n, channels, h, w\), got \(4, 8, 8\)",
    ),
    "axes, 1-D": (lambda: sg.nn.conv1d(X, W), r"conv1d: takes images \(n, channels, length\)"),
    "weight's axes": (
        lambda: sg.nn.conv2d(X, sg.input("w", (6, 4, 3))),
        r"conv2d: takes a weight with 4 axes of fixed sizes, got \(6, 4, 3\)",
    ),
    "run-time height": (
        lambda: sg.nn.conv2d(sg.input("x", (2, 4, n, 8)), W),
        r"only the batch \(axis 0\) may have a run-time size, got \(2, 4, n, 8\)",
    ),
    "stride": (lambda: sg.nn.conv2d(X, W, stride=0), "stride must be an int or 2 ints from 1"),
    "three strides": (lambda: sg.nn.conv2d(X, W, stride=(1, 2, 3)), r"got \(1, 2, 3\)"),
    "padding": (lambda: sg.nn.conv2d(X, W, padding=-1), "padding must be .* from 0, got -1"),
    "padding's name": (lambda: sg.nn.conv2d(X, W, padding="full"), "got 'full'"),
    "same, strided": (
        lambda: sg.nn.conv2d(X, W, padding="same", stride=2),
        r'padding "same" needs stride 1, got \(2, 2\)',
    ),
    "bias": (
        lambda: sg.nn.conv2d(X, W, sg.input("b", (4,))),
        r"the bias \(4,\) does not fit the 6 channels of the result \(2, 6, 6, 6\)",
    ),
    "transposed channels": (
        lambda: sg.nn.conv_transpose2d(X, W),
        r"conv_transpose2d: the weight \(6, 4, 3, 3\) takes 6 channels, the image .* has 4",
    ),
    "output_padding": (
        lambda: sg.nn.conv_transpose2d(X, sg.input("w", (4, 2, 3, 3)), output_padding=1),
        r"output_padding \(1, 1\) must be smaller than the stride \(1, 1\) or the dilation",
    ),
    "nothing left": (
        lambda: sg.nn.conv_transpose2d(
            sg.input("x", (1, 1, 1, 1)), sg.input("w", (1, 1, 1, 1)), padding=1
        ),
        r"with padding \(1, 1\) gives a result of \(-1, -1\)",
    ),
    "layer": (
        lambda: sg.nn.Conv2d(3, 8, 3, name="stem")(X),
        r"conv2d 'stem': the weight \(8, 3, 3, 3\) takes 3 channels",
    ),
    "layer's groups": (
        lambda: sg.nn.Conv2d(3, 8, 3, groups=2),
        "conv2d: 2 groups do not divide 3 channels to read and 8 to write",
    ),
    "layer's kernel": (lambda: sg.nn.Conv2d(3, 8, 0), "kernel_size must be .* from 1, got 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_operation_shapes_and_line(name: str) -> None:
    make, message = ERRORS[name]
    with pytest.raises(ShapeError, match=message) as caught:
        make()
    assert "test_convolution.py:" in str(caught.value)


def test_integers_are_no_images() -> None:
    with pytest.raises(DTypeError, match="conv2d: takes float32 or float64, got int32"):
        sg.nn.conv2d(sg.input("x", (1, 1, 3, 3), dtype="int32"), W)
