"""Writing `loops.Value` DAGs as formulas: `V` wraps a value, `Kit` knows its dtype and machine.

In: values of the grammar. Out: the same, built by Python operators, each an Op of the table.

>>> kit = Kit("float32", has_fma=True)
>>> x = V(loops.Load("x", Poly.of("l"), "float32"))
>>> y = kit.poly(x, (0.5, 1.0, 1.0))              # ((0.5 x) + 1) x + 1, as two fma
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Union

from codegen import loops
from codegen.functions import BITS_OF, INTS, result_dtype

Number = Union[int, float]


@dataclass(frozen=True, eq=False)
class V:
    """A value with operators; numbers beside it become constants of its dtype."""

    value: loops.Value

    @property
    def dtype(self) -> str:
        return self.value.dtype

    def const(self, number: Number) -> V:
        return V(loops.Const(number, self.dtype))

    def _with(self, fn: str, other: V | Number) -> V:
        return op(fn, self, other if isinstance(other, V) else self.const(other))

    def __add__(self, other: V | Number) -> V:
        return self._with("add", other)

    def __sub__(self, other: V | Number) -> V:
        return self._with("sub", other)

    def __rsub__(self, other: Number) -> V:
        return self.const(other) - self

    def __mul__(self, other: V | Number) -> V:
        return self._with("mul", other)

    def __truediv__(self, other: V | Number) -> V:
        return self._with("div", other)

    def __rtruediv__(self, other: Number) -> V:
        return self.const(other) / self

    def __neg__(self) -> V:
        return op("neg", self)

    def __abs__(self) -> V:
        return op("abs", self)

    def __lt__(self, other: V | Number) -> V:
        return self._with("less", other)

    def __le__(self, other: V | Number) -> V:
        return self._with("less_equal", other)

    def __gt__(self, other: V | Number) -> V:
        return self._with("greater", other)

    def __ge__(self, other: V | Number) -> V:
        return self._with("greater_equal", other)

    def eq(self, other: V | Number) -> V:
        return self._with("equal", other)

    def ne(self, other: V | Number) -> V:
        return self._with("not_equal", other)

    def __and__(self, other: V | Number) -> V:
        return self._with("logical_and" if self.dtype == "bool" else "bit_and", other)

    def __or__(self, other: V | Number) -> V:
        return self._with("logical_or" if self.dtype == "bool" else "bit_or", other)

    def __xor__(self, other: V | Number) -> V:
        return self._with("not_equal" if self.dtype == "bool" else "bit_xor", other)

    def __invert__(self) -> V:
        return op("logical_not", self)

    def __lshift__(self, bits: int) -> V:
        return self._with("shift_left", bits)

    def __rshift__(self, bits: int) -> V:
        """Zeros come in from the left."""
        return self._with("shift_right", bits)

    def bits(self) -> V:
        """The same bits as the other type of this width."""
        return op("bitcast", self)

    def to(self, dtype: str) -> V:
        return self if dtype == self.dtype else V(loops.Op("cast", (self.value,), dtype))


def op(fn: str, *args: V) -> V:
    return V(loops.Op(fn, tuple(a.value for a in args), result_dtype(fn, [a.dtype for a in args])))


def where(condition: V, a: V | Number, b: V | Number) -> V:
    if not isinstance(a, V):
        assert isinstance(b, V)
        a = b.const(a)
    return op("where", condition, a, b if isinstance(b, V) else a.const(b))


class Kit:
    """What depends on the float type and on whether the machine multiplies and adds in one."""

    def __init__(self, dtype: str, has_fma: bool) -> None:
        self.dtype, self.int, self.has_fma = dtype, BITS_OF[dtype], has_fma
        single = dtype == "float32"
        self.single = single
        self.mantissa = 23 if single else 52
        self.bias = 127 if single else 1023
        self.one_bits = self.bias << self.mantissa
        self.inf_bits = (2 * self.bias + 1) << self.mantissa
        self.sign_bit = -(1 << (31 if single else 63))
        self.tiny = 2.0 ** (1 - self.bias)  # the smallest normal number
        self.epsilon = 2.0**-self.mantissa
        # Adding 1.5 * 2^mantissa rounds to an integer and leaves it in the low bits.
        self.magic = 1.5 * 2.0**self.mantissa

    def const(self, number: Number) -> V:
        return V(loops.Const(number, self.dtype))

    def integer(self, number: int) -> V:
        return V(loops.Const(number, self.int))

    def fma(self, a: V, b: V | Number, c: V | Number) -> V:
        """a * b + c, with one rounding where the machine has it."""
        b = b if isinstance(b, V) else a.const(b)
        c = c if isinstance(c, V) else a.const(c)
        if self.has_fma and a.dtype not in INTS:
            return op("fma", a, b, c)
        return a * b + c

    def poly(self, x: V, coefficients: Sequence[float]) -> V:
        """Horner's rule, the highest degree first."""
        out = self.fma(x, coefficients[0], coefficients[1])
        for c in coefficients[2:]:
            out = self.fma(out, x, c)
        return out

    def at_most(self, x: V, high: float) -> V:
        """min(x, high), but NaN stays NaN. In this order it is one instruction on x86."""
        return where(self.const(high) < x, self.const(high), x)

    def at_least(self, x: V, low: float) -> V:
        return where(self.const(low) > x, self.const(low), x)

    def sign_of(self, x: V) -> V:
        """The sign bit alone, as bits."""
        return x.bits() & self.sign_bit

    def with_sign(self, x: V, sign: V) -> V:
        """x >= 0 with the sign bit given by `sign_of`."""
        return (x.bits() | sign).bits()

    def nearest(self, x: V) -> tuple[V, V]:
        """The integer next to x, and bits whose low end is that integer in two's complement."""
        shifted = x + self.magic
        return shifted - self.magic, shifted.bits()

    def nearest_product(self, x: V, factor: float) -> tuple[V, V]:
        """`nearest` of x * factor."""
        shifted = self.fma(x, factor, self.magic)
        return shifted - self.magic, shifted.bits()

    def power_of_two(self, n: V, times: float = 1.0) -> V:
        """2^n * times for an integer n in the low bits of `n`; the result must be normal. `times`
        is a power of two."""
        bias = self.bias + round(math.log2(times))
        return ((n << self.mantissa) + (bias << self.mantissa)).bits()
