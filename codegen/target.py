"""The machine that code is generated for: CPU, vector width, registers, caches.

In: a name, or nothing for this machine. Out: a `Target`, plain data. This machine is read from the
operating system, not from LLVM, so that a start from the object cache never loads LLVM.

>>> Target.named("avx2").lanes
8
"""

from __future__ import annotations

import functools
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

# /proc/cpuinfo flag -> LLVM feature, where the two differ. Only features that change the code of
# arithmetic are listed here and in SAME: a feature that is missing must be switched off, because
# the CPU's name alone would switch it on (virtual machines hide some).
RENAMED = {
    "pni": "sse3",
    "sse4_1": "sse4.1",
    "sse4_2": "sse4.2",
    "abm": "lzcnt",
    "pclmulqdq": "pclmul",
    "avx512ifma": "avx512ifma",
    "avx512_vbmi2": "avx512vbmi2",
    "avx512_vnni": "avx512vnni",
    "avx512_bitalg": "avx512bitalg",
    "avx512_vpopcntdq": "avx512vpopcntdq",
    "avx512_vp2intersect": "avx512vp2intersect",
    "avx512_bf16": "avx512bf16",
    "avx512_fp16": "avx512fp16",
    "avx_vnni": "avxvnni",
}
SAME = (
    *("ssse3", "popcnt", "avx", "f16c", "fma", "avx2", "bmi1", "bmi2", "movbe", "gfni", "vaes"),
    *("avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl", "avx512vbmi"),
)
LLVM_NAME = {"bmi1": "bmi"}
WIDE = ("avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl")  # what 512 bits need here

# (family, first model, last model) -> LLVM's name, for instruction scheduling only
AMD = (
    (26, 0x00, 0xFF, "znver5"),
    (25, 0x10, 0x1F, "znver4"),
    (25, 0x60, 0xAF, "znver4"),
    (25, 0x00, 0xFF, "znver3"),
    (23, 0x30, 0xFF, "znver2"),
    (23, 0x00, 0x2F, "znver1"),
)
INTEL = {
    **dict.fromkeys((0x3C, 0x3F, 0x45, 0x46), "haswell"),
    **dict.fromkeys((0x3D, 0x47, 0x4F, 0x56), "broadwell"),
    **dict.fromkeys((0x4E, 0x5E, 0x8E, 0x9E, 0xA5, 0xA6), "skylake"),
    **dict.fromkeys((0x6A, 0x6C), "icelake-server"),
    **dict.fromkeys((0x7D, 0x7E), "icelake-client"),
    **dict.fromkeys((0x8C, 0x8D), "tigerlake"),
    **dict.fromkeys((0x97, 0x9A, 0xB7, 0xBA, 0xBF), "alderlake"),
    **dict.fromkeys((0x8F, 0xCF), "sapphirerapids"),
    0x55: "skylake-avx512",
    0xA7: "rocketlake",
    0xAD: "graniterapids",
}


@dataclass(frozen=True)
class Target:
    """`lanes` counts the float32 of one vector, `registers` the vector registers, `l1` and `l2`
    the bytes of data cache of one core. `cpu` and `features` are LLVM's."""

    triple: str
    cpu: str
    features: str
    lanes: int
    has_fma: bool
    registers: int
    has_round: bool = True  # rounding to integers is one instruction
    l1: int = 32768
    l2: int = 1048576

    @staticmethod
    def host() -> Target:
        """This machine."""
        return _host()

    @staticmethod
    def named(name: str) -> Target:
        """ "native", or any machine with "avx512", "avx2" or "sse2"."""
        if name == "native":
            return _host()
        if name not in _NAMED:
            raise ValueError(f"unknown target {name!r}: one of native, {', '.join(_NAMED)}")
        cpu, lanes, registers, modern = _NAMED[name]
        l1, l2 = _caches()
        return Target(_triple("x86_64"), cpu, "", lanes, modern, registers, modern, l1, l2)

    @property
    def vector_bits(self) -> int:
        return 32 * self.lanes


_NAMED = {
    "avx512": ("x86-64-v4", 16, 32, True),
    "avx2": ("x86-64-v3", 8, 16, True),
    "sse2": ("x86-64", 4, 16, False),
}


@functools.cache
def _host() -> Target:
    machine = platform.machine().lower()
    triple = _triple(machine)
    l1, l2 = _caches()
    if machine in ("aarch64", "arm64"):
        return Target(triple, "generic", "+neon", 4, True, 32, True, l1, l2)
    facts = _cpuinfo()
    flags = set(facts.get("flags", "").split())
    wide = all(flag in flags for flag in WIDE)
    modern = {"avx2", "fma", "f16c", "bmi2"} <= flags
    cpu = _cpu_name(facts) or ("x86-64-v4" if wide else "x86-64-v3" if modern else "x86-64")
    lanes = 16 if wide else 8 if modern else 4
    return Target(
        triple,
        cpu,
        _features(flags) if flags else "",
        lanes,
        has_fma=modern,
        registers=32 if wide else 16,
        has_round="sse4_1" in flags,
        l1=l1,
        l2=l2,
    )


def _triple(machine: str) -> str:
    """The code calls nothing but the C API, and ELF is what the loader reads on any system."""
    arch = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    if sys.platform == "win32":
        return f"{arch}-pc-windows-msvc-elf"
    return f"{arch}-unknown-linux-gnu"


def _cpuinfo() -> dict[str, str]:
    """The lines of the first processor in /proc/cpuinfo."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return {}
    lines = (line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in lines}


def _cpu_name(facts: dict[str, str]) -> str | None:
    try:
        family, model = int(facts["cpu family"]), int(facts["model"])
    except (KeyError, ValueError):
        return None
    if facts.get("vendor_id") == "AuthenticAMD":
        for known, first, last, name in AMD:
            if family == known and first <= model <= last:
                return name
    if facts.get("vendor_id") == "GenuineIntel" and family == 6:
        return INTEL.get(model)
    return None


def _features(flags: set[str]) -> str:
    known = {**{flag: LLVM_NAME.get(flag, flag) for flag in SAME}, **RENAMED}
    return ",".join(("+" if flag in flags else "-") + name for flag, name in known.items())


@functools.cache
def _caches() -> tuple[int, int]:
    """Bytes of L1 data and L2 cache, or common ones where the system does not tell."""
    found = {1: 32768, 2: 1048576}
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index[0-9]"):
        try:
            level = int((index / "level").read_text())
            kind = (index / "type").read_text().strip()
            size = (index / "size").read_text().strip()
        except (OSError, ValueError):
            continue
        if kind in ("Data", "Unified") and level in found and size.endswith("K"):
            found[level] = 1024 * int(size[:-1])
    return found[1], found[2]
