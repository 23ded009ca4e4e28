"""Contractions in matrix notation: `W x`, `u vᵀ`, `xᵀ A x`, `tr(A B)`, `diag(v) A`, `a ⊙ b`.

In: a contraction and the terms of its operands. Out: the term of their product. Operands of two
axes are edges between labels and operands of one axis sit on a label; a path from one label of
the result to the other is a matrix product, a vector on the way a diagonal matrix, a ring a trace.
What is no such path stays a `Tensor`, a sum with named indices.

>>> text(product(Contract.parse("ki,kj->ij", a, d), [a, d]))
'aᵀ d'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from symgrad.node import Contract
from symgrad.show.meaning import Broadcast, Sum, Transpose, in_order, meaning, unmistakable
from symgrad.show.notation import (
    HADAMARD,
    Call,
    Enclosed,
    Factors,
    Name,
    Number,
    Power,
    Product,
    Reduction,
    Spread,
    Tensor,
    Term,
    assembled,
    factors,
    joined,
)
from symgrad.show.notation import Sum as Sum_
from symgrad.show.notation import Transpose as Transposed
from symgrad.sizes import Shape

NOTHING = Factors(False, (), None, ())


@dataclass(frozen=True)
class Operand:
    term: Term
    labels: tuple[int, ...]


def contraction(node: Contract, terms: Sequence[Term]) -> Term:
    """The term of a contraction; numbers of its operands go in front."""
    kind = meaning(node)
    if isinstance(kind, Broadcast):
        return spread(terms[0], node.args[0].shape, kind.index, node.shape)
    numbers, operands = NOTHING, []
    for term, labels in zip(terms, node.ins):
        own = factors(term)
        numbers = joined(numbers, own, None)
        if own.rest is not None:
            operands.append(Operand(own.rest, labels))
        elif labels:
            operands.append(Operand(Name("1", len(labels), "part"), labels))
    if isinstance(kind, Transpose):
        rest: Term | None = turned(operands[0].term, kind.axes)
    elif isinstance(kind, Sum):
        rest = total(operands[0].term, kind.axes, node.ndim)
    else:
        rest = multiplied(node, operands)
    return assembled(joined(numbers, NOTHING, rest), node.ndim)


def spread(term: Term, shape: Shape, kept: tuple[bool, ...], result: Shape) -> Term:
    """A term along more axes."""
    if isinstance(term, Spread) and term.base.rank == 0:
        term = term.base
    return Spread(term, kept, unmistakable(shape, kept, result), len(kept))


def turned(term: Term, axes: Sequence[int]) -> Term:
    """The transpose; of a product of two, each factor is turned by who asks for elements."""
    if tuple(axes) == tuple(range(len(axes))):
        return term
    swapped = (*range(len(axes) - 2), len(axes) - 1, len(axes) - 2)
    if tuple(axes) == swapped:
        return transposed(term)
    return Call("transpose", (term,), len(axes), below=tuple(map(str, axes)))


def transposed(term: Term) -> Term:
    if isinstance(term, Transposed):
        return term.base
    if (
        isinstance(term, Name)
        and term.text == "I"
        or isinstance(term, Call)
        and term.name == "diag"
    ):
        return term
    if isinstance(term, Product) and not term.hadamard and term.rank <= 2:
        scalars = tuple(t for t in term.factors if not t.rank)
        reverse = [transposed(t) for t in reversed(term.factors) if t.rank]
        turned_ = tuple(f for t in reverse for f in _side(t))
        return Product(scalars + turned_, term.rank)
    if isinstance(term, Sum_) and all(_turns(t) for _, t in term.terms):
        return Sum_(tuple((sign, transposed(t)) for sign, t in term.terms), term.rank)
    return Transposed(term, term.rank)


def _turns(term: Term) -> bool:
    """Whether the transpose of a term is no longer than the term."""
    if isinstance(term, Product) and not term.hadamard:
        return any(_turns(t) for t in term.factors if t.rank)
    diagonal = isinstance(term, Call) and term.name == "diag"
    return diagonal or isinstance(term, Transposed) or isinstance(term, Name) and term.text == "I"


def total(term: Term, axes: tuple[int, ...], rank: int) -> Term:
    """A sum over axes; of squares over all of them, the square of a norm."""
    if not rank and isinstance(term, Power) and isinstance(term.exponent, Number):
        if term.exponent.text == "2":
            return Power(Enclosed("norm", term.base), term.exponent)
    if isinstance(term, Product) and term.hadamard and term.rank == 1 and len(term.factors) == 2:
        row, column = term.factors
        return Product((*_side(transposed(row)), *_side(column)))
    if isinstance(term, Spread) and not term.base.rank:
        term = term.base
    return Reduction("Σ", term, axes, rank)


def multiplied(node: Contract, operands: list[Operand]) -> Term | None:
    """Several operands as a matrix product where they are one, spread along axes they lack."""
    if not operands:
        return None
    out, shape = node.out, node.shape
    if not node.summed and all(in_order(o.labels, out) for o in operands):
        return _hadamard(_merged(operands, out), out, shape)
    kept = tuple(any(k in o.labels for o in operands) for k in out)
    own = tuple(k for k, has in zip(out, kept) if has)
    found = _matrices(operands, own)
    small = tuple(s for s, has in zip(shape, kept) if has)
    return found if all(kept) else spread(found, small, kept, shape)


def _matrices(operands: list[Operand], out: tuple[int, ...]) -> Term:
    merged = _merged(operands, out)
    if len(merged) == 1 and merged[0].labels == out:
        return merged[0].term
    lead = _stack(merged, out)
    stacked = out[:lead]
    inner = [
        Operand(o.term, o.labels[lead:] if o.labels[:lead] == stacked else o.labels) for o in merged
    ]
    if len(out) - lead <= 2 and all(1 <= len(o.labels) <= 2 for o in inner):
        found = _components(inner, out[lead:])
        if found is not None:
            return _ranked(found, len(out))
    return Tensor(tuple(o.term for o in operands), tuple(o.labels for o in operands), out, len(out))


def _ranked(term: Term, rank: int) -> Term:
    if isinstance(term, Product):
        return Product(term.factors, rank, term.hadamard)
    return term


def _merged(operands: list[Operand], out: tuple[int, ...]) -> list[Operand]:
    """Operands of the same labels as one, element by element."""
    found: dict[tuple[int, ...], list[Term]] = {}
    for o in operands:
        key = o.labels
        if out and key not in found and key[::-1] in found and len(key) == 2:
            found[key[::-1]].append(transposed(o.term))
        else:
            found.setdefault(key, []).append(o.term)
    return [Operand(hadamard(terms, len(labels)), labels) for labels, terms in found.items()]


def hadamard(terms: Sequence[Term], rank: int) -> Term:
    """A product element by element; matrix products and cotangents come first.

    Of two axes: vectors along different ones are an outer product, a vector beside the identity
    is its diagonal matrix, and one that scales rows may have to be written as such.
    """
    flat: list[Term] = []
    for t in terms:
        flat += t.factors if isinstance(t, Product) and t.hadamard else [t]
    if rank == 2:
        flat = _with_vectors(flat)
    if len(flat) == 1:
        return flat[0]
    if len(flat) == 2 and _name(flat[0]) and _name(flat[0]) == _name(flat[1]):
        return Power(flat[0], Number("2"), rank)
    return Product(tuple(sorted(flat, key=_place)), rank, hadamard=True)


def _name(term: Term) -> str:
    """The name of a factor, spread or not, to find squares."""
    if isinstance(term, Spread):
        return f"{_name(term.base)} {term.kept}" if _name(term.base) else ""
    return term.text if isinstance(term, Name) else ""


def _with_vectors(flat: list[Term]) -> list[Term]:
    rows = [t for t in flat if isinstance(t, Spread) and t.kept == (True, False)]
    columns = [t for t in flat if isinstance(t, Spread) and t.kept == (False, True)]
    full = [t for t in flat if t not in rows and t not in columns]
    if not full and rows and columns:
        down = hadamard([t.base for t in rows], 1)
        across = hadamard([t.base for t in columns], 1)
        return [Product((*_side(down), transposed(across)), 2)]
    eye = next((t for t in full if isinstance(t, Name) and t.text == "I"), None)
    if eye is not None and (rows or columns):
        diagonal = hadamard([t.base for t in (*rows, *columns)], 1)
        return [Call("diag", (diagonal,), 2), *(t for t in full if t is not eye)]
    if full and rows and not all(t.plain for t in rows):
        scales = Call("diag", (hadamard([t.base for t in rows], 1),), 2)
        return [Product((scales, *_side(hadamard([*full, *columns], 2))), 2)]
    return flat


def _place(term: Term) -> int:
    """Where a factor stands: what a chain rule carries along, then what it multiplies by."""
    if isinstance(term, Name):
        return 0 if term.role == "cotangent" else 2
    if isinstance(term, (Spread, Reduction)) and term.level < HADAMARD:
        return 3  # a long sum
    return 1 if isinstance(term, Product) and not term.hadamard else 2


def _hadamard(operands: list[Operand], out: tuple[int, ...], shape: Shape) -> Term:
    shown = []
    for o in operands:
        kept = tuple(k in o.labels for k in out)
        own = tuple(s for s, k in zip(shape, kept) if k)
        shown.append(o.term if all(kept) else spread(o.term, own, kept, shape))
    return hadamard(shown, len(out))


def _stack(operands: list[Operand], out: tuple[int, ...]) -> int:
    """How many leading axes the operands share with the result: a stack of matrices, perhaps
    times one matrix."""
    lead = max(len(out), *(len(o.labels) for o in operands)) - 2
    while lead > 0:
        own = out[:lead]
        stacked = [o for o in operands if o.labels[:lead] == own and len(o.labels) == lead + 2]
        single = [o for o in operands if len(o.labels) == 2 and not set(o.labels) & set(own)]
        if stacked and len(stacked) + len(single) == len(operands):
            return lead
        lead -= 1
    return 0


# -- paths ------------------------------------------------------------------------------------


def _components(operands: list[Operand], out: tuple[int, ...]) -> Term | None:
    """Unconnected parts: an outer product of two, or numbers beside the one that has the axes."""
    groups: list[list[Operand]] = []
    for o in operands:
        touching = [g for g in groups if any(set(o.labels) & set(p.labels) for p in g)]
        groups = [g for g in groups if g not in touching]
        groups.append([p for g in touching for p in g] + [o])
    if len(groups) == 1:
        return _chain(groups[0], out)
    parts: list[tuple[tuple[int, ...], Term]] = []
    outer: list[tuple[tuple[int, ...], Term]] = []
    for group in groups:
        own = tuple(k for k in out if any(k in o.labels for o in group))
        found = _chain(group, own)
        if found is None:
            return None
        (outer if len(own) == 1 and len(out) == 2 else parts).append((own, found))
    if outer:
        if len(outer) != 2:
            return None
        outer.sort(key=lambda pair: out.index(pair[0][0]))
        (_, column), (_, row) = outer
        parts.append((out, Product((*_side(column), transposed(row)), 2)))
    parts.sort(key=lambda pair: len(pair[0]))
    shown = [t for _, term in parts for t in _side(term)]
    return shown[0] if len(shown) == 1 else Product(tuple(shown), len(out))


def _side(term: Term) -> tuple[Term, ...]:
    return term.factors if isinstance(term, Product) and not term.hadamard else (term,)


def _chain(operands: list[Operand], out: tuple[int, ...]) -> Term | None:
    """A path through all operands as a product; None where they are none."""
    edges = [o for o in operands if len(o.labels) == 2]
    vectors: dict[int, Term] = {o.labels[0]: o.term for o in operands if len(o.labels) == 1}
    at: dict[int, list[Operand]] = {}
    for e in edges:
        for k in e.labels:
            at.setdefault(k, []).append(e)
    labels = list(dict.fromkeys(k for o in operands for k in o.labels))
    if any(len(at.get(k, ())) > 2 for k in labels):
        return None
    ends = [k for k in labels if len(at.get(k, ())) <= 1]
    if not ends:
        return _ring(edges, vectors, at, out)
    if not edges:
        return _points(vectors, out)
    if len(ends) != 2 or any(k in out for k in labels if k not in ends):
        return None
    start, stop = _oriented(ends, out, edges)
    if any(k not in out and k not in vectors for k in (start, stop)):
        return None  # a sum of the matrix itself over an axis
    factors_: list[Term] = []
    here, left = start, list(edges)
    while True:
        vector = vectors.get(here)
        if vector is not None and (here in out or here not in (start, stop)):
            factors_.append(Call("diag", (vector,), 2))
        elif vector is not None:
            factors_ += _side(transposed(vector) if here == start else vector)
        step = next((e for e in at[here] if e in left), None)
        if step is None:
            break
        left.remove(step)
        forward = step.labels[0] == here
        factors_ += _side(step.term) if forward else (transposed(step.term),)
        here = step.labels[1] if forward else step.labels[0]
    if left:
        return None
    return factors_[0] if len(factors_) == 1 else Product(tuple(factors_), len(out))


def _oriented(ends: list[int], out: tuple[int, ...], edges: list[Operand]) -> tuple[int, int]:
    """The first and the last label: of a matrix its rows and columns, of a vector its own axis."""
    a, b = ends
    if len(out) == 2:
        return (a, b) if out[0] == a else (b, a)
    if len(out) == 1:
        return (out[0], a if b == out[0] else b)
    return (a, b) if edges[0].labels[0] == a else (b, a)


def _points(vectors: dict[int, Term], out: tuple[int, ...]) -> Term | None:
    """Vectors alone: on one label, already multiplied element by element."""
    (label, term), *others = vectors.items()
    if others:
        return None
    if out == (label,):
        return term
    if isinstance(term, Product) and term.hadamard and len(term.factors) == 2:
        row, column = term.factors
        return Product((*_side(transposed(row)), *_side(column)))
    if isinstance(term, Power):
        return Power(Enclosed("norm", term.base), term.exponent)
    return None


def _ring(
    edges: list[Operand],
    vectors: dict[int, Term],
    at: dict[int, list[Operand]],
    out: tuple[int, ...],
) -> Term | None:
    """A path that ends where it began: a trace."""
    if out or len(edges) < 2:
        return None
    factors_: list[Term] = []
    here, left = edges[0].labels[0], list(edges)
    while left:
        if here in vectors:
            factors_.append(Call("diag", (vectors[here],), 2))
        step = next((e for e in left if here in e.labels), None)
        if step is None:
            return None
        left.remove(step)
        forward = step.labels[0] == here
        factors_ += _side(step.term) if forward else (transposed(step.term),)
        here = step.labels[1] if forward else step.labels[0]
    return Call("tr", (Product(tuple(factors_), 2),))
