"""Small AlexNet, VGG, GoogLeNet and ResNet on Fashion-MNIST: the blocks of the large networks.

Shows: AlexNet (row D3), VGG (row D4), GoogLeNet with two auxiliary heads in its loss (row D5),
ResNet (row D6), branches and residual connections (row C9), batch norm and dropout with
inference over the same parameters (rows C6, C7).

    python examples/fashion_networks.py resnet       # alexnet, vgg, googlenet, resnet
    python examples/fashion_networks.py              # all four; --quick: 640 images each

| network         | parameters | epochs | test accuracy |
|-----------------|------------|--------|---------------|
| small AlexNet   |    320,922 |     10 |        0.9203 |
| small VGG       |    298,858 |      4 |        0.9260 |
| small GoogLeNet |    908,822 |      3 |        0.9223 |
| ResNet-14       |    174,970 |      5 |        0.9297 |

Each takes three to four minutes of one core.
"""

from dataclasses import dataclass
from typing import Any, Callable

from classify import fit, inputs, size, steps
from common import Parts, accuracy, options
from data.images import images

import symgrad as sg

models = sg.nn.models


@dataclass(frozen=True)
class Recipe:
    """A network and how it is trained."""

    model: Callable[[], Any]
    optimizer: Callable[[Any], Any]
    rate: float
    epochs: int
    batch_size: int = 64


def momentum(rate: Any) -> sg.optim.SGD:
    return sg.optim.SGD(rate, momentum=0.9, nesterov=True, weight_decay=5e-4)


RECIPES = {
    "alexnet": Recipe(models.alexnet_small, sg.optim.AdamW, 1e-3, 10),
    "vgg": Recipe(lambda: models.vgg_small(channels=1, size=28), sg.optim.AdamW, 2e-3, 4),
    "googlenet": Recipe(models.googlenet_small, sg.optim.AdamW, 2e-3, 3),
    "resnet": Recipe(lambda: models.resnet_small(2, channels=1), momentum, 0.1, 5),
}


def cross_entropy(outputs: Any, labels: sg.Expr) -> sg.Expr:
    """Of the logits; those of auxiliary heads count 0.3 each (Szegedy et al. 2014)."""
    loss = sg.losses.cross_entropy
    if not isinstance(outputs, models.Heads):
        return loss(outputs, labels)
    early = loss(outputs.aux1, labels) + loss(outputs.aux2, labels)
    return loss(outputs.logits, labels) + 0.3 * early


def train(name: str, recipe: Recipe, parts: Parts, epochs: int) -> float:
    """The test accuracy."""
    x, y = inputs()
    model = recipe.model()
    print(f"{name}: {size(model):,} parameters")
    loss = cross_entropy(model(x, training=True), y)
    rate = sg.schedules.one_cycle(recipe.rate, steps(parts, recipe.batch_size, epochs))
    optimizer = recipe.optimizer(rate)
    result = fit(loss, accuracy(model(x), y), optimizer, parts, recipe.batch_size, epochs)
    print(f"{name}: test accuracy {result['test']:.4f}")
    return float(result["test"])


def main() -> None:
    chosen = options(__doc__, list(RECIPES))
    parts = images("fashion-mnist", chosen.quick)
    if chosen.quick:
        parts = {part: {k: v[:640] for k, v in data.items()} for part, data in parts.items()}
    for name in chosen.names:
        recipe = RECIPES[name]
        last = train(name, recipe, parts, 1 if chosen.quick else recipe.epochs)
    print(f"test accuracy of the last {last:.4f}")


if __name__ == "__main__":
    main()
