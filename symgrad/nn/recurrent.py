"""Recurrent networks: RNN, LSTM, GRU, and their cells, by PyTorch's formulas.

In: (batch, time, features), or (time, batch, features) with `batch_first=False`. Out: the outputs
of every step and the state after the last, as in PyTorch. Sequence length and batch may be run-time
sizes; what does not depend on the state (the product with the inputs) is computed for all steps at
once, before the loop.

>>> outputs, last = GRU(8, 16, name="gru")(Input("x", (4, 20, 8)))
>>> outputs.shape, last.shape
((4, 20, 16), (1, 4, 16))
"""

from __future__ import annotations

from typing import Any, ClassVar, Sequence

from symgrad import dtypes, ops, source
from symgrad import init as initialisers
from symgrad.derive.algebra import zeros
from symgrad.errors import DTypeError, InputError, ShapeError
from symgrad.nn import functional
from symgrad.nn.linear import check_sizes
from symgrad.nn.module import Module, declared
from symgrad.node import Expr, Iota, Parameter
from symgrad.ops.core import as_expr
from symgrad.scan import scan
from symgrad.sizes import Shape, Size, show

State = tuple[Expr, ...]  # (h,), or (h, c) of an LSTM
_NONLINEARITIES = ("tanh", "relu")


def _check_nonlinearity(label: str, name: Any) -> str:
    if name not in _NONLINEARITIES:
        raise InputError(
            f"{label}: nonlinearity must be 'tanh' or 'relu', got {name!r}"
            + source.quote(source.here())
        )
    return str(name)


# -- the formulas of one step ----------------------------------------------------------------------
class _Recurrent(Module):
    """What cells and layers share. A step gets the product with the inputs, biases included."""

    GATES: ClassVar[int] = 1
    STATES: ClassVar[int] = 1
    # Whether the bias of the state's product may be added before the loop, to the inputs' product.
    EARLY_BIAS: ClassVar[bool] = True

    def __init__(
        self, in_features: int, hidden: int, bias: bool, name: str | None, dtype: Any
    ) -> None:
        super().__init__(name, dtype)
        check_sizes(self.label, in_features=in_features, hidden=hidden)
        self.in_features, self.hidden, self.has_bias = in_features, hidden, bool(bias)

    def _step(self, x: Expr, state: State, product: Expr) -> State:
        """The next state from the products with the input and with h."""
        raise NotImplementedError

    def _weights(self, inputs: int, suffix: str) -> list[Parameter]:
        """weight_ih (in, gates * hidden), weight_hh (hidden, gates * hidden), and two biases."""
        bound = self.hidden**-0.5
        start = initialisers.uniform(-bound, bound)
        wide = self.GATES * self.hidden
        found = [
            self._parameter(f"weight_ih{suffix}", (inputs, wide), start),
            self._parameter(f"weight_hh{suffix}", (self.hidden, wide), start),
        ]
        if self.has_bias:
            found.append(self._parameter(f"bias_ih{suffix}", (wide,), start, role="bias"))
            found.append(self._parameter(f"bias_hh{suffix}", (wide,), start, role="bias"))
        return found

    def _projected(self, x: Expr, weights: Sequence[Parameter]) -> Expr:
        """The product with the inputs, and the biases that do not take part in a gate."""
        y = ops.matmul(x, weights[0])
        if not self.has_bias:
            return y
        return y + (weights[2] + weights[3] if self.EARLY_BIAS else weights[2])

    def _advance(self, x: Expr, state: State, weights: Sequence[Parameter]) -> State:
        product = ops.matmul(state[0], weights[1])
        if self.has_bias and not self.EARLY_BIAS:
            product = product + weights[3]
        return self._step(x, state, product)

    def _gate(self, z: Expr, k: int) -> Expr:
        return z[..., k * self.hidden : (k + 1) * self.hidden]

    def _operand(self, x: Any) -> Expr:
        x = as_expr(self.label, x)
        if not dtypes.is_float(x.dtype):
            raise DTypeError(
                f"{self.label}: the input must be float32 or float64, got {x.dtype}"
                + source.quote(source.here())
            )
        if not x.ndim or x.shape[-1] != self.in_features:
            raise ShapeError(
                f"{self.label}: the input {show(x.shape)} must end in {self.in_features} features"
                + source.quote(source.here())
            )
        return x

    def _states(self, given: Any, shape: Shape, dtype: str) -> State:
        """The initial state, zeros unless it is given."""
        if given is None:
            return (zeros(shape, dtype),) * self.STATES
        parts = given if isinstance(given, (tuple, list)) else (given,)
        if len(parts) != self.STATES:
            pair = "a pair (h, c)" if self.STATES == 2 else "one expression"
            raise InputError(
                f"{self.label}: the state must be {pair}, got {len(parts)} parts"
                + source.quote(source.here())
            )
        found = []
        for part in parts:
            e = as_expr(self.label, part)
            if e.shape != shape:
                raise ShapeError(
                    f"{self.label}: the state must have shape {show(shape)}, got {show(e.shape)}"
                    + source.quote(source.here())
                )
            found.append(ops.cast(e, dtype))
        return tuple(found)

    def _result(self, state: State) -> Any:
        return state if self.STATES == 2 else state[0]


class _Elman(_Recurrent):
    """h' = tanh(x W_ih + b_ih + h W_hh + b_hh), or relu of it (Elman 1990)."""

    nonlinearity = "tanh"

    def _step(self, x: Expr, state: State, product: Expr) -> State:
        z = x + product
        return (ops.tanh(z) if self.nonlinearity == "tanh" else functional.relu(z),)


class _Long(_Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber 1997, with Gers' forget gate)."""

    GATES, STATES = 4, 2

    def _step(self, x: Expr, state: State, product: Expr) -> State:
        z = x + product
        i, f, g, o = (self._gate(z, k) for k in range(4))
        c = ops.sigmoid(f) * state[1] + ops.sigmoid(i) * ops.tanh(g)
        return ops.sigmoid(o) * ops.tanh(c), c


class _Gated(_Recurrent):
    """Gated recurrent unit (Cho et al. 2014, the reset gate behind the product as in cuDNN)."""

    GATES, EARLY_BIAS = 3, False

    def _step(self, x: Expr, state: State, product: Expr) -> State:
        r = ops.sigmoid(self._gate(x, 0) + self._gate(product, 0))
        z = ops.sigmoid(self._gate(x, 1) + self._gate(product, 1))
        n = ops.tanh(self._gate(x, 2) + r * self._gate(product, 2))
        return ((1 - z) * n + z * state[0],)


# -- cells -----------------------------------------------------------------------------------------
class _Cell(_Recurrent):
    """One step: (..., in) and the state before it to the state after it."""

    def __init__(
        self,
        in_features: int,
        hidden: int,
        bias: bool = True,
        *,
        name: str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(in_features, hidden, bias, name, dtype)

    @declared
    def weights(self) -> list[Parameter]:
        return self._weights(self.in_features, "")

    def __call__(self, x: Expr, state: Any = None) -> Any:
        x = self._operand(x)
        z = self._projected(x, self.weights)
        before = self._states(state, (*x.shape[:-1], self.hidden), z.dtype)
        return self._result(self._advance(z, before, self.weights))


class RNNCell(_Cell, _Elman):
    """h' = tanh(x W_ih + b_ih + h W_hh + b_hh); `nonlinearity="relu"` for relu.

    PyTorch's `RNNCell`, the weights transposed: (in, hidden) and (hidden, hidden). All start
    uniform in (-1/sqrt(hidden), 1/sqrt(hidden)). The state is zero unless it is given.
    """

    def __init__(
        self,
        in_features: int,
        hidden: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        *,
        name: str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(in_features, hidden, bias, name=name, dtype=dtype)
        self.nonlinearity = _check_nonlinearity(self.label, nonlinearity)


class LSTMCell(_Cell, _Long):
    """With z = x W_ih + b_ih + h W_hh + b_hh cut into i, f, g, o:

        c' = sigmoid(f) c + sigmoid(i) tanh(g),    h' = sigmoid(o) tanh(c')

    Called with x and the pair (h, c), returns the pair (h', c'). PyTorch's `LSTMCell`, the weights
    transposed: (in, 4 hidden) and (hidden, 4 hidden).
    """


class GRUCell(_Cell, _Gated):
    """With u = x W_ih + b_ih and v = h W_hh + b_hh cut into three:

        r = sigmoid(u_1 + v_1),   z = sigmoid(u_2 + v_2),   n = tanh(u_3 + r v_3)
        h' = (1 - z) n + z h

    PyTorch's `GRUCell`, the weights transposed: (in, 3 hidden) and (hidden, 3 hidden).
    """


# -- layers ----------------------------------------------------------------------------------------
class _Layers(_Recurrent):
    """Layers of cells, each run over the outputs of the one before, in one or both directions."""

    def __init__(
        self,
        in_features: int,
        hidden: int,
        num_layers: int = 1,
        bias: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        batch_first: bool = True,
        *,
        name: str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(in_features, hidden, bias, name, dtype)
        check_sizes(self.label, num_layers=num_layers)
        self.depth = num_layers
        self.p = functional.check_probability(self.label, dropout)
        self.directions = 2 if bidirectional else 1
        self.batch_first = bool(batch_first)

    @declared
    def weights(self) -> list[list[Parameter]]:
        """Of layer l and direction d those at [2 l + d], or [l] where there is one direction."""
        found = []
        for layer in range(self.depth):
            inputs = self.in_features if layer == 0 else self.directions * self.hidden
            for suffix in ("", "_reverse")[: self.directions]:
                found.append(self._weights(inputs, f"_l{layer}{suffix}"))
        return found

    def __call__(
        self, x: Expr, state: Any = None, lengths: Any = None, training: bool = False
    ) -> Any:
        """Outputs of every step, and the last state of every layer.

        `state`, zeros unless it is given, and the last state have the shape
        (num_layers * directions, batch, hidden), forward before backward; an LSTM has a pair of
        them. Outputs have directions * hidden features. A sequence without a batch is (time,
        features). `lengths` gives the number of steps of each sample, at most the length of the
        sequence: behind it outputs are zero, and the state stays.
        With `training=True` dropout acts between layers.
        """
        x = self._operand(x)
        if x.ndim not in (2, 3):
            order = "batch, time" if self.batch_first else "time, batch"
            raise ShapeError(
                f"{self.label}: takes ({order}, {self.in_features}) or "
                f"(time, {self.in_features}), got {show(x.shape)}" + source.quote(source.here())
            )
        turned = x.ndim == 3 and self.batch_first
        ys = ops.swapaxes(x, 0, 1) if turned else x
        if ys.shape[0] == 0:
            raise ShapeError(
                f"{self.label}: a sequence of length 0, the input has shape {show(x.shape)}"
                + source.quote(source.here())
            )
        rows = ys.shape[1:-1]
        dtype = dtypes.promote([x.dtype, self.dtype])
        shape = (self.depth * self.directions, *rows, self.hidden)
        starts = None if state is None else self._states(state, shape, dtype)
        mask = None if lengths is None else self._mask(lengths, ys.shape[0], rows)
        lasts: list[State] = []
        for layer in range(self.depth):
            if layer:
                ys = functional.dropout(ys, self.p, training)
            outputs = []
            for direction in range(self.directions):
                k = len(lasts)
                if starts is None:
                    start = self._states(None, (*rows, self.hidden), dtype)
                else:
                    start = tuple(s[k] for s in starts)
                last, steps = self._run(ys, start, mask, self.weights[k], direction == 1)
                lasts.append(last)
                outputs.append(steps)
            ys = outputs[0] if len(outputs) == 1 else ops.concatenate(outputs, axis=-1)
        final = tuple(ops.stack([last[i] for last in lasts]) for i in range(self.STATES))
        return ops.swapaxes(ys, 0, 1) if turned else ys, self._result(final)

    def _mask(self, lengths: Any, time: Size, rows: Shape) -> Expr:
        """Whether each step belongs to the sequence: (time, batch, 1)."""
        lengths = as_expr(self.label, lengths)
        if lengths.shape != rows or not dtypes.is_integer(lengths.dtype):
            raise ShapeError(
                f"{self.label}: lengths must be integers of shape {show(rows)}, got "
                f"{lengths.dtype} of {show(lengths.shape)}" + source.quote(source.here())
            )
        steps = ops.reshape(Iota.of(time, lengths.dtype), (time, *(1 for _ in rows)))
        return ops.expand_dims(ops.less(steps, lengths), -1)

    def _run(
        self,
        xs: Expr,
        start: State,
        mask: Expr | None,
        weights: Sequence[Parameter],
        reverse: bool,
    ) -> tuple[State, Expr]:
        """One layer in one direction over (time, batch, features)."""
        names = ("h", "c")[: self.STATES]

        def step(before: dict[str, Expr], slices: dict[str, Expr]) -> tuple[dict[str, Expr], Expr]:
            state = tuple(before.values())
            new = self._advance(slices["x"], state, weights)
            output = new[0]
            if mask is not None:
                inside = slices["inside"]
                new = tuple(ops.where(inside, n, s) for n, s in zip(new, state))
                output = ops.where(inside, output, 0)
            return dict(zip(names, new)), output

        sequences = {"x": self._projected(xs, weights)}
        if mask is not None:
            sequences["inside"] = mask
        last, outputs = scan(step, dict(zip(names, start)), sequences, reverse=reverse)
        return tuple(last.values()), outputs


class RNN(_Layers, _Elman):
    """h_t = tanh(x_t W_ih + b_ih + h_{t-1} W_hh + b_hh); `nonlinearity="relu"` for relu.

    PyTorch's `RNN` (Elman), with the weights transposed: `weight_ih_l0` (in, hidden),
    `weight_hh_l0` (hidden, hidden), `bias_ih_l0`, `bias_hh_l0`, and `_reverse` for the backward
    direction; all start uniform in (-1/sqrt(hidden), 1/sqrt(hidden)). Unlike there, the batch comes
    first unless `batch_first=False`. Returns (outputs, last state).

    >>> RNN(8, 16, name="rnn")(Input("x", (4, 20, 8)))[0].shape
    (4, 20, 16)
    """

    def __init__(
        self,
        in_features: int,
        hidden: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        batch_first: bool = True,
        *,
        name: str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(
            in_features,
            hidden,
            num_layers,
            bias,
            dropout,
            bidirectional,
            batch_first,
            name=name,
            dtype=dtype,
        )
        self.nonlinearity = _check_nonlinearity(self.label, nonlinearity)


class LSTM(_Layers, _Long):
    """Long short-term memory. With z = x_t W_ih + b_ih + h_{t-1} W_hh + b_hh cut into i, f, g, o:

        c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g),    h_t = sigmoid(o) tanh(c_t)

    PyTorch's `LSTM`, with the weights transposed: `weight_ih_l0` (in, 4 hidden), `weight_hh_l0`
    (hidden, 4 hidden). Unlike there, the batch comes first unless `batch_first=False`. The state
    is a pair (h, c). Returns (outputs, (h, c)).

    >>> outputs, (h, c) = LSTM(8, 16, num_layers=2, name="lstm")(Input("x", (4, 20, 8)))
    >>> outputs.shape, h.shape
    ((4, 20, 16), (2, 4, 16))
    """


class GRU(_Layers, _Gated):
    """Gated recurrent unit. With u = x_t W_ih + b_ih and v = h_{t-1} W_hh + b_hh cut into three:

        r = sigmoid(u_1 + v_1),   z = sigmoid(u_2 + v_2),   n = tanh(u_3 + r v_3)
        h_t = (1 - z) n + z h_{t-1}

    PyTorch's `GRU`, with the weights transposed: `weight_ih_l0` (in, 3 hidden), `weight_hh_l0`
    (hidden, 3 hidden). Unlike there, the batch comes first unless `batch_first=False`. Returns
    (outputs, last state).
    """
