"""Training a classifier of images, as the examples of convolutional networks do.

In: a loss, the accuracy, an optimizer, data. Out: the accuracy on the test set, and one line for
every epoch.

>>> x, y = inputs()
>>> model = sg.nn.models.lenet()
>>> loss = sg.losses.cross_entropy(model(x, training=True), y)
>>> right = accuracy(model(x), y)
>>> fit(loss, right, sg.optim.Adam(), images("mnist"), batch_size=64, epochs=5)["test"]
0.9885
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from common import Parts

import symgrad as sg
from symgrad.train.score import Scorer

History = dict[str, Any]


def inputs(channels: int = 1, side: int = 28, largest: int = 256) -> tuple[sg.Expr, sg.Expr]:
    """Images (n, channels, side, side) and their labels, for any n up to `largest`."""
    n = sg.dim("batch", max=largest)
    return sg.input("x", (n, channels, side, side)), sg.input("y", (n,), dtype="int32")


def size(model: Any) -> int:
    """How many parameters a network has."""
    return sum(p.size for p in model.parameters())


def steps(parts: Parts, batch_size: int, epochs: int) -> int:
    """How many training steps that is: what schedules ask for."""
    return epochs * -(-len(parts["train"]["y"]) // batch_size)


def fit(
    loss: sg.Expr,
    right: sg.Expr,
    optimizer: Any,
    parts: Parts,
    batch_size: int,
    epochs: int,
    seed: int = 0,
    threads: int = 1,
    quiet: bool = False,
    start: Mapping[Any, Any] | None = None,
    **chosen: Any,
) -> History:
    """Whole epochs natively; the loss and the validation accuracy of each, the test accuracy.

    `right` is the accuracy of the graph for inference, without dropout and by running statistics: a
    second function, which shares its parameters with the step through `state=`. `start` holds
    values that parameters begin with; more arguments go to `sg.train_step`.
    """
    began = time.perf_counter()
    step = sg.train_step(loss, optimizer, seed=seed, threads=threads, **chosen)
    scorer = Scorer({"accuracy": right}, step.state, None)
    compiled = time.perf_counter() - began
    for parameter, value in (start or {}).items():
        step.state[parameter] = value
    history: History = {"loss": [], "validation": [], "seconds": 0.0, "step": step}
    for epoch in range(epochs):
        began = time.perf_counter()
        history["loss"] += step.run(parts["train"], batch_size=batch_size, epochs=1)
        history["seconds"] += time.perf_counter() - began
        history["validation"].append(scorer.score(parts["validation"])["accuracy"])
        if not quiet:
            print(
                f"epoch {epoch + 1:2d}  loss {history['loss'][-1]:.4f}  "
                f"validation accuracy {history['validation'][-1]:.4f}",
                flush=True,
            )
    history["test"] = scorer.score(parts["test"])["accuracy"]
    history["each"] = history["seconds"] / steps(parts, batch_size, epochs)
    if not quiet:
        print(
            f"compiled in {compiled:.1f} s, {history['each'] * 1e3:.2f} ms a step, trained in "
            f"{history['seconds']:.0f} s"
        )
    return history
