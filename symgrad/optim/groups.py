"""Several optimizers in one step, each for parameters of its own.

In: what `sg.train_step` takes in the place of one optimizer: a list or dict of groups, each of them
`(optimizer, parameters)`, or an optimizer alone for all parameters that no other group has. Out: a
`Groups`, which gives every group its gradients.

>>> Groups([(SGD(0.01), backbone), Adam(1e-3)]).keys
(0, 1)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from symgrad import source
from symgrad.checks import bad
from symgrad.errors import GraphError
from symgrad.node import Expr, Parameter
from symgrad.optim.base import Optimizer, Updates


class Groups:
    """Optimizers by key, and the parameters of each; None for those that no other group has."""

    def __init__(self, groups: Mapping[str, Any] | Sequence[Any]) -> None:
        self.named = isinstance(groups, Mapping)
        pairs = groups.items() if isinstance(groups, Mapping) else enumerate(groups)
        self.optimizers: dict[Any, Any] = {}
        self.members: dict[Any, list[Parameter] | None] = {}
        for key, group in pairs:
            self.optimizers[key], self.members[key] = _pair(key, group)
        if not self.optimizers:
            raise bad("groups", "there is no optimizer")
        self._check()
        self._rename()

    @property
    def keys(self) -> tuple[Any, ...]:
        """The names of the groups; 0, 1 ... in a list."""
        return tuple(self.optimizers)

    def shaped(self, values: Mapping[Any, Any]) -> Any:
        """One value for each group in the form of the groups: a dict or a list."""
        return dict(values) if self.named else list(values.values())

    # -- who has which parameter ---------------------------------------------------------------
    def split(
        self, reached: Mapping[Any, Sequence[Parameter]], frozen: Collection[Parameter] = ()
    ) -> dict[Any, list[Parameter]]:
        """What each group trains, of what its loss reaches and is not frozen.

        Every such parameter must be in a group, and every group must have one.
        """
        still = set(map(id, frozen))
        owner = {id(p): key for key, members in self.members.items() for p in members or ()}
        found: dict[Any, list[Parameter]] = {}
        for key, members in self.members.items():
            able = set(map(id, reached[key]))
            for p in members or ():
                if id(p) not in able:
                    raise GraphError(
                        f"groups: the loss of {_called(key)} does not depend on {p.name!r}, so it "
                        "cannot be trained" + source.quote(p.where)
                    )
            if members is None:
                members = [p for p in reached[key] if id(p) not in owner]
                owner.update({id(p): key for p in members})
            found[key] = [p for p in members if id(p) not in still]
            if not found[key]:
                raise bad("groups", f"{_called(key)} has no parameter to train")
        for p in (p for able in reached.values() for p in able):
            if id(p) not in owner and id(p) not in still:
                raise bad(
                    "groups",
                    f"{p.name!r} is in no group: put it into one, give a group without "
                    "parameters for all the others, or freeze it by frozen=",
                )
        return found

    def _check(self) -> None:
        """Every parameter in one group, every optimizer for one group."""
        owner: dict[int, Any] = {}
        for key, members in self.members.items():
            for p in members or ():
                other = owner.setdefault(id(p), key)
                if other != key:
                    raise bad("groups", f"{p.name!r} is in {_called(other)} and in {_called(key)}")
        seen: dict[int, Any] = {}
        for key, optimizer in self.optimizers.items():
            other = seen.setdefault(id(optimizer), key)
            if other != key:
                raise bad(
                    "groups",
                    f"{_called(other)} and {_called(key)} have the same optimizer object "
                    f"{optimizer!r}: make one for each",
                )

    def _rename(self) -> None:
        """Names of their own for optimizers of one kind: `adam.head`, or `adam1`, `adam2`."""
        given = [o for o in self.optimizers.values() if isinstance(o, Optimizer)]
        names = [o.name for o in given]
        for key, optimizer in self.optimizers.items():
            if isinstance(optimizer, Optimizer) and names.count(optimizer.name) > 1:
                kind = optimizer.name
                optimizer.rename(f"{kind}.{key}" if self.named else f"{kind}{key + 1}")

    # -- as an optimizer -----------------------------------------------------------------------
    def updates(self, params: Sequence[Parameter], grads: Sequence[Expr]) -> Updates:
        """The updates of all groups, for the gradients of one loss."""
        gradients = {id(p): g for p, g in zip(params, grads)}
        result: Updates = {}
        for key, mine in self.split(dict.fromkeys(self.keys, params)).items():
            result.update(self.optimizers[key].updates(mine, [gradients[id(p)] for p in mine]))
        return result

    def __repr__(self) -> str:
        return f"<groups {', '.join(f'{k}: {o!r}' for k, o in self.optimizers.items())}>"


def _pair(key: Any, group: Any) -> tuple[Any, list[Parameter] | None]:
    """An optimizer and its parameters."""
    from symgrad.nn.module import parameters_of

    pair = isinstance(group, (tuple, list)) and len(group) == 2
    optimizer, members = group if pair else (group, None)
    if not callable(getattr(optimizer, "updates", None)):
        raise bad(
            "groups",
            f"{_called(key)} must be an optimizer, or a pair (optimizer, parameters), "
            f"got {group!r}",
        )
    if members is None:
        return optimizer, None
    found = parameters_of(members)
    if not found:
        raise bad("groups", f"{_called(key)} has no parameters")
    return optimizer, found


def _called(key: Any) -> str:
    return f"group {key!r}"
