"""AlexNet, VGG, GoogLeNet and ResNet: published sizes (rows D3 to D6), and PyTorch's numbers.

Parameters are counted without compiling. At reduced width the same classes give what PyTorch gives
in float64, with weights that are copied by torchvision's names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symgrad as sg
from symgrad.errors import InputError, ShapeError
from symgrad.nn import models

PUBLISHED: dict[str, tuple[Callable[[], Any], int]] = {
    "alexnet": (models.alexnet, 61_100_840),
    "vgg16": (models.vgg16, 138_357_544),
    "vgg16, batch norm": (lambda: models.vgg16(batch_norm=True), 138_365_992),
    "vgg19": (models.vgg19, 143_667_240),
    "vgg19, batch norm": (lambda: models.vgg19(batch_norm=True), 143_678_248),
    "googlenet": (models.googlenet, 13_004_888),
    "googlenet, no heads": (lambda: models.googlenet(heads=False), 6_624_904),
    "resnet18": (models.resnet18, 11_689_512),
    "resnet20": (models.resnet20, 272_474),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_as_many_as_published(name: str) -> None:
    make, count = PUBLISHED[name]
    assert sum(p.size for p in make().parameters()) == count


@pytest.mark.parametrize("name", ["alexnet", "vgg16", "vgg19", "googlenet", "resnet18"])
def test_full_size_images_give_a_thousand_logits(name: str) -> None:
    net = getattr(models, name)()
    x = sg.input("x", (sg.dim("n", max=2), 3, 224, 224))
    assert net(x).shape == (x.shape[0], 1000)
    graph = net(x, training=True)
    for logits in graph if isinstance(graph, tuple) else (graph,):
        assert logits.shape == (x.shape[0], 1000)


@pytest.mark.parametrize("side", [28, 32])
@pytest.mark.parametrize("name", ["alexnet", "vgg", "googlenet", "resnet"])
def test_small_networks_take_small_images(name: str, side: int) -> None:
    sizes = {"size": side} if name == "vgg" else {}
    net = getattr(models, f"{name}_small")(classes=7, channels=1, **sizes)
    assert net(sg.input("x", (5, 1, side, side))).shape == (5, 7)


def test_parameters_come_from_the_line_that_calls_the_network() -> None:
    net = models.lenet()
    net(sg.input("x", (1, 1, 28, 28)))
    assert all(p.where.file == __file__ for p in net.parameters())


def test_a_head_that_is_not_used_is_in_no_graph() -> None:
    net = models.googlenet_small(divisor=8)
    used = sg.function([x := sg.input("x", (1, 1, 28, 28))], net(x), target="interpret")
    assert not [name for name in used.state if name.startswith("aux")]
    alone = models.googlenet_small(divisor=8, heads=False)
    assert isinstance(alone(x, training=True), sg.Expr)


def test_networks_of_other_sizes_are_errors() -> None:
    with pytest.raises(InputError, match=r"alex_net: takes five widths, got \(4, 5\)"):
        models.AlexNet(widths=(4, 5))
    with pytest.raises(InputError, match='takes a stem "large" or "small"'):
        models.ResNet((1, 1), (8, 8), stem="none")
    with pytest.raises(InputError, match="as many widths as blocks"):
        models.ResNet((1, 1), (8, 8, 8))
    with pytest.raises(ShapeError, match="classes must be a positive int, got 0"):
        models.vgg16(classes=0)
    with pytest.raises(ShapeError, match=r"classifier|the kernel .* is larger than the image"):
        models.alexnet()(sg.input("x", (1, 3, 20, 20)))


# -- against PyTorch -----------------------------------------------------------------------------

WIDTHS, STAGES = (5, 6, 7, 6, 4), ((4,), (6, 5), (8, 8))
CASES: dict[str, tuple[Callable[[], Any], Callable[[Any], Any], int]] = {
    "alexnet": (
        lambda: models.AlexNet(9, 3, WIDTHS, 16, side=6, dropout=0.0, dtype="float64"),
        lambda t: t.AlexNet(WIDTHS, 16, 9, 6),
        95,
    ),
    "vgg": (
        lambda: models.VGG(STAGES, 9, 3, 16, side=2, dropout=0.0, dtype="float64"),
        lambda t: t.VGG(STAGES, 16, 9, 2, False),
        33,
    ),
    "vgg, batch norm": (
        lambda: models.VGG(STAGES, 9, 3, 16, 3, batch_norm=True, dropout=0.0, dtype="float64"),
        lambda t: t.VGG(STAGES, 16, 9, 3, True),
        32,
    ),
    "resnet": (
        lambda: models.ResNet((2, 1, 2), (6, 9, 8), 9, dtype="float64"),
        lambda t: t.ResNet((2, 1, 2), (6, 9, 8), 9),
        37,
    ),
    "resnet, small": (
        lambda: models.ResNet((1, 2), (6, 9), 9, stem="small", dtype="float64"),
        lambda t: t.ResNet((1, 2), (6, 9), 9, "small"),
        13,
    ),
    "googlenet": (
        lambda: models.GoogLeNet(
            9, 3, divisor=8, hidden=16, dropout=0.0, head_dropout=0.0, dtype="float64"
        ),
        lambda t: t.GoogLeNet(8, 9, 16),
        64,
    ),
}


@pytest.fixture(scope="module")
def theirs() -> Any:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    import torch_models

    return torch_models


def networks(name: str, theirs: Any) -> tuple[Any, Any, dict[str, np.ndarray]]:
    """Ours, PyTorch's with weights and statistics drawn at random, and those by name."""
    import torch

    make, other, _ = CASES[name]
    torch.manual_seed(3)
    reference = other(theirs).double()
    values = {}
    for key, tensor in reference.state_dict().items():
        if not tensor.is_floating_point():
            continue  # the number of batches seen, which only a momentum of None uses
        if key.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
        elif key.endswith("running_mean"):
            tensor.normal_(0.0, 0.2)
        elif tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5)
        values[key] = (tensor.T if tensor.ndim == 2 else tensor).numpy().copy()
    return make(), reference, values


def data(name: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    side = CASES[name][2]
    return rng.normal(size=(3, 3, side, side)), rng.integers(0, 9, 3).astype(np.int32)


def joint(loss: Callable[..., Any], outputs: Any, labels: Any) -> Any:
    """Cross-entropy, with those of auxiliary heads."""
    if not isinstance(outputs, tuple):
        return loss(outputs, labels)
    logits, aux2, aux1 = outputs
    return loss(logits, labels) + 0.3 * (loss(aux1, labels) + loss(aux2, labels))


@pytest.mark.parametrize("target", ["interpret", "native"])
@pytest.mark.parametrize("name", CASES)
def test_logits_equal_pytorchs(name: str, target: str, theirs: Any) -> None:
    import torch

    net, reference, values = networks(name, theirs)
    images, _ = data(name)
    x = sg.input("x", (sg.dim("n", max=4), *images.shape[1:]), dtype="float64")
    f = sg.function([x], net(x), target=target)
    for key in f.state:
        f.state[key] = values[key]
    used = {key for key in values if not key.startswith("aux")}
    assert set(f.state) == used, "names are torchvision's"
    with torch.no_grad():
        true = reference.eval()(torch.tensor(images)).numpy()
    np.testing.assert_allclose(f(images), true, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("target", ["interpret", "native"])
@pytest.mark.parametrize("name", CASES)
def test_gradients_equal_pytorchs(name: str, target: str, theirs: Any) -> None:
    import torch

    net, reference, values = networks(name, theirs)
    images, labels = data(name)
    x = sg.input("x", (sg.dim("n", max=4), *images.shape[1:]), dtype="float64")
    y = sg.input("y", (x.shape[0],), dtype="int32")
    loss = joint(sg.losses.cross_entropy, net(x, training=True), y)
    weights = {p.name: p for p in net.parameters()}
    outputs = {"loss": loss, **sg.grad(loss, weights)}
    f = sg.function([x, y], outputs, updates=sg.nn.updates_of(loss), target=target)
    for key in f.state:
        f.state[key] = values[key]
    found = f(images, labels)
    true = joint(
        torch.nn.functional.cross_entropy,
        reference.train()(torch.tensor(images)),
        torch.tensor(labels).long(),
    )
    true.backward()
    assert found["loss"] == pytest.approx(float(true.detach()), rel=1e-11)
    for key, tensor in reference.named_parameters():
        slope = (tensor.grad.T if tensor.ndim == 2 else tensor.grad).numpy()
        scale = max(1.0, float(np.abs(slope).max()))
        np.testing.assert_allclose(found[key], slope, rtol=0, atol=1e-10 * scale, err_msg=key)
    for key, tensor in reference.named_buffers():
        if tensor.is_floating_point():
            np.testing.assert_allclose(f.state[key], tensor.numpy(), rtol=1e-11, err_msg=key)
