"""The update rules: SGD, Adam, AdamW, RMSprop, Adagrad, by PyTorch's formulas and defaults.

In: a parameter and its gradient. Out: what the parameter and its moments become.

>>> SGD(0.1, momentum=0.9).updates([W], [g])
{<W (3, 2) float32>: <sub (3, 2) float32>, <sgd.momentum.W (3, 2) float32>: <add (3, 2) float32>}
"""

from __future__ import annotations

import math
from typing import Any

from symgrad import ops
from symgrad.checks import bad, flag, number
from symgrad.node import Constant, Expr, Parameter
from symgrad.optim.base import Optimizer, Rate, Updates


class SGD(Optimizer):
    """p - lr * b with b = momentum * b + (1 - dampening) * g, or g alone without momentum.

    nesterov: p - lr * (g + momentum * b). The first b is g. Sutskever et al. (2013), PyTorch.
    """

    def __init__(
        self,
        lr: Rate = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.momentum = number(self.name, "momentum", momentum)
        self.dampening = number(self.name, "dampening", dampening, "(-inf, inf)")
        self.nesterov = flag(self.name, "nesterov", nesterov)
        if nesterov and (momentum == 0 or dampening != 0):
            raise bad(
                self.name,
                "nesterov needs a momentum and no dampening, got momentum "
                f"{momentum!r} and dampening {dampening!r}",
            )

    def _decayed(self, p: Parameter, g: Expr) -> Expr:
        return super()._decayed(p, g) if self.momentum else g  # see rule

    def rule(self, p: Parameter, g: Expr) -> Updates:
        rate = self.rate(p)
        if not self.momentum:
            # lr * (g + decay * p), with the decay as a factor of p.
            kept = p * (1 - rate * self.weight_decay) if self.weight_decay else p
            return {p: kept - rate * g}
        b = self.moment("momentum", p)
        fresh = g
        if self.dampening:
            first = ops.cast(ops.equal(self.count, 0), p.dtype)
            fresh = g * (1 - self.dampening + first * self.dampening)
        moved = b * self.momentum + fresh
        direction = g + moved * self.momentum if self.nesterov else moved
        return {p: p - rate * direction, b: moved}


class Adam(Optimizer):
    """p - lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps); m, v running means of g and g^2.

    amsgrad divides by the largest v so far. Kingma and Ba (2015), Reddi et al. (2018), PyTorch.
    """

    decoupled = False  # weight decay is added to the gradient

    def __init__(
        self,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise bad(self.name, f"betas must be two numbers, got {betas!r}")
        first, second = (number(self.name, "betas", beta, "[0, 1)") for beta in betas)
        self.betas = (first, second)
        self.eps = number(self.name, "eps", eps)
        self.amsgrad = flag(self.name, "amsgrad", amsgrad)

    def _decayed(self, p: Parameter, g: Expr) -> Expr:
        return g if self.decoupled else super()._decayed(p, g)

    def _correction(self, beta: float) -> Expr:
        """1 - beta^t at the t-th step, accurate also where beta^t is close to 1."""
        if beta == 0:
            return Constant.of(1.0, self._scalar())
        return -ops.expm1((self.steps() + 1) * math.log(beta))

    def rule(self, p: Parameter, g: Expr) -> Updates:
        b1, b2 = self.betas
        m, v = self.moment("m", p), self.moment("v", p)
        new_m = m * b1 + g * (1 - b1)
        new_v = v * b2 + g * g * (1 - b2)
        result: Updates = {m: new_m, v: new_v}
        largest = new_v
        if self.amsgrad:
            top = self.moment("max_v", p)
            largest = result[top] = ops.maximum(top, new_v)
        # Scalars first, so that one element costs one root and one division.
        rate = self._scalar_rate()
        factor = ops.cast(rate / self._correction(b1), p.dtype)
        root = ops.cast(1 / ops.sqrt(self._correction(b2)), p.dtype)
        kept: Expr = p
        if self.decoupled and self.weight_decay:
            kept = p * (1 - self.rate(p) * self.weight_decay)
        result[p] = kept - factor * (new_m / (ops.sqrt(largest) * root + self.eps))
        return result


class AdamW(Adam):
    """Adam with weight decay apart from the gradient: p * (1 - lr * weight_decay) is what moves.

    Loshchilov and Hutter (2019), PyTorch.
    """

    decoupled = True

    def __init__(
        self,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(lr, betas, eps, weight_decay, amsgrad, **options)


class RMSprop(Optimizer):
    """v = alpha v + (1 - alpha) g^2; p - lr * g / (sqrt(v) + eps).

    centered subtracts the square of the running average of g from v; with momentum,
    b = momentum * b + g / (sqrt(v) + eps) is what moves p. Hinton's lecture 6e, PyTorch.
    """

    def __init__(
        self,
        lr: Rate = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.alpha = number(self.name, "alpha", alpha, "[0, 1)")
        self.eps = number(self.name, "eps", eps)
        self.momentum = number(self.name, "momentum", momentum)
        self.centered = flag(self.name, "centered", centered)

    def rule(self, p: Parameter, g: Expr) -> Updates:
        v = self.moment("v", p)
        new_v = v * self.alpha + g * g * (1 - self.alpha)
        result: Updates = {v: new_v}
        spread = new_v
        if self.centered:
            mean = self.moment("mean", p)
            new_mean = result[mean] = mean * self.alpha + g * (1 - self.alpha)
            spread = new_v - new_mean * new_mean
        step = g / (ops.sqrt(spread) + self.eps)
        if self.momentum:
            b = self.moment("momentum", p)
            step = result[b] = b * self.momentum + step
        result[p] = p - self.rate(p) * step
        return result


class Adagrad(Optimizer):
    """s = s + g^2; p - lr / (1 + t * lr_decay) * g / (sqrt(s) + eps), t steps done before.

    Duchi et al. (2011), PyTorch.
    """

    def __init__(
        self,
        lr: Rate = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        **options: Any,
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.lr_decay = number(self.name, "lr_decay", lr_decay)
        name, start = "initial_accumulator_value", initial_accumulator_value
        self.start = number(self.name, name, start)
        self.eps = number(self.name, "eps", eps)

    def rule(self, p: Parameter, g: Expr) -> Updates:
        s = self.moment("sum", p, self.start)
        new_s = s + g * g
        rate = self._scalar_rate()
        if self.lr_decay:
            rate = rate / (1 + self.steps() * self.lr_decay)
        moved = ops.cast(rate, p.dtype) * (g / (ops.sqrt(new_s) + self.eps))
        return {p: p - moved, s: new_s}
