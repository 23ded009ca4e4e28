"""Learning rates as functions of the number of steps taken.

In: numbers. Out: a `Schedule`, handed to an optimizer as its `lr`. Called with the step counter of
the graph it gives an expression; called with a number or an array it gives numbers, for a plot.

>>> cosine(0.1, steps=100)(50)
0.05
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable, Union

import numpy as np

from symgrad import ops
from symgrad.checks import number
from symgrad.node import Expr

Formula = Callable[[Any, Any], Any]  # (t, the namespace of functions) -> learning rate


@dataclass(frozen=True, repr=False)
class Schedule:
    """A formula for the learning rate at step t = 0, 1, 2 ... (t steps done before)."""

    text: str
    formula: Formula

    def __call__(self, t: Any) -> Any:
        if isinstance(t, Expr):
            return self.formula(t, ops)
        values = self.formula(np.asarray(t, "float64"), np)
        return float(values) if np.ndim(values) == 0 else values

    def __repr__(self) -> str:
        return f"schedules.{self.text}"


Rate = Union[float, Schedule]


def check_rate(name: str, value: Any) -> float:
    """A learning rate: a finite number, not negative."""
    return number(name, "a learning rate", value)


def _positive(name: str, **values: Any) -> None:
    for key, value in values.items():
        number(f"schedules.{name}", key, value, "(0, inf)")


def constant(lr: float) -> Schedule:
    """lr at every step."""
    lr = check_rate("schedules.constant", lr)
    return Schedule(f"constant({lr})", lambda t, m: t * 0 + lr)


def step(lr: float, every: int, gamma: float = 0.1) -> Schedule:
    """lr * gamma^floor(t / every). PyTorch's StepLR."""
    lr = check_rate("schedules.step", lr)
    _positive("step", every=every, gamma=gamma)
    rate = math.log(gamma)
    text = f"step({lr}, {every}, {gamma})"
    return Schedule(text, lambda t, m: m.exp(m.floor(t / every) * rate) * lr)


def exponential(lr: float, gamma: float) -> Schedule:
    """lr * gamma^t. PyTorch's ExponentialLR."""
    lr = check_rate("schedules.exponential", lr)
    _positive("exponential", gamma=gamma)
    rate = math.log(gamma)
    return Schedule(f"exponential({lr}, {gamma})", lambda t, m: m.exp(t * rate) * lr)


def cosine(lr: float, steps: int, final: float = 0.0) -> Schedule:
    """final + (lr - final)/2 * (1 + cos(pi t / steps)), `final` from `steps` on.

    PyTorch's CosineAnnealingLR, and SGDR's one cycle (Loshchilov and Hutter, 2017).
    """
    lr, final = check_rate("schedules.cosine", lr), check_rate("schedules.cosine", final)
    _positive("cosine", steps=steps)

    def formula(t: Any, m: Any) -> Any:
        return _anneal(lr, final, m.minimum(t / steps, 1.0), m)

    return Schedule(f"cosine({lr}, {steps}, {final})", formula)


def warmup(then: Rate, steps: int, start: float = 0.0) -> Schedule:
    """A line from `start` to `then` over `steps` steps, and then `then`, counted from there."""
    _positive("warmup", steps=steps)
    start = check_rate("schedules.warmup", start)
    if not isinstance(then, Schedule):
        then = constant(check_rate("schedules.warmup", then))
    after = then
    top = float(after(0))

    def formula(t: Any, m: Any) -> Any:
        ramp = start + (top - start) * m.minimum(t / steps, 1.0)
        return m.where(t < steps, ramp, after.formula(m.maximum(t - steps, 0.0), m))

    return Schedule(f"warmup({after!r}, {steps}, {start})", formula)


def one_cycle(
    max_lr: float,
    total_steps: int,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Schedule:
    """By cosines up from max_lr/div_factor over pct_start of the steps, then down.

    It ends at max_lr/div_factor/final_div_factor. PyTorch's OneCycleLR, its two-phase form without
    momentum cycling (Smith and Topin, 2018).
    """
    top = check_rate("schedules.one_cycle", max_lr)
    _positive("one_cycle", total_steps=total_steps, div_factor=div_factor)
    _positive("one_cycle", final_div_factor=final_div_factor)
    number("schedules.one_cycle", "pct_start", pct_start, "[0, 1]")
    low = top / div_factor
    rise, last = pct_start * total_steps - 1, total_steps - 1

    def formula(t: Any, m: Any) -> Any:
        down = m.minimum((t - rise) / max(last - rise, 1e-9), 1.0)
        falling = _anneal(top, low / final_div_factor, m.maximum(down, 0.0), m)
        if rise <= 0:
            return falling
        return m.where(t <= rise, _anneal(low, top, m.minimum(t / rise, 1.0), m), falling)

    return Schedule(f"one_cycle({top}, {total_steps}, {pct_start})", formula)


def _anneal(start: float, end: float, part: Any, m: Any) -> Any:
    """From start to end along half a cosine, `part` from 0 to 1."""
    return end + (start - end) / 2 * (1 + m.cos(part * math.pi))
