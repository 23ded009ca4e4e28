"""ELF objects: sections, symbols and relocations, laid out and patched for a place in memory.

In: the bytes of a relocatable object for x86-64 or AArch64, as LLVM writes it. Out: an `Image`:
three groups of bytes (code, read-only, writable) that `link` patches for given addresses.

Calls to functions outside the object may be more than 2 GB away: each goes through a stub behind
the code that jumps to the address kept in the global offset table (GOT), which lies in the
read-only group.

>>> image = Image(object_code)
>>> image.sizes
{'code': 4096, 'constant': 512, 'data': 0}
>>> image.link({"code": 0x10000, "constant": 0x20000, "data": 0x30000}, resolve)
{'step': 65536}
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Callable, Mapping

GROUPS = ("code", "constant", "data")

SHT_SYMTAB, SHT_RELA, SHT_NOBITS, SHT_REL = 2, 4, 8, 9
SHT_INIT_ARRAY, SHT_FINI_ARRAY = 14, 15
SHF_WRITE, SHF_ALLOC, SHF_EXEC, SHF_TLS = 1, 2, 4, 0x400
SHN_UNDEF, SHN_ABS, SHN_COMMON, SHN_XINDEX = 0, 0xFFF1, 0xFFF2, 0xFFFF
STB_LOCAL, STB_WEAK = 0, 2
STT_FUNC, STT_SECTION, STT_TLS = 2, 3, 6

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")
RELOCATION = struct.Struct("<QQq")


class UnsupportedObject(Exception):
    """An object with something this loader does not know; another loader may."""


class LoadError(RuntimeError):
    """An object that cannot be loaded into this process by any loader."""


@dataclass
class Section:
    """A section of the file and where it goes: `group` is None for what is not loaded."""

    name: str
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    group: str | None = None
    at: int = 0


@dataclass
class Symbol:
    name: str
    section: int
    value: int
    size: int
    binding: int
    kind: int


@dataclass
class Patch:
    """One relocation: what to write at `at` of `group`."""

    group: str
    at: int
    kind: int
    symbol: int
    addend: int


def align(offset: int, to: int) -> int:
    return -(-offset // to) * to


class Image:
    """An object laid out into groups; `link` patches it for addresses and returns its symbols."""

    def __init__(self, code: bytes) -> None:
        self.machine = _machine(code)
        self.sections = _sections(code)
        self.alignment = 16
        self.sizes = {group: 0 for group in GROUPS}
        for section in self.sections:
            self._assign(section)
        self.symbols = self._read_symbols(code)
        self.patches = self._read_patches(code)
        outside = {
            p.symbol
            for p in self.patches
            if p.kind in self.machine.BRANCHES and self.symbols[p.symbol].section == SHN_UNDEF
        }
        fetched = {p.symbol for p in self.patches if p.kind in self.machine.FROM_GOT}
        self.slots = self._make_room(outside | fetched, "constant", 8)
        self.stubs = self._make_room(outside, "code", self.machine.STUB)
        self.bytes = {group: bytearray(self.sizes[group]) for group in GROUPS}
        for section in self.sections:
            if section.group and section.kind != SHT_NOBITS:
                data = code[section.offset : section.offset + section.size]
                self.bytes[section.group][section.at : section.at + section.size] = data

    def _assign(self, section: Section) -> None:
        """Give a loaded section its group and its place there."""
        if not section.flags & SHF_ALLOC or section.name.startswith(".eh_frame"):
            return  # unwind tables serve exceptions, and nothing here throws
        if section.flags & SHF_TLS or section.kind in (SHT_INIT_ARRAY, SHT_FINI_ARRAY):
            raise UnsupportedObject(f"section {section.name}")
        if section.flags & SHF_EXEC:
            section.group = "code"
        elif section.flags & SHF_WRITE and not section.name.startswith(".data.rel.ro"):
            section.group = "data"
        else:
            section.group = "constant"
        section.at = self._reserve(section.group, section.size, section.align)

    def _reserve(self, group: str, size: int, alignment: int) -> int:
        at = align(self.sizes[group], max(alignment, 1))
        self.sizes[group] = at + size
        self.alignment = max(self.alignment, alignment)
        return at

    def _read_symbols(self, code: bytes) -> list[Symbol]:
        tables = [s for s in self.sections if s.kind == SHT_SYMTAB]
        if len(tables) != 1:
            raise UnsupportedObject(f"{len(tables)} symbol tables")
        table = tables[0]
        names = self.sections[table.link].offset
        symbols = []
        data = code[table.offset : table.offset + table.size]
        for name, info, _, section, value, size in SYMBOL.iter_unpack(data):
            text = _string(code, names + name)
            if section == SHN_XINDEX or info & 15 == STT_TLS:
                raise UnsupportedObject(f"symbol {text}")
            symbol = Symbol(text, section, value, size, info >> 4, info & 15)
            if section == SHN_COMMON:  # uninitialised data, its alignment given as its value
                symbol.value = self._reserve("data", size, value)
            symbols.append(symbol)
        return symbols

    def _read_patches(self, code: bytes) -> list[Patch]:
        patches = []
        for section in self.sections:
            if section.kind not in (SHT_RELA, SHT_REL):
                continue
            target = self.sections[section.info]
            if target.group is None:
                continue
            if section.kind == SHT_REL:
                raise UnsupportedObject("relocations without addends")
            data = code[section.offset : section.offset + section.size]
            for at, info, addend in RELOCATION.iter_unpack(data):
                kind = info & 0xFFFFFFFF
                if kind not in self.machine.KINDS:
                    raise UnsupportedObject(f"relocation {kind} of {self.machine.NAME}")
                patches.append(Patch(target.group, target.at + at, kind, info >> 32, addend))
        return patches

    def _make_room(self, symbols: set[int], group: str, size: int) -> dict[int, int]:
        """A place of `size` bytes for each of these symbols."""
        start = self._reserve(group, size * len(symbols), 16) if symbols else 0
        return {symbol: start + size * i for i, symbol in enumerate(sorted(symbols))}

    def link(self, base: Mapping[str, int], resolve: Callable[[str], int | None]) -> dict[str, int]:
        """Patch all groups for these addresses; the addresses of the symbols defined here.

        `resolve` gives the address of a symbol from outside, or None.
        """
        addresses = [self._address(symbol, base, resolve) for symbol in self.symbols]
        slots = {symbol: base["constant"] + at for symbol, at in self.slots.items()}
        stubs = {symbol: base["code"] + at for symbol, at in self.stubs.items()}
        for symbol, at in self.slots.items():
            struct.pack_into("<Q", self.bytes["constant"], at, addresses[symbol])
        for symbol, at in self.stubs.items():
            code = self.machine.stub(stubs[symbol], slots[symbol], addresses[symbol])
            self.bytes["code"][at : at + len(code)] = code
        for patch in self.patches:
            self.machine.apply(
                self.bytes[patch.group],
                patch,
                base[patch.group] + patch.at,
                addresses[patch.symbol],
                slots.get(patch.symbol, 0),
                stubs.get(patch.symbol, 0),
            )
        return {
            symbol.name: address
            for symbol, address in zip(self.symbols, addresses)
            if symbol.binding != STB_LOCAL and symbol.section != SHN_UNDEF
        }

    def _address(
        self, symbol: Symbol, base: Mapping[str, int], resolve: Callable[[str], int | None]
    ) -> int:
        if symbol.section == SHN_ABS:
            return symbol.value
        if symbol.section == SHN_COMMON:
            return base["data"] + symbol.value
        if symbol.section == SHN_UNDEF:
            if not symbol.name:
                return 0
            found = resolve(symbol.name)
            if found is None and symbol.binding != STB_WEAK:
                raise LoadError(f"the object needs {symbol.name}, which this process lacks")
            return found or 0
        section = self.sections[symbol.section]
        return base[section.group] + section.at + symbol.value if section.group else 0


def _machine(code: bytes) -> type[X86] | type[Arm]:
    if len(code) < HEADER.size or code[:4] != b"\x7fELF":
        raise UnsupportedObject("not an ELF object")
    ident, kind, machine = HEADER.unpack_from(code)[:3]
    if ident[4:6] != b"\x02\x01" or kind != 1:
        raise UnsupportedObject("not a 64-bit little-endian relocatable object")
    for known in (X86, Arm):
        if known.ELF == machine:
            return known
    raise UnsupportedObject(f"machine {machine}")


def machine_of(code: bytes) -> str:
    """Name of the machine an object is for, as `platform.machine()` gives it."""
    return _machine(code).NAME


def _sections(code: bytes) -> list[Section]:
    start, size, count, names = struct.unpack_from("<Q", code, 40) + struct.unpack_from(
        "<HHH", code, 58
    )
    if size != SECTION.size or not count or start + count * size > len(code):
        raise LoadError("an object with a damaged section table")
    raw = [SECTION.unpack_from(code, start + i * size) for i in range(count)]
    text = raw[names][4]
    sections = []
    for name, kind, flags, _, offset, length, link, info, alignment, _ in raw:
        if kind != SHT_NOBITS and offset + length > len(code):
            raise LoadError("a truncated object")
        label = _string(code, text + name)
        sections.append(Section(label, kind, flags, offset, length, link, info, alignment))
    return sections


def _string(code: bytes, at: int) -> str:
    return code[at : code.index(b"\0", at)].decode()


def _fits(value: int, bits: int, what: Patch) -> int:
    if not -(1 << (bits - 1)) <= value < 1 << (bits - 1):
        raise LoadError(f"relocation {what.kind} out of range by {value:#x}")
    return value


class X86:
    """x86-64. S is the symbol, A the addend, P the place, G the symbol's slot in the GOT."""

    NAME, ELF, STUB = "x86_64", 62, 8
    NONE, ABS64, PC32, PLT32, GOTPCREL, ABS32, ABS32S, PC64 = 0, 1, 2, 4, 9, 10, 11, 24
    GOTPCRELX, REX_GOTPCRELX = 41, 42
    FROM_GOT = frozenset({GOTPCREL, GOTPCRELX, REX_GOTPCRELX})
    BRANCHES = frozenset({PLT32})
    KINDS = frozenset({NONE, ABS64, PC32, ABS32, ABS32S, PC64}) | FROM_GOT | BRANCHES

    @staticmethod
    def stub(place: int, slot: int, target: int) -> bytes:
        """jmp *slot(%rip)"""
        return b"\xff\x25" + struct.pack("<i", slot - (place + 6)) + b"\xcc\xcc"

    @staticmethod
    def apply(
        memory: bytearray, patch: Patch, place: int, target: int, slot: int, stub: int
    ) -> None:
        kind, at, addend = patch.kind, patch.at, patch.addend
        if kind == X86.PLT32 and stub and not -(1 << 30) < target - place < 1 << 30:
            target = stub
        if kind in (X86.PC32, X86.PLT32):
            struct.pack_into("<i", memory, at, _fits(target + addend - place, 32, patch))
        elif kind in X86.FROM_GOT:
            struct.pack_into("<i", memory, at, _fits(slot + addend - place, 32, patch))
        elif kind == X86.ABS64:
            struct.pack_into("<Q", memory, at, (target + addend) & (1 << 64) - 1)
        elif kind == X86.PC64:
            struct.pack_into("<q", memory, at, target + addend - place)
        elif kind == X86.ABS32S:
            struct.pack_into("<i", memory, at, _fits(target + addend, 32, patch))
        elif kind == X86.ABS32:
            struct.pack_into("<I", memory, at, _fits(target + addend, 33, patch) & 0xFFFFFFFF)


class Arm:
    """AArch64: relocations patch fields of 32-bit instructions."""

    NAME, ELF, STUB = "aarch64", 183, 16
    NONE, ABS64, ABS32, PREL64, PREL32 = 0, 257, 258, 260, 261
    ADR_LO21, ADR_PAGE, ADR_PAGE_NC, ADD_LO12 = 274, 275, 276, 277
    JUMP26, CALL26 = 282, 283
    GOT_PAGE, GOT_LO12 = 311, 312
    SCALE = {278: 0, 284: 1, 285: 2, 286: 3, 299: 4}  # LDST8..LDST128_ABS_LO12_NC
    BRANCHES = frozenset({JUMP26, CALL26})
    FROM_GOT = frozenset({GOT_PAGE, GOT_LO12})
    PAGES = frozenset({ADR_PAGE, ADR_PAGE_NC, GOT_PAGE})
    KINDS = (
        frozenset({NONE, ABS64, ABS32, PREL64, PREL32, ADR_LO21, ADD_LO12, *SCALE})
        | BRANCHES
        | FROM_GOT
        | PAGES
    )

    @staticmethod
    def stub(place: int, slot: int, target: int) -> bytes:
        """ldr x16, 8; br x16; the address itself"""
        return struct.pack("<IIQ", 0x58000050, 0xD61F0200, target)

    @staticmethod
    def apply(
        memory: bytearray, patch: Patch, place: int, target: int, slot: int, stub: int
    ) -> None:
        kind, at = patch.kind, patch.at
        value = (slot if kind in Arm.FROM_GOT else target) + patch.addend
        if kind == Arm.ABS64:
            struct.pack_into("<Q", memory, at, value & (1 << 64) - 1)
        elif kind == Arm.ABS32:
            struct.pack_into("<I", memory, at, _fits(value, 33, patch) & 0xFFFFFFFF)
        elif kind == Arm.PREL64:
            struct.pack_into("<q", memory, at, value - place)
        elif kind == Arm.PREL32:
            struct.pack_into("<i", memory, at, _fits(value - place, 32, patch))
        elif kind != Arm.NONE:
            Arm._instruction(memory, patch, place, value, stub)

    @staticmethod
    def _instruction(memory: bytearray, patch: Patch, place: int, value: int, stub: int) -> None:
        kind = patch.kind
        (word,) = struct.unpack_from("<I", memory, patch.at)
        if kind in Arm.BRANCHES:
            if stub and not -(1 << 26) < value - place < 1 << 26:
                value = stub
            distance = _fits(value - place, 28, patch)
            word = word & 0xFC000000 | distance >> 2 & 0x03FFFFFF
        elif kind in Arm.PAGES or kind == Arm.ADR_LO21:
            distance = value - place
            if kind in Arm.PAGES:
                distance = (value >> 12) - (place >> 12)
            distance = _fits(distance, 21, patch)
            word = word & 0x9F00001F | (distance & 3) << 29 | (distance >> 2 & 0x7FFFF) << 5
        else:
            low = value & 0xFFF
            shift = 3 if kind == Arm.GOT_LO12 else Arm.SCALE.get(kind, 0)
            if low & (1 << shift) - 1:
                raise UnsupportedObject(f"relocation {kind} to the unaligned address {value:#x}")
            word = word & 0xFFC003FF | low >> shift << 10
        struct.pack_into("<I", memory, patch.at, word)
