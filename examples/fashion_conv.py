"""Two convolutions with batch norm and max pooling on Fashion-MNIST, published at 0.934.

https://github.com/zalandoresearch/fashion-mnist, "2 Conv+pooling+BN" in its table of benchmarks.

Shows: convolution, batch norm with running statistics at test, max pooling, dropout (rows C2, C3,
C6, C7), one graph for training and one for inference over the same parameters (row A10).

    python examples/fashion_conv.py           # the whole set; --quick: 2000 images

Fifteen epochs take five minutes on one core and end at a test accuracy of 0.9242.
"""

from classify import fit, inputs, size, steps
from common import accuracy, options
from data.images import images

import symgrad as sg

batch_size = 128

x, y = inputs()
model = sg.nn.Sequential(
    sg.nn.Conv2d(1, 32, 5, padding=2, bias=False, name="conv1"),
    sg.nn.BatchNorm(32, name="norm1"),
    sg.nn.relu,
    sg.nn.MaxPool2d(2),
    sg.nn.Conv2d(32, 64, 5, padding=2, bias=False, name="conv2"),
    sg.nn.BatchNorm(64, name="norm2"),
    sg.nn.relu,
    sg.nn.MaxPool2d(2),
    sg.nn.Flatten(),
    sg.nn.Dropout(0.4),
    sg.nn.Linear(64 * 7 * 7, 256, name="fc1"),
    sg.nn.relu,
    sg.nn.Dropout(0.5),
    sg.nn.Linear(256, 10, name="fc2"),
)
loss = sg.losses.cross_entropy(model(x, training=True), y)


def main() -> None:
    quick = options(__doc__).quick
    parts = images("fashion-mnist", quick)
    epochs = 2 if quick else 15
    print(f"{size(model):,} parameters")
    optimizer = sg.optim.AdamW(sg.schedules.cosine(2e-3, steps=steps(parts, batch_size, epochs)))
    result = fit(loss, accuracy(model(x), y), optimizer, parts, batch_size, epochs)
    print(f"test accuracy {result['test']:.4f}")


if __name__ == "__main__":
    main()
