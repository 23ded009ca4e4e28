"""ADBench's LSTM: the mean loss of predicting the next character's bits, and its gradient.

    python examples/adbench_lstm.py      # --quick: a short random text

The last objective of the benchmark of automatic differentiation by Srajer, Kukelova and Fitzgibbon
(2018), https://github.com/microsoft/ADBench. Its cell is a peculiar one: weights multiply elements,
there are no matrices; forget and output gates see the input, the other two the hidden value; and
the logarithm of the sum of exponentials has a 2 in it. Only the loop over the characters is left
to be fast, which is compiled to native code with the gradient through time.

The instances of the benchmark are read from SYMGRAD_DATA/adbench. Row C8 of the systems: recurrence
as a native loop, gradients through time.
"""

from collections.abc import Callable
from typing import Any

from common import options
from data.adbench import Lstm, median_milliseconds, random_lstm, read_lstm, slope_error
from data.find import find

import symgrad as sg


def cell(
    weight: sg.Expr, bias: sg.Expr, hidden: sg.Expr, memory: sg.Expr, x: sg.Expr
) -> tuple[sg.Expr, sg.Expr]:
    """New hidden value and memory of one layer; gates lie one after another: forget, in, out,
    change."""
    h = x.shape[0]
    w = [weight[i * h : (i + 1) * h] for i in range(4)]
    b = [bias[i * h : (i + 1) * h] for i in range(4)]
    forget = sg.nn.sigmoid(x * w[0] + b[0])
    enter = sg.nn.sigmoid(hidden * w[1] + b[1])
    leave = sg.nn.sigmoid(x * w[2] + b[2])
    change = sg.tanh(hidden * w[3] + b[3])
    memory = memory * forget + enter * change
    return leave * sg.tanh(memory), memory


def objective(main: sg.Expr, extra: sg.Expr, state: sg.Expr, sequence: sg.Expr) -> sg.Expr:
    """Mean over all bits of every character but the first."""
    layers = main.shape[0] // 2

    def turn(states: list[sg.Expr], x: sg.Expr) -> tuple[list[sg.Expr], sg.Expr]:
        x = x * extra[0]
        new = []
        for i in range(0, 2 * layers, 2):
            x, memory = cell(main[i], main[i + 1], states[i], states[i + 1], x)
            new += [x, memory]
        return new, x

    start = [state[i] for i in range(2 * layers)]
    _, hidden = sg.scan(turn, start, sequence[:-1])
    scores = hidden * extra[1] + extra[2]
    norm = sg.log(2 + sg.sum(sg.exp(scores), axis=1, keepdims=True))
    return -sg.mean(sequence[1:] * (scores - norm))


def compiled(case: Lstm, **choices: Any) -> Callable[..., dict[str, Any]]:
    """f(main_params, extra_params, state, sequence) gives the value and the two gradients."""
    names = case._fields
    leaves = [sg.input(name, array.shape, dtype="float64") for name, array in zip(names, case)]
    value = objective(*leaves)
    gradient = sg.grad(value, dict(zip(names[:2], leaves)))
    return sg.function(leaves, {"value": value, **gradient}, **choices)


def main() -> None:
    folder = find("adbench", "lstm")
    if options(__doc__).quick or folder is None:
        if folder is None:
            print("SYMGRAD_DATA has no adbench/lstm (data/lstm of github.com/microsoft/ADBench)")
        case = random_lstm(layers=2, t=30, h=6)
        error = slope_error(compiled(case), case, 2)
        print(f"a random text: gradient against differences {error:.1e}")
        return
    for path in sorted(folder.glob("lstm_*.txt")):
        case = read_lstm(path)
        f = compiled(case)
        value = f(*case)["value"]
        took = median_milliseconds(f, case)
        print(f"{path.stem}: value {value:.8f}, milliseconds for a gradient {took:.3f}")


if __name__ == "__main__":
    main()
