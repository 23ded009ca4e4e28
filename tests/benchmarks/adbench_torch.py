"""ADBench's objectives in PyTorch, vectorised as in the modules of that benchmark.

In: a case of examples/data/adbench.py. Out: a function that computes the value and its gradients,
from tensors made before.
"""

from __future__ import annotations

import math
from typing import Any, Callable

import numpy as np
import torch as T

Call = Callable[[], list[Any]]


def gmm(case: Any, form: str = "centred") -> Call:
    """`form` is ADBench's, factors times centred points, or "products": Q x - Q u, of which the
    first is one matrix product."""
    x, gamma, m = T.from_numpy(case.x), case.gamma, case.m
    return _gradient(lambda *p: gmm_objective(*p, x, gamma, m, form), case[:3])


def gmm_objective(
    alphas: Any, means: Any, icf: Any, x: Any, gamma: float, m: int, form: str
) -> Any:
    n, d = x.shape
    q, below = icf[:, :d], icf[:, d:]
    diagonal = T.exp(q)
    rows, columns = np.tril_indices(d, -1)
    order = np.lexsort((rows, columns))  # column by column
    lower = T.zeros(len(alphas), d, d, dtype=icf.dtype)
    lower[:, rows[order], columns[order]] = below
    if form == "centred":
        centred = x[:, None] - means
        scaled = diagonal * centred + T.einsum("kij,nkj->nki", lower, centred)
    else:
        factor = lower + T.diag_embed(diagonal)
        scaled = T.einsum("kij,nj->nki", factor, x) - T.einsum("kij,kj->ki", factor, means)
    each = alphas + q.sum(1) - (scaled**2).sum(2) / 2
    fit = T.logsumexp(each, 1).sum() - n * T.logsumexp(alphas, 0)
    half = T.tensor((d + m + 1) / 2, dtype=icf.dtype)
    constant = (d + m + 1) * d * math.log(gamma / math.sqrt(2)) - T.special.multigammaln(half, d)
    norm = (diagonal**2).sum() + (below**2).sum()
    prior = gamma**2 / 2 * norm - m * q.sum() - len(alphas) * constant
    return fit + prior - n * d / 2 * math.log(2 * math.pi)


def lstm(case: Any) -> Call:
    state, sequence = T.from_numpy(case.state), T.from_numpy(case.sequence)
    return _gradient(lambda *p: lstm_objective(*p, state, sequence), case[:2])


def lstm_objective(main: Any, extra: Any, state: Any, sequence: Any) -> Any:
    h = sequence.shape[1]
    states = list(state)
    hidden = []
    for x in sequence[:-1]:
        x = x * extra[0]
        for i in range(0, len(states), 2):
            gates = T.cat((x, states[i], x, states[i])) * main[i] + main[i + 1]
            forget, enter, leave = T.sigmoid(gates[: 3 * h]).view(3, h)
            states[i + 1] = states[i + 1] * forget + enter * T.tanh(gates[3 * h :])
            states[i] = x = leave * T.tanh(states[i + 1])
        hidden.append(x)
    scores = T.stack(hidden) * extra[1] + extra[2]
    norm = T.log(2 + T.exp(scores).sum(1, keepdim=True))
    return -(sequence[1:] * (scores - norm)).mean()


def _gradient(objective: Callable[..., Any], parameters: Any) -> Call:
    T.set_num_threads(1)
    leaves = [T.from_numpy(a).clone().requires_grad_() for a in parameters]

    def call() -> list[Any]:
        value = objective(*leaves)
        gradients = T.autograd.grad(value, leaves)
        return [value.item(), *(g.numpy() for g in gradients)]

    return call
