"""A compiled step as something Python calls: its memory, its pointer table, its entry.

In: a loaded `Library` with the entries of `codegen.entry`, the plan and buffers of its program, and
a `Signature` that says what a call takes. Out: a `Function`, whose `call` is a Python builtin: it
takes arrays through the buffer protocol, checks them, runs the step without the GIL and returns the
loss, all in a fraction of a microsecond. Arguments that do not fit give NotImplemented and change
nothing: then the caller looks at them in Python, converts them or raises an error.

>>> f = Function(library, plan, program, signature)
>>> f.set_pointer("W", weights)
>>> f.call(x, y)
0.6931
"""

from __future__ import annotations

import ctypes
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any, Callable, Iterable, Mapping, Protocol, Union

import numpy as np

from codegen.entry import Check, Guard, Input, Kind, Step
from codegen.load import Library
from codegen.loops import ITEMSIZE, PLANNED, Buffer, Derived
from codegen.memory import ALIGNMENT, ArenaPlan, padded

Array = np.ndarray[Any, Any]
Axis = Union[int, tuple[str, int, int]]  # a length, or (run-time size, factor, the size's maximum)

METH_FASTCALL = 0x80
KINDS = {
    "float32": Kind.FLOAT32,
    "float64": Kind.FLOAT64,
    "int32": Kind.INT32,
    "int64": Kind.INT64,
    "bool": Kind.BOOL,
}

# -- what a call takes ---------------------------------------------------------------------------


@dataclass(frozen=True)
class InputSpec:
    """An argument; an axis of run-time length is (name, factor, max): factor * name long."""

    name: str
    dtype: str
    shape: tuple[Axis, ...]


@dataclass(frozen=True)
class Signature:
    """Arguments in order, run-time sizes with their maxima, ranges that integers must keep.

    A check (i, low, high) demands low <= v < high of every element of input i. `loss` names the
    scalar buffer that a call returns; with None a call returns None.
    """

    inputs: tuple[InputSpec, ...]
    sizes: tuple[tuple[str, int], ...] = ()
    checks: tuple[tuple[int, int, int], ...] = ()
    loss: str | None = None

    @staticmethod
    def from_json(data: dict[str, Any]) -> Signature:
        """The inverse of `dataclasses.asdict` after a round through JSON."""
        inputs = [
            InputSpec(
                spec["name"],
                spec["dtype"],
                tuple(a if isinstance(a, int) else (a[0], a[1], a[2]) for a in spec["shape"]),
            )
            for spec in data["inputs"]
        ]
        sizes = tuple((name, largest) for name, largest in data["sizes"])
        checks = tuple((i, low, high) for i, low, high in data["checks"])
        return Signature(tuple(inputs), sizes, checks, data["loss"])


class HasBuffers(Protocol):
    """A `Program`, or as much of one as calling needs."""

    @property
    def buffers(self) -> tuple[Buffer, ...]: ...


# -- Python's machinery --------------------------------------------------------------------------


class _MethodDef(ctypes.Structure):
    """PyMethodDef: what PyCFunction_NewEx makes a builtin from."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("method", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


def builtin(name: str, address: int, owner: tuple[Any, ...]) -> Callable[..., Any]:
    """A Python builtin of the METH_FASTCALL function at this address, with `owner` as its self."""
    definition = _MethodDef(name.encode(), address, METH_FASTCALL, None)
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype = ctypes.py_object
    make.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.py_object]
    made: Callable[..., Any] = make(ctypes.addressof(definition), (*owner, definition), None)
    return made


class Lock:
    """One caller at a time in a step. Functions that share state share a lock.

    A builtin takes it by itself. `with lock:` in Python keeps steps out, to read or write memory
    that they use; calling a step inside would wait for ever.
    """

    def __init__(self) -> None:
        python = ctypes.pythonapi
        python.PyThread_allocate_lock.restype = ctypes.c_void_p
        self.address: int = python.PyThread_allocate_lock()
        # Through CDLL the GIL is released while waiting: whoever holds the lock may need it.
        waiting = ctypes.CDLL(None, handle=python._handle)
        self._acquire = waiting.PyThread_acquire_lock
        self._acquire.argtypes = [ctypes.c_void_p, ctypes.c_int]
        self._release = waiting.PyThread_release_lock
        self._release.argtypes = [ctypes.c_void_p]
        self._free = python.PyThread_free_lock
        self._free.argtypes = [ctypes.c_void_p]

    def __enter__(self) -> None:
        self._acquire(self.address, 1)

    def __exit__(self, *_: object) -> None:
        self._release(self.address)

    def __del__(self) -> None:
        self._free(self.address)


def words(records: Iterable[Iterable[int]], width: int) -> Array:
    """Records of 64-bit words in a row, as native code reads them."""
    rows = [tuple(record) for record in records]
    assert all(len(row) == width for row in rows)
    return np.array(rows, np.int64).reshape(len(rows), width)


def address(array: Array) -> int:
    """Where an array's first element lies."""
    return int(array.__array_interface__["data"][0])


def aligned(size: int) -> Array:
    """Zeroed bytes on a cache line."""
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    start = -address(raw) % ALIGNMENT
    return raw[start : start + size]


def formats(dtype: str) -> int:
    """The buffer protocol's letters for a dtype: C types, of which several may have its size."""
    letters = {"float32": "f", "float64": "d", "bool": "?"}.get(dtype)
    if letters is None:
        size = ITEMSIZE[dtype]
        sizes = {"i": ctypes.c_int, "l": ctypes.c_long, "q": ctypes.c_longlong}
        letters = "".join(c for c, kind in sizes.items() if ctypes.sizeof(kind) == size)
    return int.from_bytes(letters[:2].encode(), "little")


# -- functions -----------------------------------------------------------------------------------


class Function:
    """A compiled step with its memory: the arena and the outputs belong to it, inputs come with
    each call, and every "state" buffer is given once by `set_pointer`."""

    def __init__(
        self,
        library: Library,
        plan: ArenaPlan,
        program: HasBuffers,
        signature: Signature,
        lock: Lock | None = None,
    ) -> None:
        self.library, self.signature, self.lock = library, signature, lock or Lock()
        self.table = dict(plan.table)
        self.buffers = {
            b.name: Buffer(b.name, b.dtype, b.size, b.role)
            for b in program.buffers
            if b.role not in (*PLANNED, "constant")
        }
        _check_sizes(program, signature)
        self.arena_bytes = plan.size
        self._outputs, self._memory = self._allocate(plan.size)
        # one place more than the table has: for inputs that the program does not use
        self.pointers = np.zeros(len(self.table) + 2, np.int64)
        self.pointers[0] = address(self._memory)
        for name, memory in self._outputs.items():
            self.pointers[self.table[name]] = address(memory)
        self._state: dict[str, Array] = {}
        states = [name for name, b in self.buffers.items() if b.role == "state"]
        self._guarded = {name: i + 1 for i, name in enumerate(states)}
        self.values = np.zeros(len(signature.sizes), np.int64)
        self._guards = words([(0, 0)] * (len(states) + 1), len(Guard))
        self._guards[0] = self.pointers[0], self.pointers[0] + self._memory.nbytes
        self.step, kept = self._describe_step()
        owner = (address(self.step), kept, self._state, library, self.lock)
        self._native = builtin("step", library.symbol("step_call"), owner)

    def _allocate(self, arena: int) -> tuple[dict[str, Array], Array]:
        """The arena and behind it the outputs, in one block."""
        outputs = [b for b in self.buffers.values() if b.role == "output"]
        sizes = [b.size * ITEMSIZE[b.dtype] for b in outputs]
        memory = aligned(padded(arena) + sum(padded(size) for size in sizes))
        views, at = {}, padded(arena)
        for buffer, size in zip(outputs, sizes):
            views[buffer.name] = memory[at : at + size].view(buffer.dtype)
            at += padded(size)
        return views, memory

    def _describe_step(self) -> tuple[Array, list[Array]]:
        """The Step descriptor, and the arrays that it refers to."""
        signature = self.signature
        index = {name: i for i, (name, _) in enumerate(signature.sizes)}
        dims = [
            words([(-1, a) if isinstance(a, int) else (index[a[0]], a[1]) for a in spec.shape], 2)
            for spec in signature.inputs
        ]
        inputs = [
            (
                formats(spec.dtype),
                ITEMSIZE[spec.dtype],
                len(spec.shape),
                address(dim),
                self.place(spec.name),
            )
            for spec, dim in zip(signature.inputs, dims)
        ]
        checks = [(i, low, high - low) for i, low, high in signature.checks]
        kept = [
            words(inputs, len(Input)),
            np.array([largest for _, largest in signature.sizes], np.int64),
            words(checks, len(Check)),
            *dims,
            *(self.values, self._guards, self.pointers, self._memory),
        ]
        step = np.zeros(len(Step), np.int64)
        loss = signature.loss
        step[Step.LOCK] = self.lock.address
        step[Step.INPUTS], step[Step.INPUT] = len(inputs), address(kept[0])
        step[Step.SIZES], step[Step.SIZE] = len(self.values), address(self.values)
        step[Step.SIZE_MAX] = address(kept[1])
        step[Step.CHECKS], step[Step.CHECK] = len(checks), address(kept[2])
        step[Step.GUARDS], step[Step.GUARD] = len(self._guards), address(self._guards)
        step[Step.TABLE] = address(self.pointers)
        step[Step.LOSS] = self.pointers[self.table[loss]] if loss else 0
        step[Step.LOSS_KIND] = KINDS[self.buffers[loss].dtype] if loss else Kind.ABSENT
        step[Step.NONE], step[Step.REFUSED] = id(None), id(NotImplemented)
        return step, [step, *kept]

    def place(self, name: str) -> int:
        """Index of a buffer in the pointer table; an input that is not used has the spare one."""
        return self.table.get(name, len(self.table) + 1)

    @property
    def call(self) -> Callable[..., Any]:
        """The builtin: `call(*arrays)` gives a float, None, or NotImplemented. Fetch it once."""
        missing = [name for name in self._guarded if name not in self._state]
        if missing:
            raise ValueError(f"no memory given for state {', '.join(missing)}: use set_pointer")
        return self._native

    def set_pointer(self, name: str, array: Array) -> None:
        """Give the memory of a buffer: contiguous, of its dtype, on a cache line, large enough."""
        buffer = self.buffers[name]
        if array.dtype != buffer.dtype or not array.flags.c_contiguous or not array.flags.writeable:
            raise ValueError(f"{name}: expected writable contiguous {buffer.dtype}")
        if array.size < buffer.size or address(array) % ALIGNMENT:
            raise ValueError(
                f"{name}: {array.size} elements at {address(array):#x}, expected at least "
                f"{buffer.size} on a boundary of {ALIGNMENT} bytes"
            )
        with self.lock:
            self._state[name] = array
            self.pointers[self.table[name]] = address(array)
            if name in self._guarded:
                begin = address(array)
                self._guards[self._guarded[name]] = begin, begin + array.nbytes
            if name == self.signature.loss:
                self.step[Step.LOSS] = address(array)

    def output(self, name: str) -> Array:
        """An output's memory at its planned maximum, one-dimensional; the next call rewrites it."""
        given = self._state.get(name)
        return self._outputs[name] if given is None else given

    @property
    def sizes(self) -> dict[str, int]:
        """The run-time sizes of the last call."""
        return {name: int(v) for (name, _), v in zip(self.signature.sizes, self.values)}

    @property
    def bytes(self) -> int:
        """Memory that belongs to this function: arena and outputs."""
        return int(self._memory.nbytes)

    def writes_into(self, array: Array) -> bool:
        """Whether a contiguous array shares memory that the step writes: copy it to pass it."""
        begin = address(array)
        overlaps = (begin < self._guards[:, 1]) & (begin + array.nbytes > self._guards[:, 0])
        return bool(overlaps.any())

    # -- for the object cache --------------------------------------------------------------------
    def to_json(self) -> dict[str, Any]:
        """What `from_json` needs, besides the object, to make this function again."""
        return describe(self.arena_bytes, self.table, self.buffers.values(), self.signature)

    @staticmethod
    def from_json(library: Library, data: dict[str, Any], lock: Lock | None = None) -> Function:
        """A function from its object and `to_json`, without its program."""
        plan = ArenaPlan({}, data["arena"], data["table"])
        program = SimpleNamespace(buffers=tuple(Buffer(*b) for b in data["buffers"]))
        return Function(library, plan, program, Signature.from_json(data["signature"]), lock)


def describe(
    arena: int, table: Mapping[str, int], buffers: Iterable[Buffer], signature: Signature
) -> dict[str, Any]:
    """What `Function.from_json` takes: arena bytes and pointer table of the plan, the program's
    buffers, the signature."""
    outside = [b for b in buffers if b.role not in (*PLANNED, "constant")]
    return {
        "arena": arena,
        "table": dict(table),
        "buffers": [[b.name, b.dtype, b.size, b.role] for b in outside],
        "signature": asdict(signature),
    }


def _check_sizes(program: HasBuffers, signature: Signature) -> None:
    """The sizes of a call must be those that the code reads, in its order."""
    declared = getattr(program, "sizes", None)
    if declared is None:
        return
    wanted = [name for name, rule in declared.items() if not isinstance(rule, Derived)]
    given = [name for name, _ in signature.sizes]
    if wanted != given:
        raise ValueError(f"the program has the run-time sizes {wanted}, the signature {given}")
