"""One training step of a workload in symgrad and in each peer that is installed.

In: a `Workload`. Out: a function that runs one whole step (forward, backward, update) and returns
the loss as a Python float; every contender starts from the same weights.
"""

from __future__ import annotations

import importlib.util
from typing import Any, Callable

import numpy as np
from workloads import Workload

Step = Callable[[], float]


def symgrad_step(w: Workload) -> Any:
    """The compiled step itself, so that `run` can be timed too."""
    import symgrad as sg

    x0, y0, weights = w.arrays()
    n = sg.dim("batch", max=w.batch)
    x = sg.input("x", (n, w.sizes[0]))
    parameters = [sg.parameter(f"p{i}", a.shape, init=a) for i, a in enumerate(weights)]
    h: Any = x
    for i in range(0, len(parameters), 2):
        h = h @ parameters[i] + parameters[i + 1]
        if i + 2 < len(parameters) and w.activation != "none":
            h = getattr(sg.nn, w.activation)(h)
    if w.loss == "cross_entropy":
        loss = sg.losses.cross_entropy(h, sg.input("y", (n,), dtype="int32"))
    else:
        loss = sg.losses.mse_loss(h, sg.input("y", (n, w.sizes[-1])))
    optimizer = sg.optim.SGD(w.lr) if w.optimizer == "sgd" else sg.optim.Adam(w.lr)
    return sg.train_step(loss, optimizer, seed=0)


def symgrad(w: Workload) -> Step:
    x, y, _ = w.arrays()
    step = symgrad_step(w)
    return lambda: step(x, y)  # type: ignore[no-any-return]


def torch(w: Workload) -> Step:
    import torch as T

    T.set_num_threads(1)
    x0, y0, weights = w.arrays()
    x, y = T.from_numpy(x0), T.from_numpy(y0)
    if w.loss == "cross_entropy":
        y = y.long()
    layers: list[Any] = []
    for i in range(0, len(weights), 2):
        layer = T.nn.Linear(*weights[i].shape)
        with T.no_grad():
            layer.weight.copy_(T.from_numpy(weights[i].T))
            layer.bias.copy_(T.from_numpy(weights[i + 1]))
        layers.append(layer)
        if i + 2 < len(weights) and w.activation != "none":
            layers.append({"tanh": T.nn.Tanh, "relu": T.nn.ReLU, "gelu": T.nn.GELU}[w.activation]())
    model = T.nn.Sequential(*layers)
    criterion = T.nn.CrossEntropyLoss() if w.loss == "cross_entropy" else T.nn.MSELoss()
    kind = T.optim.SGD if w.optimizer == "sgd" else T.optim.Adam
    optimizer = kind(model.parameters(), lr=w.lr)

    def step() -> float:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def jax(w: Workload) -> Step:
    import jax as J
    import jax.numpy as jnp

    x0, y0, weights = w.arrays()
    x, y = jnp.asarray(x0), jnp.asarray(y0)

    def loss_of(p: list[Any], x: Any, y: Any) -> Any:
        h = x
        for i in range(0, len(p), 2):
            h = h @ p[i] + p[i + 1]
            if i + 2 < len(p) and w.activation == "gelu":
                h = J.nn.gelu(h, approximate=False)
            elif i + 2 < len(p) and w.activation != "none":
                h = {"tanh": jnp.tanh, "relu": J.nn.relu}[w.activation](h)
        if w.loss == "mse":
            return jnp.mean((h - y) ** 2)
        return -jnp.mean(J.nn.log_softmax(h)[jnp.arange(h.shape[0]), y])

    def sgd(state: Any, x: Any, y: Any) -> Any:
        loss, g = J.value_and_grad(loss_of)(state[0], x, y)
        return ([p - w.lr * d for p, d in zip(state[0], g)],), loss

    def adam(state: Any, x: Any, y: Any) -> Any:
        p, m, v, t = state
        loss, g = J.value_and_grad(loss_of)(p, x, y)
        t = t + 1
        m = [0.9 * a + 0.1 * d for a, d in zip(m, g)]
        v = [0.999 * a + 0.001 * d * d for a, d in zip(v, g)]
        c1, c2 = 1 - 0.9**t, 1 - 0.999**t
        p = [q - w.lr * (a / c1) / (jnp.sqrt(b / c2) + 1e-8) for q, a, b in zip(p, m, v)]
        return (p, m, v, t), loss

    p = [jnp.asarray(a) for a in weights]
    zeros = [jnp.zeros_like(a) for a in p]
    state: list[Any] = [(p,) if w.optimizer == "sgd" else (p, zeros, list(zeros), jnp.float32(0))]
    compiled = J.jit(sgd if w.optimizer == "sgd" else adam, donate_argnums=(0,))
    if w.optimizer == "adam":
        state[0] = (p, zeros, [jnp.zeros_like(a) for a in p], jnp.float32(0))

    def step() -> float:
        state[0], loss = compiled(state[0], x, y)
        return float(loss)

    return step


def pytensor(w: Workload) -> Step:
    import pytensor as P
    import pytensor.tensor as pt

    x0, y0, weights = w.arrays()
    P.config.floatX = "float32"
    x, y = pt.fmatrix("x"), pt.ivector("y") if w.loss == "cross_entropy" else pt.fmatrix("y")
    parameters = [P.shared(a.copy()) for a in weights]
    h: Any = x
    for i in range(0, len(parameters), 2):
        h = h @ parameters[i] + parameters[i + 1]
        if i + 2 < len(parameters) and w.activation == "gelu":
            h = h * np.float32(0.5) * (np.float32(1) + pt.erf(h * np.float32(0.5**0.5)))
        elif i + 2 < len(parameters) and w.activation != "none":
            h = pt.tanh(h) if w.activation == "tanh" else pt.maximum(h, np.float32(0))
    if w.loss == "mse":
        loss = pt.mean((h - y) ** 2)
    else:
        logp = pt.special.log_softmax(h, axis=1)
        loss = -pt.mean(logp[pt.arange(h.shape[0]), y])
    grads = P.grad(loss, parameters)
    updates = []
    if w.optimizer == "sgd":
        updates = [(p, p - np.float32(w.lr) * g) for p, g in zip(parameters, grads)]
    else:
        t = P.shared(np.float32(0))
        t1 = t + np.float32(1)
        updates = [(t, t1)]
        one = np.float32(1)
        for p, g in zip(parameters, grads):
            m, v = P.shared(p.get_value() * 0), P.shared(p.get_value() * 0)
            m1 = np.float32(0.9) * m + np.float32(0.1) * g
            v1 = np.float32(0.999) * v + np.float32(0.001) * g * g
            a = m1 / (one - np.float32(0.9) ** t1)
            b = pt.sqrt(v1 / (one - np.float32(0.999) ** t1)) + np.float32(1e-8)
            updates += [(m, m1), (v, v1), (p, p - np.float32(w.lr) * a / b)]
    f = P.function([x, y], loss, updates=updates)
    return lambda: float(f(x0, y0))


def numpy(w: Workload) -> Step:
    """Written by hand, as a careful user would."""
    x, y, p = w.arrays()
    m, v, count = [np.zeros_like(a) for a in p], [np.zeros_like(a) for a in p], [0]
    if w.activation == "gelu":
        raise ImportError("NumPy has no erf")
    forward = {
        "tanh": (np.tanh, lambda h: 1 - h * h),
        "relu": (lambda z: np.maximum(z, 0), lambda h: h > 0),
        "none": (lambda z: z, lambda h: np.float32(1)),
    }
    function, slope = forward[w.activation]
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
                _update(w, p, m, v, k, g, count[0])
        return float(loss)

    return step


def _update(w: Workload, p: list, m: list, v: list, k: int, g: np.ndarray, t: int) -> None:
    if w.optimizer == "sgd":
        p[k] -= np.float32(w.lr) * g
        return
    m[k] = np.float32(0.9) * m[k] + np.float32(0.1) * g
    v[k] = np.float32(0.999) * v[k] + np.float32(0.001) * g * g
    step = np.float32(w.lr / (1 - 0.9**t))
    p[k] -= step * m[k] / (np.sqrt(v[k] * np.float32(1 / (1 - 0.999**t))) + np.float32(1e-8))


PEERS: dict[str, Callable[[Workload], Step]] = {
    "torch": torch,
    "jax": jax,
    "pytensor": pytensor,
    "numpy": numpy,
}


def installed(names: list[str] | None = None) -> dict[str, Callable[[Workload], Step]]:
    """The peers that can be imported here."""
    return {
        name: build
        for name, build in PEERS.items()
        if (names is None or name in names) and importlib.util.find_spec(name) is not None
    }
