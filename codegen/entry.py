"""How Python enters compiled code: LLVM text that goes into the same object as `step`.

In: nothing; the text is the same for every program that defines `void @step(ptr buffers, ptr
sizes)`. Out: `text()` to append to that module, or the same as a `module()` of its own that is
compiled once for all programs (see `codegen.bundle`). It defines

    ptr  @step_call(ptr self, ptr args, i64 count)    one step, as a Python builtin (METH_FASTCALL)
    i64  @step_run(ptr run)                           many steps over rows of arrays, without Python
    void @step_shuffle(ptr order, i64 rows, i64 seed, i64 epoch)    a random permutation

What they need to know about a program they read from descriptors: arrays of 64-bit words that
`codegen.call` fills. The enumerations below name the words; records of one kind lie in a row.

The text itself is in `codegen.entry_call` and `codegen.entry_run`. It uses shorthands for
descriptor words, which `_expand` resolves:

    %n = word %d Step.INPUTS        loads an i64
    %p = pointer %d Step.TABLE      loads a pointer
    %a = address %d Step.TABLE      where the word lies
    %r = record %p Input %i         where record i of a row starting at %p lies
"""

from __future__ import annotations

import functools
import re
from enum import IntEnum, auto

from codegen.entry_call import CALL, FITS, IN_RANGE, IN_RANGE_OF, SCALAR
from codegen.entry_run import COPY, FEED, RUN, SHUFFLE

BUFFER_BYTES = 80  # sizeof(Py_buffer), part of the stable ABI
BUFFER_FLAGS = 0x4 | 0x8  # PyBUF_FORMAT | PyBUF_ND: C-contiguous, with dtype and shape
SHUFFLE_STREAM = 0xFFFFFFFF  # the Philox stream of permutations; no random node has it


class _Words(IntEnum):
    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[int]) -> int:
        return count


class Step(_Words):
    """A compiled step: how to check its arguments and where to put their addresses."""

    LOCK = auto()  # a PyThread lock: one caller at a time
    INPUTS = auto()
    INPUT = auto()  # -> Input records
    SIZES = auto()
    SIZE = auto()  # -> the sizes that `step` reads
    SIZE_MAX = auto()  # -> the largest value of each
    CHECKS = auto()
    CHECK = auto()  # -> Check records
    GUARDS = auto()
    GUARD = auto()  # -> Guard records
    TABLE = auto()  # -> the pointer table that `step` reads
    LOSS = auto()  # -> the scalar that a call returns
    LOSS_KIND = auto()  # its Kind
    NONE = auto()  # Python's None
    REFUSED = auto()  # Python's NotImplemented


class Input(_Words):
    """One argument of a call."""

    FORMATS = auto()  # accepted format characters, one per byte
    ITEMSIZE = auto()
    RANK = auto()
    DIMS = auto()  # -> Dim records
    PLACE = auto()  # index in the pointer table


class Dim(_Words):
    """One axis: exactly FACTOR when SIZE is negative, else FACTOR times that run-time size."""

    SIZE = auto()
    FACTOR = auto()


class Check(_Words):
    """Integers of an input must satisfy LOW <= value < LOW + SPAN."""

    INPUT = auto()
    LOW = auto()
    SPAN = auto()


class Guard(_Words):
    """Memory that the step writes: an argument that lies in it would change while it is read."""

    BEGIN = auto()
    END = auto()


class Run(_Words):
    """Batches from arrays of ROWS rows, until LIMIT batches are done, STOP is set or rows end."""

    STEP = auto()  # -> Step
    ROWS = auto()
    BATCH = auto()
    POSITION = auto()  # rows used so far
    WEIGHT = auto()  # rows trained on so far
    LIMIT = auto()
    STOP = auto()
    ORDER = auto()  # -> permutation of the rows; null: in order
    SIZE = auto()  # index of the run-time size that counts rows; negative: the batch is static
    VALUES = auto()  # -> values of all sizes
    STREAMS = auto()
    STREAM = auto()  # -> Stream records
    PINS = auto()
    PIN = auto()  # -> Pin records
    TOTALS = auto()
    TOTAL = auto()  # -> Total records


class Stream(_Words):
    """An input of which each batch takes its rows. With an order they are gathered in STAGING."""

    PLACE = auto()
    DATA = auto()
    ROW_BYTES = auto()
    STAGING = auto()


class Pin(_Words):
    """An input that is the same for every batch."""

    PLACE = auto()
    DATA = auto()


class Total(_Words):
    """A scalar output, summed in float64, each batch weighted by its rows."""

    VALUE = auto()  # -> the scalar
    KIND = auto()
    SUM = auto()


class Kind(_Words):
    """Type of a scalar in memory."""

    ABSENT = auto()
    FLOAT32 = auto()
    FLOAT64 = auto()
    INT32 = auto()
    INT64 = auto()
    BOOL = auto()


DECLARATIONS = """
declare ptr @PyTuple_GetItem(ptr, i64)
declare ptr @PyLong_AsVoidPtr(ptr)
declare i32 @PyObject_GetBuffer(ptr, ptr, i32)
declare void @PyBuffer_Release(ptr)
declare void @PyErr_Clear()
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
declare i32 @PyThread_acquire_lock(ptr, i32)
declare void @PyThread_release_lock(ptr)
declare ptr @PyFloat_FromDouble(double)
declare void @Py_IncRef(ptr)
declare ptr @memmove(ptr, ptr, i64)
"""

_RECORDS = {c.__name__: c for c in (Step, Input, Dim, Check, Guard, Run, Stream, Pin, Total)}
_NUMBERS = {name: globals()[name] for name in ("BUFFER_BYTES", "BUFFER_FLAGS", "SHUFFLE_STREAM")}


@functools.cache
def text() -> str:
    """LLVM text of the entries, to be appended to a module that defines `@step`."""
    return DECLARATIONS + _entries()


@functools.cache
def module() -> str:
    """The entries as a module of their own, which finds `@step` when it is loaded."""
    return DECLARATIONS + "declare void @step(ptr, ptr)\n" + _entries()


def _entries() -> str:
    short = {
        "EXTEND_8": "sext <8 x i32> %value to <8 x i64>",
        "EXTEND_1": "sext i32 %k.value to i64",
        "TYPE": "i32",
        "ALIGN": "4",
    }
    long = {
        "EXTEND_8": "add <8 x i64> %value, zeroinitializer",
        "EXTEND_1": "add i64 %k.value, 0",
        "TYPE": "i64",
        "ALIGN": "8",
    }
    ranges = [_substitute(IN_RANGE_OF, values) for values in (short, long)]
    return _expand("".join((CALL, FITS, IN_RANGE, *ranges, SCALAR, RUN, _feed(), SHUFFLE)))


def _feed() -> str:
    moves = {
        "four": "%four.v = load i32, ptr %four.from\n  store i32 %four.v, ptr %four.to",
        "eight": "%eight.v = load i64, ptr %eight.from, align 4\n"
        "  store i64 %eight.v, ptr %eight.to, align 4",
        "any": "call ptr @memmove(ptr %any.to, ptr %any.from, i64 %bytes)",
    }
    feed = FEED
    for name, move in moves.items():
        feed = feed.replace(f"COPY_{name}\n", COPY.replace("NAME", name).replace("MOVE", move))
    return feed


def _substitute(template: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        template = template.replace(name, value)
    return template


_WORD = re.compile(r"(%[\w.]+) = (word|pointer|address) (%\w[\w.]*) (\w+)\.(\w+)")
_RECORD = re.compile(r"(%[\w.]+) = record (%\w[\w.]*) (\w+) (%\w[\w.]*)")


def _expand(shorthand: str) -> str:
    """The shorthands of the module docstring, and the names of numbers, as LLVM text."""

    def word(match: re.Match[str]) -> str:
        result, what, base, record, name = match.groups()
        index = _RECORDS[record][name].value
        if what == "address":
            return f"{result} = getelementptr i64, ptr {base}, i64 {index}"
        kind = "i64" if what == "word" else "ptr"
        return (
            f"{result}.word = getelementptr i64, ptr {base}, i64 {index}\n"
            f"  {result} = load {kind}, ptr {result}.word"
        )

    def record(match: re.Match[str]) -> str:
        result, base, name, index = match.groups()
        size = len(_RECORDS[name])
        return f"{result} = getelementptr [{size} x i64], ptr {base}, i64 {index}"

    done = _RECORD.sub(record, _WORD.sub(word, shorthand))
    done = re.sub(r"\bKind\.(\w+)", lambda m: str(Kind[m[1]].value), done)
    return re.sub("|".join(_NUMBERS), lambda m: str(_NUMBERS[m[0]]), done)
