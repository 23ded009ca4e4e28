"""Initial weights compared: from zeros, all units of a layer stay identical for ever.

One network on the digits from different starts, biases zero. From zeros (or any constant) every
hidden unit gets the same gradient, and is the same unit after training, to the last bit. From
N(0, 0.1) and from the rules that look at a layer's width it learns.

Shows: initialisations, and zeros failing (row E6).

    python examples/initialisation.py --plot starts.png     # --quick: fewer passes
"""

import math

import numpy as np
from common import accuracy, digits, mlp, options, picture

import symgrad as sg

n = sg.dim("batch", max=1200)
x, y = sg.input("x", (n, 64)), sg.input("y", (n,), dtype="int32")

RULES = {
    "zeros": sg.init.zeros(),
    "constant 0.1": sg.init.constant(0.1),
    "N(0, 0.1^2)": sg.init.normal(0.0, 0.1),
    "U(+-1/sqrt(in)), fan-in": sg.init.fan_in_uniform(),
    "U(+-sqrt(6/(in+out))), Glorot": sg.init.xavier_uniform(),
    "N(0, 1/(in+out)), Xavier": sg.init.xavier_normal(gain=math.sqrt(0.5)),
    "N(0, 2/in), He": sg.init.he_normal(),
}


def main() -> None:
    given = options(__doc__)
    passes = 5 if given.quick else 30
    parts = digits()
    scores = {}
    with picture(given.plot) as axes:
        for name, rule in RULES.items():
            model = mlp(64, 64, 32, 10, init=rule, bias_init=sg.init.zeros())
            logits = model(x)
            step = sg.train_step(sg.losses.cross_entropy(logits, y), sg.optim.SGD(0.05), seed=0)
            losses = step.run(parts["train"], batch_size=32, epochs=passes)
            score = sg.function([x, y], accuracy(logits, y), state=step.state)
            scores[name] = float(score(**parts["test"]))
            first = step.state["fc1.weight"]  # a column for each unit
            units = len(np.unique(first, axis=1).T)
            print(
                f"{name:30s} loss {losses[0]:.3f} -> {losses[-1]:.3f}, different hidden units "
                f"{units:2d} of 64, test accuracy {scores[name]:.4f}"
            )
            assert units == (1 if name in ("zeros", "constant 0.1") else 64)
            if axes is not None:
                axes.semilogy(losses, label=name)
        if axes is not None:
            axes.set(xlabel="passes", ylabel="loss")
            axes.legend()
    assert scores["zeros"] < 0.2 < 0.8 < scores["N(0, 2/in), He"]


if __name__ == "__main__":
    main()
