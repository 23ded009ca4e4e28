"""Options of layers, losses and optimizers: numbers in an interval, flags.

In: whose option it is, its name, its value. Out: the value, or one InputError that names all three.

>>> number("dropout", "p", 0.5, "[0, 1)")
0.5
>>> number("dropout", "p", 1.5, "[0, 1)")
Traceback (most recent call last):
symgrad.errors.InputError: dropout: p must be in [0, 1), got 1.5
"""

from __future__ import annotations

from numbers import Real
from typing import Any

from symgrad import source
from symgrad.errors import InputError

_WORDS = {
    "[0, inf)": "finite and not negative",
    "(0, inf)": "positive and finite",
    "(-inf, inf)": "a finite number",
}


def bad(owner: str, why: str) -> InputError:
    """The error to raise about an option, with the user's line."""
    return InputError(f"{owner}: {why}" + source.quote(source.here()))


def number(owner: str, name: str, value: Any, interval: str = "[0, inf)") -> float:
    """A real number in an interval, written as in mathematics: [ and ] include its ends."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    if isinstance(value, Real) and not isinstance(value, bool):
        x = float(value)  # comparisons with NaN are false
        above = x >= low if interval[0] == "[" else x > low
        below = x <= high if interval[-1] == "]" else x < high
        if above and below:
            return x
    raise bad(owner, f"{name} must be {_WORDS.get(interval, f'in {interval}')}, got {value!r}")


def flag(owner: str, name: str, value: Any) -> bool:
    """True or False, nothing that merely counts as such."""
    if not isinstance(value, bool):
        raise bad(owner, f"{name} must be True or False, got {value!r}")
    return value
