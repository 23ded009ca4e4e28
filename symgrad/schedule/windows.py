"""Products over windows: what a convolution, its gradients and their like read of an image.

In: a Contract of two operands, one of them seen through a Reindex (sliding windows). Out: a
`Windows`: for every axis of the image in memory the affine form of its index in the labels of the
Contract, and which of them are sliding axes.

    forward          y[n,o,x,y]  = sum c,k,l  X[n,c, s*x + d*k - p, s*y + d*l - p] * W[o,c,k,l]
    input gradient   X'[n,c,h,w] = sum o,k,l  Y'[n,o, (h+p-d*k) / s, (w+p-d*l) / s] * W[o,c,k,l]
    weight gradient  W'[o,c,k,l] = sum n,x,y  X[n,c, s*x + d*k - p, s*y + d*l - p] * Y'[n,o,x,y]

A form with a divisor is split into phases, one for each remainder of its place: in a phase the
taps that hit are known, and the form has no divisor any more.

>>> windows(convolution, held).axes[0]
Sliding(axis=2, place=2, tap=5, offset=-1, step=1, dilation=1, divisor=1, size=32)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable, Iterator, Mapping, Sequence

from codegen.loops import Poly
from symgrad.node import Contract, Expr, Reindex, Reshape
from symgrad.sizes import Size, maximum


@dataclass(frozen=True)
class Form:
    """An index along an axis: `(offset + sum of coefficient * label) / divisor`, to be read only
    where that is a whole number inside the axis, unless `inside` says that it always is."""

    offset: int
    terms: tuple[tuple[int, int], ...]  # (label, coefficient)
    divisor: int = 1
    inside: bool = True

    @property
    def label(self) -> int | None:
        """The label, where the index is a label and nothing else, all of which are inside."""
        plain = self.offset == 0 and self.divisor == 1 and len(self.terms) == 1 and self.inside
        return self.terms[0][0] if plain and self.terms[0][1] == 1 else None


@dataclass(frozen=True)
class Phase:
    """The places of one remainder: `place = first + stride * q`, the taps `tap = start + by * m`
    that hit there, and the index `offset + step * q + dilation * m`."""

    first: int
    stride: int
    places: int
    start: int
    by: int
    taps: int
    offset: int
    step: int
    dilation: int

    def inside(self, size: int, q: int) -> tuple[int, int]:
        """The first tap inside an image of that size at place q, and how many are."""
        at = self.offset + self.step * q
        hits = [m for m in range(self.taps) if 0 <= at + self.dilation * m < size]
        return (hits[0], len(hits)) if hits else (0, 0)


@dataclass(frozen=True)
class Sliding:
    """An axis of the image along which windows slide: its index is
    `(offset + step * place + dilation * tap) / divisor`."""

    axis: int
    place: int | None  # label of the output's (or gradient's) place
    tap: int | None  # label of the tap
    offset: int
    step: int
    dilation: int
    divisor: int
    size: int  # of the image
    places: int
    taps: int

    def phases(self) -> Iterator[Phase]:
        for first in range(min(self.divisor, self.places)):
            at = self.offset + self.step * first
            hits = [m for m in range(self.taps) if (at + self.dilation * m) % self.divisor == 0]
            by = self.divisor // math.gcd(self.dilation, self.divisor) if self.dilation else 1
            start = hits[0] if hits else 0
            yield Phase(
                first, self.divisor, -(-(self.places - first) // self.divisor),
                start, by, len(hits), (at + self.dilation * start) // self.divisor,
                self.step, self.dilation * by // self.divisor,
            )  # fmt: skip


@dataclass(frozen=True)
class Windows:
    """A product one operand of which is windows of an image in memory."""

    image: int  # position of the operand
    base: Expr  # the image in memory
    forms: tuple[Form, ...]  # of its axes, in labels of the Contract
    axes: tuple[Sliding, ...]
    other: frozenset[int]  # labels of the other operand

    @property
    def places(self) -> tuple[int, ...]:
        return tuple(a.place for a in self.axes if a.place is not None)

    @property
    def taps(self) -> tuple[int, ...]:
        return tuple(a.tap for a in self.axes if a.tap is not None)

    @property
    def spatial(self) -> tuple[Sliding, ...]:
        """Sliding axes but that of channels in groups, each of which has its own weights."""
        return tuple(a for a in self.axes if a.place not in self.other)

    @property
    def samples(self) -> tuple[int, ...]:
        """Axes of the image that are neither slid along nor its channels.

        The first one is. Of the others the channels are what is summed with the other operand
        where samples are not, or the other way round: an axis of space along which the kernel has
        a single tap goes with the samples.
        """
        sliding = {a.axis for a in self.axes}
        still = [a for a in range(self.base.ndim) if a not in sliding]
        if len(self.spatial) < len(self.axes) or not still:
            return tuple(still)
        with_other = [self.forms[a].label in self.other for a in still]
        channels = [a for a, both in zip(still, with_other) if both != with_other[0]] or still
        return tuple(a for a in still if a != channels[-1])

    @property
    def over_samples(self) -> bool:
        """True for a weight gradient: samples are summed."""
        return any(self.forms[a].label in self.other for a in self.samples)

    def outputs(self, n: Contract) -> int | None:
        """The label of the result's channels: of the other operand, neither a place nor sliding."""
        free = [k for k in n.out if k in self.other and k not in self.places]
        return max(free, key=lambda k: maximum(n.extents[k]), default=None)

    @property
    def dense(self) -> bool:
        """True for 3 x 3 windows with stride 1, of which Winograd's algorithm saves a part."""
        small = [a for a in self.axes if 3 in (a.taps, a.places) and a.divisor == 1]
        return len(small) == 2 == len(self.axes) and all(
            (abs(a.step), abs(a.dilation)) == (1, 1) for a in small
        )

    def index(self, where: Mapping[int, Poly]) -> tuple[Poly, ...]:
        """The image's index from that of the labels; `-1 - axis` stands for a sliding axis."""
        labels = [form.label for form in self.forms]
        return tuple(where[-1 - a if k is None else k] for a, k in enumerate(labels))


def windows(n: Contract, held: Callable[[Expr], bool]) -> Windows | None:
    """The product as one over windows, None where it is none; `held` says what is in memory."""
    found = [i for i, a in enumerate(n.args) if not held(a) and _slides(a, held)]
    if len(found) != 1:
        return None
    image = found[0]
    traced = access(n.ins[image], n.args[image], held)
    if traced is None:
        return None
    base, forms = traced
    axes: list[Sliding] = []
    used: set[int] = set()
    for axis, form in enumerate(forms):
        labels = [label for label, _ in form.terms]
        if used & set(labels):
            return None  # a diagonal
        used |= set(labels)
        if form.label is not None:
            continue
        slide = _sliding(n, axis, form, base.shape[axis])
        if slide is None:
            return None
        axes.append(slide)
    if used != set(n.ins[image]) or not axes:
        return None  # it is spread along a label, or only turned
    return Windows(image, base, forms, tuple(axes), frozenset(n.ins[1 - image]))


def pointwise(n: Contract, held: Callable[[Expr], bool]) -> Windows | None:
    """A product of an image and weights, or of two images, as one over windows of a single place:
    its places follow its channels, as they do in users' images."""
    for image in (0, 1):
        labels, other = n.ins[image], frozenset(n.ins[1 - image])
        traced = access(labels, n.args[image], held)
        if traced is None or any(form.label is None for form in traced[1]):
            continue
        base, forms = traced
        found = [form.label for form in forms]
        summed = [k for k in found if k in n.summed and k in other]
        mine = [k for k in found if k in n.out and k not in other]
        gradient = len(mine) == 1
        channel = mine if gradient else summed
        if len(channel) != 1 or len(summed) + len(mine) != len(labels):
            continue
        axis = found.index(channel[0])
        after = [_still(a, found[a], base.shape[a], gradient) for a in range(axis + 1, base.ndim)]
        if after and axis > 0 and all(isinstance(s, int) for s in base.shape[axis:]):
            return Windows(image, base, forms, tuple(after), other)
    return None


def _still(axis: int, label: int | None, size: Size, gradient: bool) -> Sliding:
    """An axis of places each of which reads itself."""
    length = maximum(size)
    if gradient:
        return Sliding(axis, None, label, 0, 0, 1, 1, length, 1, length)
    return Sliding(axis, label, None, 0, 1, 0, 1, length, length, 1)


def _slides(arg: Expr, held: Callable[[Expr], bool]) -> bool:
    while not held(arg) and isinstance(arg, (Contract, Reindex, Reshape)) and len(arg.args) == 1:
        if isinstance(arg, Contract) and arg.summed:
            return False
        if isinstance(arg, Reindex):
            return True
        arg = arg.args[0]
    return False


def _sliding(n: Contract, axis: int, form: Form, size: Size) -> Sliding | None:
    extents = n.extents
    sizes = [extents[label] for label, _ in form.terms]
    if not isinstance(size, int) or not all(isinstance(s, int) for s in sizes):
        return None
    place = [(k, c) for k, c in form.terms if k in n.out]
    tap = [(k, c) for k, c in form.terms if k not in n.out]
    if len(place) > 1 or len(tap) > 1:
        return None
    x, step = place[0] if place else (None, 0)
    k, dilation = tap[0] if tap else (None, 0)
    if form.divisor > 1 and step % form.divisor == 0 and dilation % form.divisor == 0:
        return None
    return Sliding(
        axis, x, k, form.offset, step, dilation, form.divisor, size,
        int(extents[x]) if x is not None else 1,  # type: ignore[arg-type]
        int(extents[k]) if k is not None else 1,  # type: ignore[arg-type]
    )  # fmt: skip


def access(
    labels: Sequence[int], arg: Expr, held: Callable[[Expr], bool]
) -> tuple[Expr, tuple[Form, ...]] | None:
    """The node in memory below the views of an operand, and the form of each of its indices."""
    forms = tuple(Form(0, ((label, 1),)) for label in labels)
    while not held(arg):
        if isinstance(arg, Contract) and len(arg.args) == 1 and not arg.summed:
            below: tuple[Form, ...] | None = _transposed(arg, forms)
        elif isinstance(arg, Reindex):
            below = _reindexed(arg, forms)
        elif isinstance(arg, Reshape):
            below = _reshaped(arg, forms)
        else:
            return None
        if below is None:
            return None
        arg, forms = arg.args[0], below
    return arg, forms


def _transposed(view: Contract, forms: Sequence[Form]) -> tuple[Form, ...]:
    where = dict(zip(view.out, forms))
    return tuple(where[k] for k in view.ins[0])


def _reindexed(view: Reindex, forms: Sequence[Form]) -> tuple[Form, ...] | None:
    if view.fill != 0:
        return None
    result = []
    below = view.args[0].shape
    for axis, (offset, terms, divisor) in enumerate(view.maps):
        same = len(terms) == 1 and (offset, terms[0][1], divisor) == (0, 1, 1)
        if same and view.shape[terms[0][0]] == below[axis]:
            result.append(forms[terms[0][0]])
            continue
        found = _combined(offset, [(forms[k], c) for k, c in terms], divisor)
        if found is None:
            return None
        result.append(Form(found.offset, found.terms, divisor, view.inside(axis)))
    return tuple(result)


def _combined(offset: int, parts: Sequence[tuple[Form, int]], divisor: int) -> Form | None:
    """The sum of factor * form; what was tested before cannot be tested again inside of it."""
    terms: list[tuple[int, int]] = []
    for form, factor in parts:
        if form.divisor != 1 or not form.inside:
            return None
        offset += form.offset * factor
        terms += [(label, c * factor) for label, c in form.terms]
    labels = [label for label, _ in terms]
    return Form(offset, tuple(terms), divisor) if len(set(labels)) == len(labels) else None


def _reshaped(view: Reshape, forms: Sequence[Form]) -> tuple[Form, ...] | None:
    """Axes that are cut into several: an index of theirs is affine in those of the parts."""
    shape, arg = view.shape, view.args[0].shape
    result: list[Form] = []
    i = 0
    for size in arg:
        if i < len(shape) and shape[i] == size:
            result.append(forms[i])
            i += 1
            continue
        parts: list[tuple[Form, int]] = []
        rest = size
        while isinstance(rest, int) and rest > 1 and i < len(shape):
            part = shape[i]
            if not isinstance(part, int) or not part or rest % part:
                return None
            rest //= part
            parts.append((forms[i], rest))
            i += 1
        found = _combined(0, parts, 1) if rest == 1 else None
        if found is None:
            return None
        result.append(found)
    return tuple(result) if all(s == 1 for s in shape[i:]) else None
