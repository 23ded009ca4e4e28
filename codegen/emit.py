"""A program of loop nests as the text of one LLVM module.

In: a `Program`, where its buffers are (`codegen.memory.plan`), the `Target`. Out: LLVM IR with one
internal function per kernel and `void step(ptr buffers, ptr sizes)`, which reads the base pointers
and the run-time sizes, computes the derived sizes and calls the kernels in order.

>>> text = emit(program, plan(program), Target.host())
>>> code = assemble(text, Target.host())
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from codegen.emit_address import Addresses
from codegen.emit_builder import MEMORY_TYPE, EmitError, Reg
from codegen.emit_pack import Packing
from codegen.emit_scan import Facts, scan
from codegen.emit_values import ZEROS
from codegen.loops import ITEMSIZE, Buffer, Call, Derived, Kernel, Param, Program, Transpose
from codegen.target import Target

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*\Z")


class Plan(Protocol):
    """What is needed of `codegen.memory.ArenaPlan`."""

    @property
    def offsets(self) -> Mapping[str, int]: ...

    @property
    def table(self) -> Mapping[str, int]: ...


class KernelEmitter(Packing):
    """Emits one kernel."""

    def __init__(
        self,
        program: Program,
        kernel: Kernel,
        aliases: dict[str, frozenset[str]],
        target: Target,
        declared: dict[str, str],
        alone: bool = False,
    ) -> None:
        super().__init__(program.lanes, target, declared)
        self.kernel, self.aliases, self.alone = kernel, aliases, alone
        self.facts: Facts = scan(kernel)
        unknown = self.facts.names - set(program.sizes)
        if unknown:
            raise EmitError(f"kernel {kernel.name}: no size is named {', '.join(sorted(unknown))}")
        self.sizes = [name for name in program.sizes if name in self.facts.names]
        self.env = {name: Reg(local("n_" + name), "int64") for name in self.sizes}
        self.pointers = {p.name: (Reg(local(p.name), "ptr"), p.dtype) for p in kernel.params}
        self.lane = self.mask = self.live = None
        self.places, self.names, self.memo = {}, {}, {}
        self.lets, self.tiles, self.versions, self.lowered = {}, {}, {}, {}
        self.loaded, self.loops, self.hoisted = [{}], [], [0]
        self.allocas: list[str] = []

    def function(self) -> str:
        kernel = self.kernel
        try:
            self.run(kernel.body)
        except EmitError as error:
            raise EmitError(f"kernel {kernel.name}: {error}") from None
        params = [f"ptr {p.ref}" for p, _ in self.pointers.values()]
        for name in self.sizes:
            params.append(f"i64 {local('n_' + name)}")
        lines = [
            *(f"; {line}" for line in kernel.comment.splitlines()),
            *(f"; from {line}" for source in kernel.sources for line in source.splitlines()),
            f"define internal void @{quoted(kernel.name)}({', '.join(params)}) #0 {{",
            "entry:",
            *self.allocas,
            self.text(),
            "  ret void",
            "}",
        ]
        return "\n".join(lines)

    def declare_tile(self, function: str, tile: Transpose, names: Sequence[str]) -> None:
        if function in self.declared:
            return
        params = Param(tile.dst, tile.dtype, "w"), Param(tile.src, tile.dtype)
        kernel = Kernel(function, params, (tile,), comment="a tile from rows to lanes")
        program = Program(self.lanes, dict.fromkeys(names, 0), (), (kernel,), ())
        aliases = {p.name: frozenset({p.name}) for p in params}
        emitter = KernelEmitter(program, kernel, aliases, self.target, self.declared, alone=True)
        self.declared[function] = emitter.function()


def emit(program: Program, plan: Plan, target: Target, stamps: str | None = None) -> str:
    """The module's text. `stamps` names a buffer of int64 that is to hold the machine's counter
    before each call, after the last one, and once more: what reading it costs."""
    declared: dict[str, str] = {}
    functions = []
    sizes: dict[str, list[str]] = {}
    aliases = _aliases(program)
    for kernel in program.kernels:
        emitter = KernelEmitter(program, kernel, aliases[kernel.name], target, declared)
        functions.append(emitter.function())
        sizes[kernel.name] = emitter.sizes
    driver = _Driver(program, plan, target, declared, stamps).function(sizes)
    width = f' "prefer-vector-width"="{target.vector_bits}"' if target.vector_bits >= 512 else ""
    zeros = f"{ZEROS} = internal constant [{8 * program.lanes} x i8] zeroinitializer, align 64"
    head = [f'target triple = "{target.triple}"', zeros]
    head += [_constant(b) for b in program.buffers if b.role == "constant"]
    tail = [*declared.values(), f"attributes #0 = {{ nounwind noinline{width} }}"]
    return "\n\n".join(["\n".join(head), *functions, driver, "\n".join(tail)]) + "\n"


def local(name: str) -> str:
    """A parameter or label of this name."""
    return "%" + quoted(name)


def quoted(name: str) -> str:
    if _PLAIN.match(name):
        return name
    body = "".join(c if c.isalnum() and c.isascii() or c in "._-" else _hex(c) for c in name)
    return f'"{body}"'


def _hex(character: str) -> str:
    return "".join(f"\\{byte:02X}" for byte in character.encode())


def _constant(buffer: Buffer) -> str:
    data = buffer.data or b""
    size = buffer.size * ITEMSIZE[buffer.dtype]
    if len(data) != size:
        raise EmitError(f"constant {buffer.name} has {len(data)} bytes, not {size}")
    padded = data + bytes(-size % 64)  # a whole vector may be read at its end
    text = data_text(padded)
    return f'@{quoted(buffer.name)} = internal constant [{len(padded)} x i8] c"{text}", align 64'


def data_text(data: bytes) -> str:
    """Bytes as LLVM writes them in a string."""
    digits = data.hex().upper()
    return "".join("\\" + digits[i : i + 2] for i in range(0, len(digits), 2))


def _aliases(program: Program) -> dict[str, dict[str, frozenset[str]]]:
    """For each kernel and parameter, the parameters that may be the same memory."""
    pairs: dict[str, set[tuple[str, str]]] = {k.name: set(k.inplace) for k in program.kernels}
    params = {k.name: [p.name for p in k.params] for k in program.kernels}
    for call in program.calls:
        names = params.get(call.kernel)
        if names is None:
            raise EmitError(f"there is no kernel {call.kernel!r}")
        if len(names) != len(call.buffers):
            raise EmitError(
                f"kernel {call.kernel} takes {len(names)} buffers, not {len(call.buffers)}"
            )
        if len(set(call.buffers)) < len(names):
            shared = list(zip(names, call.buffers))
            pairs[call.kernel] |= {(a, b) for a, x in shared for b, y in shared if x == y}
    result: dict[str, dict[str, frozenset[str]]] = {}
    for name, own in params.items():
        both = pairs[name] | {(b, a) for a, b in pairs[name]}
        result[name] = {p: frozenset([p] + [b for a, b in both if a == p]) for p in own}
    return result


class _Driver(Addresses):
    """Emits `step`."""

    def __init__(
        self,
        program: Program,
        plan: Plan,
        target: Target,
        declared: dict[str, str],
        stamps: str | None = None,
    ) -> None:
        super().__init__(program.lanes, target, declared)
        self.program, self.plan, self.stamps = program, plan, stamps
        self.env, self.lane = {}, None
        self.buffers = {b.name: b for b in program.buffers}
        self.bases: dict[int, Reg] = {}

    def function(self, sizes: Mapping[str, list[str]]) -> str:
        self._sizes()
        for number, call in enumerate(self.program.calls):
            self._stamp(number)
            self._call(call, sizes[call.kernel])
        for number in range(2):
            self._stamp(len(self.program.calls) + number)
        return (
            "define void @step(ptr %buffers, ptr %sizes) #0 {\nentry:\n"
            + self.text()
            + ("\n" if self.out else "")
            + "  ret void\n}"
        )

    def _stamp(self, number: int) -> None:
        """The machine's counter into the buffer of stamps, where one is wanted."""
        if self.stamps is None:
            return
        kind = "cycle" if self.target.triple.startswith("x86") else "steady"
        name = f"llvm.read{kind}counter"
        self.declare(name, f"declare i64 @{name}()")
        at = self._bytes(self._base(self.plan.table[self.stamps]), 8 * number)
        self.line(f"store i64 {self.here(f'call i64 @{name}()', 'int64', False).ref}, ptr {at.ref}")

    def _sizes(self) -> None:
        position = 0
        for name, rule in self.program.sizes.items():
            if isinstance(rule, Derived):
                self.env[name] = self._derived(rule)
                continue
            at = self.element(Reg("%sizes", "ptr"), position, "int64")
            self.env[name] = self.here(f"load i64, ptr {at.ref}", "int64", False)
            position += 1

    def _derived(self, rule: Derived) -> Reg:
        by = self.const(rule.by, "int64")
        top = self.integer(rule.poly + rule.by - 1 if rule.op == "ceildiv" else rule.poly)
        if isinstance(top, int):
            top = self.const(top, "int64")
        if rule.op not in ("ceildiv", "div", "mod"):
            raise EmitError(f"sizes are derived by ceildiv, div or mod, not {rule.op}")
        return self.binary("urem" if rule.op == "mod" else "udiv", top, by)

    def _call(self, call: Call, sizes: list[str]) -> None:
        offsets = call.offsets or (0,) * len(call.buffers)
        given = [f"ptr {self._pointer(b, at).ref}" for b, at in zip(call.buffers, offsets)]
        for name in sizes:
            bound = self.env[name]
            assert isinstance(bound, Reg)
            given.append(f"i64 {bound.ref}")
        self.line(f"call void @{quoted(call.kernel)}({', '.join(given)})")

    def _pointer(self, name: str, offset: int) -> Reg:
        """A buffer's element: in the arena, in the pointer table, or a constant of the module."""
        buffer = self.buffers.get(name)
        if buffer is None:
            raise EmitError(f"there is no buffer {name!r}")
        offset *= ITEMSIZE[buffer.dtype]
        if buffer.role == "constant":
            return self._bytes(Reg("@" + quoted(name), "ptr"), offset)
        if buffer.role == "arena":
            return self._bytes(self._base(0), self.plan.offsets[name] + offset)
        return self._bytes(self._base(self.plan.table[name]), offset)

    def _base(self, index: int) -> Reg:
        if index not in self.bases:
            at = self._bytes(Reg("%buffers", "ptr"), 8 * index)
            self.bases[index] = self.here(f"load ptr, ptr {at.ref}", "ptr", False)
        return self.bases[index]

    def _bytes(self, pointer: Reg, offset: int) -> Reg:
        if not offset:
            return pointer
        kind = MEMORY_TYPE["bool"]
        return self.pure(f"getelementptr {kind}, ptr {pointer.ref}, i64 {offset}", "ptr", False, 0)
