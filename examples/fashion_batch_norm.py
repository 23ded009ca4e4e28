"""Batch norm against none: the same network of six convolutions at three learning rates.

Six 3x3 convolutions and three pools on 20,000 images of Fashion-MNIST, momentum 0.9. Without batch
norm the network learns slowly at the lowest rate and nothing at the others; with it every rate
works. At test the normalisation uses running statistics, kept as states of the training step and
shared through `state=` with the function that predicts; a small batch's own are a poorer choice.

Shows: batch normalisation, running statistics at test (row C7), one graph to train and one to
predict (row A10), curves of training and validation (row F12).

    python examples/fashion_batch_norm.py --plot curves.png      # --quick: 2000 images, one rate

Losses of four epochs and the accuracy on the test set of a full run:

| rate  | without batch norm               | with batch norm                  |
|-------|----------------------------------|----------------------------------|
| 0.005 | 2.035 0.643 0.490 0.428 / 0.8370 | 0.517 0.325 0.260 0.218 / 0.8792 |
| 0.05  | 2.288 2.304 2.304 2.305 / 0.1000 | 0.608 0.364 0.299 0.256 / 0.8834 |
| 0.2   | 2.311 2.310 2.311 2.310 / 0.1000 | 0.905 0.532 0.459 0.403 / 0.8482 |
"""

from typing import Any

from classify import fit, inputs
from common import accuracy, options, picture
from data.images import images

import symgrad as sg
from symgrad.train.score import Scorer

x, y = inputs()


def network(norm: bool) -> sg.nn.Sequential:
    """Two convolutions of each width, a pool after each pair; batch norm in place of biases."""
    layers: list[Any] = []
    channels = 1
    for width in (16, 32, 64):
        for _ in range(2):
            layers.append(sg.nn.Conv2d(channels, width, 3, padding=1, bias=not norm))
            layers += [sg.nn.BatchNorm(width), sg.nn.relu] if norm else [sg.nn.relu]
            channels = width
        layers.append(sg.nn.MaxPool2d(2))
    return sg.nn.Sequential(*layers, sg.nn.Flatten(), sg.nn.Linear(64 * 3 * 3, 10))


def main() -> None:
    chosen = options(__doc__)
    parts = images("fashion-mnist", chosen.quick)
    parts["train"] = {name: values[:20000] for name, values in parts["train"].items()}
    epochs = 1 if chosen.quick else 4
    curves: dict[str, Any] = {}
    for rate in (0.02,) if chosen.quick else (0.005, 0.05, 0.2):
        for norm in (False, True):
            model = network(norm)
            loss = sg.losses.cross_entropy(model(x, training=True), y)
            optimizer = sg.optim.SGD(rate, momentum=0.9)
            right = accuracy(model(x), y)
            result = fit(loss, right, optimizer, parts, 64, epochs, quiet=True)
            label = f"rate {rate:g}, {'batch norm' if norm else 'none'}"
            curves[label] = result
            losses = " ".join(f"{value:.3f}" for value in result["loss"])
            print(f"{label:22s} losses {losses}  test accuracy {result['test']:.4f}", flush=True)

    with picture(chosen.plot, columns=2) as axes:
        if axes is not None:
            for label, result in curves.items():
                style = "-" if label.endswith("norm") else "--"
                axes[0].plot(range(1, epochs + 1), result["loss"], style, label=label)
                axes[1].plot(range(1, epochs + 1), result["validation"], style, label=label)
            axes[0].set(xlabel="epoch", ylabel="training loss")
            axes[1].set(xlabel="epoch", ylabel="validation accuracy")
            axes[0].legend()

    # The last model's training graph, run without its updates: statistics of the batch itself.
    few = {name: values[:1000] for name, values in parts["test"].items()}
    measures = {"running": right, "batch": accuracy(model(x, training=True), y)}
    scorer = Scorer(measures, result["step"].state, None)
    for batch in (256, 4, 2):
        scorer.batch = batch
        found = scorer.score(few)
        print(
            f"batches of {batch:3d}: accuracy {found['running']:.4f} by running statistics, "
            f"{found['batch']:.4f} by the batch's own"
        )
    print(f"test accuracy with batch norm {result['test']:.4f}")


if __name__ == "__main__":
    main()
