"""Rules that every loop program keeps; a broken one is a `VerifyError` naming kernel and statement.

In: a `loops.Program`. Out: nothing, or the error.

- names are defined before use, within their block, and never shadowed; sizes are known
- dtypes agree: arguments of functions, accumulators, loads and stores with their buffers
- parameters are read and written as their modes allow; calls bind as many buffers, of their dtypes
- repeats have variables of their own and run a number of turns that sizes tell, none below zero;
  offsets are made of sizes and of the variables around
- accumulators are declared, and their subscripts lie within the tile
- `Lanes` do not nest; their variable occurs to the first power, and in no extent or subscript
- beside its split loops a kernel has only `Let`s, which read nothing that it writes; what a split
  loop writes, and reads of that, is private or its index depends on the loop (see `splits`)
- no index that is reached for certain lies outside of its buffer (see `bounds`)

>>> verify(program)
Traceback (most recent call last):
codegen.verify.VerifyError: kernel scale: y[l] = x[l]: there is no buffer parameter 'y'
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from codegen import loops, splits
from codegen.bounds import Access, Reaches, Space, sample_sizes, wider
from codegen.functions import ALL, INTS, NUMBERS, result_dtype
from codegen.loops import Poly, PolyLike
from codegen.repeats import offsets
from codegen.show import show_statement
from codegen.walk import postorder, values_of

ROLES = ("arena", "private", "input", "output", "state", "constant")
ACCUMULATE = ("add", "mul", "maximum", "minimum")
PADS = ("first", "zero", "none")


class VerifyError(ValueError):
    """A program that breaks the grammar's rules."""


def verify(program: loops.Program) -> None:
    """Check every rule."""
    _check_sizes(program)
    samples = sample_sizes(program)
    buffers = _check_buffers(program)
    if program.lanes < 1:
        raise VerifyError(f"a program with {program.lanes} lanes")
    if program.threads < 1:
        raise VerifyError(f"a program with {program.threads} threads")
    reached: dict[str, list[Access]] = {}
    common: dict[str, dict[str, str]] = {}
    kernels: dict[str, loops.Kernel] = {}
    for kernel in program.kernels:
        if kernel.name in kernels:
            raise VerifyError(f"kernel {kernel.name}: two kernels have this name")
        kernels[kernel.name] = kernel
        reached[kernel.name] = _Checker(program, kernel, samples).check()
        common[kernel.name] = splits.common(kernel, samples)
    _Calls(program, samples, kernels, buffers, reached, common).check()


# -- sizes, buffers, calls -----------------------------------------------------------------------


def _check_sizes(program: loops.Program) -> None:
    known: set[str] = set()
    for name, rule in program.sizes.items():
        if isinstance(rule, loops.Derived):
            missing = rule.poly.names - known
            if missing:
                raise VerifyError(f"size {name}: {sorted(missing)[0]!r} is not known before it")
            if rule.op not in ("ceildiv", "div", "mod") or rule.by < 1:
                raise VerifyError(f"size {name}: cannot compute {rule.op} by {rule.by}")
        elif rule < 0:
            raise VerifyError(f"size {name}: its largest value is {rule}")
        known.add(name)


def _check_buffers(program: loops.Program) -> dict[str, loops.Buffer]:
    buffers: dict[str, loops.Buffer] = {}
    for b in program.buffers:
        if b.name in buffers:
            raise VerifyError(f"buffer {b.name}: two buffers have this name")
        if b.dtype not in ALL or b.role not in ROLES or b.size < 0:
            raise VerifyError(f"buffer {b.name}: {b.dtype}[{b.size}] {b.role} is not a buffer")
        length = b.size * loops.ITEMSIZE[b.dtype]
        if (b.role == "constant") != (b.data is not None):
            raise VerifyError(f"buffer {b.name}: constants have data, others have none")
        if b.data is not None and len(b.data) != length:
            raise VerifyError(f"buffer {b.name}: {len(b.data)} bytes of data, not {length}")
        buffers[b.name] = b
    return buffers


class _Calls:
    """The calls of a program, one after the other. `space` holds the repeats around."""

    def __init__(
        self,
        program: loops.Program,
        samples: list[dict[str, int]],
        kernels: Mapping[str, loops.Kernel],
        buffers: Mapping[str, loops.Buffer],
        reached: Mapping[str, list[Access]],
        common: Mapping[str, dict[str, str]],
    ) -> None:
        self.program, self.samples, self.kernels = program, samples, kernels
        self.buffers, self.reached, self.common = buffers, reached, common
        self.space = Space(samples, program.lanes)
        self.known = set(program.sizes)
        self.variables: set[str] = set()

    def check(self) -> None:
        self.calls(self.program.calls)

    def calls(self, calls: tuple[loops.Call | loops.Repeat, ...]) -> None:
        for call in calls:
            if isinstance(call, loops.Repeat):
                self.repeat(call)
                continue
            kernel = self.kernels.get(call.kernel)
            if kernel is None:
                raise VerifyError(f"a call of {call.kernel!r}, which is no kernel")
            self.call(call, kernel)
            _check_sharing(call, kernel, self.buffers, self.common[call.kernel])

    def repeat(self, repeat: loops.Repeat) -> None:
        def wrong(message: str) -> VerifyError:
            return VerifyError(f"repeat {repeat.var}: {message}")

        if repeat.var in self.variables or repeat.var in self.program.sizes:
            raise wrong("its variable is in use already")
        unknown = sorted(repeat.extent.names - self.program.sizes.keys())
        if unknown:
            raise wrong(f"{unknown[0]!r} in its extent is no size")
        least = min(repeat.extent.value(sizes) for sizes in self.samples)
        if least < 0:
            raise wrong(f"{least} turns")
        self.variables.add(repeat.var)
        self.known.add(repeat.var)
        with self.space.loop(repeat.var, repeat.extent):
            self.calls(repeat.calls)
        self.known.remove(repeat.var)

    def call(self, call: loops.Call, kernel: loops.Kernel) -> None:
        def wrong(message: str) -> VerifyError:
            return VerifyError(f"call of {kernel.name}({', '.join(call.buffers)}): {message}")

        starts = offsets(call)
        if not len(call.buffers) == len(starts) == len(kernel.params):
            raise wrong(f"{len(kernel.params)} parameters, {len(starts)} offsets")
        bound: dict[str, tuple[loops.Buffer, Poly]] = {}
        for param, name, start in zip(kernel.params, call.buffers, starts):
            buffer = self.buffers.get(name)
            if buffer is None:
                raise wrong(f"there is no buffer {name!r}")
            if buffer.dtype != param.dtype:
                raise wrong(f"{name} is {buffer.dtype}, parameter {param.name} {param.dtype}")
            if param.mode != "r" and buffer.role in ("constant", "input"):
                raise wrong(f"{param.name} is written, but {name} is {buffer.role}")
            unknown = sorted(start.names - self.known)
            if unknown:
                raise wrong(f"{unknown[0]!r} in the offset of {name} is not known here")
            bound[param.name] = buffer, start
        _check_aliases(kernel, bound, wrong)
        for access in self.reached[kernel.name]:
            buffer, start = bound[access.param]
            outside = _outside(access.reaches, self.space.reaches(start), buffer.size)
            if outside is not None:
                raise wrong(
                    f"{access.statement}: element {outside} of {buffer.name}, "
                    f"which has {buffer.size}"
                )


def _outside(reaches: Reaches, starts: Reaches, size: int) -> int | None:
    """An element outside of a buffer that is reached from one of the places it may start at."""
    for reach, start in zip(reaches, starts):
        if reach is None or start is None:
            continue
        if reach[0] + start[0] < 0:
            return reach[0] + start[0]
        if reach[1] + start[1] >= size:
            return reach[1] + start[1]
    return None


def _check_sharing(
    call: loops.Call,
    kernel: loops.Kernel,
    buffers: Mapping[str, loops.Buffer],
    common: Mapping[str, str],
) -> None:
    """Memory that turns of split loops have in common is private, and private memory is whole."""
    for param, name in zip(kernel.params, call.buffers):
        if param.name in common and buffers[name].role != "private":
            raise VerifyError(
                f"call of {kernel.name}({', '.join(call.buffers)}): {common[param.name]}: turns of "
                f"{', '.join(kernel.split)} share {name}, which is not private"
            )


def _check_aliases(
    kernel: loops.Kernel,
    bound: dict[str, tuple[loops.Buffer, Poly]],
    wrong: Callable[[str], VerifyError],
) -> None:
    """One place under two names, one of them written, needs the kernel's word for it."""
    for first in kernel.params:
        for second in kernel.params:
            same = bound[first.name] == bound[second.name] and first.name != second.name
            if same and first.mode != "r":
                pair = (first.name, second.name)
                if pair not in kernel.inplace and pair[::-1] not in kernel.inplace:
                    raise wrong(f"{pair[0]} and {pair[1]} are one buffer, but not `inplace`")


# -- kernels -------------------------------------------------------------------------------------


@dataclass
class _Name:
    """What a name stands for: "size", "loop", "lane", "let" or "accumulator"."""

    kind: str
    dtype: str = "int64"
    shape: tuple[int, ...] = ()
    vector: bool = False


class _Checker:
    """One kernel. `scope` maps the names in sight; values seen in the blocks around are in
    `checked`, since values are shared as objects."""

    def __init__(
        self, program: loops.Program, kernel: loops.Kernel, samples: list[dict[str, int]]
    ) -> None:
        self.kernel, self.lanes = kernel, program.lanes
        self.params = {p.name: p for p in kernel.params}
        self.sizes = frozenset(program.sizes)
        self.scope = {name: _Name("size") for name in program.sizes}
        self.checked: set[int] = set()
        self.space = Space(samples, program.lanes)
        self.reached: dict[tuple[str, loops.Poly, bool], Access] = {}
        self.statement: loops.Stmt | None = None
        self.lane: str | None = None

    def wrong(self, message: str) -> VerifyError:
        where = f": {show_statement(self.statement).strip()}" if self.statement else ""
        return VerifyError(f"kernel {self.kernel.name}{where}: {message}")

    def check(self) -> list[Access]:
        """What is reached of each parameter, once every rule holds."""
        if len(self.params) != len(self.kernel.params):
            raise self.wrong("two parameters have one name")
        for p in self.kernel.params:
            if p.dtype not in ALL or p.mode not in ("r", "w", "rw"):
                raise self.wrong(f"parameter {p.name}: {p.mode} {p.dtype}")
        for written, read in self.kernel.inplace:
            modes = [self.params[n].mode if n in self.params else "" for n in (written, read)]
            if written == read or "w" not in modes[0] or "r" not in modes[1]:
                raise self.wrong(f"inplace ({written}, {read}) names no written and read parameter")
        self.block(self.kernel.body)
        self.statement = None
        try:
            splits.check(self.kernel, self.sizes)
        except ValueError as error:
            raise self.wrong(str(error)) from None
        return list(self.reached.values())

    @contextmanager
    def inner(self, name: str, what: _Name) -> Iterator[None]:
        """A block that knows one more name; what it defines ends with it."""
        scope, checked = self.scope, self.checked
        self.scope, self.checked = dict(scope), set(checked)
        self.define(name, what)
        yield
        self.scope, self.checked = scope, checked

    def define(self, name: str, what: _Name) -> None:
        if name in self.scope:
            raise self.wrong(f"{name!r} is in use already")
        self.scope[name] = what

    # -- statements

    def block(self, body: tuple[loops.Stmt, ...]) -> None:
        for s in body:
            self.statement = s
            for value in postorder(values_of(s)):
                self.value(value)
            getattr(self, "_" + type(s).__name__.lower())(s)

    def _for(self, s: loops.For) -> None:
        self.poly(s.extent, uniform=True)
        if s.unroll < 1:
            raise self.wrong(f"unroll {s.unroll}")
        with self.inner(s.var, _Name("loop")), self.space.loop(s.var, s.extent):
            self.block(s.body)

    def _lanes(self, s: loops.Lanes) -> None:
        if self.lane is not None:
            raise self.wrong("lanes within lanes")
        if s.live is not None:
            self.poly(s.live, uniform=True)
        self.lane = s.var
        with self.inner(s.var, _Name("lane", vector=True)), self.space.vector(s.var, s.live):
            self.block(s.body)
        self.lane = None

    def _let(self, s: loops.Let) -> None:
        self.define(s.name, _Name("let", s.value.dtype, vector=self.varies(s.value)))

    def _declare(self, s: loops.Declare) -> None:
        self.same("the accumulator", s.dtype, "its start", s.init.dtype)
        if any(n < 1 for n in s.shape):
            raise self.wrong(f"shape {s.shape}")
        self.define(s.name, _Name("accumulator", s.dtype, s.shape, self.lane is not None))

    def _accumulate(self, s: loops.Accumulate) -> None:
        if s.fn not in ACCUMULATE:
            raise self.wrong(f"cannot accumulate with {s.fn!r}")
        what = self.accumulator(s.name, s.at)
        self.same(s.name, what.dtype, "the value", s.value.dtype)
        if s.fn in ("add", "mul") and what.dtype not in NUMBERS:
            raise self.wrong(f"{s.fn} of {what.dtype}")

    def _store(self, s: loops.Store) -> None:
        if s.when is not None:
            self.same("the condition", s.when.dtype, "it must be", "bool")
        sure = s.when is None
        param = self.access(s.buffer, s.index, "w", s.full, sure)
        self.same(s.buffer, param.dtype, "the value", s.value.dtype)

    def _scatter(self, s: loops.Scatter) -> None:
        param = self.access(s.buffer, s.index, "rw")
        self.same(s.buffer, param.dtype, "the value", s.value.dtype)
        if param.dtype not in NUMBERS:
            raise self.wrong(f"a sum of {param.dtype}")

    def _prefetch(self, s: loops.Prefetch) -> None:
        self.access(s.buffer, s.index, "r", sure=False)
        if self.lane is not None and self.lane in s.index.names:
            raise self.wrong("a prefetch of more than one place")

    def _transpose(self, s: loops.Transpose) -> None:
        if self.lane is not None:
            raise self.wrong("a transpose within lanes")
        if s.pad not in PADS:
            raise self.wrong(f"pad {s.pad!r}")
        for poly in (s.rows, s.cols, s.dst_index, s.dst_stride, s.src_index, s.src_stride):
            self.poly(poly, uniform=True)
        r, c = "row of the tile", "column of the tile"
        taken = s.src_index + s.src_stride * r + c
        put = s.dst_index + s.dst_stride * c + r
        with self.inner(r, _Name("loop")), self.inner(c, _Name("loop")):
            with self.space.loop(c, s.cols):
                with self.space.loop(r, s.rows):
                    source = self.access(s.src, taken, "r")
                with self.space.loop(r, s.rows if s.pad == "none" else Poly.of(self.lanes)):
                    target = self.access(s.dst, put, "w")
                for what, count in (("rows", s.rows), ("cols", s.cols)):
                    most = self.space.reach(count, full=False)
                    if most is not None and most[1] > self.lanes:
                        raise self.wrong(f"{most[1]} {what}, but {self.lanes} lanes")
        self.same(s.src, source.dtype, "the tile", s.dtype)
        self.same(s.dst, target.dtype, "the tile", s.dtype)

    # -- names, indices, accesses

    def varies(self, value: loops.Value) -> bool:
        """Whether a value may differ from lane to lane."""
        for v in postorder((value,)):
            names: frozenset[str] = frozenset()
            if isinstance(v, loops.Index):
                names = v.poly.names
            elif isinstance(v, loops.Load):
                names = v.index.names
            elif isinstance(v, loops.Get):
                names = frozenset((v.name,))
            if any(self.scope[name].vector for name in names):
                return True
        return False

    def same(self, what: str, dtype: str, other: str, found: str) -> None:
        if dtype != found:
            raise self.wrong(f"{what} is {dtype}, {other} {found}")

    def poly(self, poly: PolyLike, uniform: bool = False) -> None:
        """Every name is in sight and an integer; `uniform` allows no lane-wise ones."""
        poly = Poly.of(poly)
        for name in sorted(poly.names):
            what = self.scope.get(name)
            if what is None:
                raise self.wrong(f"{name!r} is not defined here")
            if what.kind == "accumulator" or what.dtype not in INTS:
                raise self.wrong(f"{name!r} is {what.dtype} {what.kind}, no integer to index with")
            if uniform and what.vector:
                raise self.wrong(f"{name!r} differs from lane to lane")
        for names, _ in poly.terms:
            if self.lane is not None and names.count(self.lane) > 1:
                raise self.wrong(f"a power of the lane {self.lane!r}")

    def accumulator(self, name: str, at: tuple[PolyLike, ...]) -> _Name:
        what = self.scope.get(name)
        if what is None or what.kind != "accumulator":
            raise self.wrong(f"{name!r} is no accumulator in sight")
        if len(at) != len(what.shape):
            raise self.wrong(f"{name} has {len(what.shape)} axes, {len(at)} subscripts given")
        for subscript, size in zip(at, what.shape):
            self.poly(subscript, uniform=True)
            reach = self.space.reach(Poly.of(subscript), full=False)
            if reach is not None and not 0 <= reach[0] <= reach[1] < size:
                outside = reach[0] if reach[0] < 0 else reach[1]
                raise self.wrong(f"subscript {outside} of {name} is not in 0..{size - 1}")
        return what

    def access(
        self, buffer: str, index: Poly, mode: str, full: bool = False, sure: bool = True
    ) -> loops.Param:
        param = self.params.get(buffer)
        if param is None:
            raise self.wrong(f"there is no buffer parameter {buffer!r}")
        if not set(mode) <= set(param.mode):
            raise self.wrong(f"{buffer} has mode {param.mode!r}, {mode!r} is needed")
        self.poly(index)
        if full and self.lane is None:
            raise self.wrong("`full` outside of lanes")
        reaches = self.space.reaches(index, full) if sure else ()
        if any(reaches):
            self.note(buffer, index, full, reaches)
        return param

    def note(self, buffer: str, index: Poly, full: bool, reaches: Reaches) -> None:
        """Keep the widest reach of equal accesses; where it is too wide is up to the calls."""
        key = (buffer, index, full)
        known = self.reached.get(key)
        wide = tuple(map(wider, reaches, known.reaches)) if known else reaches
        if known is None or wide != known.reaches:
            assert self.statement is not None
            text = show_statement(self.statement).strip()
            self.reached[key] = Access(buffer, wide, text)

    # -- values

    def value(self, v: loops.Value) -> None:
        """One value; its parts come before it."""
        if id(v) not in self.checked:
            self.checked.add(id(v))
            getattr(self, "_" + type(v).__name__.lower())(v)

    def _const(self, v: loops.Const) -> None:
        if v.dtype not in ALL or (v.dtype in INTS and v.number != int(v.number)):
            raise self.wrong(f"{v.number} is no {v.dtype}")

    def _load(self, v: loops.Load) -> None:
        if v.when is not None:
            self.same("the condition", v.when.dtype, "it must be", "bool")
        param = self.access(v.buffer, v.index, "r", v.full, v.when is None)
        self.same(v.buffer, param.dtype, "the load", v.dtype)

    def _get(self, v: loops.Get) -> None:
        what = self.scope.get(v.name)
        if what is None or what.kind not in ("let", "accumulator"):
            raise self.wrong(f"{v.name!r} is not defined here")
        if what.kind == "accumulator":
            self.accumulator(v.name, v.at)
        elif v.at:
            raise self.wrong(f"{v.name} has no axes")
        self.same(v.name, what.dtype, "read as", v.dtype)

    def _index(self, v: loops.Index) -> None:
        self.poly(v.poly)
        if v.dtype not in NUMBERS:
            raise self.wrong(f"an index as {v.dtype}")

    def _op(self, v: loops.Op) -> None:
        try:
            dtype = result_dtype(v.fn, [a.dtype for a in v.args], v.dtype)
        except ValueError as error:
            raise self.wrong(str(error)) from None
        self.same(v.fn, dtype, "declared as", v.dtype)
