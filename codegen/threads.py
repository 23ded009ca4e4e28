"""LLVM text of the threads that share out the work of a step.

In: nothing; the text depends on the processor and the operating system only. Out: `text()`, a
module that is loaded once for a process and defines

    void @pool_run(ptr task, ptr frame, i64 items, i64 chunks, i64 threads, ptr held)
    void @pool_leave(ptr held)

`pool_run` calls `task(frame, begin, end, thread)` for consecutive parts of 0..items-1, `chunks` of
them, on up to `threads` threads, and returns when all are done. `thread` is below `threads`; the
caller is number 0. `held` is a word of the caller's, 0 before the first call of a step: the step
holds the threads from the first `pool_run` that needs them until `pool_leave`. A step that finds
them held by another one does everything itself, so nobody ever waits for the pool.

Every thread has a line of its own: a signal that it waits for, and a claim, the chunks it is to
begin with. Who is done with its own chunks takes those of the next thread. A claim is one word
(threads, end, next), taken by compare-and-swap: a thread that wakes up late finds either a chunk
of the task that is running or nothing, and nobody waits for threads that never came.

An idle thread looks at its signal for part of a millisecond and then sleeps (futex). Where there
are processors enough it is woken on another one than the caller's: systems like to wake a thread
where its waker runs, and the caller does not make room. A forked child has none of its parent's
threads: it sees that the process is another one and starts its own.

>>> text(Target.host()).count("define void @pool_run")
1
"""

from __future__ import annotations

import sys

from codegen.target import Target

EXPORTS = ("pool_run", "pool_leave")
MOST = 256  # threads, the caller included
MOST_CHUNKS = 1 << 20
SPINS = 10000  # looks at a signal before sleeping
FUTEX_WAIT, FUTEX_WAKE = 128, 129  # both within one process

# Without futexes the caller does it all.
ALONE = """
define void @pool_run(
  ptr %task, ptr %frame, i64 %items, i64 %chunks, i64 %threads, ptr %held
) nounwind {
  call void %task(ptr %frame, i64 0, i64 %items, i64 0)
  ret void
}

define void @pool_leave(ptr %held) nounwind {
  ret void
}
"""

STATE = """
%Line = type { i32, i32, i64, i32, i32, [104 x i8] } ; signal, asleep, claim, number, kept off

@lines = internal global [MOST x %Line] zeroinitializer, align 128
@lock = internal global i32 0, align 128 ; the process of who holds the threads, or 0
@home = internal global i32 0            ; the process that the threads belong to
@workers = internal global i64 0         ; how many there are besides the caller
@task = internal global ptr null, align 128
@frame = internal global ptr null
@items = internal global i64 0
@chunks = internal global i64 0
@mode = internal global i64 0            ; the caller's rounding mode and treatment of denormals
@left = internal global i32 0, align 128 ; chunks that are not done
@waiting = internal global i32 0         ; whether the caller sleeps until none is left

declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i32 @getpid()
declare i32 @sched_getcpu()
declare i32 @sched_getaffinity(i32, i64, ptr)
declare i32 @sched_setaffinity(i32, i64, ptr)
declare i64 @llvm.ctpop.i64(i64)
declare i64 @syscall(i64, ...)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
"""

# Takes the threads and starts those that are missing; returns how many may work, the caller
# included. A lock of another process was held when this one was forked off: nobody will open it.
ENTER = """
define internal i64 @pool_enter(i64 %threads) nounwind {
entry:
  %pid = call i32 @getpid()
  %try = cmpxchg ptr @lock, i32 0, i32 %pid seq_cst seq_cst
  %free = extractvalue { i32, i1 } %try, 1
  br i1 %free, label %mine, label %taken
taken:
  %holder = extractvalue { i32, i1 } %try, 0
  %ours = icmp eq i32 %holder, %pid
  br i1 %ours, label %alone, label %inherited
inherited:
  %again = cmpxchg ptr @lock, i32 %holder, i32 %pid seq_cst seq_cst
  %got = extractvalue { i32, i1 } %again, 1
  br i1 %got, label %mine, label %alone

mine:
  %home = load i32, ptr @home
  %here = icmp eq i32 %home, %pid
  br i1 %here, label %count, label %fresh
fresh:
  call void @llvm.memset.p0.i64(ptr @lines, i8 0, i64 LINES, i1 false)
  store i64 0, ptr @workers
  store i32 0, ptr @waiting
  store i32 %pid, ptr @home
  br label %count
count:
  %wanted = sub i64 %threads, 1
  %before = load i64, ptr @workers
  %enough = icmp uge i64 %before, %wanted
  br i1 %enough, label %done, label %start
start:
  call void @pool_start(i64 %wanted)
  br label %done
done:
  %workers = load i64, ptr @workers
  %more = icmp ugt i64 %workers, %wanted
  %used = select i1 %more, i64 %wanted, i64 %workers
  %some = icmp ne i64 %used, 0
  br i1 %some, label %together, label %none
together:
  %all = add i64 %used, 1
  ret i64 %all
none:
  store atomic i32 0, ptr @lock seq_cst, align 4
  br label %alone
alone:
  ret i64 1
}

define void @pool_leave(ptr %held) nounwind {
entry:
  %threads = load i64, ptr %held
  %mine = icmp ugt i64 %threads, 1
  br i1 %mine, label %open, label %leave
open:
  store atomic i32 0, ptr @lock seq_cst, align 4
  br label %leave
leave:
  ret void
}
"""

# Signals go to Python's own threads: these threads block all but those that tell of a crash (ILL 4,
# TRAP 5, BUS 7, FPE 8, SEGV 11; a signal's bit is its number less one).
START = """
define internal void @pool_start(i64 %wanted) nounwind {
entry:
  %id = alloca i64
  %blocked = alloca [16 x i64]
  %before = alloca [16 x i64]
  call void @llvm.memset.p0.i64(ptr %blocked, i8 -1, i64 128, i1 false)
  store i64 -1241, ptr %blocked
  call i32 @pthread_sigmask(i32 2, ptr %blocked, ptr %before)
  br label %next
next:
  %count = load i64, ptr @workers
  %more = icmp ult i64 %count, %wanted
  br i1 %more, label %one, label %leave
one:
  %number = add i64 %count, 1
  %argument = inttoptr i64 %number to ptr
  %error = call i32 @pthread_create(ptr %id, ptr null, ptr @pool_worker, ptr %argument)
  %good = icmp eq i32 %error, 0
  br i1 %good, label %counted, label %leave
counted:
  store i64 %number, ptr @workers
  br label %next
leave:
  call i32 @pthread_sigmask(i32 2, ptr %before, ptr null)
  ret void
}

define internal ptr @pool_worker(ptr %argument) nounwind {
entry:
  %me = ptrtoint ptr %argument to i64
  %signal = getelementptr [MOST x %Line], ptr @lines, i64 0, i64 %me
  %asleep = getelementptr %Line, ptr %signal, i64 0, i32 1
  %number.at = getelementptr %Line, ptr %signal, i64 0, i32 3
  %number = call i64 (i64, ...) @syscall(i64 GETTID)
  %number.short = trunc i64 %number to i32
  store i32 %number.short, ptr %number.at
  br label %watch
watch:
  %last = phi i32 [ 0, %entry ], [ %now, %work ]
  br label %look
look:
  %n = phi i32 [ 0, %watch ], [ %n.next, %pause ], [ 0, %sleep ]
  %now = load atomic i32, ptr %signal acquire, align 4
  %new = icmp ne i32 %now, %last
  br i1 %new, label %work, label %idle
idle:
  %n.next = add i32 %n, 1
  %tired = icmp ugt i32 %n.next, SPINS
  br i1 %tired, label %sleep, label %pause
pause:
  PAUSE
  br label %look
sleep:
  store atomic i32 1, ptr %asleep seq_cst, align 4
  call i64 (i64, ...) @syscall(
    i64 FUTEX, ptr %signal, i64 FUTEX_WAIT, i32 %last, ptr null, ptr null, i64 0)
  store atomic i32 0, ptr %asleep seq_cst, align 4
  br label %look
work:
  call void @pool_work(i64 %me)
  br label %watch
}
"""

# Keeps a thread off the processor that the caller is on, unless threads outnumber processors. The
# line remembers that processor (plus 1): nothing is asked of the system as long as it is the same.
ASIDE = """
define internal void @pool_aside(ptr %line, i64 %threads) nounwind {
entry:
  %mask = alloca [16 x i64]
  %off.at = getelementptr %Line, ptr %line, i64 0, i32 4
  %off = load i32, ptr %off.at
  %processor = call i32 @sched_getcpu()
  %known = icmp ult i32 %processor, 1024
  br i1 %known, label %compare, label %leave
compare:
  %here = add i32 %processor, 1
  %same = icmp eq i32 %here, %off
  br i1 %same, label %leave, label %ask
ask:
  store i32 %here, ptr %off.at
  call void @llvm.memset.p0.i64(ptr %mask, i8 0, i64 128, i1 false)
  %error = call i32 @sched_getaffinity(i32 0, i64 128, ptr %mask)
  %good = icmp eq i32 %error, 0
  br i1 %good, label %count, label %leave
count:
  %i = phi i64 [ 0, %ask ], [ %i.next, %count ]
  %total = phi i64 [ 0, %ask ], [ %total.next, %count ]
  %word.at = getelementptr i64, ptr %mask, i64 %i
  %word = load i64, ptr %word.at
  %bits = call i64 @llvm.ctpop.i64(i64 %word)
  %total.next = add i64 %total, %bits
  %i.next = add i64 %i, 1
  %more = icmp ult i64 %i.next, 16
  br i1 %more, label %count, label %decide
decide:
  %enough = icmp uge i64 %total.next, %threads
  br i1 %enough, label %without, label %set
without:
  %wide = zext i32 %processor to i64
  %at = lshr i64 %wide, 6
  %shift = and i64 %wide, 63
  %bit = shl i64 1, %shift
  %others = xor i64 %bit, -1
  %mine.at = getelementptr i64, ptr %mask, i64 %at
  %mine = load i64, ptr %mine.at
  %left = and i64 %mine, %others
  store i64 %left, ptr %mine.at
  br label %set
set:
  %number.at = getelementptr %Line, ptr %line, i64 0, i32 3
  %number = load i32, ptr %number.at
  call i32 @sched_setaffinity(i32 %number, i64 128, ptr %mask)
  br label %leave
leave:
  ret void
}
"""

# Takes chunks, the thread's own first, until there are none. What a task consists of is read after
# a chunk of it was taken: from then on it cannot end, and so cannot change, before that chunk is
# reported. A claim holds the number of threads in its upper 16 bits, then the end, then the next.
WORK = """
define internal void @pool_work(i64 %me) nounwind {
entry:
  %own.at = getelementptr [MOST x %Line], ptr @lines, i64 0, i64 %me, i32 2
  %own = load atomic i64, ptr %own.at acquire, align 8
  %threads = lshr i64 %own, 48
  br label %line
line:
  %k = phi i64 [ 0, %entry ], [ %k.next, %following ]
  %done.line = phi i32 [ 0, %entry ], [ %done, %following ]
  %more.lines = icmp ult i64 %k, %threads
  br i1 %more.lines, label %visit, label %report
visit:
  %straight = add i64 %me, %k
  %past = icmp uge i64 %straight, %threads
  %round = sub i64 %straight, %threads
  %at = select i1 %past, i64 %round, i64 %straight
  %claim.at = getelementptr [MOST x %Line], ptr @lines, i64 0, i64 %at, i32 2
  br label %look
look:
  %done = phi i32 [ %done.line, %visit ], [ %done, %take ], [ %done.next, %run ]
  %claim = load atomic i64, ptr %claim.at acquire, align 8
  %next = and i64 %claim, 16777215
  %end.up = lshr i64 %claim, 24
  %end = and i64 %end.up, 16777215
  %among = lshr i64 %claim, 48
  %some = icmp ult i64 %next, %end
  %invited = icmp ult i64 %me, %among
  %may = and i1 %some, %invited
  br i1 %may, label %take, label %following
following:
  %k.next = add i64 %k, 1
  br label %line
take:
  %claim.next = add i64 %claim, 1
  %swap = cmpxchg ptr %claim.at, i64 %claim, i64 %claim.next seq_cst seq_cst
  %taken = extractvalue { i64, i1 } %swap, 1
  br i1 %taken, label %run, label %look
run:
  SET_MODE
  %task = load ptr, ptr @task
  %frame = load ptr, ptr @frame
  %items = load i64, ptr @items
  %chunks = load i64, ptr @chunks
  %begin.scaled = mul i64 %next, %items
  %begin = udiv i64 %begin.scaled, %chunks
  %next.one = add i64 %next, 1
  %finish.scaled = mul i64 %next.one, %items
  %finish = udiv i64 %finish.scaled, %chunks
  call void %task(ptr %frame, i64 %begin, i64 %finish, i64 %me)
  %done.next = add i32 %done, 1
  br label %look

report:
  %any = icmp ne i32 %done.line, 0
  br i1 %any, label %subtract, label %leave
subtract:
  %before = atomicrmw sub ptr @left, i32 %done.line seq_cst
  %last = icmp eq i32 %before, %done.line
  br i1 %last, label %finished, label %leave
finished:
  %waiting = load atomic i32, ptr @waiting seq_cst, align 4
  %wake = icmp ne i32 %waiting, 0
  br i1 %wake, label %call, label %leave
call:
  call i64 (i64, ...) @syscall(
    i64 FUTEX, ptr @left, i64 FUTEX_WAKE, i32 1, ptr null, ptr null, i64 0)
  br label %leave
leave:
  ret void
}
"""

RUN = """
define void @pool_run(
  ptr %task, ptr %frame, i64 %items, i64 %chunks, i64 %wanted, ptr %held
) nounwind {
entry:
  %small = icmp ult i64 %chunks, 2
  br i1 %small, label %alone, label %ask
ask:
  %known = load i64, ptr %held
  %first = icmp eq i64 %known, 0
  br i1 %first, label %enter, label %ready
enter:
  %given = call i64 @pool_enter(i64 %wanted)
  store i64 %given, ptr %held
  br label %ready
ready:
  %most = phi i64 [ %known, %ask ], [ %given, %enter ]
  %fewer = icmp ult i64 %chunks, %most
  %threads = select i1 %fewer, i64 %chunks, i64 %most
  %single = icmp ult i64 %threads, 2
  br i1 %single, label %alone, label %publish
alone:
  call void %task(ptr %frame, i64 0, i64 %items, i64 0)
  ret void

publish:
  store ptr %task, ptr @task
  store ptr %frame, ptr @frame
  store i64 %items, ptr @items
  store i64 %chunks, ptr @chunks
  GET_MODE
  %count = trunc i64 %chunks to i32
  store atomic i32 %count, ptr @left seq_cst, align 4
  %threads.up = shl i64 %threads, 48
  br label %deal
deal:
  %i = phi i64 [ 0, %publish ], [ %i.next, %deal ]
  %i.next = add i64 %i, 1
  %from.scaled = mul i64 %i, %chunks
  %from = udiv i64 %from.scaled, %threads
  %to.scaled = mul i64 %i.next, %chunks
  %to = udiv i64 %to.scaled, %threads
  %to.up = shl i64 %to, 24
  %range = or i64 %to.up, %from
  %claim = or i64 %range, %threads.up
  %claim.at = getelementptr [MOST x %Line], ptr @lines, i64 0, i64 %i, i32 2
  store atomic i64 %claim, ptr %claim.at seq_cst, align 8
  %dealt = icmp eq i64 %i.next, %threads
  br i1 %dealt, label %signal, label %deal
signal:
  %s = phi i64 [ 1, %deal ], [ %s.next, %signalled ]
  %line = getelementptr [MOST x %Line], ptr @lines, i64 0, i64 %s
  %asleep.at = getelementptr %Line, ptr %line, i64 0, i32 1
  %old = atomicrmw add ptr %line, i32 1 seq_cst
  %asleep = load atomic i32, ptr %asleep.at seq_cst, align 4
  %wake = icmp ne i32 %asleep, 0
  br i1 %wake, label %call, label %signalled
call:
  call void @pool_aside(ptr %line, i64 %threads)
  call i64 (i64, ...) @syscall(
    i64 FUTEX, ptr %line, i64 FUTEX_WAKE, i32 1, ptr null, ptr null, i64 0)
  br label %signalled
signalled:
  %s.next = add i64 %s, 1
  %all = icmp eq i64 %s.next, %threads
  br i1 %all, label %work, label %signal
work:
  call void @pool_work(i64 0)
  br label %look

look:
  %n = phi i32 [ 0, %work ], [ %n.next, %pause ], [ 0, %sleep ]
  %left = load atomic i32, ptr @left seq_cst, align 4
  %finished = icmp eq i32 %left, 0
  br i1 %finished, label %leave, label %idle
idle:
  %n.next = add i32 %n, 1
  %tired = icmp ugt i32 %n.next, SPINS
  br i1 %tired, label %sleep, label %pause
pause:
  PAUSE
  br label %look
sleep:
  store atomic i32 1, ptr @waiting seq_cst, align 4
  call i64 (i64, ...) @syscall(
    i64 FUTEX, ptr @left, i64 FUTEX_WAIT, i32 %left, ptr null, ptr null, i64 0)
  store atomic i32 0, ptr @waiting seq_cst, align 4
  br label %look
leave:
  ret void
}
"""

# Per processor: the numbers of two system calls, a pause between two looks, and how the state of
# floating-point arithmetic, which decides about bits too, goes from the caller to the others.
MACHINES = {
    "x86_64": {
        "FUTEX": "202",
        "GETTID": "186",
        "PAUSE": "call void @llvm.x86.sse2.pause()",
        "GET_MODE": "call void @llvm.x86.sse.stmxcsr(ptr @mode)",
        "SET_MODE": "call void @llvm.x86.sse.ldmxcsr(ptr @mode)",
        "DECLARE": "declare void @llvm.x86.sse2.pause()\n"
        "declare void @llvm.x86.sse.stmxcsr(ptr)\ndeclare void @llvm.x86.sse.ldmxcsr(ptr)\n",
    },
    "aarch64": {
        "FUTEX": "98",
        "GETTID": "178",
        "PAUSE": "call void @llvm.aarch64.hint(i32 1)",
        "GET_MODE": "%mode = call i64 @llvm.aarch64.get.fpcr()\n  store i64 %mode, ptr @mode",
        "SET_MODE": "%mode = load i64, ptr @mode\n  call void @llvm.aarch64.set.fpcr(i64 %mode)",
        "DECLARE": "declare void @llvm.aarch64.hint(i32)\n"
        "declare i64 @llvm.aarch64.get.fpcr()\ndeclare void @llvm.aarch64.set.fpcr(i64)\n",
    },
}


def text(target: Target) -> str:
    """The module for a target's processor, on the operating system that runs this."""
    machine = MACHINES.get(target.triple.split("-")[0])
    if machine is None or not sys.platform.startswith("linux"):
        return ALONE
    names = {
        **machine,
        "FUTEX_WAIT": str(FUTEX_WAIT),
        "FUTEX_WAKE": str(FUTEX_WAKE),
        "LINES": str(128 * MOST),
        "MOST": str(MOST),
        "SPINS": str(SPINS),
    }
    made = "".join((machine["DECLARE"], STATE, ENTER, START, ASIDE, WORK, RUN))
    for name in sorted(names, key=len, reverse=True):
        made = made.replace(name, names[name])
    return made
