"""AlexNet, VGG, ResNet and GoogLeNet in PyTorch, with torchvision's names, at any width.

In: widths. Out: a `torch.nn.Module` whose `state_dict` has the keys that torchvision's has.
(torchvision itself is not needed: these are the forms its documentation and papers describe.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


class AlexNet(nn.Module):
    def __init__(self, widths: Sequence[int], hidden: int, classes: int, side: int) -> None:
        super().__init__()
        a, b, c, d, e = widths
        self.features = nn.Sequential(
            nn.Conv2d(3, a, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(a, b, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(b, c, 3, padding=1), nn.ReLU(),
            nn.Conv2d(c, d, 3, padding=1), nn.ReLU(),
            nn.Conv2d(d, e, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d(side)
        self.classifier = nn.Sequential(
            nn.Dropout(0.0), nn.Linear(e * side * side, hidden), nn.ReLU(),
            nn.Dropout(0.0), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, classes),
        )  # fmt: skip

    def forward(self, x: Any) -> Any:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class VGG(nn.Module):
    def __init__(
        self, stages: Sequence[Sequence[int]], hidden: int, classes: int, side: int, norm: bool
    ) -> None:
        super().__init__()
        layers: list[Any] = []
        channels = 3
        for widths in stages:
            for width in widths:
                layers.append(nn.Conv2d(channels, width, 3, padding=1))
                layers += [nn.BatchNorm2d(width), nn.ReLU()] if norm else [nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(side)
        self.classifier = nn.Sequential(
            nn.Linear(channels * side * side, hidden), nn.ReLU(), nn.Dropout(0.0),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.0), nn.Linear(hidden, classes),
        )  # fmt: skip

    def forward(self, x: Any) -> Any:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class Basic(nn.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: Any = None
        if stride != 1 or channels != width:
            project = nn.Conv2d(channels, width, 1, stride, bias=False)
            self.downsample = nn.Sequential(project, nn.BatchNorm2d(width))

    def forward(self, x: Any) -> Any:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(
        self, blocks: Sequence[int], widths: Sequence[int], classes: int, stem: str = "large"
    ) -> None:
        super().__init__()
        shape = (7, 2, 3) if stem == "large" else (3, 1, 1)
        self.conv1 = nn.Conv2d(3, widths[0], *shape, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.maxpool = nn.MaxPool2d(3, 2, 1) if stem == "large" else nn.Identity()
        channels = widths[0]
        self.stages = []
        for i, (count, width) in enumerate(zip(blocks, widths)):
            layers = []
            for k in range(count):
                layers.append(Basic(channels, width, 2 if i and not k else 1))
                channels = width
            self.stages.append(f"layer{i + 1}")
            setattr(self, self.stages[-1], nn.Sequential(*layers))
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Any) -> Any:
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        for stage in self.stages:
            x = getattr(self, stage)(x)
        return self.fc(x.mean((2, 3)))


class BasicConv2d(nn.Module):
    def __init__(self, channels: int, width: int, **sizes: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, bias=False, **sizes)
        self.bn = nn.BatchNorm2d(width, eps=0.001)

    def forward(self, x: Any) -> Any:
        return F.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    def __init__(self, channels: int, *widths: int) -> None:
        super().__init__()
        a, b, c, d, e, f = widths
        one, three = {"kernel_size": 1}, {"kernel_size": 3, "padding": 1}
        self.branch1 = BasicConv2d(channels, a, **one)
        self.branch2 = nn.Sequential(BasicConv2d(channels, b, **one), BasicConv2d(b, c, **three))
        self.branch3 = nn.Sequential(BasicConv2d(channels, d, **one), BasicConv2d(d, e, **three))
        pool = nn.MaxPool2d(3, 1, 1, ceil_mode=True)
        self.branch4 = nn.Sequential(pool, BasicConv2d(channels, f, **one))

    def forward(self, x: Any) -> Any:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class Head(nn.Module):
    def __init__(self, channels: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.conv = BasicConv2d(channels, 128, kernel_size=1)
        self.fc1, self.fc2 = nn.Linear(2048, hidden), nn.Linear(hidden, classes)

    def forward(self, x: Any) -> Any:
        x = torch.flatten(self.conv(F.adaptive_avg_pool2d(x, (4, 4))), 1)
        return self.fc2(F.relu(self.fc1(x)))


class GoogLeNet(nn.Module):
    """Channels divided by `d`; gives (logits, aux2, aux1) while training, as torchvision's does."""

    def __init__(self, d: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.conv1 = BasicConv2d(3, 64 // d, kernel_size=7, stride=2, padding=3)
        self.maxpool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = BasicConv2d(64 // d, 64 // d, kernel_size=1)
        self.conv3 = BasicConv2d(64 // d, 192 // d, kernel_size=3, padding=1)

        def inception(*widths: int) -> Inception:
            return Inception(*(w // d for w in widths))

        self.inception3a = inception(192, 64, 96, 128, 16, 32, 32)
        self.inception3b = inception(256, 128, 128, 192, 32, 96, 64)
        self.inception4a = inception(480, 192, 96, 208, 16, 48, 64)
        self.inception4b = inception(512, 160, 112, 224, 24, 64, 64)
        self.inception4c = inception(512, 128, 128, 256, 24, 64, 64)
        self.inception4d = inception(512, 112, 144, 288, 32, 64, 64)
        self.inception4e = inception(528, 256, 160, 320, 32, 128, 128)
        self.maxpool4 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.inception5a = inception(832, 256, 160, 320, 32, 128, 128)
        self.inception5b = inception(832, 384, 192, 384, 48, 128, 128)
        self.aux1, self.aux2 = Head(512 // d, classes, hidden), Head(528 // d, classes, hidden)
        self.fc = nn.Linear(1024 // d, classes)

    def forward(self, x: Any) -> Any:
        x = self.conv3(self.conv2(self.maxpool(self.conv1(x))))
        x = self.maxpool(self.inception3b(self.inception3a(self.maxpool(x))))
        x = self.inception4a(x)
        aux1 = self.aux1(x) if self.training else None
        x = self.inception4d(self.inception4c(self.inception4b(x)))
        aux2 = self.aux2(x) if self.training else None
        x = self.inception5b(self.inception5a(self.maxpool4(self.inception4e(x))))
        logits = self.fc(x.mean((2, 3)))
        return (logits, aux2, aux1) if self.training else logits
