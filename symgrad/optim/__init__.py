"""Optimizers: plain update expressions, by PyTorch's names, defaults and formulas.

In: parameters and the gradients of a loss. Out: what each parameter and each state (moments, step
counter) becomes: `{W: W - lr * g, m: 0.9 * m + g}`.

    step = sg.train_step(loss, sg.optim.Adam(1e-3))

An optimizer of one's own gives the rule for one parameter; `moment` makes a state like it:

    class Lion(sg.optim.Optimizer):
        def rule(self, p, g):
            m = self.moment("m", p)
            direction = sg.sign(0.9 * m + 0.1 * g)
            return {p: p - self.rate(p) * direction, m: 0.99 * m + 0.01 * g}

or is any object with `updates(params, grads) -> dict`.
"""

from symgrad.optim.base import (
    Optimizer,
    Updates,
    clip_by_global_norm,
    clip_by_value,
    global_norm,
)
from symgrad.optim.groups import Groups
from symgrad.optim.rules import SGD, Adagrad, Adam, AdamW, RMSprop

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Groups",
    "Optimizer",
    "RMSprop",
    "Updates",
    "clip_by_global_norm",
    "clip_by_value",
    "global_norm",
]
