"""Inputs of zero mean and unit variance, by statistics that are stored with the model.

Mean and deviation come from the training set alone. They are states: like weights they live in
`step.state` and in its file, but are not trained. Whoever loads the file hands over raw numbers and
cannot forget to scale them, or scale them by something else.

Shows: input pre-processing, statistics stored with the model (row F13).

    python examples/standardise.py     # --quick: fewer passes
"""

import tempfile
from pathlib import Path

import numpy as np
from common import Parts, accuracy, mlp, moons, options, split, uci

import symgrad as sg

n = sg.dim("batch", max=4000)


def data() -> Parts:
    """Wines, red or white, by chemical analysis; or moons whose axes have different units."""
    wines = [uci(f"winequality-{kind}") for kind in ("red", "white")]
    if any(table is None for table in wines):
        x, y = moons(4000)
        return split(x * np.float32([10, 0.1]), y)
    x = np.vstack([table.astype(np.float32) for table in wines])[:, :-1]
    y = np.repeat(np.arange(2, dtype=np.int32), [len(table) for table in wines])
    return split(x, y)


def network(features: int, scaling: sg.nn.Module | None):
    """Inputs, labels, and the logits of a network with or without scaling."""
    x, y = sg.input("x", (n, features)), sg.input("y", (n,), dtype="int32")
    return x, y, mlp(features, 32, 2)(x if scaling is None else scaling(x))


def main() -> None:
    passes = 5 if options(__doc__).quick else 30
    parts = data()
    train, test = parts["train"], parts["test"]
    features = train["x"].shape[1]
    own = sg.nn.Standardize(train["x"], name="inputs")
    with tempfile.TemporaryDirectory() as folder:
        for name, scaling in (("raw", None), ("standardised", own)):
            x, y, logits = network(features, scaling)
            step = sg.train_step(sg.losses.cross_entropy(logits, y), sg.optim.SGD(0.01), seed=0)
            losses = step.run(train, batch_size=32, epochs=passes)
            score = sg.function([x, y], accuracy(logits, y), state=step.state)
            print(f"{name:12s} inputs: loss {losses[-1]:.4f}, ", end="")
            print(f"test accuracy {score(**test):.4f}")
        path = Path(folder) / "model.safetensors"
        sg.save(path, step.state)

        # Elsewhere: a network whose statistics are unknown until the file is read.
        x, y, logits = network(features, sg.nn.Standardize(features, name="inputs"))
        loaded = sg.function([x, y], accuracy(logits, y))
        sg.load(path, loaded.state)
    kept = loaded.state["inputs.mean"]
    assert np.allclose(kept, train["x"].mean(axis=0), rtol=1e-5)
    assert loaded(**test) == score(**test)
    print(f"loaded from its file, on raw numbers: test accuracy {loaded(**test):.4f}")


if __name__ == "__main__":
    main()
