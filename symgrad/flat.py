"""A loss as a function of one flat vector: what optimizers from elsewhere drive.

In: a loss and the parameters to vary. Out: a `FlatFunction`, compiled once: it takes the vector of
all their numbers and gives the value and the gradient, the latter a vector too.

>>> f = flatten_function(loss, model, data={"x": X, "y": Y})
>>> best = scipy.optimize.minimize(f, f.initial, jac=True, method="L-BFGS-B")
>>> f.assign(best.x)                       # the parameters now hold what was found
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from symgrad import names, ops, source
from symgrad.compile.arguments import convert, located, match
from symgrad.compile.function import Function, function
from symgrad.compile.request import substitute, trainable
from symgrad.errors import InputError
from symgrad.grad import grad, hvp
from symgrad.node import Expr, Input, Parameter, Random, toposort
from symgrad.state import Store, converted

Array = np.ndarray[Any, Any]
DTYPE = "float64"  # of the vector: what minimisers compute in, whatever the parameters are


def flatten_function(
    loss: Expr,
    parameters: Any = None,
    data: Mapping[str, Any] | None = None,
    *,
    state: Store | None = None,
    seed: int = 0,
    **options: Any,
) -> FlatFunction:
    """The loss as `f(theta) -> (value, gradient)`, for SciPy's minimisers and any other.

    loss        a scalar expression
    parameters  what varies (layers, parameters, lists of those): in this order their numbers make
                theta, each array by rows. Every parameter that the loss depends on when omitted
    data        arrays by input name, bound until `f.bind` binds others. Inputs left out are given
                at each call, by name or, in the order of their creation, by position: SciPy's
                `args=(X, Y)`
    state       the state of another function or step, to share its parameters: f starts from what
                they hold, `f.assign(theta)` writes there. A state of its own (`seed`) otherwise
    options     threads, target, check, max_bytes, tolerance: those of `sg.function`

    theta and the gradient are float64. Parameters in float32 are minimised too, but a line search
    sees their rounding: declare them (and the inputs) float64 to converge beyond six digits.
    Random numbers in the loss (dropout) are the same at every call, those of the state's present
    step, so that f is a function of theta; running statistics do not move.

        f = sg.flatten_function(loss, model, data={"x": X, "y": Y})
        best = scipy.optimize.minimize(f, f.initial, jac=True, method="Newton-CG", hessp=f.hvp)
        f.assign(best.x)

    Raises GraphError for a loss that is no scalar or does not depend on a parameter, InputError
    for arrays that do not fit the inputs and vectors of another length.
    """
    chosen = {"seed": seed, **options}
    return FlatFunction(loss, trainable(loss, parameters), data or {}, state, chosen)


class FlatFunction:
    """Made by `flatten_function`: value, gradient and Hessian-vector product at a flat vector."""

    def __init__(
        self,
        loss: Expr,
        parameters: list[Parameter],
        data: Mapping[str, Any],
        state: Store | None,
        chosen: dict[str, Any],
    ) -> None:
        self._loss, self._chosen = loss, chosen
        self.parameters = tuple(parameters)
        ends = np.cumsum([math.prod(p.shape) for p in parameters]).tolist()  # type: ignore[arg-type]
        self.size: int = ends[-1]
        self._slices = [slice(a, b) for a, b in zip([0, *ends], ends)]
        self._theta = Input("theta", (self.size,), DTYPE)
        nodes = toposort([loss])
        self._leaves = tuple(
            sorted((n for n in nodes if isinstance(n, Input)), key=lambda leaf: leaf.order)
        )
        self._is_random = any(isinstance(n, Random) for n in nodes)
        used = [n for n in nodes if isinstance(n, Parameter)]
        names.settle(used, [*(state or ()), *(leaf.name for leaf in self._leaves)])
        slopes = grad(loss, parameters)
        outputs = self._at_theta([ops.cast(loss, DTYPE), self._joined(slopes)])
        inputs = [self._theta, *self._leaves]
        #: The compiled function behind a call: its stages, report and profile.
        self.function: Function = function(inputs, outputs, state=state, **chosen)
        self.state.add(parameters)
        self.bind(**data)

    # -- the graph -----------------------------------------------------------------------------
    def _at_theta(self, outputs: list[Expr]) -> list[Expr]:
        """Expressions of theta in the place of the parameters."""
        parts = zip(self.parameters, self._parts(self._theta))
        return substitute(outputs, {p: ops.cast(part, p.dtype) for p, part in parts})

    def _parts(self, vector: Expr) -> list[Expr]:
        """The pieces of a flat expression in the parameters' shapes."""
        cut = zip(self.parameters, self._slices)
        return [ops.reshape(vector[part], p.shape) for p, part in cut]

    def _joined(self, pieces: list[Expr]) -> Expr:
        return ops.concatenate([ops.cast(ops.reshape(e, (-1,)), DTYPE) for e in pieces])

    @cached_property
    def _product(self) -> Function:
        """The Hessian-vector product, compiled when it is first asked for."""
        v = Input("v", (self.size,), DTYPE)
        tangents = [ops.cast(t, p.dtype) for p, t in zip(self.parameters, self._parts(v))]
        product = self._joined(hvp(self._loss, list(self.parameters), tangents))
        inputs = [self._theta, v, *self._leaves]
        return function(inputs, self._at_theta([product])[0], state=self.state, **self._chosen)

    # -- calls ---------------------------------------------------------------------------------
    def bind(self, **data: Any) -> FlatFunction:
        """Fix inputs for all further calls (a batch, say), those not named being given at each."""
        known = [leaf.name for leaf in self._leaves]
        for name in data:
            if name not in known:
                raise InputError(
                    f"flatten_function: no input is named {name!r}; the inputs are "
                    f"{', '.join(map(repr, known)) or 'none'}" + source.quote(source.here())
                )
        bound = [leaf for leaf in self._leaves if leaf.name in data]
        with located():
            self._bound = {leaf.name: convert(leaf, data[leaf.name]) for leaf in bound}
        all_bound = len(bound) == len(self._leaves)
        self._rest = tuple(self._bound.values()) if all_bound else None
        return self

    def __call__(self, theta: Any, *args: Any, **inputs: Any) -> tuple[float, Array]:
        """(value, gradient) at theta; the gradient is the caller's own array."""
        return tuple(self._call(self.function, (theta,), args, inputs))  # type: ignore[return-value]

    def hvp(self, theta: Any, v: Any, *args: Any, **inputs: Any) -> Array:
        """The Hessian at theta times v: `hessp` of SciPy's Newton-CG and trust-region methods."""
        return self._call(self._product, (theta, v), args, inputs)  # type: ignore[no-any-return]

    def _call(self, f: Function, vectors: tuple[Any, ...], args: Any, inputs: Any) -> Any:
        before = self.state.rng.copy() if self._is_random else None
        if self._rest is not None and not args and not inputs:
            result = f(*vectors, *self._rest)
        else:
            result = f(*vectors, *self._given(args, inputs))
        if before is not None:
            self.state.rng[:] = before
        return result

    def _given(self, args: Any, inputs: Mapping[str, Any]) -> list[Any]:
        """The inputs of a call in order: bound ones, unless they are given by name."""
        bound = {**self._bound, **{k: v for k, v in inputs.items() if k in self._bound}}
        named = {k: v for k, v in inputs.items() if k not in self._bound}
        free = [leaf for leaf in self._leaves if leaf.name not in bound]
        with located():
            values = iter(match(free, args, named))
        return [bound[e.name] if e.name in bound else next(values) for e in self._leaves]

    # -- vectors and parameters ----------------------------------------------------------------
    @property
    def state(self) -> Store:
        """Where the parameters live that `initial` reads and `assign` writes."""
        return self.function.state

    @property
    def initial(self) -> Array:
        """What the parameters hold now, as a vector."""
        return self.flatten({p.name: self.state[p] for p in self.parameters})

    def flatten(self, values: Mapping[str, Any]) -> Array:
        """The vector of arrays given by parameter name."""
        missing = [p.name for p in self.parameters if p.name not in values]
        if missing:
            raise InputError(
                f"flatten_function: no value for {', '.join(missing)}" + source.quote(source.here())
            )
        pieces = [converted(values[p.name], p).reshape(-1) for p in self.parameters]
        return np.concatenate(pieces).astype(DTYPE)

    def unflatten(self, theta: Any) -> dict[str, Array]:
        """The arrays by parameter name that a vector stands for, in the parameters' dtypes."""
        theta = np.asarray(theta, DTYPE)
        if theta.shape != (self.size,):
            raise InputError(
                f"flatten_function: theta has shape ({self.size},), the value given "
                f"{theta.shape}" + source.quote(source.here())
            )
        cut = zip(self.parameters, self._slices)
        return {p.name: theta[part].reshape(p.shape).astype(p.dtype) for p, part in cut}  # type: ignore[arg-type]

    def assign(self, theta: Any) -> None:
        """Write a vector into the parameters: all functions that share the state see it."""
        for p, value in zip(self.parameters, self.unflatten(theta).values()):
            self.state[p] = value

    def __repr__(self) -> str:
        names = ", ".join(leaf.name for leaf in self._leaves)
        return f"<flat function of {self.size} numbers ({names or 'no inputs'})>"
