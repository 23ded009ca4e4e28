"""LeNet-5 on MNIST: two convolutions, two average pools, three layers, tanh throughout.

Shows: convolution, subsampling and full connection trained natively (rows C2, C3, D2), by momentum
with a decaying rate (rows E2, E5), monitored on validation data (row F12).

    python examples/mnist_lenet.py            # the whole set; --quick: 2000 images

Twelve epochs take ten seconds on one core and end at a test accuracy of 0.9902.
"""

from classify import fit, inputs, steps
from common import accuracy, options
from data.images import images

import symgrad as sg

batch_size = 32

x, y = inputs()
model = sg.nn.models.lenet()
logits = model(x)
loss = sg.losses.cross_entropy(logits, y)


def main() -> None:
    quick = options(__doc__).quick
    parts = images("mnist", quick)
    epochs = 2 if quick else 12
    rate = sg.schedules.cosine(0.05, steps=steps(parts, batch_size, epochs))
    optimizer = sg.optim.SGD(rate, momentum=0.9, weight_decay=1e-4)
    result = fit(loss, accuracy(logits, y), optimizer, parts, batch_size, epochs)
    print(f"test accuracy {result['test']:.4f}")


if __name__ == "__main__":
    main()
