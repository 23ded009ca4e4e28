"""What is known of the machine, and text to object code for it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from harness import program, targets

from codegen import memory
from codegen.assemble import assemble, assembly, verify
from codegen.emit import emit
from codegen.loops import Const, For, Lanes, Load, Op, Poly, Store
from codegen.target import Target

ROW = Poly.of("k") * 16 + "l"


def text(target: Target) -> str:
    doubled = Op("mul", (Load("x", ROW, "float32"), Const(2.0, "float32")), "float32")
    body = [For("k", Poly.of("n"), (Lanes("l", None, (Store("y", ROW, doubled),)),))]
    prog = program(16, body, {"x": ("float32", 64), "y": ("float32", 64)}, {"n": 4})
    return emit(prog, memory.plan(prog), target)


def test_the_host_is_found_without_llvm() -> None:
    code = (
        "import sys; from codegen import emit, assemble; from codegen.target import Target;"
        "t = Target.host(); assert t.lanes in (4, 8, 16), t;"
        "assert not any(m.startswith('llvmlite') for m in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_llvm_knows_the_host_and_its_features(capfd: pytest.CaptureFixture[str]) -> None:
    target = Target.named("native")
    assert assemble(text(target), target)[:4] == b"\x7fELF"
    assert "not a recognized" not in capfd.readouterr().err
    assert target.l1 >= 8192 and target.l2 >= target.l1


@pytest.mark.parametrize("name", targets())
def test_named_targets_use_their_registers(name: str) -> None:
    target = Target.named(name)
    listing = assembly(text(target), target)
    register = {"avx512": "%zmm", "avx2": "%ymm", "sse2": "%xmm"}[name]
    assert register in listing
    wider = {"avx512": (), "avx2": ("%zmm",), "sse2": ("%zmm", "%ymm")}[name]
    assert not any(w in listing for w in wider)


def test_unknown_names_and_bad_text_are_errors() -> None:
    with pytest.raises(ValueError, match="unknown target 'avx9'"):
        Target.named("avx9")
    with pytest.raises(RuntimeError, match="expected"):
        verify("define nothing", Target.named("sse2"))


def test_equal_programs_have_equal_text() -> None:
    """The object cache is keyed by it."""
    target = Target.named("avx2")
    assert text(target) == text(target)


def test_innermost_loops_add_constants_only() -> None:
    """Terms of outer loops are added outside: nothing but one product in the innermost block."""
    index = Poly.of("b") * Poly.of("n") * 16 + Poly.of("k") * 16 + "l"
    body = Lanes("l", None, (Store("y", index + 16, Load("x", index, "float32")),))
    nest = [For("b", Poly.of("n"), (For("k", Poly.of(9), (body,)),))]
    prog = program(16, nest, {"x": ("float32", 64), "y": ("float32", 64)}, {"n": 4})
    target = Target.named("avx512")
    lines = emit(prog, memory.plan(prog), target).splitlines()
    inner = lines[next(i for i, s in enumerate(lines) if s.startswith("k.")) :]
    inner = inner[: next(i for i, s in enumerate(inner) if "br i1" in s)]
    assert sum(" mul " in s for s in inner) == 1
    assert sum("getelementptr" in s for s in inner) == 3
