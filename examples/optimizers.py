"""Optimizers on the same start: gradient descent, momentum, Nesterov, AdaGrad, RMSProp, Adam.

An optimizer is a set of update expressions, printed here as they are compiled. Each trains the same
network on the digits from the same weights, in the same order of batches.

Shows: momentum and Nesterov (row E2); AdaGrad, RMSProp, Adam, AdamW (row E3).

    python examples/optimizers.py --plot losses.png     # --quick: fewer passes
"""

from common import accuracy, digits, mlp, options, picture, show

import symgrad as sg

n = sg.dim("batch", max=1200)
x, y = sg.input("x", (n, 64)), sg.input("y", (n,), dtype="int32")

OPTIMIZERS = {
    "gradient descent": lambda: sg.optim.SGD(0.02, name="sgd"),
    "momentum": lambda: sg.optim.SGD(0.02, momentum=0.9),
    "Nesterov": lambda: sg.optim.SGD(0.02, momentum=0.9, nesterov=True),
    "AdaGrad": lambda: sg.optim.Adagrad(0.02),
    "RMSProp": lambda: sg.optim.RMSprop(0.002),
    "Adam": lambda: sg.optim.Adam(0.002),
    "AdamW": lambda: sg.optim.AdamW(0.002, weight_decay=0.05),
}


def main() -> None:
    given = options(__doc__)
    passes = 5 if given.quick else 30
    parts = digits()
    w, g = sg.parameter("w", (3,)), sg.input("g", (3,))
    first = {}
    with picture(given.plot) as axes:
        for name, make in OPTIMIZERS.items():
            print(name)
            show("new w", make().updates([w], [g])[w])
            logits = mlp(64, 64, 32, 10)(x)
            step = sg.train_step(sg.losses.cross_entropy(logits, y), make(), seed=0)
            losses = step.run(parts["train"], batch_size=32, epochs=passes)
            test = sg.function([x, y], accuracy(logits, y), state=step.state)(**parts["test"])
            first[name] = losses[0]
            print(
                f"  loss of the first pass {losses[0]:.3f}, of the fifth {losses[4]:.4f}, of the "
                f"last {losses[-1]:.5f}; test accuracy {test:.4f}"
            )
            if axes is not None:
                axes.semilogy(losses, label=name)
        if axes is not None:
            axes.set(xlabel="passes", ylabel="loss")
            axes.legend()
    assert all(loss < first["gradient descent"] for name, loss in list(first.items())[1:])


if __name__ == "__main__":
    main()
