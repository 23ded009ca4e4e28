"""ADBench's objectives in JAX: one `jit` over value and gradient, the LSTM by `lax.scan`.

In: a case of examples/data/adbench.py. Out: a function that computes the value and its gradients,
from arrays made before.
"""

from __future__ import annotations

import math
from typing import Any, Callable

import jax as J
import jax.numpy as jnp
import numpy as np

Call = Callable[[], list[Any]]
J.config.update("jax_enable_x64", True)


def gmm(case: Any, form: str = "centred") -> Call:
    """`form` is ADBench's, factors times centred points, or "products": Q x - Q u, of which the
    first is one matrix product."""
    gamma, m = case.gamma, case.m
    return _gradient(lambda *p: gmm_objective(*p, gamma, m, form), case[:4], 3)


def gmm_objective(
    alphas: Any, means: Any, icf: Any, x: Any, gamma: float, m: int, form: str
) -> Any:
    n, d = x.shape
    q, below = icf[:, :d], icf[:, d:]
    diagonal = jnp.exp(q)
    rows, columns = np.tril_indices(d, -1)
    order = np.lexsort((rows, columns))  # column by column
    lower = jnp.zeros((len(alphas), d, d)).at[:, rows[order], columns[order]].set(below)
    if form == "centred":
        centred = x[:, None] - means
        scaled = diagonal * centred + jnp.einsum("kij,nkj->nki", lower, centred)
    else:
        factor = lower + diagonal[:, :, None] * jnp.eye(d)
        scaled = jnp.einsum("kij,nj->nki", factor, x) - jnp.einsum("kij,kj->ki", factor, means)
    each = alphas + q.sum(1) - (scaled**2).sum(2) / 2
    logsumexp = J.scipy.special.logsumexp
    fit = logsumexp(each, axis=1).sum() - n * logsumexp(alphas)
    log_gamma = J.scipy.special.multigammaln((d + m + 1) / 2, d)
    constant = (d + m + 1) * d * math.log(gamma / math.sqrt(2)) - log_gamma
    norm = (diagonal**2).sum() + (below**2).sum()
    prior = gamma**2 / 2 * norm - m * q.sum() - len(alphas) * constant
    return fit + prior - n * d / 2 * math.log(2 * math.pi)


def lstm(case: Any) -> Call:
    return _gradient(lstm_objective, case, 2)


def lstm_objective(main: Any, extra: Any, state: Any, sequence: Any) -> Any:
    h = sequence.shape[1]

    def turn(states: Any, x: Any) -> Any:
        x = x * extra[0]
        new = []
        for i in range(0, len(states), 2):
            gates = jnp.concatenate((x, states[i], x, states[i])) * main[i] + main[i + 1]
            forget, enter, leave = J.nn.sigmoid(gates[: 3 * h]).reshape(3, h)
            memory = states[i + 1] * forget + enter * jnp.tanh(gates[3 * h :])
            x = leave * jnp.tanh(memory)
            new += [x, memory]
        return jnp.stack(new), x

    _, hidden = J.lax.scan(turn, state, sequence[:-1])
    scores = hidden * extra[1] + extra[2]
    norm = jnp.log(2 + jnp.exp(scores).sum(1, keepdims=True))
    return -(sequence[1:] * (scores - norm)).mean()


def _gradient(objective: Callable[..., Any], arrays: Any, count: int) -> Call:
    placed = [jnp.asarray(a) for a in arrays]
    compiled = J.jit(J.value_and_grad(objective, tuple(range(count))))

    def call() -> list[Any]:
        value, gradients = compiled(*placed)
        return [float(value), *(np.asarray(g) for g in gradients)]

    return call
