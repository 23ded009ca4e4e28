"""LLVM text of a call from Python: arguments checked, the step run without the GIL.

In: the descriptors of `codegen.entry`, in its shorthands. Out: `step_call`, and what it is made of:
`step_fits` (one argument against its Input), `step_in_range` (integers against a Check) and
`step_scalar` (the loss as a double).

>>> entry.text().count("define ptr @step_call")
1
"""

from __future__ import annotations

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
