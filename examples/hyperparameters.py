"""Hyperparameter search: learning rate, width and weight decay by Optuna, in parallel processes.

Optuna proposes a batch of settings, worker processes train them, Optuna hears the validation
losses and proposes better ones. The test set is looked at once, for the winner.

Shows: hyperparameter tuning in parallel processes with a well-kept library (row F14).

    python examples/hyperparameters.py     # --quick: few and short trials
"""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from common import accuracy, digits, library, mlp, options

import symgrad as sg


def train(setting: dict) -> dict:
    """One trial: the losses and accuracies on the validation and test sets."""
    n = sg.dim("batch", max=1200)
    x, y = sg.input("x", (n, 64)), sg.input("y", (n,), dtype="int32")
    logits = mlp(64, setting["width"], 10)(x)
    loss = sg.losses.cross_entropy(logits, y)
    optimizer = sg.optim.AdamW(setting["lr"], weight_decay=setting["decay"])
    step = sg.train_step(loss, optimizer, seed=0)
    parts = digits()
    few = {name: array[::3] for name, array in parts["train"].items()}
    step.run(few, batch_size=32, epochs=setting["passes"])
    measures = {"loss": loss, "accuracy": accuracy(logits, y)}
    score = sg.function([x, y], measures, state=step.state)
    return {part: score(**parts[part]) for part in ("validation", "test")}


def main() -> None:
    quick = options(__doc__).quick
    optuna = library("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    workers = max(2, min(4, os.cpu_count() or 1))
    rounds, passes = (2, 3) if quick else (10, 40)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))

    def propose(trial: Any) -> dict:
        return {
            "lr": trial.suggest_float("lr", 1e-4, 1e-1, log=True),
            "width": trial.suggest_int("width", 4, 256, log=True),
            "decay": trial.suggest_float("decay", 1e-4, 1.0, log=True),
            "passes": passes,
        }

    tests = {}
    spawn = multiprocessing.get_context("spawn")  # fresh processes, on every system
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        for _ in range(rounds):
            trials = [study.ask() for _ in range(workers)]
            results = pool.map(train, [propose(trial) for trial in trials])
            for trial, result in zip(trials, results):
                study.tell(trial, float(result["validation"]["loss"]))
                tests[trial.number] = result["test"]["accuracy"]
            best = study.best_trial
            print(f"{len(tests):3d} trials, best validation loss {best.value:.4f}: {best.params}")
    worst = max(t.value for t in study.trials)
    found = study.best_params
    print(f"validation losses from {study.best_value:.4f} to {worst:.4f}, {workers} processes")
    print(f"best: lr {found['lr']:.2g}, width {found['width']}, decay {found['decay']:.2g}")
    print(f"test accuracy {tests[study.best_trial.number]:.4f}")


if __name__ == "__main__":
    main()
