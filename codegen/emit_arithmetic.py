"""The primitive scalar functions as LLVM instructions, on scalars and on vectors alike.

In: the name of a primitive of `codegen.functions` and registers. Out: a register. What one
instruction set lacks (rounding before SSE4.1, fused multiply-add) is composed here.

>>> a.apply("fma", (x, y, z), "float32")
Reg(%.12)
"""

from __future__ import annotations

import math
from typing import Callable, Sequence

from codegen.emit_address import Addresses
from codegen.emit_builder import FLOATS, WIDTH, EmitError, Reg

BINARY = {  # function -> opcode on floats, opcode on ints
    "add": ("fadd", "add"),
    "sub": ("fsub", "sub"),
    "mul": ("fmul", "mul"),
    "div": ("fdiv", ""),
    "div_int": ("", "sdiv"),
    "bit_and": ("", "and"),
    "bit_or": ("", "or"),
    "bit_xor": ("", "xor"),
    "shift_left": ("", "shl"),
    "shift_right": ("", "lshr"),
    "shift_right_arithmetic": ("", "ashr"),
}
COMPARE = {  # predicates on floats (false on NaN, but for not_equal), ints, bools
    "less": ("olt", "slt", "ult"),
    "less_equal": ("ole", "sle", "ule"),
    "greater": ("ogt", "sgt", "ugt"),
    "greater_equal": ("oge", "sge", "uge"),
    "equal": ("oeq", "eq", "eq"),
    "not_equal": ("une", "ne", "ne"),
}
ROUND = {"floor": "floor", "ceil": "ceil", "round": "rint", "trunc": "trunc"}
BOOL = {"add": "or", "maximum": "or", "mul": "and", "minimum": "and"}
INTEGRAL = {"float32": 2.0**23, "float64": 2.0**52}  # from here on every float is an integer


class Arithmetic(Addresses):
    """Adds the primitives to the builder."""

    def apply(self, fn: str, args: Sequence[Reg], dtype: str) -> Reg:
        """`fn` of `args`, which the grammar has checked; `dtype` is the result's."""
        if fn in BINARY:
            a, b = args
            if a.dtype == "bool" and fn in BOOL:
                return self.binary(BOOL[fn], a, b)
            return self.binary(BINARY[fn][a.dtype not in FLOATS], a, b)
        if fn in COMPARE:
            return self._compare(fn, args[0], args[1])
        if fn in ROUND:
            return self._round(fn, args[0])
        special = _SPECIAL.get(fn)
        if special is None:
            raise EmitError(f"there is no scalar function {fn!r}")
        return special(self, *args, dtype=dtype)

    def combine(self, fn: str, a: Reg, b: Reg) -> Reg:
        """An accumulator's step."""
        return self.apply(fn, (a, b), a.dtype)

    def multiply_add(self, a: Reg, b: Reg, c: Reg, dtype: str = "") -> Reg:
        """`a * b + c`, with one rounding where the machine can."""
        if self.target.has_fma and c.dtype in FLOATS:
            return self.intrinsic("fma", a, b, c)
        return self.apply("add", (self.apply("mul", (a, b), c.dtype), c), c.dtype)

    def neutral(self, fn: str, dtype: str) -> Reg:
        """What an accumulator starts from."""
        if fn in ("add", "mul"):
            return self.const(1 if fn == "mul" else 0, dtype)
        if dtype == "bool":
            return self.const(fn == "minimum", dtype)
        if dtype in FLOATS:
            return self.const(math.inf if fn == "minimum" else -math.inf, dtype)
        top = (1 << (WIDTH[dtype] - 1)) - 1
        return self.const(top if fn == "minimum" else -top - 1, dtype)

    # -- functions

    def _compare(self, fn: str, a: Reg, b: Reg) -> Reg:
        on_float, on_int, on_bool = COMPARE[fn]
        if a.dtype in FLOATS:
            return self.binary(f"fcmp {on_float}", a, b, "bool")
        return self.binary(f"icmp {on_bool if a.dtype == 'bool' else on_int}", a, b, "bool")

    def _extremum(self, fn: str, a: Reg, b: Reg) -> Reg:
        """NaN of either operand survives. `select(a > b, a, b)` is one machine instruction and
        gives b if any is NaN; a constant is never NaN and goes first."""
        if a.dtype == "bool":
            return self.binary(BOOL[fn], a, b)
        if a.dtype not in FLOATS:
            return self.intrinsic("smax" if fn == "maximum" else "smin", a, b)
        if b.number is not None:
            a, b = b, a
        picked = self.select(self.apply(_FIRST[fn], (a, b), "bool"), a, b)
        if a.number is not None and not math.isnan(a.number):
            return picked
        return self.select(self.binary("fcmp uno", a, a, "bool"), a, picked)

    def maximum(self, a: Reg, b: Reg, dtype: str) -> Reg:
        return self._extremum("maximum", a, b)

    def minimum(self, a: Reg, b: Reg, dtype: str) -> Reg:
        return self._extremum("minimum", a, b)

    def negate(self, a: Reg, dtype: str) -> Reg:
        if dtype in FLOATS:
            return self.pure(f"fneg {self.type_of(a)} {a.ref}", dtype, a.vec, a.depth)
        return self.binary("sub", self.const(0, dtype), a)

    def absolute(self, a: Reg, dtype: str) -> Reg:
        if dtype in FLOATS:
            return self.intrinsic("fabs", a)
        return self.intrinsic("abs", a, flag="i1 false")

    def square_root(self, a: Reg, dtype: str) -> Reg:
        return self.intrinsic("sqrt", a)

    def _round(self, fn: str, a: Reg) -> Reg:
        if self.target.has_round:
            return self.intrinsic(ROUND[fn], a)
        # Adding and taking away 2**23 (2**52) rounds half to even; larger numbers are integers.
        big = self.const(INTEGRAL[a.dtype], a.dtype)
        size = self.intrinsic("fabs", a)
        whole = self.apply("sub", (self.apply("add", (size, big), a.dtype), big), a.dtype)
        one, zero = self.const(1, a.dtype), self.const(0, a.dtype)
        if fn == "trunc":
            over = self.apply("greater", (whole, size), "bool")
            whole = self.apply("sub", (whole, self.select(over, one, zero)), a.dtype)
        whole = self.intrinsic("copysign", whole, a)
        if fn in ("floor", "ceil"):
            past = self.apply("greater" if fn == "floor" else "less", (whole, a), "bool")
            fix = self.select(past, one, zero)
            whole = self.apply("sub" if fn == "floor" else "add", (whole, fix), a.dtype)
            whole = self.intrinsic("copysign", whole, a)
        return self.select(self.apply("less", (size, big), "bool"), whole, a)

    def invert(self, a: Reg, dtype: str) -> Reg:
        return self.binary("xor", a, self.const(True, "bool"))

    def both(self, a: Reg, b: Reg, dtype: str = "bool") -> Reg:
        return self.binary("and", a, b)

    def either(self, a: Reg, b: Reg, dtype: str = "bool") -> Reg:
        return self.binary("or", a, b)

    def where(self, condition: Reg, a: Reg, b: Reg, dtype: str) -> Reg:
        return self.select(condition, a, b)

    def high_product(self, a: Reg, b: Reg, dtype: str) -> Reg:
        wide = self.binary(
            "mul", self.convert("zext", a, "int64"), self.convert("zext", b, "int64")
        )
        high = self.binary("lshr", wide, self.const(32, "int64"))
        return self.convert("trunc", high, "int32")

    def bitcast(self, a: Reg, dtype: str) -> Reg:
        return self.convert("bitcast", a, dtype)

    def cast(self, a: Reg, dtype: str) -> Reg:
        if a.dtype == dtype:
            return a
        if (
            a.number is not None
            and not a.vec
            and not (isinstance(a.number, float) and dtype not in FLOATS)
        ):
            return self.const(a.number, dtype)
        if dtype == "bool":
            return self._compare("not_equal", a, self.const(0, a.dtype))
        if a.dtype == "bool":
            return self.convert("uitofp" if dtype in FLOATS else "zext", a, dtype)
        if a.dtype in FLOATS:
            if dtype in FLOATS:
                return self.convert("fpext" if dtype == "float64" else "fptrunc", a, dtype)
            return self.convert("fptosi", a, dtype)
        if dtype in FLOATS:
            return self.convert("sitofp", a, dtype)
        return self.convert("sext" if dtype == "int64" else "trunc", a, dtype)

    # -- across lanes

    def reduce(self, a: Reg, fn: str) -> Reg:
        """All lanes of a vector combined in a fixed tree: halves onto halves."""
        n, width = self.lanes, self.lanes
        while width > 1:
            width //= 2
            upper = self.shuffle(a, None, [i + width if i < width else -1 for i in range(n)])
            a = self.combine(fn, a, upper)
        return self.lane_of(a, 0)

    def reduce_many(self, vectors: Sequence[Reg], fn: str) -> Reg:
        """The reductions of up to `lanes` vectors as one vector, in the order given; the tree is
        that of `reduce`. Two vectors share each shuffle: one keeps its lower halves, one its upper.
        """
        n = self.lanes
        level = list(vectors) + [vectors[0]] * (n - len(vectors))
        width = n
        while width > 1:
            width //= 2
            low = [i if i // width % 2 == 0 else n + i - width for i in range(n)]
            high = [i + width if i // width % 2 == 0 else n + i for i in range(n)]
            half = len(level) // 2
            level = [
                self.combine(fn, self.shuffle(a, b, low), self.shuffle(a, b, high))
                for a, b in zip(level[:half], level[half:])
            ]
        return level[0]

    def lane_of(self, a: Reg, lane: int | Reg) -> Reg:
        """One element of a vector."""
        at = f"i64 {lane}" if isinstance(lane, int) else f"i64 {lane.ref}"
        depth = a.depth if isinstance(lane, int) else max(a.depth, lane.depth)
        return self.pure(f"extractelement {self.type_of(a)} {a.ref}, {at}", a.dtype, False, depth)


_FIRST = {"maximum": "greater", "minimum": "less"}
_SPECIAL: dict[str, Callable[..., Reg]] = {
    "neg": Arithmetic.negate,
    "abs": Arithmetic.absolute,
    "sqrt": Arithmetic.square_root,
    "maximum": Arithmetic.maximum,
    "minimum": Arithmetic.minimum,
    "fma": Arithmetic.multiply_add,
    "logical_and": Arithmetic.both,
    "logical_or": Arithmetic.either,
    "logical_not": Arithmetic.invert,
    "where": Arithmetic.where,
    "cast": Arithmetic.cast,
    "bitcast": Arithmetic.bitcast,
    "umul_high": Arithmetic.high_product,
}
