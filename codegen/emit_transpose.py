"""A tile from rows to lanes: loads, a network of shuffles, stores.

In: a `Transpose`. Out: instructions for one tile; a loop around it moves a matrix. Narrow tiles
that are contiguous in memory are read, or written, by whole vectors instead of a vector per row.
A tile in blocks of 128 bits is a function of its own, which all kernels of a module share: LLVM
takes long over shuffles, and moving a tile is far more work than a call.

>>> t._transpose(Transpose("x", at, Poly.of(16), "X", row, Poly.of("n"), rows, cols, "first"))
"""

from __future__ import annotations

from typing import Sequence

from codegen.emit_builder import EmitError, Reg
from codegen.emit_statements import Statements
from codegen.emit_values import ZEROS, item_bytes
from codegen.loops import Poly, Transpose

NARROW = 4  # so few columns (rows) are de-interleaved (interleaved)
POISON = "poison"


class Transposes(Statements):
    """Adds `Transpose` to the statements. `alone` means that this is the function of a tile."""

    alone: bool

    def _transpose(self, s: Transpose) -> None:
        for buffer in (s.src, s.dst):
            if self.pointers[buffer][1] != s.dtype:
                raise EmitError(f"{buffer} holds {self.pointers[buffer][1]}, not {s.dtype}")
        rows, cols = self.integer(s.rows), self.integer(s.cols)
        apart, to_apart = self.integer(s.src_stride), self.integer(s.dst_stride)
        dtype = "int8" if s.dtype == "bool" else s.dtype
        if isinstance(cols, int) and cols <= NARROW and apart == cols:
            columns = self._columns(s, dtype, cols)
            self._store_columns(s, dtype, columns, rows, cols)
        elif isinstance(rows, int) and rows <= NARROW and to_apart == rows and s.pad == "none":
            self._interleave(s, dtype, rows)
        elif (inner := _inside(dtype)) and self.lanes % inner == 0:
            if self.alone:
                self._in_blocks(s, dtype, inner, rows, cols)
            else:
                self._shared_tile(s, rows, cols)
        else:
            columns = self._interleaved(self._rows(s, dtype, rows, cols))
            self._store_columns(s, dtype, columns, rows, cols)
        self._invalidate({s.dst})

    # -- in blocks of 128 bits, as the hardware shuffles

    def _shared_tile(self, s: Transpose, rows: Reg | int, cols: Reg | int) -> None:
        """A call of the function for such tiles, whole or partial ones; strides, and the counts of
        partial ones, are its arguments."""
        whole = rows == self.lanes and cols == self.lanes
        names = ["to", "apart"] if whole else ["to", "apart", "rows", "cols"]
        tall, wide = (Poly.of(self.lanes if whole else n) for n in ("rows", "cols"))
        pad = "none" if whole else s.pad if rows != self.lanes else "zero"  # of idle rows
        to, apart = Poly.of("to"), Poly.of("apart")
        tile = Transpose("dst", Poly(), to, "src", Poly(), apart, tall, wide, pad, s.dtype)
        function = ".".join(["tile", s.dtype, *([] if whole else ["partial", pad])])
        self.declare_tile(function, tile, names)
        given = {"to": s.dst_stride, "apart": s.src_stride, "rows": s.rows, "cols": s.cols}
        corners = [self._corner(s.dst, s.dst_index), self._corner(s.src, s.src_index)]
        numbers = [self._number(given[name]) for name in names]
        listed = [*(f"ptr {r.ref}" for r in corners), *(f"i64 {r.ref}" for r in numbers)]
        self.line(f"call void @{function}({', '.join(listed)})")

    def declare_tile(self, function: str, tile: Transpose, names: Sequence[str]) -> None:
        """Adds the function of a tile to the module: of two pointers and these numbers."""
        raise NotImplementedError

    def _in_blocks(
        self, s: Transpose, dtype: str, inner: int, rows: Reg | int, cols: Reg | int
    ) -> None:
        """A loop over groups of `inner` rows transposes inside of blocks, into a scratch tile on
        the stack; a loop over the columns of a block then moves whole blocks. Written out, a tile
        would be a little faster and take LLVM ten times as long."""
        kind = self.memory_types[1][dtype]
        tile, dump = self.name("tile"), self.name("dump")
        self.allocas.append(f"  {tile} = alloca [{self.lanes} x {kind}], align 64")
        self.allocas.append(f"  {dump} = alloca {kind}, align 64")
        groups = self.lanes // inner
        if isinstance(rows, int) and s.pad == "none":
            groups = min(groups, -(-rows // inner))
        self._rows_to_blocks(s, dtype, inner, groups, Reg(tile, "ptr"))
        self._blocks_to_columns(s, dtype, inner, groups, Reg(tile, "ptr"), Reg(dump, "ptr"))

    def _rows_to_blocks(self, s: Transpose, dtype: str, inner: int, groups: int, tile: Reg) -> None:
        rows, mask = self.integer(s.rows), self.first_lanes(self.integer(s.cols))
        base, apart = self._corner(s.src, s.src_index), self._number(s.src_stride)
        zeros = Reg(ZEROS, "ptr")
        idle = zeros if s.pad == "zero" else base
        if isinstance(rows, Reg) and s.pad != "zero":
            idle = self._select_pointer(self.const(0, "int64"), rows, base, zeros)
        turn = self.open_changing("rows", 0, groups, 1, self._touched({s.dst}))
        first = self.binary("mul", turn.variable, self.const(inner, "int64"))
        vectors = []
        for i in range(inner):
            row = self.binary("add", first, self.const(i, "int64"))
            pointer = self.element(base, self.binary("mul", row, apart), dtype)
            if isinstance(rows, Reg) or rows < groups * inner:
                limit = rows if isinstance(rows, Reg) else self.const(rows, "int64")
                pointer = self._select_pointer(row, limit, pointer, idle)
            vectors.append(self._vector(dtype, pointer, mask))
        to = self.element(tile, self._times(first, self.lanes), dtype)
        for i, vector in enumerate(self._inside_blocks(vectors, inner)):
            self._put(dtype, vector, self.element(to, i * self.lanes, dtype), None)
        self.close_changing(turn)

    def _blocks_to_columns(
        self, s: Transpose, dtype: str, inner: int, groups: int, tile: Reg, dump: Reg
    ) -> None:
        rows, cols = self.integer(s.rows), self.integer(s.cols)
        mask = self.first_lanes(rows) if s.pad == "none" else None
        base, apart = self._corner(s.dst, s.dst_index), self._number(s.dst_stride)
        known = cols if isinstance(cols, int) else self.lanes
        turn = self.open_changing("columns", 0, min(inner, known), 1, self._touched({s.dst}))
        at = self.element(tile, self._times(turn.variable, self.lanes), dtype)
        vectors = [
            self._vector(dtype, self.element(at, g * inner * self.lanes, dtype), None)
            for g in range(groups)
        ]
        vectors += [Reg(POISON, dtype, True)] * (self.lanes // inner - groups)
        for k, vector in enumerate(self._between_blocks(vectors, inner)):
            if k * inner >= known:
                break
            column = self.binary("add", turn.variable, self.const(k * inner, "int64"))
            pointer = self.element(base, self.binary("mul", column, apart), dtype)
            if isinstance(cols, Reg) or cols < (k + 1) * inner:
                limit = cols if isinstance(cols, Reg) else self.const(cols, "int64")
                pointer = self._select_pointer(column, limit, pointer, dump)
            self._put(dtype, vector, pointer, mask)
        self.close_changing(turn)

    def _corner(self, buffer: str, index: Poly) -> Reg:
        place = self._place(buffer, index)
        if place.kind != "one":
            raise EmitError("the index of a Transpose must not differ by lane")
        return place.pointer

    def _number(self, poly: Poly) -> Reg:
        number = self.integer(poly)
        return number if isinstance(number, Reg) else self.const(number, "int64")

    def _times(self, reg: Reg, factor: int) -> Reg:
        return self.binary("mul", reg, self.const(factor, "int64"))

    # -- a vector per row

    def _rows(self, s: Transpose, dtype: str, rows: Reg | int, cols: Reg | int) -> list[Reg]:
        """The tile's rows as vectors, with what `pad` wants in place of idle ones."""
        mask = self.first_lanes(cols)
        pointers = self._pointers(s.src, s.src_index, self.integer(s.src_stride), self.lanes)
        if isinstance(rows, int):
            vectors = [self._vector(dtype, p, mask) for p in pointers[:rows]]
            filler = self._filler(s.pad, dtype, vectors)
            return vectors + [filler] * (self.lanes - rows)
        zeros = Reg(ZEROS, "ptr")
        numbers = [self.const(r, "int64") for r in range(self.lanes)]
        first = self._select_pointer(numbers[0], rows, pointers[0], zeros)
        idle = zeros if s.pad == "zero" else first
        chosen = [first] + [
            self._select_pointer(numbers[r], rows, p, idle) for r, p in enumerate(pointers) if r
        ]
        return [self._vector(dtype, p, mask) for p in chosen]

    def _filler(self, pad: str, dtype: str, vectors: list[Reg]) -> Reg:
        if pad == "none":
            return Reg(POISON, dtype, True)
        if pad == "first" and vectors:
            return vectors[0]
        return Reg("zeroinitializer", dtype, True)

    def _select_pointer(self, row: Reg, rows: Reg, pointer: Reg, other: Reg) -> Reg:
        """The pointer if `row` is below `rows`."""
        exists = self.binary("icmp slt", row, rows, "bool")
        return self.choose(exists, pointer, other)

    def _vector(self, dtype: str, pointer: Reg, mask: Reg | None) -> Reg:
        kind = self.memory_types[1][dtype]
        if mask is not None:
            return self.masked_load(kind, dtype, pointer, mask)
        return self.here(f"load {kind}, ptr {pointer.ref}, align {item_bytes(dtype)}", dtype, True)

    def _pointers(self, buffer: str, index: Poly, apart: Reg | int, count: int) -> list[Reg]:
        base, dtype = self._corner(buffer, index), self.pointers[buffer][1]
        if isinstance(apart, int):
            return [self.element(base, i * apart, dtype) for i in range(count)]
        steps = [self._times(apart, i) for i in range(1, count)]
        return [base] + [self.element(base, step, dtype) for step in steps]

    def _store_columns(
        self, s: Transpose, dtype: str, columns: list[Reg], rows: Reg | int, cols: Reg | int
    ) -> None:
        count = min(cols, self.lanes) if isinstance(cols, int) else self.lanes
        pointers = self._pointers(s.dst, s.dst_index, self.integer(s.dst_stride), count)
        mask = self.first_lanes(rows) if s.pad == "none" else None
        tests = [
            self.binary("icmp sgt", cols, self.const(c, "int64"), "bool")
            for c in range(count)
            if isinstance(cols, Reg)
        ]
        done = self.label("end") if tests else ""
        for c in range(count):
            if tests:  # columns are counted at run time: leave at the first that is not there
                store = self.label("column")
                self.line(f"br i1 {tests[c].ref}, label %{store}, label %{done}")
                self.open_block(store)
            self._put(dtype, columns[c], pointers[c], mask)
        if tests:
            self.line(f"br label %{done}")
            self.open_block(done)

    def _put(self, dtype: str, vector: Reg, pointer: Reg, mask: Reg | None) -> None:
        kind = self.memory_types[1][dtype]
        if mask is not None:
            self.masked_store(kind, vector.ref, dtype, pointer, mask)
        else:
            self.line(f"store {kind} {vector.ref}, ptr {pointer.ref}, align {item_bytes(dtype)}")

    # -- shuffles

    def _inside_blocks(self, rows: list[Reg], inner: int) -> list[Reg]:
        """Each block of `inner` rows and columns transposed."""
        a, b = rows[0], rows[1]
        if inner == 2:
            return [self._unpack(a, b, 2, 1, 0), self._unpack(a, b, 2, 1, 1)]
        c, d = rows[2], rows[3]
        out = []
        for half in (0, 1):
            upper, lower = self._unpack(a, b, 4, 1, half), self._unpack(c, d, 4, 1, half)
            out += [self._unpack(upper, lower, 4, 2, 0), self._unpack(upper, lower, 4, 2, 1)]
        return out

    def _unpack(self, a: Reg, b: Reg, inner: int, unit: int, half: int) -> Reg:
        """Units of a and b in turn, from one half of each block."""
        lanes: list[int] = []
        for base in range(0, self.lanes, inner):
            for at in range(half * inner // 2, (half + 1) * inner // 2, unit):
                lanes += range(base + at, base + at + unit)
                lanes += range(self.lanes + base + at, self.lanes + base + at + unit)
        return self._mix(a, b, lanes)

    def _between_blocks(self, vectors: list[Reg], inner: int) -> list[Reg]:
        """Block k of vector g to block g of vector k."""
        if len(vectors) == 1:
            return vectors
        blocks = self.lanes // inner

        def pick(a: Reg, b: Reg, odd: int) -> Reg:
            lanes = [
                v * self.lanes + k * inner + i
                for v in (0, 1)
                for k in range(odd, blocks, 2)
                for i in range(inner)
            ]
            return self._mix(a, b, lanes)

        def split(level: list[Reg]) -> list[Reg]:
            if len(level) == 1:
                return level
            pairs = list(zip(level[::2], level[1::2]))
            even = split([pick(a, b, 0) for a, b in pairs])
            odd = split([pick(a, b, 1) for a, b in pairs])
            return [v for pair in zip(even, odd) for v in pair]

        return split(vectors)

    def _interleaved(self, vectors: list[Reg]) -> list[Reg]:
        """The transpose by perfect shuffles, for any element."""
        n = self.lanes
        low = [x for i in range(n // 2) for x in (i, n + i)]
        high = [x + n // 2 for x in low]
        width = n
        while width > 1:
            width //= 2
            vectors = [
                v
                for a, b in zip(vectors[: n // 2], vectors[n // 2 :])
                for v in (self._mix(a, b, low), self._mix(a, b, high))
            ]
        return vectors

    def _mix(self, a: Reg, b: Reg, lanes: Sequence[int]) -> Reg:
        if a.ref == POISON and b.ref == POISON:
            return a
        return self.shuffle(a, b, lanes)

    def _pick(self, sources: list[Reg], picks: list[tuple[int, int]]) -> Reg:
        """A vector whose lanes are (source, lane); idle lanes may be anything."""
        n = self.lanes
        lanes = [lane + n * (source > 0) if source < 2 else -1 for source, lane in picks]
        total = self.shuffle(sources[0], sources[1] if len(sources) > 1 else None, lanes)
        for other in range(2, len(sources)):
            lanes = [
                i if s < other else n + at if s == other else -1 for i, (s, at) in enumerate(picks)
            ]
            total = self.shuffle(total, sources[other], lanes)
        return total

    # -- narrow tiles

    def _columns(self, s: Transpose, dtype: str, cols: int) -> list[Reg]:
        """The columns of a tile that is contiguous in memory."""
        n = self.lanes
        pointers = self._pointers(s.src, s.src_index, n, cols)
        masks = [self.first_lanes(self.integer(s.rows * cols - n * j)) for j in range(cols)]
        loaded = [self._vector(dtype, p, mask) for p, mask in zip(pointers, masks)]
        columns = []
        for c in range(cols):
            flat = [r * cols + c for r in range(n)]
            columns.append(self._pick(loaded, [(q // n, q % n) for q in flat]))
        idle = self.first_lanes(self.integer(s.rows))
        if s.pad != "first" or idle is None:
            return columns
        first = [0] * n
        return [self.select(idle, v, self.shuffle(v, None, first)) for v in columns]

    def _interleave(self, s: Transpose, dtype: str, rows: int) -> None:
        """Few rows, written as one contiguous piece."""
        n = self.lanes
        mask = self.first_lanes(self.integer(s.cols))
        apart = self.integer(s.src_stride)
        vectors = [
            self._vector(dtype, p, mask) for p in self._pointers(s.src, s.src_index, apart, rows)
        ]
        for j, pointer in enumerate(self._pointers(s.dst, s.dst_index, n, rows)):
            flat = range(n * j, n * (j + 1))
            piece = self._pick(vectors, [(q % rows, q // rows) for q in flat])
            live = self.first_lanes(self.integer(s.cols * rows - n * j))
            self._put(dtype, piece, pointer, live)


def _inside(dtype: str) -> int:
    """Elements in 128 bits, where there are shuffles for them."""
    return {"int32": 4, "float32": 4, "int64": 2, "float64": 2}.get(dtype, 0)
