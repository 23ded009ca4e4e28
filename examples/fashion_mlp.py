"""A multilayer perceptron 784-256-128-100-10 on Fashion-MNIST, published at 0.8833.

https://github.com/zalandoresearch/fashion-mnist, table of benchmarks.

Shows: full connection, ReLU, a multilayer perceptron on real images (rows C1, C4, D1).

    python examples/fashion_mlp.py            # the whole set; --quick: 2000 images

Fifteen epochs take seven seconds on one core and end at a test accuracy of 0.8968.
"""

from classify import fit, inputs, steps
from common import accuracy, mlp, options
from data.images import images

import symgrad as sg

batch_size = 64

x, y = inputs()
network = mlp(784, 256, 128, 100, 10)
logits = network(sg.nn.Flatten()(x))
loss = sg.losses.cross_entropy(logits, y)


def main() -> None:
    quick = options(__doc__).quick
    parts = images("fashion-mnist", quick)
    epochs = 2 if quick else 15
    rate = sg.schedules.cosine(1e-3, steps=steps(parts, batch_size, epochs))
    result = fit(loss, accuracy(logits, y), sg.optim.AdamW(rate), parts, batch_size, epochs)
    print(f"test accuracy {result['test']:.4f}")


if __name__ == "__main__":
    main()
