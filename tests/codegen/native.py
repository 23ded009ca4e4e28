"""LLVM text to object code, for tests of what comes after compiling."""

from __future__ import annotations

import llvmlite.binding as llvm


def compile_text(
    text: str,
    triple: str | None = None,
    reloc: str = "pic",
    codemodel: str = "small",
) -> bytes:
    """Object code of LLVM text, without any optimisation of the text itself."""
    if triple is None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
    else:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
    triple = triple or llvm.get_default_triple()
    target = llvm.Target.from_triple(triple)
    machine = target.create_target_machine(opt=2, reloc=reloc, codemodel=codemodel)
    module = llvm.parse_assembly(text)
    module.triple = triple
    module.data_layout = str(machine.target_data)
    module.verify()
    code: bytes = machine.emit_object(module)
    return code
