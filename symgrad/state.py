"""Parameters and states between calls: a `Store` maps a name to memory, and to a plain array.

In: parameters (nodes) with their initial values. Out: NumPy arrays in the public shape; the memory
behind them, in whatever layout the compiled code chose; safetensors files.

>>> step.state["fc1.weight"].shape
(784, 128)
>>> step.state["fc1.weight"] = np.zeros((784, 128))
>>> save("digits.safetensors", step.state)
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from symgrad import dtypes, source
from symgrad.errors import GraphError, InputError, StateError
from symgrad.node import Parameter, State
from symgrad.schedule.layout import Layout, row_major
from symgrad.sizes import show

Array = np.ndarray[Any, Any]
ALIGNMENT = 64  # bytes: one cache line, one AVX-512 vector
RNG = "symgrad.rng"  # the name of the random generator's state in files
FORMAT = 1  # of files


def aligned(elements: int, dtype: str) -> Array:
    """Zeros on a cache line."""
    size = elements * dtypes.ITEMSIZE[dtype]
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    start = -raw.__array_interface__["data"][0] % ALIGNMENT
    return raw[start : start + size].view(dtype)


@dataclass
class Slot:
    """One parameter: its memory, and how it lies there.

    A slot is `fixed` once native code holds a pointer to its memory; before that, the first native
    function that uses the parameter chooses the layout.
    """

    parameter: Parameter
    layout: Layout
    lanes: int
    memory: Array
    fixed: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.parameter.shape  # type: ignore[return-value]  # a parameter has int sizes

    def read(self) -> Array:
        return self.layout.unpack(self.memory, self.shape, self.lanes)

    def write(self, array: Array) -> None:
        self.layout.fill(self.memory, array, self.lanes)


class Store(MutableMapping[str, Array]):
    """Every parameter, optimizer state and the random generator of one or more functions.

    Reading gives a copy in the public shape; assigning checks and writes. A key is a name or the
    parameter itself.
    """

    def __init__(self, seed: int = 0) -> None:
        if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or not seed >= 0:
            raise InputError(f"seed must be a non-negative int, got {seed!r}")
        self.seed = int(seed) & (2**64 - 1)
        self.epoch = 0  # passes over data begun: each is shuffled in its own order
        self.slots: dict[str, Slot] = {}
        self.lock: Any = None  # held by native code while it runs; set by the first that does
        self.rng = aligned(4, "int32")  # seed low, high, step low, high: native code counts it up
        self.rng[:2] = np.array([self.seed], np.uint64).view(np.int32)

    def _repr_html_(self) -> str:
        from symgrad.compile import notebook

        return notebook.store(self)

    # -- what compiled functions use ---------------------------------------------------------
    @property
    def parameters(self) -> dict[str, Parameter]:
        """The nodes by name, in the order in which they came in."""
        return {name: slot.parameter for name, slot in self.slots.items()}

    @property
    def lanes(self) -> int | None:
        """The lanes of the native functions that share this store; None before the first one."""
        return next((slot.lanes for slot in self.slots.values() if slot.fixed), None)

    def layouts(self) -> dict[Parameter, Layout]:
        """The layouts that a further native function has to accept."""
        return {slot.parameter: slot.layout for slot in self.slots.values() if slot.fixed}

    def check(self, parameters: Iterable[Parameter]) -> None:
        """Raise GraphError where two parameters have one name."""
        seen = self.parameters
        for p in parameters:
            other = seen.setdefault(p.name, p)
            if other is not p:
                raise GraphError(
                    f"two {p.kind}s are named {p.name!r}: shapes {show(other.shape)} and "
                    f"{show(p.shape)}; give each its own name"
                    + source.quote(other.where)
                    + source.quote(p.where)
                )

    def add(self, parameters: Iterable[Parameter]) -> None:
        """Take parameters in, initialised, unless they are here already."""
        parameters = list(parameters)
        self.check(parameters)
        fresh = {p.name: p for p in parameters if p.name not in self.slots}
        values = {name: initial(p, self.seed) for name, p in fresh.items()}
        for name, p in fresh.items():
            self.slots[name] = Slot(p, row_major(p.ndim), 1, values[name].reshape(-1))

    def place(self, parameter: Parameter, layout: Layout, lanes: int) -> Array:
        """The memory of a parameter for native code, laid out as asked; it stays there."""
        slot = self.slots[parameter.name]
        if slot.fixed:
            if slot.layout != layout or (layout.lane is not None and slot.lanes != lanes):
                raise StateError(
                    f"parameter {parameter.name!r} lies in memory as {slot.layout} with "
                    f"{slot.lanes} lanes, and this function wants {layout} with {lanes}: functions "
                    "that share a state must be compiled for the same target"
                )
            return slot.memory
        plain = slot.memory.reshape(slot.shape) if slot.layout.plain else slot.read()
        slot.layout, slot.lanes, slot.fixed = layout, lanes, True
        slot.memory = aligned(layout.elements(slot.shape, lanes), parameter.dtype)
        if np.ravel(plain).view(np.uint8).any():  # zeros are there already, untouched
            slot.write(plain)
        return slot.memory

    def snapshot(self) -> dict[str, Array]:
        """A copy of all memory, to go back to with `restore`."""
        with self.quiet():
            saved = {name: slot.memory.copy() for name, slot in self.slots.items()}
            saved[RNG] = self.rng.copy()
        return saved

    def restore(self, saved: Mapping[str, Array]) -> None:
        with self.quiet():
            for name, slot in self.slots.items():
                slot.memory[:] = saved[name]
            self.rng[:] = saved[RNG]

    def quiet(self) -> AbstractContextManager[Any]:
        """While no native code runs on this memory, in whatever thread."""
        return nullcontext() if self.lock is None else self.lock

    # -- what users see ----------------------------------------------------------------------
    def _slot(self, key: str | Parameter) -> Slot:
        name = key.name if isinstance(key, Parameter) else key
        slot = self.slots.get(name)
        if slot is None or (isinstance(key, Parameter) and slot.parameter is not key):
            known = ", ".join(self.slots) or "none"
            raise _UnknownName(f"no parameter named {name!r} in this state; there are: {known}")
        return slot

    def __getitem__(self, key: str | Parameter) -> Array:
        slot = self._slot(key)
        with self.quiet():
            return slot.read()

    def __setitem__(self, key: str | Parameter, value: Any) -> None:
        slot = self._slot(key)
        array = converted(value, slot.parameter)
        with self.quiet():
            slot.write(array)

    def __delitem__(self, key: str | Parameter) -> None:
        raise TypeError("parameters cannot be deleted from a state: compiled code uses them")

    def __iter__(self) -> Iterator[str]:
        return iter(self.slots)

    def __len__(self) -> int:
        return len(self.slots)

    def __contains__(self, key: object) -> bool:
        if isinstance(key, Parameter):
            return key.name in self.slots and self.slots[key.name].parameter is key
        return key in self.slots

    def __repr__(self) -> str:
        total = sum(s.parameter.ndim and int(np.prod(s.shape)) or 1 for s in self.slots.values())
        return f"<state of {len(self.slots)} arrays, {total:,} numbers>"


class _UnknownName(InputError, KeyError):
    """Also a KeyError, so that a Store is an ordinary mapping."""

    def __str__(self) -> str:
        return str(self.args[0])


def converted(value: Any, parameter: Parameter) -> Array:
    """A user's value for a parameter, checked; a scalar stands for itself only."""
    array = np.asarray(value)
    what = f"{parameter.kind} {parameter.name!r}"
    if array.shape != parameter.shape:
        raise InputError(
            f"{what} has shape {show(parameter.shape)}, the value given {show(array.shape)}"
        )
    kind = array.dtype
    if isinstance(value, int) and not isinstance(value, bool) and array.dtype.kind == "i":
        kind = np.dtype("int32")  # a Python int is of any number type
    if not np.can_cast(kind, parameter.dtype, "same_kind"):
        raise InputError(f"{what} is {parameter.dtype}, the value given {array.dtype}")
    return array.astype(parameter.dtype)


# -- initial values --------------------------------------------------------------------------


def generator(seed: int, name: str) -> np.random.Generator:
    """Random numbers for one parameter: they depend on the seed and its name, not on its order."""
    key = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


def initial(parameter: Parameter, seed: int) -> Array:
    """The value a parameter starts with."""
    init = parameter.init
    shape: tuple[int, ...] = parameter.shape  # type: ignore[assignment]
    if init is None:
        return np.zeros(shape, parameter.dtype)
    try:
        value = init(shape, generator(seed, parameter.name)) if callable(init) else init
    except TypeError as error:  # sg.init.ones where sg.init.ones() was meant
        raise InputError(
            f"{parameter.kind} {parameter.name!r}: its init rule is called with the shape and a "
            f"generator, as sg.init.ones() can be: {error}" + source.quote(parameter.where)
        ) from error
    array = np.asarray(value)
    if array.shape not in ((), shape):
        raise InputError(
            f"{parameter.kind} {parameter.name!r} of shape {show(shape)}: its init rule gave "
            f"shape {show(array.shape)}" + source.quote(parameter.where)
        )
    made = np.ascontiguousarray(np.broadcast_to(array, shape), parameter.dtype).reshape(shape)
    return made.copy() if np.may_share_memory(made, array) else made


# -- files -----------------------------------------------------------------------------------


def save(path: str | os.PathLike[str], state: Store) -> None:
    """Write a state to a safetensors file, whole or not at all."""
    import tempfile

    from safetensors.numpy import save as serialise

    with state.quiet():
        arrays = {name: slot.read() for name, slot in state.slots.items()}
        arrays[RNG] = state.rng.copy()
    kept = [name for name, slot in state.slots.items() if isinstance(slot.parameter, State)]
    about = {"version": FORMAT, "states": kept, "seed": state.seed, "epoch": state.epoch}
    data = serialise(arrays, {"symgrad": json.dumps(about)})
    path = Path(path)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    except OSError as error:
        raise StateError(f"cannot write {path}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise StateError(f"cannot write {path}: {error.strerror}") from error


def load(path: str | os.PathLike[str], state: Store, strict: bool = True) -> None:
    """Read a file that `save` wrote into a state; on any error the state keeps what it held.

    The file must hold every array of the state. It may hold more optimizer states than the state
    has (a training run's file loads into a function that only predicts), not more parameters.
    With `strict=False`, what is in both is loaded.
    """
    arrays, about = _read(Path(path))
    rng = arrays.pop(RNG, None)
    problems = [] if not strict else _differences(arrays, about, state)
    fitting = {name: array for name, array in arrays.items() if name in state.slots}
    for name, array in fitting.items():
        p = state.slots[name].parameter
        if array.shape != p.shape:
            problems.append(f"{name!r} is {show(array.shape)} there and {show(p.shape)} here")
        elif array.dtype.name != p.dtype:
            problems.append(f"{name!r} is {array.dtype.name} there and {p.dtype} here")
    if rng is not None and (rng.shape != (4,) or rng.dtype != np.int32):
        problems.append(f"the random generator's state is {rng.dtype}{show(rng.shape)}")
    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise StateError(f"{path} does not fit this model: {'; '.join(problems[:5])}{more}")
    with state.quiet():
        for name, array in fitting.items():
            state.slots[name].write(array)
        if rng is not None:
            state.rng[:] = rng
    if rng is not None:
        state.seed = int(about.get("seed", state.seed))
        state.epoch = int(about.get("epoch", state.epoch))


def _differences(arrays: Mapping[str, Array], about: Mapping[str, Any], state: Store) -> list[str]:
    """Names that only one side has."""
    kept = set(about.get("states", []))
    problems = [f"{name!r} is not in the file" for name in state.slots if name not in arrays]
    for name in arrays:
        if name not in state.slots and name not in kept:
            problems.append(f"{name!r} is not in the model")
    return problems


def _read(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays of a file, and what `save` noted about them (nothing in files of others)."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise StateError(f"{path}: no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {}).get("symgrad", "{}"))
            arrays = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise StateError(f"{path} is not a whole safetensors file: {error}") from error
    version = about.get("version", FORMAT)
    if version != FORMAT:
        raise StateError(f"{path} has version {version}, this symgrad reads version {FORMAT}")
    return arrays, about


def _umask() -> int:
    """The process's umask; mkstemp makes files that only their owner can read."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
