"""Keras' "Simple MNIST convnet" with its settings: 34,826 parameters, published at 0.9922.

https://keras.io/examples/vision/mnist_convnet: pixels from 0 to 1, 54,000 images to train on and
6,000 to validate, batches of 128, 15 epochs, Adam at 1e-3, Glorot's initialisation, dropout of a
half before the only dense layer.

Shows: convolution, max pooling, dropout and inference without it (rows C2, C3, C6, E3, E6).

    python examples/mnist_convnet.py          # the whole set; --quick: 2000 images

The full run takes two minutes on one core and ends at a test accuracy of 0.9921.
"""

from typing import Any

from classify import fit, inputs, size
from common import accuracy, options
from data.images import images

import symgrad as sg

glorot: dict[str, Any] = {"init": sg.init.xavier_uniform(), "bias_init": sg.init.zeros()}

x, y = inputs()
model = sg.nn.Sequential(
    sg.nn.Conv2d(1, 32, 3, name="conv1", **glorot),
    sg.nn.relu,
    sg.nn.MaxPool2d(2),
    sg.nn.Conv2d(32, 64, 3, name="conv2", **glorot),
    sg.nn.relu,
    sg.nn.MaxPool2d(2),
    sg.nn.Flatten(),
    sg.nn.Dropout(0.5),
    sg.nn.Linear(64 * 5 * 5, 10, name="fc", **glorot),
)
loss = sg.losses.cross_entropy(model(x, training=True), y)


def main() -> None:
    quick = options(__doc__).quick
    parts = images("mnist", quick, held_out=6000, scale="unit")
    epochs = 2 if quick else 15
    print(f"{size(model):,} parameters")
    optimizer = sg.optim.Adam(1e-3, eps=1e-7)
    result = fit(loss, accuracy(model(x), y), optimizer, parts, 128, epochs)
    print(f"test accuracy {result['test']:.4f}")


if __name__ == "__main__":
    main()
