"""Learning rates that change: schedules by the step, and reduction where validation stagnates.

A schedule is a function of the number of steps, compiled into the step. "Reduce on plateau" looks
at the validation loss instead, and sets `step.lr` between passes.

Shows: learning-rate schedules, reduce on plateau (row E5).

    python examples/learning_rates.py --plot rates.png     # --quick: fewer passes
"""

import numpy as np
from common import accuracy, digits, mlp, options, picture

import symgrad as sg

BATCH = 32
n = sg.dim("batch", max=1200)
x, y = sg.input("x", (n, 64)), sg.input("y", (n,), dtype="int32")
parts = digits()


def network():
    logits = mlp(64, 64, 10)(x)
    return sg.losses.cross_entropy(logits, y), accuracy(logits, y)


def plateau(lr: float, passes: int) -> tuple:
    """Halve the rate when the validation loss has not improved for more than three passes."""
    loss, right = network()
    step = sg.train_step(loss, sg.optim.SGD(lr, momentum=0.9), seed=0)
    validate, rates = sg.function([x, y], loss, state=step.state), []
    slower = sg.callbacks.ReduceOnPlateau(
        step, lambda: validate(**parts["validation"]), factor=0.5, patience=3
    )
    watch = [lambda epoch, loss: rates.append(step.lr), slower]
    losses = step.run(parts["train"], batch_size=BATCH, epochs=passes, callback=watch)
    return rates, losses, sg.function([x, y], right, state=step.state)


def scheduled(schedule, passes: int, steps: int) -> tuple:
    loss, right = network()
    step = sg.train_step(loss, sg.optim.SGD(schedule, momentum=0.9), seed=0)
    losses = step.run(parts["train"], batch_size=BATCH, epochs=passes)
    rates = schedule(np.arange(0, passes * steps, steps))
    return rates, losses, sg.function([x, y], right, state=step.state)


def main() -> None:
    given = options(__doc__)
    passes, lr = 6 if given.quick else 40, 0.1
    steps = -(-len(parts["train"]["y"]) // BATCH)  # of one pass
    total = passes * steps
    schedules = {
        "constant": sg.schedules.constant(lr),
        "step": sg.schedules.step(lr, every=total // 3, gamma=0.1),
        "exponential": sg.schedules.exponential(lr, 0.01 ** (1 / total)),
        "cosine": sg.schedules.cosine(lr, total),
        "warmup, then cosine": sg.schedules.warmup(sg.schedules.cosine(lr, total), steps),
        "one cycle": sg.schedules.one_cycle(lr, total),
    }
    results = {name: scheduled(schedule, passes, steps) for name, schedule in schedules.items()}
    results["reduce on plateau"] = plateau(lr, passes)
    with picture(given.plot, columns=2) as axes:
        for name, (rates, losses, score) in results.items():
            print(
                f"{name:20s} rate {rates[0]:.4f} -> {rates[-1]:.4f}, loss {losses[-1]:.5f}, "
                f"test accuracy {score(**parts['test']):.4f}"
            )
            if axes is not None:
                axes[0].plot(rates, label=name)
                axes[1].semilogy(losses, label=name)
        if axes is not None:
            axes[0].set(xlabel="passes", ylabel="learning rate")
            axes[1].set(xlabel="passes", ylabel="loss")
            axes[1].legend()


if __name__ == "__main__":
    main()
