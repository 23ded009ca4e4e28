"""Loop programs as text to read: kernels with their mathematics, loops by indentation.

In: a `loops.Program` (or a kernel, statement, value of one). Out: text, the same for equal input.

>>> print(show_kernel(kernel))
kernel scale(x: r float32, w: r float32, y: w float32)
    # y = w x
    for b in 0..blocks-1:
        lanes l:
            y[16*b + l] = w[0] * x[16*b + l]

A part of a value that is used more than once, or deep inside, is named `t1`, `t2` ... and written
once before its statement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from codegen import loops
from codegen.loops import Poly, PolyLike
from codegen.repeats import offsets
from codegen.walk import children, postorder, values_of

# how strongly an operation binds its operands
OR, AND, NOT, COMPARE, SUM, TERM, SIGN, ATOM = range(1, 9)

INFIX = {
    "add": ("+", SUM),
    "sub": ("-", SUM),
    "mul": ("*", TERM),
    "div": ("/", TERM),
    "less": ("<", COMPARE),
    "less_equal": ("<=", COMPARE),
    "greater": (">", COMPARE),
    "greater_equal": (">=", COMPARE),
    "equal": ("==", COMPARE),
    "not_equal": ("!=", COMPARE),
    "logical_and": ("and", AND),
    "logical_or": ("or", OR),
}
SHORT = {"minimum": "min", "maximum": "max"}
ASSIGN = {"add": "+=", "mul": "*=", "maximum": "max=", "minimum": "min="}
INDENT = "    "
DEEP = 24  # deeper formulas are written in parts


def show(program: loops.Program) -> str:
    """The whole program: sizes, buffers, kernels, calls."""
    threads = f", {program.threads} threads" if program.threads > 1 else ""
    lines = [f"program with {program.lanes} lanes{threads}"]
    for note, text in program.notes.items():
        lines.append(f"{INDENT}# {note}: {text}")
    lines += _table("sizes", [(n, _size(r)) for n, r in program.sizes.items()])
    rows = [(b.name, f"{b.dtype}[{b.size}] {b.role}") for b in program.buffers]
    lines += _table("buffers", rows)
    for kernel in program.kernels:
        lines += ["", *_kernel(kernel)]
    kernels = {k.name: k for k in program.kernels}
    lines += ["", "calls", *_calls(program.calls, kernels, 1)]
    return "\n".join(lines) + "\n"


def show_kernel(kernel: loops.Kernel) -> str:
    return "\n".join(_kernel(kernel)) + "\n"


def show_statement(statement: loops.Stmt) -> str:
    """One statement; of a loop, only its first line."""
    return _lines(statement, 0, deep=False)[-1]


def show_value(value: loops.Value) -> str:
    return _value(value, 0, {})


# -- the parts of a program ----------------------------------------------------------------------


def _table(title: str, rows: list[tuple[str, str]]) -> list[str]:
    width = max((len(name) for name, _ in rows), default=0)
    return [title] + [f"{INDENT}{name:<{width}}  {text}" for name, text in rows] if rows else []


def _size(rule: int | loops.Derived) -> str:
    return (
        f"at most {rule}" if isinstance(rule, int) else f"{rule.op}({_poly(rule.poly)}, {rule.by})"
    )


def _calls(
    calls: tuple[loops.Call | loops.Repeat, ...], kernels: dict[str, loops.Kernel], depth: int
) -> Iterator[str]:
    for call in calls:
        if isinstance(call, loops.Repeat):
            yield f"{INDENT * depth}repeat {call.var} in {_range(call.extent)}:"
            yield from _calls(call.calls, kernels, depth + 1)
        else:
            yield INDENT * depth + _call(call, kernels.get(call.kernel))


def _call(call: loops.Call, kernel: loops.Kernel | None) -> str:
    names = [p.name for p in kernel.params] if kernel else []
    parts = []
    for i, (buffer, offset) in enumerate(zip(call.buffers, offsets(call))):
        name = names[i] if i < len(names) else "?"
        parts.append(f"{name}={buffer}" + (f"+{_offset(offset)}" if offset.terms else ""))
    return f"{call.kernel}({', '.join(parts)})"


def _offset(offset: Poly) -> str:
    text = _poly(offset)
    return text if len(offset.terms) == 1 and not text.startswith("-") else f"({text})"


def _kernel(kernel: loops.Kernel) -> list[str]:
    params = ", ".join(f"{p.name}: {p.mode} {p.dtype}" for p in kernel.params)
    split = f" split {', '.join(kernel.split)}" if kernel.split else ""
    lines = [f"kernel {kernel.name}({params}){split}"]
    lines += [f"{INDENT}# {line}" for line in kernel.comment.splitlines()]
    lines += [f"{INDENT}# {source}" for source in kernel.sources]
    lines += [f"{INDENT}# {written} may be {read}" for written, read in kernel.inplace]
    for statement in kernel.body:
        lines += _lines(statement, 1)
    return lines


# -- statements ----------------------------------------------------------------------------------


def _lines(s: loops.Stmt, depth: int, deep: bool = True) -> list[str]:
    """The lines of a statement and, if `deep`, of its body."""
    named: dict[int, str] = {}
    before = [f"{name} := {_value(v, 0, named, top=True)}" for v, name in _shared(s, named)]
    lines = before + [_head(s, named)]
    lines = [INDENT * depth + line for line in lines]
    if deep and isinstance(s, (loops.For, loops.Lanes)):
        for inner in s.body:
            lines += _lines(inner, depth + 1)
    return lines


def _head(s: loops.Stmt, named: dict[int, str]) -> str:
    if isinstance(s, loops.For):
        unroll = f", unroll {s.unroll}" if s.unroll != 1 else ""
        return f"for {s.var} in {_range(s.extent)}{unroll}:"
    if isinstance(s, loops.Lanes):
        return f"lanes {s.var}:" if s.live is None else f"lanes {s.var} < {_poly(s.live)}:"
    if isinstance(s, loops.Let):
        return f"{s.name} = {_value(s.value, 0, named)}"
    if isinstance(s, loops.Declare):
        shape = f"[{', '.join(map(str, s.shape))}]" if s.shape else ""
        return f"{s.name}: {s.dtype}{shape} = {_value(s.init, 0, named)}"
    if isinstance(s, loops.Accumulate):
        return f"{s.name}{_at(s.at)} {ASSIGN.get(s.fn, s.fn)} {_value(s.value, 0, named)}"
    if isinstance(s, loops.Store):
        when = f" if {_value(s.when, 0, named)}" if s.when is not None else ""
        full = "  # full" if s.full else ""
        return f"{s.buffer}[{_poly(s.index)}] = {_value(s.value, 0, named)}{when}{full}"
    if isinstance(s, loops.Scatter):
        return f"{s.buffer}[{_poly(s.index)}] +=scatter {_value(s.value, 0, named)}"
    if isinstance(s, loops.Prefetch):
        return f"prefetch {s.buffer}[{_poly(s.index)}]"
    tile = f"{s.dst}[{_poly(s.dst_index + s.dst_stride * 'c' + 'r')}]"
    source = f"{s.src}[{_poly(s.src_index + s.src_stride * 'r' + 'c')}]"
    pad = "" if s.pad == "none" else f", pad {s.pad}"
    return f"transpose {tile} = {source} for r < {_poly(s.rows)}, c < {_poly(s.cols)}{pad}"


def _range(extent: Poly) -> str:
    last = extent - 1
    return f"0..{_poly(last)}" if len(last.terms) <= 2 else f"0..({_poly(last)})"


def _poly(poly: Poly) -> str:
    """What is added first, then what is subtracted."""
    terms = sorted(poly.terms, key=lambda t: (t[1] < 0, not t[0], t))
    return (
        str(Poly((terms[0],)))
        + "".join(
            f" - {Poly(((m, -c),))}" if c < 0 else f" + {Poly(((m, c),))}" for m, c in terms[1:]
        )
        if terms
        else "0"
    )


def _at(at: tuple[PolyLike, ...]) -> str:
    return f"[{', '.join(_poly(Poly.of(a)) for a in at)}]" if at else ""


# -- values --------------------------------------------------------------------------------------


def _shared(s: loops.Stmt, named: dict[int, str]) -> Iterator[tuple[loops.Value, str]]:
    """Operations used twice or nested deeply, innermost first; `named` is filled as they come."""
    order = postorder(values_of(s))
    uses = Counter(id(child) for v in order for child in children(v))
    depth: dict[int, int] = {}
    for v in order:
        depth[id(v)] = 1 + max((depth[id(c)] for c in children(v)), default=0)
        if isinstance(v, loops.Op) and (uses[id(v)] > 1 or depth[id(v)] > DEEP):
            name = f"t{len(named) + 1}"
            yield v, name
            named[id(v)] = name
            depth[id(v)] = 0


def _value(v: loops.Value, outer: int, named: dict[int, str], top: bool = False) -> str:
    """Text of a value in a place that binds as strongly as `outer`."""
    if not top and id(v) in named:
        return named[id(v)]
    text, binds = _infix(v, named)
    return f"({text})" if binds < outer else text


def _number(v: loops.Const) -> str:
    """The shortest decimal that stands for the same number of its dtype."""
    return str(np.dtype(v.dtype).type(v.number))


def _infix(v: loops.Value, named: dict[int, str]) -> tuple[str, int]:
    if isinstance(v, loops.Const):
        return _number(v), SIGN if v.number < 0 else ATOM
    if isinstance(v, loops.Load):
        text = f"{v.buffer}[{_poly(v.index)}]"
        if v.when is None:
            return text, ATOM
        return f"({text} if {_value(v.when, 0, named)} else 0)", ATOM
    if isinstance(v, loops.Get):
        return v.name + _at(v.at), ATOM
    if isinstance(v, loops.Index):
        text = _poly(v.poly)
        return (text if text in v.poly.names else f"({text})"), ATOM
    if v.fn in INFIX and len(v.args) == 2:
        sign, binds = INFIX[v.fn]
        left = binds + 1 if binds == COMPARE else binds
        args = _value(v.args[0], left, named), _value(v.args[1], binds + 1, named)
        return f"{args[0]} {sign} {args[1]}", binds
    if v.fn == "neg" and len(v.args) == 1:
        return f"-{_value(v.args[0], SIGN, named)}", SIGN
    if v.fn == "logical_not" and len(v.args) == 1:
        return f"not {_value(v.args[0], NOT, named)}", NOT
    if v.fn == "where" and len(v.args) == 3:
        cond, yes, no = (_value(a, OR, named) for a in v.args)
        return f"({yes} if {cond} else {no})", ATOM
    name = v.dtype if v.fn == "cast" else SHORT.get(v.fn, v.fn)
    return f"{name}({', '.join(_value(a, 0, named) for a in v.args)})", ATOM
