"""A program of loop nests as the text of one LLVM module.

In: a `Program`, where its buffers are (`codegen.memory.plan`), the `Target`. Out: LLVM IR with one
internal function per kernel and `void step(ptr buffers, ptr sizes)`, which calls them in order (see
`codegen.emit_driver`). With more than one thread, kernels that are worth it take two more
parameters, the first turn of their split loops that they are to run and the one behind the last.

>>> text = emit(program, plan(program), Target.host())
>>> code = assemble(text, Target.host())
"""

from __future__ import annotations

from collections.abc import Sequence

from codegen.emit_builder import EmitError, Reg
from codegen.emit_driver import Driver, Plan
from codegen.emit_names import local, quoted
from codegen.emit_pack import Packing
from codegen.emit_scan import Facts, scan
from codegen.emit_values import ZEROS
from codegen.loops import ITEMSIZE, Buffer, Kernel, Param, Program, Transpose, split_loops
from codegen.repeats import flat
from codegen.shares import shares
from codegen.target import Target


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
        shared: bool = False,
    ) -> None:
        super().__init__(program.lanes, target, declared)
        self.kernel, self.aliases, self.alone = kernel, aliases, alone
        self.first = split_loops(kernel) if shared else {}
        self.share = Reg("%begin", "int64"), Reg("%end", "int64")
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
        if self.first:
            params += [f"i64 {turn.ref}" for turn in self.share]
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
    """The module's text. `stamps` names a buffer of int64 for the time of each call (see
    `codegen.emit_clock`)."""
    declared: dict[str, str] = {}
    functions = []
    sizes: dict[str, list[str]] = {}
    aliases, shared = _aliases(program), shares(program)
    for kernel in program.kernels:
        own = aliases[kernel.name]
        split = kernel.name in shared
        emitter = KernelEmitter(program, kernel, own, target, declared, shared=split)
        functions.append(emitter.function())
        sizes[kernel.name] = emitter.sizes
    driver = Driver(program, plan, target, declared, shared, stamps).function(sizes)
    width = f' "prefer-vector-width"="{target.vector_bits}"' if target.vector_bits >= 512 else ""
    zeros = f"{ZEROS} = internal constant [{8 * program.lanes} x i8] zeroinitializer, align 64"
    head = [f'target triple = "{target.triple}"', zeros]
    head += [_constant(b) for b in program.buffers if b.role == "constant"]
    tail = [*declared.values(), f"attributes #0 = {{ nounwind noinline{width} }}"]
    return "\n\n".join(["\n".join(head), *functions, driver, "\n".join(tail)]) + "\n"


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
    for call, _ in flat(program):
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
