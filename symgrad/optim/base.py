"""What optimizers have in common: rates, states, decay, clipping, constraints.

In: parameters and their gradients. Out: what every parameter and state becomes, by the rule of a
subclass.

>>> Optimizer(0.1, clip_norm=1.0).rate(Parameter("W", (3, 2)))
<optimizer.lr () float32>
"""

from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence, Union

from symgrad import dtypes, names, ops, source
from symgrad.checks import bad, flag, number
from symgrad.errors import GraphError, ShapeError
from symgrad.node import Constant, Expr, Parameter, State
from symgrad.schedules import Schedule, check_rate
from symgrad.sizes import show

Updates = dict[Parameter, Expr]
Rate = Union[float, Expr, Schedule, Callable[[Expr], Any]]
Constraint = Callable[[Expr], Expr]


class Optimizer:
    """Base of the optimizers: the learning rate, the states, gradient clipping, constraints.

    lr            a number (kept in the state `<name>.lr`, so that it can be set between calls), a
                  schedule (any function from the step counter to a rate), or a 0-d expression
    weight_decay  added to the gradient as weight_decay * p, biases included, as in PyTorch
    maximize      ascend instead of descend
    clip_norm     scale all gradients so that their joint norm is at most this
    clip_value    clip every element of the gradients to [-clip_value, clip_value]
    constraints   a projection of every weight after its update, or {parameter: projection}
    name          what the names of states start with; give it where one graph has two optimizers
    """

    def __init__(
        self,
        lr: Rate = 1e-3,
        *,
        weight_decay: float = 0.0,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        constraints: Constraint | Mapping[Parameter, Constraint] | None = None,
        name: str | None = None,
    ) -> None:
        self.name = type(self).__name__.lower() if name is None else name
        if not isinstance(self.name, str) or not self.name:
            raise bad(type(self).__name__.lower(), f"name must be a non-empty string, got {name!r}")
        self._given_name = name is not None
        self.weight_decay = number(self.name, "weight_decay", weight_decay)
        self.maximize = flag(self.name, "maximize", maximize)
        self.clip_norm = self._limit("clip_norm", clip_norm)
        self.clip_value = self._limit("clip_value", clip_value)
        self.constraints = self._projections(constraints)
        self.dtype: str | None = None  # of scalars: the widest of the parameters'
        self._states: dict[Any, State] = {}
        self.lr = lr

    def _limit(self, name: str, value: Any) -> float | None:
        return None if value is None else number(self.name, name, value, "(0, inf)")

    def _projections(self, given: Any) -> Any:
        """One projection, or one for each of some parameters."""
        wanted = list(given.values()) if isinstance(given, Mapping) else [given]
        for projection in wanted:
            if projection is not None and not callable(projection):
                raise bad(
                    self.name,
                    "constraints must be a projection such as sg.constraints.max_norm(2), or a "
                    f"dict of them by parameter, got {projection!r}",
                )
        return given

    def rename(self, name: str) -> None:
        """Another name, unless the user chose this one or states are named after it already."""
        if not self._given_name and not self._states:
            self.name = name

    # -- learning rate ------------------------------------------------------------------------
    @property
    def lr(self) -> Rate:
        """The learning rate as given; a step compiled since holds its own in `lr_state`."""
        return self._lr

    @lr.setter
    def lr(self, value: Rate) -> None:
        if isinstance(value, Expr):
            if value.ndim:
                raise ShapeError(
                    f"{self.name}: a learning rate is 0-d, got shape {show(value.shape)}"
                    + source.quote(source.here())
                )
        elif not callable(value):
            value = self.check_lr(value)
        self._lr: Rate = value
        if isinstance(value, float) and self.lr_state is not None:
            self.lr_state.init = value

    def check_lr(self, value: Any) -> float:
        """The value, if it can be a learning rate: finite and not negative; else InputError."""
        return check_rate(self.name, value)

    @property
    def lr_state(self) -> State | None:
        """The state that holds the learning rate, when it is a number and the graph is built."""
        return self._states.get(("lr", self._scalar()))

    @property
    def count(self) -> State:
        """The number of steps done before this one (int64)."""
        return self._state("count", "count", (), 0, "int64")

    def steps(self) -> Expr:
        """The number of steps done before this one, as a number to compute with."""
        return ops.cast(self.count, self._scalar())

    def _scalar(self) -> str:
        return self.dtype or "float32"

    def _scalar_rate(self) -> Expr:
        if isinstance(self._lr, Expr):
            return self._lr
        if callable(self._lr):
            rate = self._lr(self.steps())
            if not isinstance(rate, Expr):
                rate = Constant.of(self.check_lr(rate), self._scalar())
            return rate
        dtype = self._scalar()
        return self._state(("lr", dtype), "lr", (), self._lr, dtype)

    def rate(self, p: Parameter) -> Expr:
        """The learning rate as a 0-d expression of the parameter's type."""
        return ops.cast(self._scalar_rate(), p.dtype)

    # -- states -------------------------------------------------------------------------------
    def _state(self, key: Any, name: str, shape: Any, init: Any, dtype: str) -> State:
        if key not in self._states:
            made = State(f"{self.name}.{name}", shape, init, dtype, role="optimizer")
            self._states[key] = made
        return self._states[key]

    def moment(self, kind: str, p: Parameter, init: float = 0.0) -> State:
        """The state of this kind for a parameter: its shape and type, named `adam.m.fc1.weight`."""
        # The key holds the parameter, so that its id stays its own.
        return self._state((kind, p), f"{kind}.{p.name}", p.shape, init or None, p.dtype)

    # -- updates ------------------------------------------------------------------------------
    def rule(self, p: Parameter, g: Expr) -> Updates:
        """The updates of one parameter and its moments; g is clipped, decayed and descends."""
        raise NotImplementedError(f"{type(self).__name__} defines no rule")

    def updates(self, params: Any, grads: Any) -> Updates:
        """What every parameter and state becomes, as expressions of their present values.

        `grads` is a list in the order of `params`, or a dict by parameter.
        """
        from symgrad.nn.module import parameters_of

        params = parameters_of(params)
        if isinstance(grads, Mapping):
            missing = [p.name for p in params if p not in grads]
            if missing:
                raise bad(self.name, f"no gradient for {', '.join(missing)}")
            grads = [grads[p] for p in params]
        gradients = self._gradients(params, grads)
        names.settle(params)
        if params:
            self.dtype = dtypes.promote([p.dtype for p in params])
        result: Updates = {}
        for p, g in zip(params, gradients):
            for target, value in self.rule(p, self._decayed(p, g)).items():
                result[target] = self._projected(p, value) if target is p else value
        if "count" in self._states:
            result[self.count] = self.count + 1
        return result

    def _gradients(self, params: list[Parameter], grads: Sequence[Expr]) -> list[Expr]:
        grads = [grads] if isinstance(grads, Expr) else list(grads)
        if len(grads) != len(params):
            raise GraphError(f"{self.name}: {len(params)} parameters, {len(grads)} gradients")
        for p, g in zip(params, grads):
            if p.shape != g.shape:
                raise ShapeError(
                    f"{self.name}: {p.name!r} is {show(p.shape)}, its gradient {show(g.shape)}"
                )
        if self.clip_norm is not None:
            grads = clip_by_global_norm(grads, self.clip_norm)
        if self.clip_value is not None:
            grads = clip_by_value(grads, self.clip_value)
        return [-g for g in grads] if self.maximize else grads

    def _decayed(self, p: Parameter, g: Expr) -> Expr:
        return g + p * self.weight_decay if self.weight_decay else g

    def _projected(self, p: Parameter, value: Expr) -> Expr:
        if isinstance(self.constraints, Mapping):
            chosen = self.constraints.get(p)
        else:
            chosen = self.constraints if p.role == "weight" else None
        return value if chosen is None else chosen(value)

    def __repr__(self) -> str:
        return f"<optimizer {self.name} lr={self._lr}>"


# -- gradient clipping ------------------------------------------------------------------------
def global_norm(grads: Sequence[Expr]) -> Expr:
    """sqrt of the sum of all squares."""
    total = ops.sum(grads[0] * grads[0])
    for g in grads[1:]:
        total = total + ops.sum(g * g)
    return ops.sqrt(total)


def clip_by_global_norm(grads: Sequence[Expr], limit: float) -> list[Expr]:
    """All gradients times min(1, limit / (norm + 1e-6)). PyTorch's `clip_grad_norm_`."""
    if not grads:
        return []
    factor = ops.minimum(limit / (global_norm(grads) + 1e-6), 1)
    return [g * ops.cast(factor, g.dtype) for g in grads]


def clip_by_value(grads: Sequence[Expr], limit: float) -> list[Expr]:
    """Every element in [-limit, limit]."""
    return [ops.maximum(ops.minimum(g, limit), -limit) for g in grads]
