"""Single functions of a module's text, and comments above them."""

from __future__ import annotations

from codegen.assemble import assembly
from codegen.listing import annotated, assembly_functions, llvm_functions
from codegen.target import Target

MODULE = """target triple = "x86_64-unknown-linux-gnu"

; y = 2 x
; of model.py:3
define internal void @double(ptr %p) #0 {
entry:
  %v = load float, ptr %p
  %w = fadd float %v, %v
  store float %w, ptr %p
  ret void
}

define internal void @"odd name"(ptr %p) #0 {
  store float 0.0, ptr %p
  ret void
}

define void @step(ptr %p) #0 {
  call void @double(ptr %p)
  call void @"odd name"(ptr %p)
  ret void
}

attributes #0 = { nounwind noinline }
"""


def test_llvm_by_function() -> None:
    found = llvm_functions(MODULE)
    assert list(found) == ["double", "odd name", "step"]
    assert found["double"].startswith("; y = 2 x\n; of model.py:3\ndefine internal void @double(")
    assert found["odd name"].startswith("define internal") and found["step"].endswith("\n}\n")
    assert all(text in MODULE for text in found.values())


def test_assembly_by_function() -> None:
    text = annotated(assembly(MODULE, Target.host()), {"double": ["y = 2 x", "model.py:3"]}, "#")
    found = assembly_functions(text)
    assert {"double", "step"} <= set(found)
    assert found["double"].startswith("# y = 2 x\n# model.py:3\n")
    assert "double:" in found["double"] and "step:" not in found["double"]
    assert "ret" in found["double"] and "call" in found["step"]
    assert not found["step"].startswith("#")


def test_comments_change_nothing_else() -> None:
    text = assembly(MODULE, Target.host())
    noted = annotated(text, {"double": ["a", "b"]}, "#")
    assert [line for line in noted.splitlines() if line not in ("# a", "# b")] == text.splitlines()
    assert annotated(text, {}, "#") == text
