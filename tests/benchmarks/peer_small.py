"""Networks of fully connected layers in PyTensor, and in NumPy as a careful user writes them.

In: a `Workload` of `Dense` and `Act` layers. Out: a function that runs one step and returns the
loss.
"""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
from layers import Act
from workloads import Workload

Step = Callable[[], float]


def _parts(w: Workload) -> tuple[list[np.ndarray], str]:
    """Weights and biases in turn, and the activation between the layers."""
    arrays = [a for layer in w.weights() for a in layer]
    acts = [layer.name for layer in w.layers if isinstance(layer, Act)]
    return arrays, acts[0] if acts else "none"


def pytensor(w: Workload, threads: int = 1) -> Step:
    import pytensor as P
    import pytensor.tensor as pt

    P.config.floatX = "float32"
    x0, y0 = w.data()
    weights, activation = _parts(w)
    x, y = pt.fmatrix("x"), pt.ivector("y") if w.loss == "cross_entropy" else pt.fmatrix("y")
    parameters = [P.shared(a) for a in weights]
    h: Any = x
    for i in range(0, len(parameters), 2):
        h = h @ parameters[i] + parameters[i + 1]
        if i + 2 < len(parameters) and activation == "gelu":
            h = h * np.float32(0.5) * (np.float32(1) + pt.erf(h * np.float32(0.5**0.5)))
        elif i + 2 < len(parameters) and activation != "none":
            h = pt.tanh(h) if activation == "tanh" else pt.maximum(h, np.float32(0))
    if w.loss == "mse":
        loss = pt.mean((h - y) ** 2)
    else:
        logp = pt.special.log_softmax(h, axis=1)
        loss = -pt.mean(logp[pt.arange(h.shape[0]), y])
    updates = _pytensor_updates(w, parameters, P.grad(loss, parameters))
    f = P.function([x, y], loss, updates=updates)
    return lambda: float(f(x0, y0))


def _pytensor_updates(w: Workload, parameters: list[Any], grads: list[Any]) -> list[Any]:
    import pytensor as P
    import pytensor.tensor as pt

    rate, one = np.float32(w.lr), np.float32(1)
    if w.optimizer == "sgd":
        return [(p, p - rate * g) for p, g in zip(parameters, grads)]
    t = P.shared(np.float32(0))
    t1 = t + one
    updates = [(t, t1)]
    for p, g in zip(parameters, grads):
        m, v = P.shared(p.get_value() * 0), P.shared(p.get_value() * 0)
        m1 = np.float32(0.9) * m + np.float32(0.1) * g
        v1 = np.float32(0.999) * v + np.float32(0.001) * g * g
        a = m1 / (one - np.float32(0.9) ** t1)
        b = pt.sqrt(v1 / (one - np.float32(0.999) ** t1)) + np.float32(1e-8)
        updates += [(m, m1), (v, v1), (p, p - rate * a / b)]
    return updates


def numpy(w: Workload, threads: int = 1) -> Step:
    x, y = w.data()
    p, activation = _parts(w)
    m, v, count = [np.zeros_like(a) for a in p], [np.zeros_like(a) for a in p], [0]
    function, slope = {
        "tanh": (np.tanh, lambda h: 1 - h * h),
        "relu": (lambda z: np.maximum(z, 0), lambda h: h > 0),
        "none": (lambda z: z, lambda h: np.float32(1)),
    }[activation]
    rows = np.arange(w.batch)

    def step() -> float:
        hidden = [x]
        for i in range(0, len(p), 2):
            z = hidden[-1] @ p[i] + p[i + 1]
            hidden.append(function(z) if i + 2 < len(p) else z)
        z = hidden[-1]
        e = np.exp(z - z.max(1, keepdims=True))
        total = e.sum(1, keepdims=True)
        loss = np.mean(np.log(total[:, 0]) + z.max(1) - z[rows, y])
        d = e / total
        d[rows, y] -= 1
        d *= np.float32(1 / w.batch)
        count[0] += 1
        for i in reversed(range(0, len(p), 2)):
            h = hidden[i // 2]
            grads = (h.T @ d, d.sum(0))
            if i:
                d = (d @ p[i].T) * slope(h)
            for k, g in zip((i, i + 1), grads):
                _numpy_update(w, p, m, v, k, g, count[0])
        return float(loss)

    return step


def _numpy_update(w: Workload, p: list, m: list, v: list, k: int, g: np.ndarray, t: int) -> None:
    if w.optimizer == "sgd":
        p[k] -= np.float32(w.lr) * g
        return
    m[k] = np.float32(0.9) * m[k] + np.float32(0.1) * g
    v[k] = np.float32(0.999) * v[k] + np.float32(0.001) * g * g
    step = np.float32(w.lr / (1 - 0.9**t))
    p[k] -= step * m[k] / (np.sqrt(v[k] * np.float32(1 / (1 - 0.999**t))) + np.float32(1e-8))
