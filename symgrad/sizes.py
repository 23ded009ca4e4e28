"""Sizes of axes: a plain int, or a run-time dimension times an int.

In: `dim("batch", max=256)` and arithmetic on it. Out: values usable in every shape.

>>> n = dim("batch", max=256)
>>> n * 4
4*batch
>>> maximum(n * 4)
1024
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

from symgrad.errors import ShapeError

if TYPE_CHECKING:
    from symgrad.node import Expr


@dataclass(frozen=True)
class Dim:
    """A run-time dimension: any value from 1 to `max`, chosen at each call; `factor` of them."""

    name: str
    max: int
    factor: int = 1

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, int):
            return Dim(self.name, self.max, self.factor * other) if other else 0
        return self.expr() * other

    __rmul__ = __mul__

    def __floordiv__(self, other: int) -> Dim:
        if other <= 0 or self.factor % other:
            raise ShapeError(f"size {self} is not a multiple of {other}")
        return Dim(self.name, self.max, self.factor // other)

    def __truediv__(self, other: Any) -> Any:
        return self.expr() / other

    def __rtruediv__(self, other: Any) -> Any:
        return other / self.expr()

    def __add__(self, other: Any) -> Any:
        return self.expr() + other

    def __radd__(self, other: Any) -> Any:
        return other + self.expr()

    def __sub__(self, other: Any) -> Any:
        return self.expr() - other

    def __rsub__(self, other: Any) -> Any:
        return other - self.expr()

    def expr(self, dtype: str = "float32") -> Expr:
        """This size as a scalar expression."""
        from symgrad.node import SizeOf

        return SizeOf.of(self, dtype)

    @property
    def base(self) -> Dim:
        """The same dimension with factor 1."""
        return Dim(self.name, self.max)

    def __str__(self) -> str:
        return self.name if self.factor == 1 else f"{self.factor}*{self.name}"

    __repr__ = __str__


Size = Union[int, Dim]
Shape = tuple[Size, ...]


def dim(name: str, max: int) -> Dim:  # noqa: A002 - the public name of the argument
    """Declare a run-time size: one compiled function then serves every value from 1 to `max`."""
    if not isinstance(name, str) or not name.isidentifier():
        raise ShapeError(f"dim: the name must be an identifier, got {name!r}")
    if not isinstance(max, int) or max < 1:
        raise ShapeError(f"dim {name!r}: max must be a positive int, got {max!r}")
    return Dim(name, max)


def maximum(size: Size) -> int:
    """The largest value a size can take: what memory is planned for."""
    return size if isinstance(size, int) else size.max * size.factor


def value(size: Size, dims: dict[str, int]) -> int:
    """The size at run time, given the value of each dimension by name."""
    return size if isinstance(size, int) else dims[size.name] * size.factor


def product(shape: Shape) -> Size:
    """The number of elements; at most one run-time dimension may take part."""
    result: Size = 1
    for size in shape:
        if isinstance(size, Dim):
            if isinstance(result, Dim):
                raise ShapeError(f"a product of two run-time sizes, {result} and {size}")
            result = size * result
        else:
            result = result * size
    return result


def count(shape: Shape) -> tuple[int, tuple[str, ...]]:
    """The number of elements of any shape, to compare: a factor, and the run-time sizes in it."""
    factor = 1
    names: list[str] = []
    for size in shape:
        if isinstance(size, Dim):
            factor, names = factor * size.factor, [*names, size.name]
        else:
            factor *= size
    return factor, tuple(sorted(names)) if factor else ()


def amount(shape: Shape) -> str:
    """The number of elements as text."""
    factor, names = count(shape)
    return "*".join([*names, *([str(factor)] if factor != 1 or not names else [])])


def single(shape: Shape) -> Size | None:
    """The number of elements as a size; None where two run-time dimensions take part."""
    several = sum(isinstance(size, Dim) for size in shape) > 1
    return None if several else product(shape)


def show(shape: Shape) -> str:
    """A shape as text, `(batch, 784)`."""
    inner = ", ".join(str(s) for s in shape)
    return f"({inner},)" if len(shape) == 1 else f"({inner})"
