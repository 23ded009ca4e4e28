"""LLVM IR text to machine code, through llvmlite, which is imported here and only when used.

In: the text of a module and the `Target`. Out: a relocatable object file, or assembly to read.

>>> assemble(emit(program, plan, target), target)[:4]
b'\\x7fELF'
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from codegen.target import Target

_machines: dict[tuple[Target, int], Any] = {}  # kept: an object file refers to its machine
_ready: set[str] = set()
_options = Lock()  # options of LLVM are of the process


def assemble(text: str, target: Target, opt: int = 2) -> bytes:
    """The object file of a module: position independent, small code model. The text is already in
    its final form, so no IR pass runs; `opt` is the level of instruction selection and scheduling
    (level 3 gives the same speed and takes longer)."""
    machine = _machine(target, opt)
    module = _parse(text, target, machine)
    with _addresses_as_written():
        return bytes(machine.emit_object(module))


def assembly(text: str, target: Target, opt: int = 2) -> str:
    """The assembly of a module, for readers."""
    machine = _machine(target, opt)
    module = _parse(text, target, machine)
    with _addresses_as_written():
        return str(machine.emit_assembly(module))


def verify(text: str, target: Target) -> None:
    """RuntimeError with LLVM's message where the module is not well-formed."""
    _parse(text, target, _machine(target, 2)).verify()


@contextmanager
def _addresses_as_written() -> Iterator[None]:
    """Without LLVM's loop strength reduction: the emitter has moved addresses out of loops already,
    and the pass would take a fifth of the time to give code that is no faster. The option is one of
    the process, so it is set back: others may compile there too."""
    from llvmlite import binding

    with _options:
        binding.set_option("codegen", "-disable-lsr=true")
        try:
            yield
        finally:
            binding.set_option("codegen", "-disable-lsr=false")


def _parse(text: str, target: Target, machine: Any) -> Any:
    from llvmlite import binding

    module = binding.parse_assembly(text)
    module.triple = target.triple
    module.data_layout = str(machine.target_data)
    return module


def _machine(target: Target, opt: int) -> Any:
    """A target machine. One machine serves every module: it keeps no state between them."""
    machine = _machines.get((target, opt))
    if machine is None:
        from llvmlite import binding

        _initialise(binding, target.triple.split("-")[0])
        machine = binding.Target.from_triple(target.triple).create_target_machine(
            cpu=target.cpu, features=target.features, opt=opt, reloc="pic", codemodel="small"
        )
        _machines[target, opt] = machine
    return machine


def _initialise(binding: Any, arch: str) -> None:
    """Register LLVM's code generators: only this machine's, unless another is asked for."""
    import platform

    host = platform.machine().lower() in (arch, {"x86_64": "amd64", "aarch64": "arm64"}.get(arch))
    kind = "native" if host else "all"
    if kind in _ready:
        return
    if host:
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        # assembly text that a module may contain is parsed by the native parser
        getattr(binding, "initialize_native_asmparser", lambda: None)()
    else:
        binding.initialize_all_targets()
        binding.initialize_all_asmprinters()
    _ready.add(kind)
