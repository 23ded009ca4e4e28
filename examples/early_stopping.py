"""Early stopping: training ends when the validation loss does not improve, best weights restored.

The training loss goes on falling long after the validation loss has turned. After each pass a
callback looks at the latter, keeps the state of the best pass, and ends the run when there has been
none better for a while. The number of hidden units limits a network too:
validation decides between them, and the test set is looked at once, at the end.

Shows: early stopping with the best weights restored (row F7); limited hidden units, validation and
test sets, curves of training and validation accuracy (row F12).

    python examples/early_stopping.py --plot curves.png     # --quick: fewer sizes
"""

from common import accuracy, digits, mlp, options, picture

import symgrad as sg

n = sg.dim("batch", max=1200)
x, y = sg.input("x", (n, 64)), sg.input("y", (n,), dtype="int32")


def train(units: int, train: dict, validation: dict, patience: int, most: int):
    """Loss and accuracy with the best weights, compiled; when it stopped; the curves."""
    logits = mlp(64, units, 10)(x)
    loss, right = sg.losses.cross_entropy(logits, y), accuracy(logits, y)
    step = sg.train_step(loss, sg.optim.Adam(3e-3), outputs={"accuracy": right}, seed=0)
    measure = sg.function([x, y], {"loss": loss, "accuracy": right}, state=step.state)
    curves: dict[str, list] = {"training": [], "validation": [], "accuracy": [], "held out": []}

    def watch(epoch: int, mean_loss: float) -> None:
        held_out = measure(**validation)
        curves["training"].append(mean_loss)
        curves["validation"].append(float(held_out["loss"]))
        curves["accuracy"].append(step.means["accuracy"])
        curves["held out"].append(float(held_out["accuracy"]))

    stop = sg.callbacks.EarlyStopping(step, lambda: curves["validation"][-1], patience=patience)
    step.run(train, batch_size=32, epochs=most, callback=[watch, stop])
    assert measure(**validation)["loss"] == stop.best <= curves["validation"][-1]
    return measure, stop, curves


def main() -> None:
    given = options(__doc__)
    parts = digits()
    few = {name: array[::3] for name, array in parts["train"].items()}
    results = {}
    for units in (2, 8, 64) if given.quick else (1, 2, 4, 8, 16, 64, 256):
        results[units] = train(units, few, parts["validation"], patience=20, most=500)
        _, stop, curves = results[units]
        at = stop.best_epoch
        print(
            f"{units:3d} units: stopped after {len(curves['validation']):3d} passes, best after "
            f"{at + 1:3d}: validation loss {stop.best:.4f}, accuracy {curves['held out'][at]:.4f}; "
            f"training {curves['accuracy'][at]:.4f}"
        )
    units = min(results, key=lambda u: results[u][1].best)
    measure, stop, curves = results[units]
    with picture(given.plot, columns=2) as axes:
        if axes is not None:
            axes[0].semilogy(curves["training"], label="training loss")
            axes[0].semilogy(curves["validation"], label="validation loss")
            axes[1].plot(curves["accuracy"], label="training accuracy")
            axes[1].plot(curves["held out"], label="validation accuracy")
            for axis in axes:
                axis.axvline(stop.best_epoch, color="gray", ls=":")
                axis.set(xlabel="passes", title=f"{units} hidden units")
                axis.legend()
    test = measure(**parts["test"])["accuracy"]
    print(f"validation picks {units} units: test accuracy {test:.4f}")


if __name__ == "__main__":
    main()
