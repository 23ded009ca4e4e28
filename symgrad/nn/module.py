"""Layers as plain objects: what names their parameters and lists them.

In: constructor arguments. Out: an object that is called on expressions and gives expressions; its
parameters are ordinary leaves, so calling it twice shares them.

A parameter is named after its layer, `fc1.weight`, and the layer is named by the first of these
that applies: `name=`; its attribute in a `Module` of the user's, or its position in a *named*
`Sequential`; its kind and a count, `linear1`, `linear2`, in order of creation within the graph
that is compiled (see symgrad.names). Containers that have a name put it in front:
`encoder.fc1.weight`, `encoder.0.weight`.

>>> fc1 = Linear(4, 3, name="fc1")
>>> [p.name for p in fc1.parameters()]
['fc1.weight', 'fc1.bias']
"""

from __future__ import annotations

import inspect
import re
from functools import cached_property
from typing import Any, Callable, Iterable, Iterator

from symgrad import dtypes, names, source
from symgrad.errors import InputError
from symgrad.node import Expr, Parameter, State


class declared(cached_property):  # type: ignore[type-arg]  # noqa: N801 - a decorator
    """A parameter or state of a layer, made at first use: by then the layer's name is settled."""


class Module:
    """Base of layers, and of users' own networks.

    A subclass assigns layers to attributes, which names them, and defines `__call__`:

        class Net(nn.Module):
            def __init__(self):
                self.fc1, self.fc2 = nn.Linear(64, 32), nn.Linear(32, 10)

            def __call__(self, x, training=False):
                return self.fc2(nn.relu(self.fc1(x)))
    """

    # Class attributes, so that a subclass need not call `super().__init__`.
    name: str | None = None
    dtype: str = "float32"
    _owner: tuple[Module, str] | None = None
    _automatic: str | None = None
    _attributes_name = True  # layers are called what the attribute is called that holds them

    def __init__(self, name: str | None = None, dtype: Any = "float32") -> None:
        if name is not None and (not isinstance(name, str) or not name):
            raise InputError(
                f"{self._kind()}: name must be a non-empty string, got {name!r}"
                + source.quote(source.here())
            )
        self.name = name
        self.dtype = dtypes.canonical(dtype)
        if not dtypes.is_float(self.dtype):
            raise InputError(
                f"{self.label}: a layer computes in float32 or float64, not {self.dtype}"
                + source.quote(source.here())
            )

    def __init_subclass__(cls) -> None:
        """What a layer's call builds belongs to that layer (see symgrad.source)."""
        super().__init_subclass__()
        own = vars(cls).get("__call__")
        if own is not None:
            cls.__call__ = source.part_of(own)  # type: ignore[method-assign]

    def __call__(self, x: Expr, *args: Any, **kwargs: Any) -> Expr:
        raise NotImplementedError(f"{type(self).__name__} defines no __call__")

    def __setattr__(self, key: str, value: Any) -> None:
        for label, layer in _layers_in(key, value):
            self._adopt(layer, label)
        object.__setattr__(self, key, value)

    # -- names --------------------------------------------------------------------------------
    @classmethod
    def _kind(cls) -> str:
        """`layer_norm` for LayerNorm: what automatic names and messages start with."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()

    def _adopt(self, layer: Module, label: str) -> None:
        """Name a layer by its place in this one, unless it has a place (or parameters) already."""
        if layer._owner is None and layer._automatic is None and layer is not self:
            object.__setattr__(layer, "_owner", (self, label))

    def _label(self) -> str | None:
        """The layer's own part of its name, unless that is automatic."""
        if self.name is not None or self._owner is None:
            return self.name
        owner, place = self._owner
        # A place in an unnamed container names nothing: two networks would clash.
        return place if owner._prefix() or owner._attributes_name else None

    def _prefix(self) -> str:
        """What the names of the layers inside start with; nothing where the name is automatic."""
        return self.path if self._label() is not None else ""

    @property
    def path(self) -> str:
        """The layer's full name: what its parameters' names start with."""
        prefix = self._owner[0]._prefix() if self._owner else ""
        label = self._label()
        if label is None:
            if self._automatic is None:
                object.__setattr__(self, "_automatic", names.automatic(self._kind()))
            label = names.current(str(self._automatic))
        return f"{prefix}.{label}" if prefix else label

    @property
    def label(self) -> str:
        """The layer in messages: its kind, and its name when one was given."""
        return f"{self._kind()} {self.name!r}" if self.name else self._kind()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name or ''}>".replace(" >", ">")

    # -- parameters ---------------------------------------------------------------------------
    def _parameter(self, name: str, shape: Any, init: Any, role: str = "weight") -> Parameter:
        return self._named(Parameter(f"{self.path}.{name}", shape, init, self.dtype, role))

    def _state(self, name: str, shape: Any, init: Any) -> State:
        made = State(f"{self.path}.{name}", shape, init, self.dtype, "statistic")
        return self._named(made)  # type: ignore[return-value]

    def _named(self, leaf: Parameter) -> Parameter:
        """Note a leaf whose name starts with an automatic label: this layer's or an outer one's."""
        outer: Module | None = self
        while outer is not None:
            if outer._automatic is not None:
                names.register(leaf, outer._kind(), outer._automatic)
                break
            outer = outer._owner[0] if outer._owner else None
        return leaf

    def parameters(self) -> list[Parameter]:
        """Every parameter of this layer and those inside it, each once."""
        return [p for p in self._leaves() if not isinstance(p, State)]

    def states(self) -> list[State]:
        """What is kept between calls but not trained: running statistics."""
        return [p for p in self._leaves() if isinstance(p, State)]

    def layers(self) -> list[Module]:
        """This layer and every layer inside it, each once, outermost first."""
        found: dict[int, Module] = {}

        def visit(layer: Module) -> None:
            if id(layer) not in found:
                found[id(layer)] = layer
                for key, value in vars(layer).items():
                    if key != "_owner":
                        for _, inner in _layers_in(key, value):
                            visit(inner)

        visit(self)
        return list(found.values())

    def _leaves(self) -> list[Parameter]:
        found: dict[int, Parameter] = {}
        for layer in self.layers():
            for cls in reversed(type(layer).__mro__):
                for key, value in vars(cls).items():
                    if isinstance(value, declared):
                        getattr(layer, key)
            for value in vars(layer).values():
                for leaf in _parameters_in(value):
                    found.setdefault(id(leaf), leaf)
        return sorted(found.values(), key=lambda p: p.order)


def _layers_in(key: str, value: Any) -> Iterator[tuple[str, Module]]:
    """The layers in an attribute: itself, or those in a list, tuple or dict, with their labels."""
    if isinstance(value, Module):
        yield key, value
    elif isinstance(value, (list, tuple)):
        for i, v in enumerate(value):
            yield from _layers_in(f"{key}.{i}", v)
    elif isinstance(value, dict):
        for k, v in value.items():
            yield from _layers_in(f"{key}.{k}", v)


def _parameters_in(value: Any) -> Iterator[Parameter]:
    if isinstance(value, Parameter):
        yield value
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from _parameters_in(v)
    elif isinstance(value, dict):
        for v in value.values():
            yield from _parameters_in(v)


def apply(layer: Callable[..., Expr], x: Expr, training: bool) -> Expr:
    """Call a layer or function, handing `training` on only where it is taken."""
    return layer(x, training=training) if takes_training(layer) else layer(x)


def takes_training(layer: Callable[..., Any]) -> bool:
    """Whether a layer or function has an argument `training`."""
    target = type(layer).__call__ if isinstance(layer, Module) else layer
    try:
        return "training" in inspect.signature(target).parameters
    except (TypeError, ValueError):  # a built-in without a signature
        return False


def parameters_of(what: Any) -> list[Parameter]:
    """The parameters in a layer, a parameter, or any nesting of lists and dicts of those."""
    if isinstance(what, Parameter):
        return [what]
    if isinstance(what, Module):
        return what.parameters()
    if isinstance(what, dict):
        what = list(what.values())
    if isinstance(what, Iterable) and not isinstance(what, (Expr, str)):
        return list({id(p): p for item in what for p in parameters_of(item)}.values())
    raise InputError(
        f"expected parameters or a layer, got {type(what).__name__}" + source.quote(source.here())
    )
