"""LLVM text of whole epochs: batches fed to the step, permutations drawn.

In: the descriptors of `codegen.entry`, in its shorthands. Out: `step_run` with `step_feed`, which
points the table at one batch of an input, and `step_shuffle` with `step_draw`.

>>> entry.text().count("define i64 @step_run")
1
"""

from __future__ import annotations

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
