"""The loader: every section and relocation kind, protection of memory, clear failures."""

from __future__ import annotations

import ctypes
import struct
import sys
from pathlib import Path

import pytest
from native import compile_text

from codegen import elf, load
from codegen.elf import Image, LoadError, UnsupportedObject

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="an ELF loader")

TEXT = """
@table = private unnamed_addr constant [4 x double] [double 1.5, double 2.5, double 3.5, double 4.5]
@wide = internal constant <16 x float> zeroinitializer, align 64
@counter = global i64 40, align 64
@zeros = internal global [1000 x i64] zeroinitializer, align 64
@pointers = constant [3 x ptr] [ptr @counter, ptr @table, ptr @twice]
@_Py_NoneStruct = external global i8
declare double @cbrt(double)
declare i64 @strlen(ptr)
declare ptr @PyLong_FromLong(i64)

define i64 @twice(i64 %x) {
  %y = mul i64 %x, 2
  ret i64 %y
}
define double @pick(i64 %i) {
  %p = getelementptr double, ptr @table, i64 %i
  %v = load double, ptr %p
  %s = fmul double %v, 0.1
  ret double %s
}
define i64 @count() {
  %old = load i64, ptr @counter
  %new = call i64 @twice(i64 %old)
  store i64 %new, ptr @counter
  %p = getelementptr i64, ptr @zeros, i64 999
  %z = load i64, ptr %p
  %r = add i64 %new, %z
  ret i64 %r
}
define i64 @through(i64 %i, i64 %x) {
  %p = getelementptr ptr, ptr @pointers, i64 %i
  %f = load ptr, ptr %p
  %r = call i64 %f(i64 %x)
  ret i64 %r
}
define double @outside(double %x) {
  %r = call double @cbrt(double %x)
  ret double %r
}
define i64 @length(ptr %s) {
  %r = call i64 @strlen(ptr %s)
  ret i64 %r
}
define ptr @none() {
  ret ptr @_Py_NoneStruct
}
define ptr @aligned() {
  ret ptr @wide
}
define ptr @number(i64 %x) {
  %r = call ptr @PyLong_FromLong(i64 %x)
  ret ptr %r
}
define i64 @choose(i64 %x) {
  switch i64 %x, label %other [ i64 0, label %a
    i64 1, label %b
    i64 2, label %c
    i64 3, label %d
    i64 4, label %e ]
a: ret i64 10
b: ret i64 7
c: ret i64 33
d: ret i64 -5
e: ret i64 1
other: ret i64 0
}
"""


def exercise(library: load.Library) -> None:
    """Everything TEXT defines does what it says."""
    i64, f64, pointer = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p
    assert library.function("twice", i64, i64)(21) == 42
    assert library.function("pick", f64, i64)(3) == pytest.approx(0.45)
    count = library.function("count", i64)
    assert [count(), count()] == [80, 160]
    assert ctypes.c_int64.from_address(library.symbol("counter")).value == 160
    assert library.function("through", i64, i64, i64)(2, 8) == 16
    assert library.function("outside", f64, f64)(27.0) == pytest.approx(3.0, rel=1e-15)
    assert library.function("length", i64, ctypes.c_char_p)(b"four") == 4
    assert library.function("none", pointer)() == id(None)
    assert library.function("aligned", pointer)() % 64 == 0
    choose = library.function("choose", i64, i64)
    assert [choose(i) for i in range(-1, 6)] == [0, 10, 7, 33, -5, 1, 0]
    number = ctypes.PYFUNCTYPE(ctypes.py_object, i64)(library.symbol("number"))
    assert number(12345) == 12345
    assert "twice" in library and "thrice" not in library
    with pytest.raises(LookupError, match="thrice"):
        library.symbol("thrice")


@pytest.mark.parametrize("reloc, codemodel", [("pic", "small"), ("static", "large")])
def test_load(reloc: str, codemodel: str) -> None:
    library = load.load(compile_text(TEXT, reloc=reloc, codemodel=codemodel))
    assert library.loader == "elf"
    exercise(library)


def test_code_that_cannot_reach_its_data_is_refused() -> None:
    with pytest.raises(LoadError, match="out of range"):
        load.load(compile_text(TEXT, reloc="static", codemodel="small"))


def test_load_with_llvm() -> None:
    exercise(load._load_with_llvm(compile_text(TEXT, reloc="pic"), {}))


def test_given_symbols_go_first() -> None:
    calls = []

    @ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)
    def cbrt(x: float) -> float:
        calls.append(x)
        return -x

    address = ctypes.cast(cbrt, ctypes.c_void_p).value
    assert address is not None
    library = load.load(compile_text(TEXT), {"cbrt": address})
    outside = library.function("outside", ctypes.c_double, ctypes.c_double)
    assert outside(3.0) == -3.0 and calls == [3.0]


def test_memory_is_never_writable_and_executable() -> None:
    library = load.load(compile_text(TEXT))

    def protection(name: str) -> str:
        address = library.symbol(name)
        for line in Path("/proc/self/maps").read_text().splitlines():
            begin, end = (int(x, 16) for x in line.split()[0].split("-"))
            if begin <= address < end:
                return line.split()[1][:3]
        raise AssertionError(name)

    assert protection("twice") == "r-x"
    assert protection("pointers") == "r--"
    assert protection("counter") == "rw-"


def test_a_weak_symbol_may_be_missing() -> None:
    text = "@missing = extern_weak global i8 define ptr @f() { ret ptr @missing }"
    assert load.load(compile_text(text)).function("f", ctypes.c_void_p)() is None


def test_missing_symbol() -> None:
    text = """
    declare void @no_such_function()
    define void @f() { call void @no_such_function() ret void }
    """
    with pytest.raises(LoadError, match="no_such_function"):
        load.load(compile_text(text))


def test_damaged_objects() -> None:
    code = compile_text(TEXT)
    for size in (64, 100, len(code) // 2, len(code) - 1):
        with pytest.raises(LoadError):
            load.load(code[:size])


def test_other_machines_are_refused() -> None:
    code = compile_text(TEXT, triple="aarch64-unknown-linux-gnu")
    with pytest.raises(LoadError, match="aarch64"):
        load.load(code)


def test_thread_local_data_goes_to_the_other_loader() -> None:
    text = "@t = thread_local global i32 1\ndefine ptr @f() { ret ptr @t }"
    with pytest.raises(UnsupportedObject):
        Image(compile_text(text))


def test_memory_is_returned() -> None:
    text = "@big = global [500000 x i64] zeroinitializer define void @f() { ret void }"
    code = compile_text(text)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[0])

    load.load(code)
    before = resident()
    for _ in range(20):
        load.load(code)
    assert resident() - before < 5 * 4_000_000 // 4096


# -- AArch64, whose code cannot run here -----------------------------------------------------------


def decode(word: int, at: int) -> int | None:
    """The address an instruction refers to: branches, adr and adrp."""
    if word & 0x7C000000 == 0x14000000:
        return at + ((word & 0x3FFFFFF ^ 0x2000000) - 0x2000000) * 4
    if word & 0x1F000000 == 0x10000000:
        distance = (word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3
        distance = (distance ^ 0x100000) - 0x100000
        return (at & ~0xFFF) + distance * 4096 if word >> 31 else at + distance
    return None


def test_aarch64_addresses() -> None:
    text = """
    @small = internal global i8 1
    @table = internal constant [100 x i64] zeroinitializer, align 16
    @_Py_NoneStruct = external global i8
    declare void @far()
    define void @near() noinline { ret void }
    define i64 @f(i64 %i) {
      call void @far()
      call void @near()
      %p = getelementptr i64, ptr @table, i64 %i
      %v = load i64, ptr %p
      %b = load i8, ptr @small
      %w = zext i8 %b to i64
      %n = ptrtoint ptr @_Py_NoneStruct to i64
      %s = add i64 %v, %w
      %r = add i64 %s, %n
      ret i64 %r
    }
    """
    image = Image(compile_text(text, triple="aarch64-unknown-linux-gnu"))
    base = {"code": 0x7F0000000000, "constant": 0x7F0000100000, "data": 0x7F0000201000}
    outside = {"far": 0x550000001234, "_Py_NoneStruct": 0x550000005678}
    symbols = image.link(base, outside.get)
    code = image.bytes["code"]
    words = [w for (w,) in struct.iter_unpack("<I", code[: len(code) // 4 * 4])]
    targets = {decode(w, base["code"] + 4 * i) for i, w in enumerate(words)}
    stub = base["code"] + next(iter(image.stubs.values()))
    assert stub in targets and symbols["near"] in targets
    assert struct.unpack_from("<Q", code, stub - base["code"] + 8) == (outside["far"],)
    assert {a & ~0xFFF for a in (base["constant"], base["data"])} <= targets
    assert outside["_Py_NoneStruct"] in struct.unpack(
        f"<{len(image.slots)}Q", image.bytes["constant"][min(image.slots.values()) :]
    )


@pytest.mark.parametrize(
    "kind, word, target, expected",
    [
        pytest.param(277, 0x91000000, 0x12345678, 0x9119E000, id="add x0, x0, #0x678"),
        pytest.param(286, 0xF9400000, 0x12345678, 0xF9433C00, id="ldr x0, [x0, #0x678]"),
        pytest.param(285, 0xB9400021, 0x12345678, 0xB9467821, id="ldr w1, [x1, #0x678]"),
        pytest.param(278, 0x39400000, 0x12345679, 0x3959E400, id="ldrb w0, [x0, #0x679]"),
        pytest.param(299, 0x3DC00000, 0x12345670, 0x3DC19C00, id="ldr q0, [x0, #0x670]"),
        pytest.param(283, 0x94000000, 0x10000 - 8, 0x97FFFFFE, id="bl .-8"),
        pytest.param(275, 0x90000000, 0x13000, 0xF0000000, id="adrp x0, 3 pages on"),
    ],
)
def test_aarch64_instructions(kind: int, word: int, target: int, expected: int) -> None:
    memory = bytearray(struct.pack("<I", word))
    elf.Arm.apply(memory, elf.Patch("code", 0, kind, 0, 0), 0x10000, target, 0, 0)
    assert struct.unpack("<I", memory) == (expected,)
