"""The networks of `sg.nn.models`: sizes, and one training step against the same in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symgrad as sg
from symgrad.errors import ShapeError
from symgrad.nn import models

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
tn = torch.nn

TARGETS = ("interpret", "native")


def torch_lenet() -> Any:
    return tn.Sequential(
        tn.Conv2d(1, 6, 5, padding=2), tn.Tanh(), tn.AvgPool2d(2),
        tn.Conv2d(6, 16, 5), tn.Tanh(), tn.AvgPool2d(2), tn.Flatten(),
        tn.Linear(400, 120), tn.Tanh(), tn.Linear(120, 84), tn.Tanh(), tn.Linear(84, 10),
    )  # fmt: skip


def torch_vgg() -> Any:
    layers: list[Any] = []
    channels = 3
    for width in (32, 64, 128):
        for _ in range(2):
            layers += [tn.Conv2d(channels, width, 3, padding=1), tn.BatchNorm2d(width), tn.ReLU()]
            channels = width
        layers.append(tn.MaxPool2d(2))
    return tn.Sequential(*layers, tn.Flatten(), tn.Linear(2048, 10))


class TorchBlock(tn.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = tn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = tn.BatchNorm2d(width)
        self.conv2 = tn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = tn.BatchNorm2d(width)
        self.short = tn.Sequential()
        if stride != 1:
            self.short.append(tn.Conv2d(channels, width, 1, stride, bias=False))
            self.short.append(tn.BatchNorm2d(width))

    def forward(self, x: Any) -> Any:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + self.short(x)).relu()


def torch_resnet(blocks: int) -> Any:
    layers: list[Any] = [tn.Conv2d(3, 16, 3, padding=1, bias=False), tn.BatchNorm2d(16), tn.ReLU()]
    channels = 16
    for stage, width in enumerate((16, 32, 64)):
        for block in range(blocks):
            layers.append(TorchBlock(channels, width, 2 if stage and not block else 1))
            channels = width
    return tn.Sequential(*layers, tn.AdaptiveAvgPool2d(1), tn.Flatten(), tn.Linear(64, 10))


NETWORKS: dict[str, tuple[Callable[[], Any], Callable[[], Any], tuple[int, ...], int]] = {
    "lenet": (lambda: models.lenet(dtype="float64"), torch_lenet, (1, 28, 28), 61_706),
    "vgg_small": (
        lambda: models.vgg_small(dropout=0, dtype="float64"), torch_vgg, (3, 32, 32), 308_394
    ),
    "resnet20": (
        lambda: models.resnet20(dtype="float64"), lambda: torch_resnet(3), (3, 32, 32), 272_474
    ),
    "resnet_small": (
        lambda: models.resnet_small(1, dtype="float64"), lambda: torch_resnet(1),
        (3, 12, 12), 78_042,
    ),
}  # fmt: skip


def copied(ours: list[Any], theirs: Any, state: Any) -> None:
    """PyTorch's parameters become ours: both in the order of the layers."""
    with torch.no_grad():
        for name, tensor in matched(ours, theirs):
            value = torch.tensor(state[name])
            tensor.copy_(value.T if value.ndim == 2 else value)


def matched(ours: list[Any], theirs: Any) -> list[tuple[str, Any]]:
    """Pairs (name of our parameter, PyTorch's): those of shortcuts come last in a block of both."""
    tensors = list(theirs.parameters())
    assert len(ours) == len(tensors)
    left = list(tensors)
    pairs = []
    for p in ours:
        shape = tuple(p.shape[::-1]) if len(p.shape) == 2 else tuple(p.shape)
        tensor = next(t for t in left if tuple(t.shape) == shape)
        left = [t for t in left if t is not tensor]
        pairs.append((p.name, tensor))
    return pairs


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", NETWORKS)
def test_training_equals_pytorch(name: str, target: str) -> None:
    make, other, shape, count = NETWORKS[name]
    net, theirs = make(), other().double()
    assert sum(p.size for p in net.parameters()) == count
    x = sg.input("x", (sg.dim("n", max=4), *shape), dtype="float64")
    y = sg.input("y", (x.shape[0],), dtype="int32")
    loss = sg.losses.cross_entropy(net(x, training=True), y)
    step = sg.train_step(loss, sg.optim.SGD(0.05, momentum=0.9), target=target, seed=2)
    infer = sg.function([x], net(x), state=step.state, target=target)
    copied(net.parameters(), theirs, step.state)
    optimizer = torch.optim.SGD(theirs.parameters(), 0.05, momentum=0.9)
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(3, *shape)), rng.integers(0, 10, 3).astype(np.int32)
    for _ in range(2):
        theirs.train()
        optimizer.zero_grad()
        true = tn.functional.cross_entropy(
            theirs(torch.tensor(images)), torch.tensor(labels).long()
        )
        true.backward()
        optimizer.step()
        assert step(images, labels) == pytest.approx(float(true.detach()), rel=1e-9)
    for key, tensor in matched(net.parameters(), theirs):
        value = tensor.detach().numpy()
        mine = np.asarray(step.state[key])
        np.testing.assert_allclose(
            mine.T if mine.ndim == 2 else mine, value, rtol=1e-7, atol=1e-9, err_msg=key
        )
    theirs.eval()
    logits = theirs(torch.tensor(images)).detach().numpy()
    np.testing.assert_allclose(infer(images), logits, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("target", TARGETS)
def test_gpt_learns_and_sees_no_future(target: str) -> None:
    net = models.gpt(vocabulary=11, tokens=8, width=16, heads=2, blocks=2)
    n = sg.dim("n", max=4)
    x, y = sg.input("x", (n, 8), dtype="int32"), sg.input("y", (n, 8), dtype="int32")
    logits = net(x, training=True)
    assert logits.shape == (n, 8, 11)
    loss = sg.losses.cross_entropy(sg.reshape(logits, (-1, 11)), sg.reshape(y, -1))
    step = sg.train_step(loss, sg.optim.Adam(1e-2), target=target, seed=0)
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 11, (4, 9)).astype(np.int32)
    losses = [step(tokens[:, :-1], tokens[:, 1:]) for _ in range(40)]
    assert losses[0] == pytest.approx(np.log(11), abs=0.2)
    assert losses[-1] < 0.5 * losses[0]
    see = sg.function([x], net(x), state=step.state, target=target)
    changed = tokens[:, :-1].copy()
    changed[:, 5:] = (changed[:, 5:] + 1) % 11
    before, after = see(tokens[:, :-1]), see(changed)
    np.testing.assert_allclose(before[:, :5], after[:, :5], rtol=1e-5, atol=1e-6)
    assert np.abs(before[:, 5:] - after[:, 5:]).max() > 1e-3


def test_gpt_of_the_benchmark() -> None:
    net = models.gpt()
    assert sum(p.size for p in net.parameters()) == 818_241
    assert net(sg.input("x", (2, 64), dtype="int32")).shape == (2, 64, 65)
    assert net(sg.input("x", (2, 10), dtype="int32")).shape == (2, 10, 65)
    with pytest.raises(ShapeError, match=r"takes tokens \(n, t\) with t up to 64, got \(2, 65\)"):
        net(sg.input("x", (2, 65), dtype="int32"))
