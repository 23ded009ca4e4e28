"""`symgrad train`: epochs with validation, a table of what happened, files to go on from.

In: a model and settings. Out: lines on the terminal, and in the output folder

    state.safetensors    parameters, optimizer states, the random generator; after every epoch
    history.json         one record for every epoch, and the test result

>>> fit(load("examples/digits_mlp.py"), Settings(epochs=30, out=Path("runs/digits")))
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from symgrad import source
from symgrad.compile.function import TrainStep, train_step
from symgrad.errors import InputError, StateError
from symgrad.node import State, count_elements
from symgrad.state import load, save
from symgrad.train.model import Model
from symgrad.train.score import Scorer

STATE, HISTORY = "state.safetensors", "history.json"


@dataclass(frozen=True)
class Settings:
    """What the command line chooses; None leaves it to the model file."""

    epochs: int | None = None
    batch_size: int | None = None
    out: Path | None = None
    resume: Path | None = None
    seed: int = 0
    target: str | None = None
    check: str | None = None


@dataclass
class Clock:
    """Time spent in training steps, and how many there were."""

    seconds: float = 0.0
    steps: int = 0

    @property
    def each(self) -> str:
        if not self.steps:
            return "-"
        one = self.seconds / self.steps
        return f"{one * 1e6:.1f} us" if one < 1e-3 else f"{one * 1e3:.2f} ms"


def fit(model: Model, settings: Settings, console: Console | None = None) -> list[dict[str, Any]]:
    """Train, and give the record of every epoch."""
    console = console or Console(soft_wrap=True)
    data = model.data()
    start = time.perf_counter()
    with source.at(model.where):
        step = train_step(
            model.loss,
            model.optimizer,
            outputs=model.outputs,
            seed=settings.seed,
            target=settings.target,
            check=settings.check,
        )
    scorer = Scorer(model.evaluation, step.state, settings.target)
    compiled = time.perf_counter() - start
    history = _resumed(step, settings)
    clock = Clock()
    _epochs(model, settings, step, scorer, data, history, clock, console)
    result = scorer.score(data["test"]) if "test" in data else {}
    if settings.out is not None:
        _save(step, history, result, settings.out)
    console.print(_summary(step, history, result, clock, compiled, settings))
    return history


def _epochs(
    model: Model,
    settings: Settings,
    step: TrainStep,
    scorer: Scorer,
    data: Mapping[str, Any],
    history: list[dict[str, Any]],
    clock: Clock,
    console: Console,
) -> None:
    count = model.epochs if settings.epochs is None else settings.epochs
    batch = settings.batch_size or model.batch_size
    train, held_out = data["train"], data.get("validation")
    rows = len(np.asarray(next(iter(train.values()))))
    bar = Progress(
        TextColumn("epoch {task.completed}/{task.total}"),
        BarColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=count)
        for _ in range(count):
            began = time.perf_counter()
            (loss,) = step.run(train, batch_size=batch, epochs=1)
            spent = time.perf_counter() - began
            clock.seconds += spent
            clock.steps += -(-rows // batch)
            record: dict[str, Any] = {"epoch": len(history) + 1, "train": {"loss": loss}}
            record["train"].update(step.means)
            if held_out is not None:
                record["validation"] = scorer.score(held_out)
            record["seconds"] = spent
            history.append(record)
            console.print(_line(record))
            bar.update(task, advance=1, description=f"loss {loss:.4f}")
            if settings.out is not None:
                _save(step, history, {}, settings.out)


def _line(record: Mapping[str, Any]) -> str:
    """One epoch: `epoch  3  loss 0.2103  accuracy 0.9350  |  validation loss 0.2341 ...`."""
    shown = [f"epoch {record['epoch']:3d}  " + _numbers(record["train"])]
    if "validation" in record:
        shown.append("validation " + _numbers(record["validation"]))
    shown.append(f"{record['seconds']:.2f} s")
    return "  |  ".join(shown)


def _numbers(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in values.items())


def _summary(
    step: TrainStep,
    history: list[dict[str, Any]],
    result: Mapping[str, float],
    clock: Clock,
    compiled: float,
    settings: Settings,
) -> Table:
    table = Table(show_header=False, title="summary", title_justify="left")
    for name, value in result.items():
        table.add_row(f"test {name}", f"{value:.4f}")
    weights = [p for p in step.state.parameters.values() if not isinstance(p, State)]
    numbers = sum(count_elements(p.shape) for p in weights)
    table.add_row("parameters", f"{numbers:,} in {len(weights)} arrays")
    table.add_row("epochs", str(len(history)))
    table.add_row("time per step", clock.each)
    table.add_row("training time", f"{clock.seconds:.2f} s")
    table.add_row("compile time", f"{compiled:.2f} s")
    if settings.out is not None:
        table.add_row("saved to", str(settings.out / STATE))
    return table


# -- files -----------------------------------------------------------------------------------


def _save(
    step: TrainStep, history: list[dict[str, Any]], result: Mapping[str, float], out: Path
) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"cannot write to {out}: {error.strerror}") from error
    save(out / STATE, step.state)
    content = {"epochs": history, "test": dict(result)}
    temporary = out / f".{HISTORY}.{os.getpid()}"
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(temporary, out / HISTORY)


def _resumed(step: TrainStep, settings: Settings) -> list[dict[str, Any]]:
    """Load what an earlier run left; the epochs it had."""
    folder = settings.resume
    if folder is None:
        return []
    if not folder.is_dir():
        raise InputError(f"--resume {folder}: no such folder")
    load(folder / STATE, step.state)
    try:
        history: list[dict[str, Any]] = json.loads((folder / HISTORY).read_text())["epochs"]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateError(f"{folder / HISTORY} is damaged: {error}") from error
    return history
