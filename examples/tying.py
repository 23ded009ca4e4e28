"""Tied weights: an autoencoder whose decoder is its encoder, transposed.

A parameter used twice is one parameter: its gradient is the sum over its uses, which is what the
derivative gives anyway. `sg.regularizers.tie` draws two parameters together instead, as firmly as
its strength says.

Shows: parameter tying and sharing (row F8).

    python examples/tying.py     # --quick: fewer passes
"""

import numpy as np
from common import digits, options

import symgrad as sg

n = sg.dim("batch", max=1200)
x = sg.input("x", (n, 64))


def train(way: str, strength: float, parts: dict, passes: int) -> None:
    """Train an autoencoder of 16 units; print what it has and what it costs."""
    encoder = sg.nn.Linear(64, 16, name="encoder")
    decoder = sg.nn.Linear(16, 64, name="decoder")
    back = encoder.weight.T if way == "shared" else decoder.weight
    rebuilt = sg.tanh(encoder(x)) @ back + decoder.bias
    error = sg.losses.mse_loss(rebuilt, x)
    loss = error
    if strength:
        loss = error + sg.regularizers.tie(encoder.weight.T, decoder.weight, strength)
    step = sg.train_step(loss, sg.optim.Adam(3e-3), seed=0)
    step.run({"x": parts["train"]["x"]}, batch_size=32, epochs=passes)
    test = sg.function([x], error, state=step.state)(parts["test"]["x"])
    values = {name: v for name, v in step.state.items() if name.startswith(("encoder", "decoder"))}
    there = values["encoder.weight"].T
    apart = np.linalg.norm(there - values.get("decoder.weight", there))
    count = sum(v.size for v in values.values())
    print(f"{way:22s} {count} numbers, |W_A - W_B| = {apart:6.3f}, test error {test:.4f}")


def gradients() -> None:
    """The gradient of a shared weight is the sum over its uses."""
    w, a, b = (sg.parameter(name, (64, 16)) for name in "wab")
    by_w = sg.grad(sg.losses.mse_loss(sg.tanh(x @ w) @ w.T, x), w)
    apart = sg.losses.mse_loss(sg.tanh(x @ a) @ b.T, x)
    f = sg.function([x, w, a, b], [by_w, sum(sg.grad(apart, [a, b]))])
    rng = np.random.default_rng(0)
    W, X = rng.normal(size=(64, 16)), rng.normal(size=(100, 64))
    once, twice = f(*(v.astype(np.float32) for v in (X, W, W, W)))
    error = np.abs(once - twice).max() / np.abs(once).max()
    print(f"gradient of the shared weight less the sum over its uses: {error:.0e}")
    assert error < 1e-5


def main() -> None:
    passes = 10 if options(__doc__).quick else 100
    parts = digits()
    gradients()
    train("each its own", 0.0, parts, passes)
    for strength in (1e-4, 1e-3, 1e-2):
        train(f"drawn together, {strength:g}", strength, parts, passes)
    train("shared", 0.0, parts, passes)


if __name__ == "__main__":
    main()
