"""What a printed formula says, computed with NumPy from the notation tree alone.

In: lines of definitions and the values of the leaves by name. Out: the value of the last line. So a
test can compare what is written with what the expression is. Sums with named indices are computed
over arrays whose axes have the letters as names. `Unknown` is raised where a formula does not say
enough (how many classes a one-hot code has, a run-time size, an index map).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from symgrad import interpret, scalar
from symgrad.node import Constant, Map
from symgrad.show import notation as nt
from symgrad.show.build import RENAMED
from symgrad.show.indices import resolved
from symgrad.show.parts import Line

Array = Any
OPERATIONS = {v: k for k, v in RENAMED.items() if k != "sqrt_or_zero"}
REDUCE: dict[str, Callable[..., Array]] = {
    "Σ": np.sum, "Π": np.prod, "max": np.max, "min": np.min, "argmax": np.argmax,
    "argmin": np.argmin,
}  # fmt: skip
COMPARE: dict[str, Callable[..., Array]] = {
    "<": np.less, "≤": np.less_equal, ">": np.greater, "≥": np.greater_equal, "=": np.equal,
    "≠": np.not_equal, "and": np.logical_and, "or": np.logical_or, "mod": np.mod,
    "//": np.floor_divide,
}  # fmt: skip


class Unknown(Exception):
    """The formula leaves something open."""


def value(lines: Sequence[Line], leaves: Mapping[str, Array]) -> Array:
    """The value of the last line."""
    names = dict(leaves)
    result: Array = None
    for line in lines:
        result = _Reader(names, line.node.shape).whole(resolved(line.term))
        if line.name:
            names[line.name] = result
    return result


def call(name: str, args: Sequence[Array]) -> Array:
    """A function of the op table."""
    op = OPERATIONS.get(name, name)
    if op not in scalar.OPS:
        raise Unknown(name)
    kind = np.result_type(*args)
    given = [Constant.of(np.asarray(a, kind)) for a in np.broadcast_arrays(*args)]
    with np.errstate(all="ignore"):
        return interpret.evaluate([Map.of(op, *given)], {})[0]


class _Reader:
    def __init__(self, names: Mapping[str, Array], shape: Sequence[Any]) -> None:
        self.names, self.shape = names, shape

    # -- arrays by the order of their axes ---------------------------------------------------
    def whole(self, t: nt.Term) -> Array:
        with np.errstate(all="ignore"):
            found = getattr(self, "_" + type(t).__name__.lower())(t)
        return found

    def _name(self, t: nt.Name) -> Array:
        if t.text == "I" and t.text not in self.names:
            return np.eye(int(self.shape[0]))
        if t.text.startswith("["):
            return np.array(ast.literal_eval(t.text))
        if t.text not in self.names:
            raise Unknown(t.text)
        array = np.asarray(self.names[t.text])
        if array.ndim > t.rank:  # a column written as the vector
            array = array.reshape([s for s in array.shape if s != 1])
        return array

    def _number(self, t: nt.Number) -> Array:
        special = {"∞": np.inf, "-∞": -np.inf, "NaN": np.nan, "true": True, "false": False}
        return np.asarray(special[t.text] if t.text in special else float(t.text))

    def _sum(self, t: nt.Sum) -> Array:
        parts = [(-1 if negative else 1) * self.whole(p) for negative, p in t.terms]
        return sum(parts[1:], parts[0])

    def _product(self, t: nt.Product) -> Array:
        if t.hadamard:
            return np.prod(np.stack(np.broadcast_arrays(*map(self.whole, t.factors))), axis=0)
        scale = np.prod([self.whole(f) for f in t.factors if not f.rank] or [1.0])
        arrays = [f for f in t.factors if f.rank]
        if len(arrays) < 2:
            return scale * (self.whole(arrays[0]) if arrays else 1.0)
        result = self._matrix(arrays[0])
        for f in arrays[1:]:
            result = result @ self._matrix(f)
        if t.rank == 0:
            result = result[0, 0]
        elif t.rank == 1:
            result = result[:, 0]
        return scale * result

    def _matrix(self, t: nt.Term) -> Array:
        if isinstance(t, nt.Transpose) and t.base.rank == 1:
            return self.whole(t.base)[None, :]
        array = self.whole(t)
        return array[:, None] if array.ndim == 1 else array

    def _fraction(self, t: nt.Fraction) -> Array:
        return self.whole(t.top) / self.whole(t.bottom)

    def _power(self, t: nt.Power) -> Array:
        return np.power(np.asarray(self.whole(t.base), float), self.whole(t.exponent))

    def _transpose(self, t: nt.Transpose) -> Array:
        base = self.whole(t.base)
        return base if base.ndim < 2 else np.swapaxes(base, -1, -2)

    def _call(self, t: nt.Call) -> Array:
        args = (
            [self.whole(a) for a in t.args] if t.name not in ("reshape", "pad", "reindex") else []
        )
        if t.name == "not ":
            return np.logical_not(args[0])
        if t.name == "diag":
            return np.diag(args[0])
        if t.name == "tr":
            return np.trace(args[0])
        if t.name == "transpose":
            return np.transpose(args[0], [int(b) for b in t.below])
        if t.name in ("softmax", "logsumexp"):
            axes = tuple(int(b.split()[1]) for b in t.below) or (-1,)
            e = np.exp(args[0] - args[0].max(axis=axes, keepdims=True))
            total = e.sum(axis=axes, keepdims=True)
            if t.name == "softmax":
                return e / total
            return (np.log(total) + args[0].max(axis=axes, keepdims=True)).squeeze(axes)
        if t.name == "cumsum":
            return np.cumsum(args[0], axis=int(t.below[0].split()[1]))
        if t.name == "reshape":
            assert isinstance(t.args[1], nt.Name)
            if any(c.isalpha() for c in t.args[1].text) or isinstance(t.args[0], nt.Spread):
                raise Unknown("reshape")
            return self.whole(t.args[0]).reshape(ast.literal_eval(t.args[1].text))
        if not t.elementwise:
            raise Unknown(t.name)
        return call(t.name, args)

    def _relation(self, t: nt.Relation) -> Array:
        return COMPARE[t.sign](self.whole(t.left), self.whole(t.right))

    def _indicator(self, t: nt.Indicator) -> Array:
        return np.where(self.whole(t.condition), 1.0, 0.0)

    def _enclosed(self, t: nt.Enclosed) -> Array:
        base = self.whole(t.base)
        if t.kind == "norm":
            return np.sqrt(np.sum(np.asarray(base, float) ** 2))
        return {"abs": np.abs, "floor": np.floor, "ceil": np.ceil}[t.kind](base)

    def _cases(self, t: nt.Cases) -> Array:
        return np.where(*map(self.whole, (t.condition, t.value, t.otherwise)))

    def _slice(self, t: nt.Slice) -> Array:
        return eval(f"a[{', '.join(t.index)}]", {"a": self.whole(t.base)})

    def _mapped(self, t: nt.Mapped) -> Array:
        raise Unknown("an index map")

    def _spread(self, t: nt.Spread) -> Array:
        base = self.whole(t.base)
        return base[tuple(slice(None) if k else None for k in t.kept)] if base.ndim else base

    def _big(self, t: nt.Big) -> Array:
        array, names = self.named(t)
        return self._aligned(array, names, t.free)

    def _indexed(self, t: nt.Indexed) -> Array:
        if not t.rank:
            raise Unknown("an element outside of a sum")
        array, names = self.named(t.base)
        return self._aligned(array, names, t.indices)

    # -- arrays by the letters of their axes -------------------------------------------------
    def named(self, t: nt.Term) -> tuple[Array, tuple[str, ...]]:
        if isinstance(t, nt.Indexed) and not t.rank:
            if not all(c.isalpha() for c in t.indices):
                raise Unknown("an index map")
            letters = list(dict.fromkeys(t.indices))
            order = [letters.index(c) for c in t.indices]
            array = np.asarray(self.whole(t.base))
            return np.einsum(array, order, list(range(len(letters)))), tuple(letters)
        if isinstance(t, nt.Big):
            array, names = self.named(t.body)
            if any(c not in names for c in t.indices):
                raise Unknown("a sum over what does not vary")
            axes = tuple(names.index(c) for c in t.indices)
            over: Any = axes if t.symbol not in ("argmax", "argmin") else axes[0]
            return REDUCE[t.symbol](array, axis=over), tuple(c for c in names if c not in t.indices)
        if not any(isinstance(x, (nt.Indexed, nt.Big)) for x in t.children()) and not _deep(t):
            return np.asarray(self.whole(t)), ()
        parts = [self.named(x) for x in t.children()]
        letters = tuple(dict.fromkeys(c for _, names in parts for c in names))
        arrays = iter([self._aligned(a, names, letters) for a, names in parts])
        return np.asarray(self._apply(t, arrays)), letters

    def _aligned(self, array: Array, names: Sequence[str], letters: Sequence[str]) -> Array:
        order = [names.index(c) for c in letters if c in names]
        array = np.transpose(array, order)
        return array[tuple(slice(None) if c in names else None for c in letters)]

    def _apply(self, t: nt.Term, arrays: Any) -> Array:
        """One sign, its operands already computed."""
        count = sum(1 for _ in t.children())
        own = {f"\0{k}": next(arrays) for k in range(count)}
        names = iter(own)

        def hole(x: nt.Term) -> nt.Term:
            name = next(names)
            return nt.Name(name, own[name].ndim)

        from symgrad.show.indices import _mapped

        replaced = _mapped(t, hole)
        if isinstance(replaced, nt.Product):
            return np.prod(np.stack(np.broadcast_arrays(*own.values())), axis=0)
        return _Reader({**self.names, **own}, self.shape).whole(replaced)


def _deep(t: nt.Term) -> bool:
    return any(isinstance(x, (nt.Indexed, nt.Big)) or _deep(x) for x in t.children())
