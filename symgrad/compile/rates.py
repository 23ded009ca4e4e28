"""The learning rates of a compiled step: read, and set between calls.

In: an optimizer or groups of them, and the step's store. Out: a number, or one for each group in
the form of the groups.

>>> rates = Rates(Groups({"body": SGD(0.01), "head": (Adam(0.1), head)}), store)
>>> rates.set({"head": 0.05}); rates.get()
{'body': 0.01, 'head': 0.05}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from symgrad import source
from symgrad.errors import InputError
from symgrad.node import State
from symgrad.optim.groups import Groups
from symgrad.state import Store


class Rates:
    """Where the rates of a step are kept, as they are when it is compiled."""

    def __init__(self, optimizer: Any, store: Store) -> None:
        self.groups = optimizer if isinstance(optimizer, Groups) else None
        optimizers = self.groups.optimizers if self.groups else {None: optimizer}
        self.optimizers: dict[Any, Any] = optimizers
        self.states: dict[Any, State | None] = {
            key: getattr(o, "lr_state", None) for key, o in optimizers.items()
        }
        self.store = store

    def get(self) -> Any:
        """The rates now; a schedule is itself."""
        values = {key: self._get(key) for key in self.optimizers}
        return self.groups.shaped(values) if self.groups else values[None]

    def _get(self, key: Any) -> Any:
        state = self.states[key]
        if state is None or state not in self.store:
            return getattr(self.optimizers[key], "lr", None)
        return float(self.store[state])

    def set(self, value: Any) -> None:
        """Set rates, all or none: of groups in their form, a dict may leave some out."""
        wanted = self._by_key(value)
        numbers = {key: self._checked(key, number) for key, number in wanted.items()}
        for state, number in numbers.values():
            self.store[state] = np.asarray(number, state.dtype)

    def _by_key(self, value: Any) -> dict[Any, Any]:
        if self.groups is None:
            return {None: value}
        keys = list(self.optimizers)
        if self.groups.named and isinstance(value, Mapping) and set(value) <= set(keys):
            return dict(value)
        if not self.groups.named and isinstance(value, (list, tuple)) and len(value) == len(keys):
            return dict(zip(keys, value))
        kind = "a dict with keys among" if self.groups.named else "a list with one rate for each of"
        raise InputError(
            f"lr: the rates of groups are {kind} {', '.join(map(repr, keys))}, got {value!r}"
            + source.quote(source.here())
        )

    def _checked(self, key: Any, value: Any) -> tuple[State, float]:
        optimizer, state = self.optimizers[key], self.states[key]
        if state is None or state not in self.store:
            raise InputError(
                f"the learning rate of {optimizer!r} is no number that can be set: "
                "give the optimizer a number instead of a schedule" + source.quote(source.here())
            )
        return state, float(optimizer.check_lr(value))
