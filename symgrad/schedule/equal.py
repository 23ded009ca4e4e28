"""When two kernels are the same: a fingerprint of everything but names and comments.

In: a kernel. Out: text that is equal for kernels that do the same to their parameters. Values are
DAGs: each is written once and then referred to by number.
"""

from __future__ import annotations

from codegen.loops import (
    Accumulate,
    Const,
    Declare,
    For,
    Get,
    Index,
    Kernel,
    Lanes,
    Let,
    Load,
    Op,
    Poly,
    Prefetch,
    Scatter,
    Stmt,
    Store,
    Transpose,
    Value,
)


def fingerprint(kernel: Kernel) -> str:
    """Equal text, equal kernels."""
    out: list[str] = [f"{p.name}:{p.dtype}:{p.mode};" for p in kernel.params]
    out.append(f"split {kernel.split};")
    seen: dict[int, int] = {}

    def value(v: Value | None) -> str:
        if v is None:
            return "-"
        number = seen.get(id(v))
        if number is not None:
            return f"#{number}"
        if isinstance(v, Const):
            text = f"{v.number!r}:{v.dtype}"
        elif isinstance(v, Load):
            text = f"{v.buffer}[{poly(v.index)}]{value(v.when)}{v.full}"
        elif isinstance(v, Get):
            text = f"{v.name}{[poly(Poly.of(i)) for i in v.at] if v.at else ''}"
        elif isinstance(v, Index):
            text = f"index {poly(v.poly)}:{v.dtype}"
        else:
            assert isinstance(v, Op)
            text = f"{v.fn}:{v.dtype}({','.join(map(value, v.args))})"
        seen[id(v)] = len(seen)
        return text

    def statement(s: Stmt) -> None:
        if isinstance(s, For):
            out.append(f"for {s.var} {poly(s.extent)} {s.unroll}{{")
            for t in s.body:
                statement(t)
            out.append("}")
        elif isinstance(s, Lanes):
            out.append(f"lanes {s.var} {poly(s.live) if s.live is not None else '-'}{{")
            for t in s.body:
                statement(t)
            out.append("}")
        elif isinstance(s, Let):
            out.append(f"{s.name}={value(s.value)};")
        elif isinstance(s, Declare):
            out.append(f"declare {s.name}{s.shape}={value(s.init)};")
        elif isinstance(s, Accumulate):
            at = [poly(Poly.of(i)) for i in s.at]
            out.append(f"{s.name}{at}{s.fn}={value(s.value)};")
        elif isinstance(s, Store):
            out.append(f"{s.buffer}[{poly(s.index)}]={value(s.value)}{value(s.when)}{s.full};")
        elif isinstance(s, Scatter):
            out.append(f"{s.buffer}[{poly(s.index)}]+={value(s.value)};")
        elif isinstance(s, Prefetch):
            out.append(f"prefetch {s.buffer}[{poly(s.index)}];")
        elif isinstance(s, Transpose):
            out.append(f"{s.dst}[{poly(s.dst_index)},{poly(s.dst_stride)}]")
            out.append(f"<-{s.src}[{poly(s.src_index)},{poly(s.src_stride)}]")
            out.append(f"{poly(s.rows)}x{poly(s.cols)}{s.pad}{s.dtype};")

    for s in kernel.body:
        statement(s)
    return "".join(out)


def poly(p: Poly) -> str:
    return "+".join(f"{c}*{'*'.join(m)}" for m, c in p.terms)
