"""The networks that are timed: sizes, data and first weights, the same for every contender.

In: a name. Out: a `Workload` and its arrays, from a fixed seed.

>>> WORKLOADS["mlp_mnist"].sizes
(784, 256, 128, 10)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Workload:
    """A network of fully connected layers and how it is trained.

    `loss` is "cross_entropy" (int labels) or "mse" (targets as wide as the last layer); `aim` is
    the time per step in microseconds that the project aims at on its reference machine.
    """

    name: str
    sizes: tuple[int, ...]
    activation: str
    batch: int
    optimizer: str
    loss: str = "cross_entropy"
    lr: float = 1e-3
    aim: float | None = None

    def flops(self) -> int:
        """Floating-point operations of the products of one step: forward and both gradients."""
        layers = list(zip(self.sizes, self.sizes[1:]))
        forward = sum(2 * self.batch * i * o for i, o in layers)
        first = 2 * self.batch * layers[0][0] * layers[0][1]  # its input needs no gradient
        return 3 * forward - first

    def arrays(self) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """Inputs, labels or targets, and weights and biases layer by layer."""
        rng = np.random.default_rng(7)
        x = rng.standard_normal((self.batch, self.sizes[0]), dtype=np.float32)
        if self.loss == "cross_entropy":
            y = rng.integers(0, self.sizes[-1], self.batch).astype(np.int32)
        else:
            y = rng.standard_normal((self.batch, self.sizes[-1]), dtype=np.float32)
        weights = []
        for i, o in zip(self.sizes, self.sizes[1:]):
            weights.append((rng.standard_normal((i, o)) / np.sqrt(i)).astype(np.float32))
            weights.append(np.zeros(o, np.float32))
        return x, y, weights


GPT_BLOCK = (384, 128, 512, 128)  # the four products of a block of width 128
WORKLOADS = {
    w.name: w
    for w in (
        Workload("mlp_xs", (2, 16, 2), "tanh", 32, "sgd", lr=0.1, aim=0.6),
        Workload("mlp_tab", (30, 64, 64, 2), "relu", 32, "adam", aim=14.5),
        Workload("mlp_mnist", (784, 256, 128, 10), "relu", 64, "adam", aim=690.0),
        Workload("mlp_wide", (1024, 2048, 2048, 1024), "gelu", 256, "sgd", "mse", 0.1, 114e3),
        Workload("gpt_products", (128, *GPT_BLOCK * 4, 65), "none", 1024, "sgd", lr=0.1),
    )
}
