"""Convolutional networks at random: the cases of tests/fuzz_graphs.py from seed 40000.

In: a seed. Out: a `Case` of a small network over images or sequences: convolutions of every kind,
pooling, normalisation, residual blocks, dense layers; their gradients and an optimizer's updates.

Every fourth seed gives a graph so small that its loops can be interpreted in about a second. The
others may be wide, with the channels and samples from which Winograd's algorithm is chosen.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from fuzz_graphs import Case, Wide, sizes_of

import symgrad as sg
from symgrad import losses, nn, ops, sizes
from symgrad.errors import ShapeError
from symgrad.node import Expr, Parameter

CHANNELS = (1, 2, 3, 4, 5, 8, 16, 17)
SMALL_EVERY = 4  # seeds
SMALL, MOST, WIDE = 1e6, 3e6, 1.5e7  # multiply-adds
EPS = 0.1  # of normalisations: a few values may be nearly equal


class Images(Wide):
    """Grows a network: the last image of the pool, or an earlier one, goes through a block."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.axes = 1 if self.rng.random() < 0.25 else 2
        small = seed % SMALL_EVERY == 0
        self.wide = self.axes == 2 and self.rng.random() < 0.5 and not small
        self.most = SMALL if small else WIDE if self.wide else MOST
        self.actual = int(self.pick((4, 12, 15, 16, 17, 20) if self.wide else range(1, 21)))
        dynamic = self.rng.random() < 0.4
        most = max(self.actual, int(self.pick((16, 20, 24))))
        self.rows = sizes.dim("batch", most) if dynamic else self.actual
        self.dims = {"batch": self.actual} if dynamic else {}
        self.work = 0.0  # multiply-adds so far
        self.kernels: list[Expr] = []

    # -- leaves and choices
    def number_of(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def each(self, low: int, high: int) -> Any:
        """One number for all axes of space, or one for each."""
        if self.rng.random() < 0.6:
            return self.number_of(low, high)
        return tuple(self.number_of(low, high) for _ in range(self.axes))

    def spread(self, value: Any) -> tuple[int, ...]:
        return value if isinstance(value, tuple) else (value,) * self.axes

    def image(self, channels: int, space: Sequence[int]) -> Expr:
        return self.leaf((self.rows, channels, *space))

    def kernel(self, shape: tuple[int, ...], sums: int) -> Expr:
        """A weight of which `sums` elements are summed: new, handed in, tied, or computed."""
        same = [w for w in self.kernels if w.shape == shape]
        if same and self.rng.random() < 0.3:
            return self.pick(same)
        w = self.table(shape)
        self.env[w] = self.rng.standard_normal(shape) / math.sqrt(max(sums, 1))
        self.kernels.append(w)
        if self.rng.random() < 0.1:
            return w / ops.sqrt(ops.sum(ops.square(w)) + 1.0)
        return w

    def bias(self, channels: int, needed: bool = False) -> Expr | None:
        return self.weight((channels,)) if needed or self.rng.random() < 0.6 else None

    def afford(self, *factors: Any) -> bool:
        """Whether so many more multiply-adds, and those of two gradients, are few enough."""
        cost = 3.0 * self.actual * math.prod(float(f) for f in factors)
        if self.work + cost > self.most:
            return False
        self.work += cost
        return True

    def channels_of(self, x: Expr) -> int:
        return int(x.shape[1])  # type: ignore[arg-type]

    def space_of(self, x: Expr) -> tuple[int, ...]:
        return tuple(int(s) for s in x.shape[2:])  # type: ignore[arg-type]

    def is_image(self, x: Expr) -> bool:
        fixed = all(isinstance(s, int) for s in x.shape[1:])
        return x.ndim == self.axes + 2 and fixed and x.shape[0] == self.rows

    def named(self, layer: str) -> Callable[..., Expr]:
        return getattr(nn, f"{layer}{self.axes}d")

    # -- convolutions
    def convolved(self, x: Expr) -> Expr:
        """Any kernel, stride, padding, dilation and groups."""
        channels = self.channels_of(x)
        groups = int(self.pick([g for g in range(1, channels + 1) if channels % g == 0]))
        groups = 1 if self.rng.random() < 0.5 else groups
        outputs = int(self.pick(CHANNELS)) if groups == 1 else groups * self.number_of(1, 3)
        taps = self.spread(self.each(1, self.pick((1, 3, 3, 5))))
        dilation = self.each(1, self.pick((1, 1, 2, 3)))
        reach = [d * (k - 1) for d, k in zip(self.spread(dilation), taps)]
        padding = self.padding(reach)
        stride = 1 if padding == "same" else self.each(1, self.pick((1, 1, 2, 3)))
        shape = (outputs, channels // groups, *taps)
        if not self.afford(*shape, *self.space_of(x)):
            return self.activated(x)
        w = self.kernel(shape, math.prod(shape[1:]))
        # Windows wholly outside are 0, or nearly so where they are computed another way: a bias
        # keeps what follows away from the corner of a relu.
        outside = padding == "same" or any(p > r for p, r in zip(self.spread(padding), reach))
        b = self.bias(outputs, outside)
        return self.named("conv")(x, w, b, stride, padding, dilation, groups)

    def padding(self, reach: Sequence[int]) -> Any:
        kind = self.rng.integers(6)
        if kind == 0:
            return "same"
        if kind == 1:
            return 0
        if kind == 2:
            return self.each(0, 3)
        if kind == 3:
            return tuple(reach)
        return tuple(r // 2 for r in reach)

    def plain(self, x: Expr) -> Expr:
        """3 x 3 taps with stride 1, between enough channels for Winograd's algorithm."""
        channels = self.channels_of(x)
        if self.axes != 2 or min(self.space_of(x)) < 3:
            return self.convolved(x)
        outputs = int(self.pick((8, 12, 16, 17, 20, 24)))
        padding = self.each(0, 2) if self.rng.integers(2) else 1
        if not self.afford(outputs, channels, 9, *self.space_of(x)):
            return self.activated(x)
        w = self.kernel((outputs, channels, 3, 3), 9 * channels)
        return nn.conv2d(x, w, self.bias(outputs), padding=padding)

    def widened(self, x: Expr) -> Expr:
        """One tap, and one more plain convolution where that has enough channels."""
        outputs = int(self.pick((8, 12, 16, 24)))
        if not self.afford(outputs, self.channels_of(x), *self.space_of(x)):
            return self.activated(x)
        y = self.one_tap(x, outputs)
        return self.plain(self.activated(y)) if self.rng.integers(2) else y

    def one_tap(self, x: Expr, outputs: int, stride: Any = 1) -> Expr:
        channels = self.channels_of(x)
        w = self.kernel((outputs, channels, *(1,) * self.axes), channels)
        return self.named("conv")(x, w, self.bias(outputs), stride)

    def depthwise(self, x: Expr) -> Expr:
        channels = self.channels_of(x)
        taps = self.spread(self.pick((2, 3, 3, 5)))
        padding = tuple(k // 2 for k in taps) if self.rng.integers(2) else self.each(0, 2)
        outputs = channels * self.number_of(1, 2)
        if not self.afford(outputs, *taps, *self.space_of(x)):
            return self.activated(x)
        w, b = self.kernel((outputs, 1, *taps), math.prod(taps)), self.bias(outputs, True)
        stride, dilation = self.each(1, 2), self.pick((1, 1, 2))
        return self.named("conv")(x, w, b, stride, padding, dilation, channels)

    def transposed(self, x: Expr) -> Expr:
        """Enlarged images."""
        channels = self.channels_of(x)
        groups = int(self.pick([g for g in range(1, channels + 1) if channels % g == 0]))
        groups = 1 if self.rng.random() < 0.6 else groups
        outputs = int(self.pick((1, 2, 3, 8))) if groups == 1 else self.number_of(1, 2)
        taps = self.spread(self.each(1, 4))
        shape = (channels, outputs, *taps)
        stride, padding = self.each(1, 3), self.each(0, 2)
        dilation = self.pick((1, 1, 1, 2))
        more = tuple(self.number_of(0, max(s, dilation) - 1) for s in self.spread(stride))
        more = more if self.rng.integers(2) else (0,) * self.axes
        if not self.afford(*shape, *self.space_of(x)):
            return self.activated(x)
        w = self.kernel(shape, math.prod(shape) // outputs)
        b = self.bias(outputs * groups, True)
        return self.named("conv_transpose")(x, w, b, stride, padding, more, groups, dilation)

    # -- what goes between convolutions
    def activated(self, x: Expr) -> Expr:
        return self.smooth(x) if self.rng.integers(2) else ops.relu(x)

    def pooled(self, x: Expr) -> Expr:
        """Windows that tile the image, and any others."""
        law, kind = self.pick(("max", "avg")), int(self.rng.integers(4))
        if kind == 0:
            return self.named(f"{law}_pool")(x, self.each(1, 3))
        kernel = self.spread(self.each(1, 4))
        padding = tuple(self.number_of(0, k // 2) for k in kernel) if kind < 3 else 0
        stride = self.each(1, 3) if self.rng.integers(4) else None
        ceil = bool(self.rng.random() < 0.3)
        if law == "avg":
            include = bool(self.rng.integers(2))
            return self.named("avg_pool")(x, kernel, stride, padding, ceil, include)
        dilation = self.pick((1, 1, 1, 2))
        return self.named("max_pool")(x, kernel, stride, padding, dilation, ceil)

    def normal(self, x: Expr) -> Expr:
        """Batch norm in training and by running statistics, group norm, layer norm."""
        channels, kind = self.channels_of(x), int(self.rng.integers(5))
        w, b = self.weight((channels,)), self.weight((channels,))
        if kind == 0:
            groups = self.pick([g for g in range(1, channels + 1) if channels % g == 0])
            return nn.group_norm(x, int(groups), w, b, EPS)
        if kind == 1:
            shape = self.space_of(x)
            return nn.layer_norm(x, shape, self.weight(shape), self.weight(shape), EPS)
        if kind == 2:
            return nn.batch_norm(x, None, None, w, b, eps=EPS)
        mean, var = self.state((channels,)), self.state((channels,), 1.5)
        several = self.actual * math.prod(self.space_of(x)) > 1
        return nn.batch_norm(x, mean, var, w, b, training=kind == 3 and several, eps=EPS)

    def residual(self, x: Expr) -> Expr:
        """What a block adds to its image; a shortcut of one tap where the channels differ."""
        y = self.pick([self.convolved, self.plain, self.depthwise])(x)
        y = self.normal(y) if self.rng.integers(2) else y
        if y.shape == x.shape:
            return self.activated(x + y)
        steps = {a // b for a, b in zip(self.space_of(x), self.space_of(y)) if b}
        if len(steps) == 1 and 0 not in steps:
            outputs, step = self.channels_of(y), steps.pop()
            if self.afford(outputs, self.channels_of(x), *self.space_of(y)):
                z = self.one_tap(x, outputs, step)
                if z.shape == y.shape:
                    return self.activated(y + z)
        return y

    def together(self, x: Expr) -> Expr:
        """Channels of several images as one image; or their sum."""
        others = [p for p in self.pool if self.is_image(p) and p.shape[2:] == x.shape[2:]]
        y = self.pick(others)
        if y.shape == x.shape and self.rng.integers(2):
            return self.pick([x + y, x * ops.sigmoid(y), ops.maximum(x, 0.5 * y)])
        if self.channels_of(x) + self.channels_of(y) > 32:
            return x[:, ::2]
        return ops.concatenate([x, y], axis=1)

    def gated(self, x: Expr) -> Expr:
        """Every channel times a function of all channels' means."""
        channels = self.channels_of(x)
        means = ops.mean(x, axis=tuple(range(2, x.ndim)))
        gate = ops.sigmoid(means @ self.kernel((channels, channels), channels))
        return x * ops.reshape(gate, (*gate.shape, *(1,) * self.axes))

    def moved(self, x: Expr) -> Expr:
        """Borders, flips, repeated pixels, pixels as channels, shuffled channels."""
        kind, axis = int(self.rng.integers(6)), int(self.rng.integers(2, x.ndim))
        channels, space = self.channels_of(x), self.space_of(x)
        cut: list[Any] = [slice(None)] * x.ndim
        if kind == 0 and space[axis - 2] > 2:
            cut[axis] = slice(1, -1)
            return x[tuple(cut)]
        if kind == 1:
            return ops.pad(x, [(1, 0) if k == axis else (0, 0) for k in range(x.ndim)])
        if kind == 2:
            return ops.flip(x, axis=axis)
        if kind == 3 and space[axis - 2] <= 5:
            return ops.repeat(x, 2, axis=axis)
        if kind == 4 and channels % 2 == 0:
            y = ops.reshape(x, (self.rows, 2, channels // 2, *space))
            return ops.reshape(ops.swapaxes(y, 1, 2), x.shape)
        if kind == 5 and all(s % 2 == 0 for s in space) and self.axes == 2 and channels < 5:
            h, w = (s // 2 for s in space)
            y = ops.reshape(x, (self.rows, channels, h, 2, w, 2))
            y = ops.transpose(y, (0, 1, 3, 5, 2, 4))
            return ops.reshape(y, (self.rows, 4 * channels, h, w))
        return ops.swapaxes(x, 2, 3) if self.axes == 2 else x * 0.5

    def differentiated(self, x: Expr) -> Expr:
        """The gradient by an image of what follows from it: it is differentiated again."""
        y = ops.tanh(self.convolved(x))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (g,) = sg.grad(ops.sum(y * ops.sin(y)), [x])
        self.work *= 2
        return g

    # -- behind the images
    def flat(self, x: Expr) -> Expr:
        """Numbers or dense layers over whole images."""
        kind = int(self.rng.integers(6))
        space = tuple(range(2, x.ndim))
        if kind == 0:
            return ops.mean(x, axis=space)
        if kind == 1:
            return ops.max(x, axis=space)
        if kind == 2 and self.axes == 2:
            size = tuple(self.number_of(1, s) for s in self.space_of(x))
            return nn.adaptive_avg_pool2d(x, size)
        y = ops.reshape(x, (self.rows, math.prod(self.space_of(x)) * self.channels_of(x)))
        return self.dense(y)

    def dense(self, x: Expr) -> Expr:
        inner, outer = int(x.shape[1]), int(self.pick((1, 3, 10, 16, 33)))  # type: ignore[arg-type]
        if not self.afford(inner, outer):
            return ops.sum(x, axis=1)
        return x @ self.kernel((inner, outer), inner) + self.weight((outer,))

    def behind(self, x: Expr) -> Expr:
        """More layers over rows; images again."""
        if x.ndim != 2 or not isinstance(x.shape[1], int):
            return self.smooth(x)
        kind = int(self.rng.integers(5))
        if kind == 0:
            y = self.labels(x.shape[1])
            return losses.cross_entropy(x, y)
        if kind == 1:
            return self.softmax(x)
        if kind == 2:
            space = (2, 3) if self.axes == 2 else (6,)
            if self.afford(x.shape[1], 24):
                w = self.kernel((x.shape[1], 24), x.shape[1])
                return ops.reshape(ops.relu(x @ w), (self.rows, 4, *space))
        return self.dense(ops.tanh(x))

    # -- the network
    def grow(self, pool: list[Expr]) -> Expr:
        x = pool[-1] if self.rng.random() < 0.75 else self.pick(pool)
        if not self.is_image(x):
            return self.behind(x)
        choices = [
            self.convolved, self.convolved, self.convolved, self.plain, self.plain, self.widened,
            self.depthwise, self.transposed, self.activated, self.activated, self.pooled,
            self.pooled, self.normal, self.normal, self.residual, self.residual, self.together,
            self.gated, self.moved, self.flat,
        ]  # fmt: skip
        if self.wide and self.rng.random() < 0.4:
            return self.plain(x)
        kind = self.rng.random()
        if kind < 0.02:
            return self.differentiated(x)
        if kind < 0.04:
            return self.noisy(x)
        return self.pick(choices)(x)

    def updates_of(self, parameters: Sequence[Parameter], grads: Sequence[Expr]) -> dict[Any, Expr]:
        return {**super().updates_of(parameters, grads), **nn.updates_of(*self.pool)}

    def case(self) -> Case:
        channels = int(self.pick((12, 16, 16, 20) if self.wide else (1, 2, 3, 3, 4, 8)))
        low, high = (4, 8) if self.wide else (1, 9) if self.axes == 2 else (3, 20)
        self.pool = [self.image(channels, self.spread(self.each(low, high)))]
        if self.rng.random() < 0.2:
            self.pool.append(self.image(int(self.pick(CHANNELS)), self.space_of(self.pool[0])))
        for _ in range(int(self.rng.integers(2, 9))):
            try:
                new = self.grow(self.pool)
            except ShapeError as error:  # a kernel that does not fit on the image
                assert "larger than the image" in str(error) or "gives a result" in str(error)
                continue
            if new.ndim <= 4 and sizes_of(new) < min(40_000, self.most / 50):
                self.pool.append(new)
        case = self.finished()
        # As they are, gradients of convolutions hold every tap: slow, and not what users run.
        loose = 1e-3 if self.dtype == "float32" else 1e-10
        return replace(
            case,
            rewritten=bool(self.rng.random() < 0.9),
            tolerance=loose if self.rng.random() < 0.3 else 0.0,
        )
