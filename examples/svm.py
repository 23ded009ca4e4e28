"""Support vector machines: hinge losses on linear scores, and how they turn into softmax.

Binary: max(0, 1 - t s) with t = +-1. Several classes: the sum over j != y of max(0, 1 + s_j - s_y),
or with a task loss L(y, j) the maximum max_j (L(y, j) + s_j) - s_y, which the softened form

    eps log sum_j exp((L(y, j) + s_j) / eps) - s_y

approaches as eps goes to 0. With L = 0 and eps = 1 it is softmax's cross-entropy: proved below.

Shows: binary and multiclass SVM, task loss, epsilon-softened maximum (row B6).

    python examples/svm.py     # --quick: fewer passes
"""

import numpy as np
from common import accuracy, digits, options, split, standardised, uci

import symgrad as sg

n = sg.dim("batch", max=1200)


def binary(passes: int) -> None:
    """Rocks and mines by sonar, or digits below five and from five on."""
    table = uci("sonar")
    if table is None:
        name, parts = "digits below five", digits()
        signs = {part: np.where(d["y"] < 5, 1.0, -1.0) for part, d in parts.items()}
    else:
        name, parts = "sonar", standardised(split(table[:, :-1].astype("float32"), table[:, -1]))
        signs = {part: np.where(d["y"] == "M", 1.0, -1.0) for part, d in parts.items()}
    features = parts["train"]["x"].shape[1]
    x, t = sg.input("x", (n, features)), sg.input("t", (n, 1))
    layer = sg.nn.Linear(features, 1, name="line")
    score = layer(x)
    loss = sg.losses.hinge_loss(score, t) + sg.regularizers.l2(layer, 0.01)
    step = sg.train_step(loss, sg.optim.SGD(0.02), seed=0)
    data = {
        part: {"x": d["x"], "t": signs[part][:, None].astype("float32")}
        for part, d in parts.items()
    }
    step.run(data["train"], batch_size=16, epochs=passes)
    right = sg.mean((t * score > 0).astype("float32"))
    margin = sg.mean((t * score < 1).astype("float32"))
    f = sg.function([x, t], [right, margin], state=step.state)
    test, (_, support) = f(**data["test"])[0], f(**data["train"])
    print(
        f"binary, {name}: test accuracy {test:.4f}; {support:.0%} of the rows are support vectors"
    )


def multiclass(passes: int) -> None:
    """All forms on the ten digits."""
    parts = digits()
    x, y = sg.input("x", (n, 64)), sg.input("y", (n,), dtype="int32")
    # The task loss: 0.5 for a wrong digit, 1 where an even one is taken for an odd one.
    parity = np.arange(10) % 2
    L = 0.5 * (1 - np.eye(10)) + 0.5 * (parity[:, None] != parity)
    task = sg.take(sg.constant(L.astype("float32")), y, axis=0)

    def largest(s: sg.Expr) -> sg.Expr:
        own = sg.sum(sg.one_hot(y, 10, dtype="float32") * s, axis=1)
        return sg.mean(sg.max(task + s, axis=1) - own)

    def softened(s: sg.Expr, task: sg.Expr, eps: float) -> sg.Expr:
        own = sg.sum(sg.one_hot(y, 10, dtype="float32") * s, axis=1)
        return sg.mean(eps * sg.logsumexp((task + s) / eps, axis=1) - own)

    hinge = sg.losses.multiclass_hinge_loss
    forms = {
        "sum of hinges": lambda s: hinge(s, y),
        "maximum (Crammer, Singer)": lambda s: hinge(s, y, form="max"),
        "maximum with a task loss": largest,
        "softened, eps 1": lambda s: softened(s, task, 1.0),
        "softened, eps 0.01": lambda s: softened(s, task, 0.01),
        "softened, L = 0, eps 1": lambda s: softened(s, task * 0, 1.0),
        "cross-entropy": lambda s: sg.losses.cross_entropy(s, y),
    }
    for name, form in forms.items():
        layer = sg.nn.Linear(64, 10, name="scores")
        scores = layer(x)
        loss = form(scores) + sg.regularizers.l2(layer, 1e-3)
        step = sg.train_step(loss, sg.optim.SGD(0.02), seed=0)
        mean = step.run(parts["train"], batch_size=32, epochs=passes)[-1]
        chosen = sg.one_hot(sg.argmax(scores, axis=1), 10, dtype="float32")
        measures = [accuracy(scores, y), sg.mean(sg.sum(task * chosen, axis=1))]
        test, cost = sg.function([x, y], measures, state=step.state)(**parts["test"])
        print(f"{name:26s} loss {mean:.4f}  test accuracy {test:.4f}, task loss {cost:.4f}")

    scores = sg.input("scores", (n, 10))
    same = sg.equivalent(softened(scores, 0 * scores, 1.0), sg.losses.cross_entropy(scores, y))
    print(f"softened with L = 0 and eps = 1 is softmax cross-entropy: {same}")
    assert same
    print(f"test accuracy of the last {test:.4f}")


def main() -> None:
    passes = 5 if options(__doc__).quick else 60
    binary(passes)
    multiclass(passes)


if __name__ == "__main__":
    main()
