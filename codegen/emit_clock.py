"""LLVM text of the clock that times every call of a program.

In: a target. Out: two functions over a buffer of stamps, 64-bit words for n entries: by how much
the machine's counter moved before each entry's stamp, n words; how often it was stamped, n words;
the counter at the last stamp.

    void @clock.start(ptr stamps, i64 entries)                clears all
    void @clock.stamp(ptr stamps, i64 entries, i64 entry)

Reading the counter takes time that is counted too. Two stamps in a row tell how much.

>>> words(calls=3)
9
"""

from __future__ import annotations

from codegen.target import Target

START, STAMP = "clock.start", "clock.stamp"

TEXT = """declare i64 @llvm.COUNTER()
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)

define internal void @clock.start(ptr %stamps, i64 %entries) #0 {
  %bytes = mul i64 %entries, 16
  call void @llvm.memset.p0.i64(ptr %stamps, i8 0, i64 %bytes, i1 false)
  %last = getelementptr i8, ptr %stamps, i64 %bytes
  %now = call i64 @llvm.COUNTER()
  store i64 %now, ptr %last
  ret void
}

define internal void @clock.stamp(ptr %stamps, i64 %entries, i64 %entry) #0 {
  %moved = getelementptr i64, ptr %stamps, i64 %entry
  %often = getelementptr i64, ptr %moved, i64 %entries
  %bytes = mul i64 %entries, 16
  %last = getelementptr i8, ptr %stamps, i64 %bytes
  %now = call i64 @llvm.COUNTER()
  %before = load i64, ptr %last
  store i64 %now, ptr %last
  %by = sub i64 %now, %before
  %moved.old = load i64, ptr %moved
  %moved.new = add i64 %moved.old, %by
  store i64 %moved.new, ptr %moved
  %often.old = load i64, ptr %often
  %often.new = add i64 %often.old, 1
  store i64 %often.new, ptr %often
  ret void
}"""


def words(calls: int) -> int:
    """The stamps' size: an entry for each call, and one for what a stamp costs."""
    return 2 * (calls + 1) + 1


def text(target: Target) -> str:
    kind = "cycle" if target.triple.startswith("x86") else "steady"
    return TEXT.replace("COUNTER", f"read{kind}counter")
