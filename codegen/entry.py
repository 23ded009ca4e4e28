"""How Python enters compiled code: LLVM text that goes into the same object as `step`.

In: nothing; the text is the same for every program that defines `void @step(ptr buffers, ptr
sizes)`. Out: `text()` to append to that module, or the same as a `module()` of its own that is
compiled once for all programs (see `codegen.bundle`). It defines

    ptr  @step_call(ptr self, ptr args, i64 count)    one step, as a Python builtin (METH_FASTCALL)
    i64  @step_run(ptr run)                           many steps over rows of arrays, without Python
    void @step_shuffle(ptr order, i64 rows, i64 seed, i64 epoch)    a random permutation

What they need to know about a program they read from descriptors: arrays of 64-bit words that
`codegen.call` fills. The enumerations below name the words; records of one kind lie in a row.

The text uses three shorthands for descriptor words, which `_expand` resolves:

    %n = word %d Step.INPUTS        loads an i64
    %p = pointer %d Step.TABLE      loads a pointer
    %a = address %d Step.TABLE      where the word lies
    %r = record %p Input %i         where record i of a row starting at %p lies
"""

from __future__ import annotations

import functools
import re
from enum import IntEnum, auto

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

# Until the lock is taken nothing outside the frame is written: a call that does not fit leaves no
# trace, and returns NotImplemented. `self` is a tuple whose first element is the Step's address.
CALL = """
define ptr @step_call(ptr %self, ptr %args, i64 %given) nounwind {
entry:
  %first = call ptr @PyTuple_GetItem(ptr %self, i64 0)
  %d = call ptr @PyLong_AsVoidPtr(ptr %first)
  %inputs = word %d Step.INPUTS
  %sizes = word %d Step.SIZES
  %views = alloca [BUFFER_BYTES x i8], i64 %inputs, align 16
  %bound = alloca i64, i64 %sizes, align 8
  %held = alloca i64, align 8
  store i64 0, ptr %held
  %right = icmp eq i64 %given, %inputs
  br i1 %right, label %clear, label %refuse

clear:
  %c = phi i64 [ 0, %entry ], [ %c.next, %clear.one ]
  %c.more = icmp ult i64 %c, %sizes
  br i1 %c.more, label %clear.one, label %take
clear.one:
  %c.at = getelementptr i64, ptr %bound, i64 %c
  store i64 0, ptr %c.at
  %c.next = add i64 %c, 1
  br label %clear

take:
  %i = load i64, ptr %held
  %i.more = icmp ult i64 %i, %inputs
  br i1 %i.more, label %take.one, label %complete
take.one:
  %arg.at = getelementptr ptr, ptr %args, i64 %i
  %arg = load ptr, ptr %arg.at
  %view = getelementptr [BUFFER_BYTES x i8], ptr %views, i64 %i
  %error = call i32 @PyObject_GetBuffer(ptr %arg, ptr %view, i32 BUFFER_FLAGS)
  %taken = icmp eq i32 %error, 0
  br i1 %taken, label %inspect, label %forget
inspect:
  %i.next = add i64 %i, 1
  store i64 %i.next, ptr %held
  %specs = pointer %d Step.INPUT
  %spec = record %specs Input %i
  %fits = call i1 @step_fits(ptr %view, ptr %spec, ptr %bound, ptr %d)
  br i1 %fits, label %take, label %refuse
forget:
  call void @PyErr_Clear()
  br label %refuse

complete:
  %b = phi i64 [ 0, %take ], [ %b.next, %complete.one ]
  %b.more = icmp ult i64 %b, %sizes
  br i1 %b.more, label %complete.one, label %check
complete.one:
  %b.at = getelementptr i64, ptr %bound, i64 %b
  %b.value = load i64, ptr %b.at
  %b.next = add i64 %b, 1
  %known = icmp ne i64 %b.value, 0
  br i1 %known, label %complete, label %refuse

check:
  %k = phi i64 [ 0, %complete ], [ %k.next, %check.one ]
  %checks = word %d Step.CHECKS
  %k.more = icmp ult i64 %k, %checks
  br i1 %k.more, label %check.one, label %lock
check.one:
  %k.all = pointer %d Step.CHECK
  %rule = record %k.all Check %k
  %good = call i1 @step_in_range(ptr %views, ptr %rule)
  %k.next = add i64 %k, 1
  br i1 %good, label %check, label %refuse

lock:
  %mutex = pointer %d Step.LOCK
  %free = call i32 @PyThread_acquire_lock(ptr %mutex, i32 0)
  %mine = icmp ne i32 %free, 0
  br i1 %mine, label %bind, label %wait
wait:
  %waiting = call ptr @PyEval_SaveThread()
  call i32 @PyThread_acquire_lock(ptr %mutex, i32 1)
  call void @PyEval_RestoreThread(ptr %waiting)
  br label %bind

bind:
  %values = pointer %d Step.SIZE
  %bytes = mul i64 %sizes, 8
  call ptr @memmove(ptr %values, ptr %bound, i64 %bytes)
  %table = pointer %d Step.TABLE
  br label %place
place:
  %p = phi i64 [ 0, %bind ], [ %p.next, %place.one ]
  %p.more = icmp ult i64 %p, %inputs
  br i1 %p.more, label %place.one, label %go
place.one:
  %p.all = pointer %d Step.INPUT
  %p.spec = record %p.all Input %p
  %p.place = word %p.spec Input.PLACE
  %p.view = getelementptr [BUFFER_BYTES x i8], ptr %views, i64 %p
  %p.data = load ptr, ptr %p.view
  %p.at = getelementptr ptr, ptr %table, i64 %p.place
  store ptr %p.data, ptr %p.at
  %p.next = add i64 %p, 1
  br label %place

go:
  %thread = call ptr @PyEval_SaveThread()
  call void @step(ptr %table, ptr %values)
  call void @PyEval_RestoreThread(ptr %thread)
  %kind = word %d Step.LOSS_KIND
  %absent = icmp eq i64 %kind, Kind.ABSENT
  br i1 %absent, label %nothing, label %number
number:
  %loss.at = pointer %d Step.LOSS
  %loss = call double @step_scalar(ptr %loss.at, i64 %kind)
  call void @PyThread_release_lock(ptr %mutex)
  %float = call ptr @PyFloat_FromDouble(double %loss)
  br label %release
nothing:
  call void @PyThread_release_lock(ptr %mutex)
  %none = pointer %d Step.NONE
  call void @Py_IncRef(ptr %none)
  br label %release
refuse:
  %refused = pointer %d Step.REFUSED
  call void @Py_IncRef(ptr %refused)
  br label %release

release:
  %result = phi ptr [ %float, %number ], [ %none, %nothing ], [ %refused, %refuse ]
  %count = load i64, ptr %held
  br label %give
give:
  %g = phi i64 [ 0, %release ], [ %g.next, %give.one ]
  %g.more = icmp ult i64 %g, %count
  br i1 %g.more, label %give.one, label %leave
give.one:
  %g.view = getelementptr [BUFFER_BYTES x i8], ptr %views, i64 %g
  call void @PyBuffer_Release(ptr %g.view)
  %g.next = add i64 %g, 1
  br label %give
leave:
  ret ptr %result
}
"""

# Fields of Py_buffer by byte: buf 0, len 16, itemsize 24, ndim 36, format 40, shape 48.
FITS = """
define internal i1 @step_fits(ptr %view, ptr %spec, ptr %bound, ptr %d) nounwind {
entry:
  %itemsize.at = getelementptr i8, ptr %view, i64 24
  %itemsize = load i64, ptr %itemsize.at
  %itemsize.want = word %spec Input.ITEMSIZE
  %itemsize.ok = icmp eq i64 %itemsize, %itemsize.want
  %rank.at = getelementptr i8, ptr %view, i64 36
  %rank.short = load i32, ptr %rank.at
  %rank = sext i32 %rank.short to i64
  %rank.want = word %spec Input.RANK
  %rank.ok = icmp eq i64 %rank, %rank.want
  %data = load i64, ptr %view
  %low = sub i64 %itemsize.want, 1
  %odd = and i64 %data, %low
  %aligned = icmp eq i64 %odd, 0
  %format.at = getelementptr i8, ptr %view, i64 40
  %format = load ptr, ptr %format.at
  %named = icmp ne ptr %format, null
  %ok1 = and i1 %itemsize.ok, %rank.ok
  %ok2 = and i1 %ok1, %aligned
  %ok3 = and i1 %ok2, %named
  br i1 %ok3, label %dtype, label %no

dtype:
  %letter = load i8, ptr %format
  %second.at = getelementptr i8, ptr %format, i64 1
  %second = load i8, ptr %second.at
  %single = icmp eq i8 %second, 0
  %formats = word %spec Input.FORMATS
  %formats.a = trunc i64 %formats to i8
  %formats.shifted = lshr i64 %formats, 8
  %formats.b = trunc i64 %formats.shifted to i8
  %is.a = icmp eq i8 %letter, %formats.a
  %is.b = icmp eq i8 %letter, %formats.b
  %is = or i1 %is.a, %is.b
  %dtype.ok = and i1 %is, %single
  br i1 %dtype.ok, label %apart, label %no

apart:
  %bytes.at = getelementptr i8, ptr %view, i64 16
  %bytes = load i64, ptr %bytes.at
  %end = add i64 %data, %bytes
  %guards = word %d Step.GUARDS
  %guard.all = pointer %d Step.GUARD
  br label %guard
guard:
  %g = phi i64 [ 0, %apart ], [ %g.next, %guard.one ]
  %g.more = icmp ult i64 %g, %guards
  br i1 %g.more, label %guard.one, label %shape
guard.one:
  %range = record %guard.all Guard %g
  %g.begin = word %range Guard.BEGIN
  %g.end = word %range Guard.END
  %before = icmp ule i64 %end, %g.begin
  %after = icmp uge i64 %data, %g.end
  %outside = or i1 %before, %after
  %g.next = add i64 %g, 1
  br i1 %outside, label %guard, label %no

shape:
  %shape.at = getelementptr i8, ptr %view, i64 48
  %lengths = load ptr, ptr %shape.at
  %dims = pointer %spec Input.DIMS
  %maxima = pointer %d Step.SIZE_MAX
  br label %axis
axis:
  %a = phi i64 [ 0, %shape ], [ %a.next, %axis.static ], [ %a.next, %axis.bind ]
  %a.more = icmp ult i64 %a, %rank
  br i1 %a.more, label %axis.one, label %yes
axis.one:
  %length.at = getelementptr i64, ptr %lengths, i64 %a
  %length = load i64, ptr %length.at
  %dim = record %dims Dim %a
  %size = word %dim Dim.SIZE
  %factor = word %dim Dim.FACTOR
  %a.next = add i64 %a, 1
  %static = icmp slt i64 %size, 0
  br i1 %static, label %axis.static, label %axis.size
axis.static:
  %same = icmp eq i64 %length, %factor
  br i1 %same, label %axis, label %no
axis.size:
  %n = udiv i64 %length, %factor
  %whole = mul i64 %n, %factor
  %exact = icmp eq i64 %whole, %length
  %some = icmp ne i64 %n, 0
  %max.at = getelementptr i64, ptr %maxima, i64 %size
  %max = load i64, ptr %max.at
  %small = icmp ule i64 %n, %max
  %ok4 = and i1 %exact, %some
  %ok5 = and i1 %ok4, %small
  br i1 %ok5, label %axis.agree, label %no
axis.agree:
  %bound.at = getelementptr i64, ptr %bound, i64 %size
  %old = load i64, ptr %bound.at
  %fresh = icmp eq i64 %old, 0
  %equal = icmp eq i64 %old, %n
  %agree = or i1 %fresh, %equal
  br i1 %agree, label %axis.bind, label %no
axis.bind:
  store i64 %n, ptr %bound.at
  br label %axis

yes:
  ret i1 true
no:
  ret i1 false
}
"""

IN_RANGE = """
define internal i1 @step_in_range(ptr %views, ptr %rule) nounwind {
  %input = word %rule Check.INPUT
  %low = word %rule Check.LOW
  %span = word %rule Check.SPAN
  %view = getelementptr [BUFFER_BYTES x i8], ptr %views, i64 %input
  %data = load ptr, ptr %view
  %bytes.at = getelementptr i8, ptr %view, i64 16
  %bytes = load i64, ptr %bytes.at
  %itemsize.at = getelementptr i8, ptr %view, i64 24
  %itemsize = load i64, ptr %itemsize.at
  %wide = icmp eq i64 %itemsize, 8
  br i1 %wide, label %long, label %short
long:
  %long.count = lshr i64 %bytes, 3
  %long.ok = call i1 @step_in_range_i64(ptr %data, i64 %long.count, i64 %low, i64 %span)
  ret i1 %long.ok
short:
  %short.count = lshr i64 %bytes, 2
  %short.ok = call i1 @step_in_range_i32(ptr %data, i64 %short.count, i64 %low, i64 %span)
  ret i1 %short.ok
}
"""

# Eight at a time, then the rest one by one. One unsigned comparison checks both ends.
IN_RANGE_OF = """
define internal i1 @step_in_range_TYPE(ptr %data, i64 %count, i64 %low, i64 %span) nounwind {
entry:
  %low.1 = insertelement <8 x i64> poison, i64 %low, i64 0
  %low.8 = shufflevector <8 x i64> %low.1, <8 x i64> poison, <8 x i32> zeroinitializer
  %span.1 = insertelement <8 x i64> poison, i64 %span, i64 0
  %span.8 = shufflevector <8 x i64> %span.1, <8 x i64> poison, <8 x i32> zeroinitializer
  %vectors = and i64 %count, -8
  br label %many
many:
  %i = phi i64 [ 0, %entry ], [ %i.next, %many.one ]
  %bad = phi <8 x i1> [ zeroinitializer, %entry ], [ %bad.next, %many.one ]
  %i.more = icmp ult i64 %i, %vectors
  br i1 %i.more, label %many.one, label %summary
many.one:
  %at = getelementptr TYPE, ptr %data, i64 %i
  %value = load <8 x TYPE>, ptr %at, align ALIGN
  %value.64 = EXTEND_8
  %above = sub <8 x i64> %value.64, %low.8
  %outside = icmp uge <8 x i64> %above, %span.8
  %bad.next = or <8 x i1> %bad, %outside
  %i.next = add i64 %i, 8
  br label %many
summary:
  %mask = bitcast <8 x i1> %bad to i8
  %none = icmp eq i8 %mask, 0
  br i1 %none, label %few, label %no
few:
  %k = phi i64 [ %vectors, %summary ], [ %k.next, %few.one ]
  %k.more = icmp ult i64 %k, %count
  br i1 %k.more, label %few.one, label %yes
few.one:
  %k.at = getelementptr TYPE, ptr %data, i64 %k
  %k.value = load TYPE, ptr %k.at
  %k.value.64 = EXTEND_1
  %k.above = sub i64 %k.value.64, %low
  %k.inside = icmp ult i64 %k.above, %span
  %k.next = add i64 %k, 1
  br i1 %k.inside, label %few, label %no
yes:
  ret i1 true
no:
  ret i1 false
}
"""

SCALAR = """
define internal double @step_scalar(ptr %at, i64 %kind) nounwind {
  switch i64 %kind, label %other [
    i64 Kind.FLOAT32, label %f32
    i64 Kind.FLOAT64, label %f64
    i64 Kind.INT32, label %i32
    i64 Kind.INT64, label %i64
    i64 Kind.BOOL, label %bool
  ]
f32:
  %f = load float, ptr %at
  %f.wide = fpext float %f to double
  ret double %f.wide
f64:
  %g = load double, ptr %at
  ret double %g
i32:
  %i = load i32, ptr %at
  %i.wide = sitofp i32 %i to double
  ret double %i.wide
i64:
  %j = load i64, ptr %at
  %j.wide = sitofp i64 %j to double
  ret double %j.wide
bool:
  %b = load i8, ptr %at
  %b.wide = uitofp i8 %b to double
  ret double %b.wide
other:
  ret double 0.0
}
"""

# Called with the GIL released. Returns the number of batches done; POSITION tells how far it came.
# Sizes and pinned inputs are written again each time: between two slices another thread may have
# called the step with arguments of its own.
RUN = """
define i64 @step_run(ptr %run) nounwind {
entry:
  %d = pointer %run Run.STEP
  %mutex = pointer %d Step.LOCK
  call i32 @PyThread_acquire_lock(ptr %mutex, i32 1)
  %table = pointer %d Step.TABLE
  %sizes = word %d Step.SIZES
  %values = pointer %d Step.SIZE
  %given = pointer %run Run.VALUES
  %bytes = mul i64 %sizes, 8
  call ptr @memmove(ptr %values, ptr %given, i64 %bytes)
  %pins = word %run Run.PINS
  %pin.all = pointer %run Run.PIN
  br label %pin
pin:
  %p = phi i64 [ 0, %entry ], [ %p.next, %pin.one ]
  %p.more = icmp ult i64 %p, %pins
  br i1 %p.more, label %pin.one, label %start
pin.one:
  %p.record = record %pin.all Pin %p
  %p.place = word %p.record Pin.PLACE
  %p.data = pointer %p.record Pin.DATA
  %p.at = getelementptr ptr, ptr %table, i64 %p.place
  store ptr %p.data, ptr %p.at
  %p.next = add i64 %p, 1
  br label %pin

start:
  %rows = word %run Run.ROWS
  %batch = word %run Run.BATCH
  %limit = word %run Run.LIMIT
  %order = pointer %run Run.ORDER
  %size = word %run Run.SIZE
  %dynamic = icmp sge i64 %size, 0
  %size.at = getelementptr i64, ptr %values, i64 %size
  %streams = word %run Run.STREAMS
  %stream.all = pointer %run Run.STREAM
  %totals = word %run Run.TOTALS
  %total.all = pointer %run Run.TOTAL
  %position.at = address %run Run.POSITION
  %weight.at = address %run Run.WEIGHT
  %stop.at = address %run Run.STOP
  br label %next

next:
  %done = phi i64 [ 0, %start ], [ %done.next, %advance ]
  %position = load i64, ptr %position.at
  %left = sub i64 %rows, %position
  %some = icmp sgt i64 %left, 0
  %within = icmp ult i64 %done, %limit
  %stop = load atomic i64, ptr %stop.at monotonic, align 8
  %going = icmp eq i64 %stop, 0
  %ok1 = and i1 %some, %within
  %ok2 = and i1 %ok1, %going
  br i1 %ok2, label %choose, label %finish
choose:
  %full = icmp sge i64 %left, %batch
  %take = select i1 %full, i64 %batch, i64 %left
  %possible = or i1 %full, %dynamic
  br i1 %possible, label %resize, label %drop
drop:
  store i64 %rows, ptr %position.at
  br label %finish
resize:
  br i1 %dynamic, label %resize.one, label %feed
resize.one:
  store i64 %take, ptr %size.at
  br label %feed

feed:
  %s = phi i64 [ 0, %resize ], [ 0, %resize.one ], [ %s.next, %feed.one ]
  %s.more = icmp ult i64 %s, %streams
  br i1 %s.more, label %feed.one, label %go
feed.one:
  %stream = record %stream.all Stream %s
  call void @step_feed(ptr %stream, ptr %table, ptr %order, i64 %position, i64 %take)
  %s.next = add i64 %s, 1
  br label %feed

go:
  call void @step(ptr %table, ptr %values)
  %weight = sitofp i64 %take to double
  br label %total
total:
  %t = phi i64 [ 0, %go ], [ %t.next, %total.one ]
  %t.more = icmp ult i64 %t, %totals
  br i1 %t.more, label %total.one, label %advance
total.one:
  %t.record = record %total.all Total %t
  %t.value.at = pointer %t.record Total.VALUE
  %t.kind = word %t.record Total.KIND
  %t.sum.at = address %t.record Total.SUM
  %t.value = call double @step_scalar(ptr %t.value.at, i64 %t.kind)
  %t.weighted = fmul double %t.value, %weight
  %t.sum = load double, ptr %t.sum.at
  %t.new = fadd double %t.sum, %t.weighted
  store double %t.new, ptr %t.sum.at
  %t.next = add i64 %t, 1
  br label %total

advance:
  %position.next = add i64 %position, %take
  store i64 %position.next, ptr %position.at
  %trained = load i64, ptr %weight.at
  %trained.next = add i64 %trained, %take
  store i64 %trained.next, ptr %weight.at
  %done.next = add i64 %done, 1
  br label %next

finish:
  call void @PyThread_release_lock(ptr %mutex)
  ret i64 %done
}
"""

# Points the table at one batch of an input: into its array, or at the rows gathered in STAGING.
FEED = """
define internal void @step_feed(
  ptr %stream, ptr %table, ptr %order, i64 %from, i64 %take
) nounwind {
entry:
  %place = word %stream Stream.PLACE
  %data = pointer %stream Stream.DATA
  %bytes = word %stream Stream.ROW_BYTES
  %at = getelementptr ptr, ptr %table, i64 %place
  %direct = icmp eq ptr %order, null
  br i1 %direct, label %point, label %gather
point:
  %skip = mul i64 %from, %bytes
  %begin = getelementptr i8, ptr %data, i64 %skip
  store ptr %begin, ptr %at
  ret void
gather:
  %staging = pointer %stream Stream.STAGING
  store ptr %staging, ptr %at
  %first = getelementptr i64, ptr %order, i64 %from
  switch i64 %bytes, label %any [
    i64 4, label %four
    i64 8, label %eight
  ]
COPY_four
COPY_eight
COPY_any
leave:
  ret void
}
"""

# The row of a label or a pair of numbers is one load and one store; longer rows go to memmove.
COPY = """
NAME:
  %NAME.i = phi i64 [ 0, %gather ], [ %NAME.next, %NAME.one ]
  %NAME.more = icmp ult i64 %NAME.i, %take
  br i1 %NAME.more, label %NAME.one, label %leave
NAME.one:
  %NAME.row.at = getelementptr i64, ptr %first, i64 %NAME.i
  %NAME.row = load i64, ptr %NAME.row.at
  %NAME.skip = mul i64 %NAME.row, %bytes
  %NAME.from = getelementptr i8, ptr %data, i64 %NAME.skip
  %NAME.past = mul i64 %NAME.i, %bytes
  %NAME.to = getelementptr i8, ptr %staging, i64 %NAME.past
  MOVE
  %NAME.next = add i64 %NAME.i, 1
  br label %NAME
"""

# Fisher-Yates from the end, two exchanges per Philox block, eight blocks drawn at once. The place
# to exchange with is the high word of a 64-bit random number times the count: its bias is below
# 2^-32 for any array that fits. Philox's 32-bit words lie in 64-bit lanes, for its products.
SHUFFLE = """
define internal void @step_draw(ptr %out, i64 %block, i64 %epoch, i64 %seed) nounwind {
entry:
  %block.1 = insertelement <8 x i64> poison, i64 %block, i64 0
  %block.8 = shufflevector <8 x i64> %block.1, <8 x i64> poison, <8 x i32> zeroinitializer
  %blocks = add <8 x i64> %block.8, <i64 0, i64 1, i64 2, i64 3, i64 4, i64 5, i64 6, i64 7>
  %c1.start = lshr <8 x i64> %blocks, splat (i64 32)
  %epoch.1 = insertelement <8 x i64> poison, i64 %epoch, i64 0
  %c2.start = shufflevector <8 x i64> %epoch.1, <8 x i64> poison, <8 x i32> zeroinitializer
  %k0.start = trunc i64 %seed to i32
  %seed.high = lshr i64 %seed, 32
  %k1.start = trunc i64 %seed.high to i32
  br label %round
round:
  %i = phi i32 [ 0, %entry ], [ %i.next, %round ]
  %c0 = phi <8 x i64> [ %blocks, %entry ], [ %c0.next, %round ]
  %c1 = phi <8 x i64> [ %c1.start, %entry ], [ %c1.next, %round ]
  %c2 = phi <8 x i64> [ %c2.start, %entry ], [ %c2.next, %round ]
  %c3 = phi <8 x i64> [ splat (i64 SHUFFLE_STREAM), %entry ], [ %c3.next, %round ]
  %k0 = phi i32 [ %k0.start, %entry ], [ %k0.next, %round ]
  %k1 = phi i32 [ %k1.start, %entry ], [ %k1.next, %round ]
  %k0.wide = zext i32 %k0 to i64
  %k0.1 = insertelement <8 x i64> poison, i64 %k0.wide, i64 0
  %k0.8 = shufflevector <8 x i64> %k0.1, <8 x i64> poison, <8 x i32> zeroinitializer
  %k1.wide = zext i32 %k1 to i64
  %k1.1 = insertelement <8 x i64> poison, i64 %k1.wide, i64 0
  %k1.8 = shufflevector <8 x i64> %k1.1, <8 x i64> poison, <8 x i32> zeroinitializer
  %w0 = and <8 x i64> %c0, splat (i64 4294967295)
  %w2 = and <8 x i64> %c2, splat (i64 4294967295)
  %p0 = mul <8 x i64> %w0, splat (i64 3528531795)
  %p1 = mul <8 x i64> %w2, splat (i64 3449720151)
  %p0.high = lshr <8 x i64> %p0, splat (i64 32)
  %p1.high = lshr <8 x i64> %p1, splat (i64 32)
  %c1.next = and <8 x i64> %p1, splat (i64 4294967295)
  %c3.next = and <8 x i64> %p0, splat (i64 4294967295)
  %x0 = xor <8 x i64> %p1.high, %c1
  %x2 = xor <8 x i64> %p0.high, %c3
  %c0.next = xor <8 x i64> %x0, %k0.8
  %c2.next = xor <8 x i64> %x2, %k1.8
  %k0.next = add i32 %k0, -1640531527
  %k1.next = add i32 %k1, -1150833019
  %i.next = add i32 %i, 1
  %more = icmp ult i32 %i.next, 10
  br i1 %more, label %round, label %leave
leave:
  %a.up = shl <8 x i64> %c1.next, splat (i64 32)
  %b.up = shl <8 x i64> %c3.next, splat (i64 32)
  %a = or <8 x i64> %c0.next, %a.up
  %b = or <8 x i64> %c2.next, %b.up
  %both = shufflevector <8 x i64> %a, <8 x i64> %b, <16 x i32> <i32 0, i32 8, i32 1, i32 9,
    i32 2, i32 10, i32 3, i32 11, i32 4, i32 12, i32 5, i32 13, i32 6, i32 14, i32 7, i32 15>
  store <16 x i64> %both, ptr %out, align 8
  ret void
}

define void @step_shuffle(ptr %order, i64 %rows, i64 %seed, i64 %epoch) nounwind {
entry:
  %draws = alloca [16 x i64], align 64
  br label %fill
fill:
  %f = phi i64 [ 0, %entry ], [ %f.next, %fill.one ]
  %f.more = icmp slt i64 %f, %rows
  br i1 %f.more, label %fill.one, label %start
fill.one:
  %f.at = getelementptr i64, ptr %order, i64 %f
  store i64 %f, ptr %f.at
  %f.next = add i64 %f, 1
  br label %fill

start:
  %top = sub i64 %rows, 1
  br label %exchange
exchange:
  %last = phi i64 [ %top, %start ], [ %last.next, %exchange.one ]
  %used = phi i64 [ 0, %start ], [ %used.next, %exchange.one ]
  %more = icmp sgt i64 %last, 0
  br i1 %more, label %draw, label %leave
draw:
  %which = and i64 %used, 15
  %empty = icmp eq i64 %which, 0
  br i1 %empty, label %draw.more, label %exchange.one
draw.more:
  %block = lshr i64 %used, 1
  call void @step_draw(ptr %draws, i64 %block, i64 %epoch, i64 %seed)
  br label %exchange.one
exchange.one:
  %random.at = getelementptr i64, ptr %draws, i64 %which
  %random = load i64, ptr %random.at
  %count = add i64 %last, 1
  %wide.random = zext i64 %random to i128
  %wide.count = zext i64 %count to i128
  %product = mul i128 %wide.random, %wide.count
  %shifted = lshr i128 %product, 64
  %other = trunc i128 %shifted to i64
  %last.at = getelementptr i64, ptr %order, i64 %last
  %other.at = getelementptr i64, ptr %order, i64 %other
  %a = load i64, ptr %last.at
  %b = load i64, ptr %other.at
  store i64 %b, ptr %last.at
  store i64 %a, ptr %other.at
  %last.next = sub i64 %last, 1
  %used.next = add i64 %used, 1
  br label %exchange
leave:
  ret void
}
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
