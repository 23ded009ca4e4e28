"""What watches a run: stop early and keep the best weights, lower the rate on a plateau.

In: a training step, and a number to watch. Out: objects for `step.run(..., callback=)`, one or a
list of them, called after every pass with its number and mean loss.

    score = sg.scorer({"loss": loss, "accuracy": accuracy}, step.state)
    stop = sg.callbacks.EarlyStopping(step, lambda: score(validation)["loss"], patience=5)
    slower = sg.callbacks.ReduceOnPlateau(step, lambda: score(validation)["loss"], factor=0.5)
    step.run(train, batch_size=64, epochs=100, callback=[stop, slower])
    stop.best, stop.best_epoch                # and step.state holds what it held then
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from symgrad.checks import bad, number
from symgrad.errors import InputError

if TYPE_CHECKING:
    from symgrad.compile.function import TrainStep

Monitor = Callable[[], float]


class _Watcher:
    """The best value so far of a number, and for how many passes it has not improved.

    monitor    a function that gives the number after each pass; None: the pass's mean loss
    mode       "min" where less is better, "max" where more is
    """

    def __init__(self, step: TrainStep, monitor: Monitor | None, mode: str) -> None:
        if not callable(getattr(step, "run", None)):
            raise self._fail(f"expected a training step, got {type(step).__name__}")
        if monitor is not None and not callable(monitor):
            raise self._fail(f"monitor must be a function without arguments, got {monitor!r}")
        if mode not in ("min", "max"):
            raise self._fail(f'mode is "min" or "max", got {mode!r}')
        self.step, self.monitor, self.mode = step, monitor, mode
        self.best = math.inf if mode == "min" else -math.inf
        self.waited = 0

    def _fail(self, what: str) -> InputError:
        return bad(f"callbacks.{type(self).__name__}", what)

    def _count(self, name: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self._fail(f"{name} must be a non-negative int, got {value!r}")
        return value

    def _number(self, name: str, value: Any, interval: str = "[0, inf)") -> float:
        return number(f"callbacks.{type(self).__name__}", name, value, interval)

    def _value(self, loss: float) -> float:
        return loss if self.monitor is None else float(self.monitor())


class EarlyStopping(_Watcher):
    """Stops a run after `patience` passes without improvement, the best state restored.

    An improvement is a change of more than `min_delta`. What is restored is the whole state of
    that pass: weights, running statistics, the optimizer's moments, the random generator. After a
    run that ended by itself, `restore()` does it. Goodfellow et al. (2016), 7.8.
    """

    def __init__(
        self,
        step: TrainStep,
        monitor: Monitor | None = None,
        patience: int = 10,
        min_delta: float = 0.0,
        mode: str = "min",
    ) -> None:
        super().__init__(step, monitor, mode)
        self.patience = self._count("patience", patience)
        self.min_delta = self._number("min_delta", min_delta)
        self.best_epoch: int | None = None
        self.stopped = False
        self._kept: Any = None

    def __call__(self, epoch: int, loss: float) -> bool:
        value = self._value(loss)
        gain = self.best - value if self.mode == "min" else value - self.best
        if gain > self.min_delta:
            self.best, self.best_epoch, self.waited = value, epoch, 0
            self._kept = self.step.state.snapshot()
            return False
        self.waited += 1
        self.stopped = self.waited >= max(self.patience, 1)
        if self.stopped:
            self.restore()
        return self.stopped

    def restore(self) -> None:
        """Put the best state back; nothing where no pass has been seen."""
        if self._kept is not None:
            self.step.state.restore(self._kept)


class ReduceOnPlateau(_Watcher):
    """Multiplies the learning rate by `factor` after more than `patience` passes without progress.

    Progress is a value better than the best one times (1 -+ threshold). No pass counts for
    `cooldown` passes after a reduction; a rate does not fall below `min_lr`. All groups of an
    optimizer are reduced; schedules cannot be. PyTorch's ReduceLROnPlateau and its defaults.
    """

    def __init__(
        self,
        step: TrainStep,
        monitor: Monitor | None = None,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
        mode: str = "min",
    ) -> None:
        super().__init__(step, monitor, mode)
        self.factor = self._number("factor", factor, "[0, 1)")
        self.patience, self.cooldown = self._count("patience", patience), 0
        self.rest = self._count("cooldown", cooldown)
        self.threshold = self._number("threshold", threshold)
        self.min_lr = self._number("min_lr", min_lr)
        self._reduced(step.lr)  # an error now rather than after many passes

    def __call__(self, epoch: int, loss: float) -> bool:
        value = self._value(loss)
        if self._better(value):
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        if self.cooldown > 0:
            self.cooldown, self.waited = self.cooldown - 1, 0
        if self.waited > self.patience:
            self.step.lr = self._reduced(self.step.lr)
            self.cooldown, self.waited = self.rest, 0
        return False

    def _better(self, value: float) -> bool:
        if self.mode == "min":
            return value < self.best * (1 - self.threshold)
        return value > self.best * (1 + self.threshold)

    def _reduced(self, rates: Any) -> Any:
        """Rates in their form, each times the factor."""
        if isinstance(rates, dict):
            return {key: self._reduced(rate) for key, rate in rates.items()}
        if isinstance(rates, list):
            return [self._reduced(rate) for rate in rates]
        if not isinstance(rates, float):
            raise self._fail(f"the learning rate {rates!r} is a schedule, not a number to reduce")
        return max(rates * self.factor, self.min_lr)
