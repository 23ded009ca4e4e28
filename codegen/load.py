"""Object code into executable memory, without LLVM.

In: the bytes of an object. Out: a `Library` whose symbols have addresses. Memory is writable
while it is filled and patched; then code becomes read-and-execute and constants read-only.

On Linux the object is loaded by `codegen.elf`, in a fraction of a millisecond; what that does not
know, and objects of other platforms, go through llvmlite's loader.

>>> library = load(object_code)
>>> library.function("step", None, ctypes.c_void_p, ctypes.c_void_p)
<CFunctionType object at 0x...>
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import platform
import sys
import threading
from typing import Any, Callable, Mapping

from codegen.bundle import Bundle, unpack
from codegen.elf import GROUPS, Image, LoadError, UnsupportedObject, align, machine_of

__all__ = ["Library", "LoadError", "load", "process_symbol"]

PROTECTION = {"code": 1 | 4, "constant": 1, "data": 1 | 2}  # PROT_READ 1, PROT_WRITE 2, PROT_EXEC 4


class Library:
    """Loaded code. Its memory lives as long as this object: keep it while its code may run."""

    def __init__(self, find: Callable[[str], int | None], owner: object, loader: str) -> None:
        self._find = find
        self._owner = owner
        self.loader = loader

    def symbol(self, name: str) -> int:
        """The address of a symbol that the object defines."""
        address = self._find(name)
        if not address:
            raise LookupError(f"the object defines no symbol {name!r}")
        return address

    def __contains__(self, name: str) -> bool:
        return bool(self._find(name))

    def function(self, name: str, result: Any, *arguments: Any) -> Any:
        """A ctypes function; calling it releases the GIL. It keeps this library alive."""
        made = ctypes.CFUNCTYPE(result, *arguments)(self.symbol(name))
        made.library = self  # type: ignore[attr-defined]
        return made


def load(code: bytes, symbols: Mapping[str, int] | None = None) -> Library:
    """Load an object or a bundle of them. `symbols` gives addresses that go before those found in
    the process."""
    known = dict(symbols or {})
    bundle = unpack(code)
    return _load_object(code, known) if bundle is None else _load_bundle(bundle, known)


def _load_bundle(bundle: Bundle, known: dict[str, int]) -> Library:
    """Objects one after the other; each may use what those before it define and export."""
    libraries: list[Library] = []
    for i, code in enumerate(bundle.objects):
        libraries.append(_load_once(code) if i < bundle.common else _load_object(code, known))
        own = libraries[-1]
        known.update((name, own.symbol(name)) for name in bundle.exports if name in own)

    def find(name: str) -> int | None:
        return next((library.symbol(name) for library in libraries if name in library), None)

    return Library(find, libraries, libraries[-1].loader)


def _load_once(code: bytes) -> Library:
    """An object that this process has one of, for good: threads may be in its code to the end."""
    name = hashlib.sha256(code).digest()
    with _one_at_a_time:
        if name not in _common:
            _common[name] = _load_object(code, {})
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(_common[name]))
        return _common[name]


_common: dict[bytes, Library] = {}
_one_at_a_time = threading.Lock()


def _load_object(code: bytes, known: dict[str, int]) -> Library:
    try:
        return _load_elf(code, known)
    except UnsupportedObject as reason:
        try:
            return _load_with_llvm(code, known)
        except ImportError:
            raise LoadError(f"this object needs llvmlite to be loaded: {reason}") from None


# -- ELF -----------------------------------------------------------------------------------------


def _load_elf(code: bytes, known: dict[str, int]) -> Library:
    if not sys.platform.startswith("linux"):
        raise UnsupportedObject(f"platform {sys.platform}")
    if machine_of(code) != platform.machine():
        raise LoadError(f"an object for {machine_of(code)} on {platform.machine()}")
    image = Image(code)
    page = mmap.PAGESIZE
    if image.alignment > page:
        raise UnsupportedObject(f"alignment {image.alignment}")
    spans, end = {}, 0
    for group in GROUPS:
        spans[group] = (end, align(image.sizes[group], page))
        end += spans[group][1]
    memory = mmap.mmap(-1, max(end, page), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    anchor = ctypes.c_char.from_buffer(memory)  # while it lives the mapping cannot be closed
    base = ctypes.addressof(anchor)
    places = {group: base + at for group, (at, _) in spans.items()}
    found = image.link(places, lambda name: known.get(name) or process_symbol(name))
    for group, (at, _) in spans.items():
        data = image.bytes[group]
        memory[at : at + len(data)] = bytes(data)
    for group, (at, size) in spans.items():
        if size and _mprotect(base + at, size, PROTECTION[group]):
            raise LoadError(f"mprotect: error {ctypes.get_errno()}; this system forbids new code")
    if image.machine.NAME == "aarch64":
        _clear_instruction_cache(base, end)
    return Library(found.get, (anchor, memory), "elf")


def _mprotect(address: int, size: int, protection: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return int(libc.mprotect(address, size, protection))


def _clear_instruction_cache(base: int, size: int) -> None:
    """Let the processor see new code (AArch64 keeps separate caches)."""
    clear = ctypes.CDLL("libgcc_s.so.1")["__clear_cache"]
    clear.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    clear.restype = None
    clear(base, base + size)


def process_symbol(name: str) -> int | None:
    """Address of a function or variable of this process: Python, C library, maths library."""
    for library in (ctypes.pythonapi, _maths_library()):
        try:
            return ctypes.addressof(ctypes.c_char.in_dll(library, name))
        except ValueError:
            continue
    return None


def _maths_library() -> ctypes.CDLL:
    if not _loaded:
        try:
            _loaded.append(ctypes.CDLL("libm.so.6"))
        except OSError:
            _loaded.append(ctypes.CDLL(None))  # musl: one library for all
    return _loaded[0]


_loaded: list[ctypes.CDLL] = []

# -- llvmlite ------------------------------------------------------------------------------------


def _load_with_llvm(code: bytes, known: dict[str, int]) -> Library:
    """llvmlite's own loader, for other platforms and unusual objects."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    for name, address in known.items():
        llvm.add_symbol(name, address)
    machine = llvm.Target.from_default_triple().create_target_machine()
    empty = llvm.parse_assembly("")
    engine = llvm.create_mcjit_compiler(empty, machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()

    def find(name: str) -> int | None:
        return engine.get_function_address(name) or engine.get_global_value_address(name) or None

    return Library(find, (engine, machine, empty), "llvm")
