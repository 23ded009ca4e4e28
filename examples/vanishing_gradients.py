"""Vanishing gradients made visible: the gradient's norm in each layer, while training.

Ten hidden layers on the digits. The norms are outputs of the training step like any others: the
gradients are there anyway. Through sigmoids, whose slope is at most 1/4, almost nothing reaches the
first layers; ReLU and batch normalisation let it through; weights that start too large make it
explode.

Shows: vanishing and exploding gradients (row E7).

    python examples/vanishing_gradients.py --plot gradients.png     # --quick: fewer passes
"""

from common import accuracy, digits, options, picture

import symgrad as sg

DEPTH, WIDTH = 10, 32
n = sg.dim("batch", max=1200)
x, y = sg.input("x", (n, 64)), sg.input("y", (n,), dtype="int32")


def deep(activation, init, normalised: bool) -> sg.nn.Sequential:
    """DEPTH hidden layers and a linear one."""
    layers = []
    for i in range(DEPTH):
        layers.append(sg.nn.Linear(WIDTH if i else 64, WIDTH, init=init, name=f"fc{i + 1}"))
        layers += [sg.nn.BatchNorm(WIDTH, name=f"norm{i + 1}")] if normalised else []
        layers.append(activation)
    return sg.nn.Sequential(*layers, sg.nn.Linear(WIDTH, 10, init=init, name=f"fc{DEPTH + 1}"))


def main() -> None:
    given = options(__doc__)
    passes = 3 if given.quick else 30
    parts = digits()
    glorot, he = sg.init.xavier_uniform(), sg.init.he_normal()
    networks = {
        "sigmoid": deep(sg.nn.sigmoid, glorot, False),
        "sigmoid, batch norm": deep(sg.nn.sigmoid, glorot, True),
        "ReLU": deep(sg.nn.relu, he, False),
        "ReLU, batch norm": deep(sg.nn.relu, he, True),
        "ReLU, large weights": deep(sg.nn.relu, sg.init.normal(0, 1.0), False),
    }
    ratios = {}
    with picture(given.plot) as axes:
        for name, model in networks.items():
            loss = sg.losses.cross_entropy(model(x, training=True), y)
            weights = [p for p in model.parameters() if p.name.startswith("fc") and p.ndim == 2]
            norms = {p.name: sg.norm(g) for p, g in zip(weights, sg.grad(loss, weights))}
            optimizer = sg.optim.SGD(0.05, clip_norm=1.0)
            step = sg.train_step(loss, optimizer, outputs=norms, seed=0)
            first = step(parts["train"]["x"], parts["train"]["y"])
            losses = step.run(parts["train"], batch_size=32, epochs=passes)
            logits = model(x)
            test = sg.function([x, y], accuracy(logits, y), state=step.state)(**parts["test"])
            ratios[name] = first["fc1.weight"] / first[f"fc{DEPTH + 1}.weight"]
            for when, values in (("at the start", first), ("in the last pass", step.means)):
                shown = "  ".join(f"{values[p.name]:7.1e}" for p in weights[::2])
                print(f"{name:20s} {when:17s} {shown}")
            print(f"{'':20s} loss {losses[-1]:.3f}, test accuracy {test:.4f}")
            if axes is not None:
                axes.semilogy([first[p.name] for p in weights], "o-", label=name)
        if axes is not None:
            axes.set(xlabel="layer", ylabel="norm of the gradient at the start")
            axes.legend()
    for name, ratio in ratios.items():
        print(f"{name:20s} gradient of the first layer over that of the last: {ratio:.1e}")
    assert ratios["sigmoid"] < 1e-4 < 0.1 < ratios["ReLU, batch norm"]


if __name__ == "__main__":
    main()
