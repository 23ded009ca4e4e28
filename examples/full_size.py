"""AlexNet, VGG-16 and 19, GoogLeNet and ResNet-18 at full size: counts, and native training steps.

Images of 224x224, 1000 classes, float32, two images a step, momentum. The parameters are counted
before anything is compiled; then four steps on the same two random images, so that the loss falls.

Shows: AlexNet (row D3), VGG (row D4), GoogLeNet with its auxiliary heads (row D5), ResNet-18 (row
D6), all declared and trained at full size; peak memory known before a step runs (row A10).

    python examples/full_size.py vgg16      # alexnet, vgg16, vgg19, googlenet, resnet18
    python examples/full_size.py            # all; --quick: counts, and steps of ResNet-18 on 64x64

| network   |  parameters | Gflop a step | compile | a step | peak memory |
|-----------|-------------|--------------|---------|--------|-------------|
| AlexNet   |  61,100,840 |          8.6 |   5.0 s | 0.12 s |      504 MB |
| VGG-16    | 138,357,544 |        186.1 |  15.9 s | 2.65 s |     1288 MB |
| VGG-19    | 143,667,240 |        236.1 |  13.6 s | 2.45 s |     1362 MB |
| GoogLeNet |  13,004,888 |         18.1 |  11.8 s | 0.21 s |      184 MB |
| ResNet-18 |  11,689,512 |         23.6 |   4.4 s | 0.27 s |      178 MB |

(One core of an AMD EPYC that was shared; nothing cached. More than half of VGG's compile time draws
its parameters.)
"""

import time

import numpy as np
from classify import size
from common import options
from fashion_networks import cross_entropy

import symgrad as sg

NAMES = ("alexnet", "vgg16", "vgg19", "googlenet", "resnet18")
PUBLISHED = (61_100_840, 138_357_544, 143_667_240, 13_004_888, 11_689_512)


def train(name: str, side: int, batch: int = 2, steps: int = 4) -> float:
    """The last loss of a few training steps on one batch."""
    model = getattr(sg.nn.models, name)()
    x, y = sg.input("x", (batch, 3, side, side)), sg.input("y", (batch,), dtype="int32")
    loss = cross_entropy(model(x, training=True), y)
    start = time.perf_counter()
    step = sg.train_step(loss, sg.optim.SGD(1e-3, momentum=0.9), seed=0)
    print(f"{name}: compiled in {time.perf_counter() - start:.1f} s (parameters drawn, too)")
    print("\n".join(line for line in step.report().splitlines() if told(line)))
    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch, 3, side, side), dtype=np.float32)
    labels = rng.integers(0, 1000, batch).astype(np.int32)
    for k in range(steps):
        start = time.perf_counter()
        value = step(images, labels)
        print(f"step {k + 1}  loss {value:.4f}  {time.perf_counter() - start:.2f} s", flush=True)
    return float(value)


def told(line: str) -> bool:
    """Whether a line of a report tells of arithmetic or memory."""
    return line.endswith("flop a call") or line.startswith("peak")


def main() -> None:
    chosen = options(__doc__, NAMES)
    for name, published in zip(NAMES, PUBLISHED):
        count = size(getattr(sg.nn.models, name)())
        print(f"{name:9s} {count:11,} parameters")
        assert count == published
    for name in ["resnet18"] if chosen.quick else chosen.names:
        last = train(name, side=64 if chosen.quick else 224)
    print(f"last loss {last:.4f}")


if __name__ == "__main__":
    main()
