"""Wrong shapes, dtypes and names: one clear message with the operation, the shapes, the line."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symgrad as sg
from symgrad.errors import DTypeError, ShapeError, SymgradError

n = sg.dim("n", max=16)
x = sg.input("x", (2, 3))
y = sg.input("y", (4, 5))
v = sg.input("v", (3,))
i = sg.input("i", (3,), "int32")
b = sg.input("b", (3,), "bool")
r = sg.input("r", (n, 3))

SHAPE: dict[str, tuple[Callable[[], Any], str]] = {
    "add": (lambda: x + y, r"add: shapes \(2, 3\) and \(4, 5\) do not fit, sizes 2 and 4"),
    "add a run-time size": (lambda: r + x, r"add: shapes \(n, 3\) and \(2, 3\)"),
    "where": (lambda: sg.where(x > 0, x, y), r"where: shapes .*\(4, 5\)"),
    "matmul": (lambda: x @ y, r"matmul: inner sizes 3 and 4 differ, shapes \(2, 3\) and \(4, 5\)"),
    "matmul of a number": (lambda: x @ sg.sum(x), r"matmul: takes at least one axis.*\(\)"),
    "matmul batch": (
        lambda: sg.matmul(sg.input("a", (2, 1, 3)), sg.input("b", (4, 3, 1))),
        r"matmul: shapes \(2,\) and \(4,\) do not fit",
    ),
    "dot": (lambda: sg.dot(x, y), "dot: inner sizes 3 and 4"),
    "tensordot": (lambda: sg.tensordot(x, y, 1), r"tensordot: axes \[1\] of \(2, 3\)"),
    "tensordot axes": (lambda: sg.tensordot(x, y, 3), "tensordot: 3 axes"),
    "einsum size": (lambda: sg.einsum("ij,jk->ik", x, y), "einsum 'ij,jk->ik': sizes 3 and 4"),
    "einsum rank": (lambda: sg.einsum("ijk->i", x), r"einsum 'ijk->i': 'ijk' does not fit"),
    "einsum terms": (lambda: sg.einsum("ij,jk->ik", x), "2 terms for 1 operands"),
    "einsum output": (lambda: sg.einsum("ij->k", x), "output index 'k'"),
    "einsum twice": (lambda: sg.einsum("ij->ii", x), "output index 'i'"),
    "einsum letters": (lambda: sg.einsum("i1->i", x), "'i1' is not made of letters"),
    "einsum dots": (lambda: sg.einsum("...i->i", x), "output lacks the ellipsis"),
    "sum axis": (lambda: sg.sum(x, axis=2), r"sum: axis 2 is out of range for shape \(2, 3\)"),
    "axis twice": (lambda: sg.sum(x, axis=(0, -2)), r"sum: axis \(0, -2\) names one twice"),
    "axis type": (lambda: sg.mean(x, axis=1.5), "mean: an axis is an int, got 1.5"),
    "argmax axis": (lambda: sg.argmax(x, axis=-3), "argmax: axis -3 is out of range"),
    "max of nothing": (lambda: sg.max(sg.input("e", (0, 2)), 0), "max: an empty axis"),
    "norm ord": (lambda: sg.norm(x, "nuc"), "norm: ord is a number"),
    "reshape": (lambda: sg.reshape(x, (4, 2)), r"reshape: \(2, 3\) has 6 elements, \(4, 2\) has 8"),
    "reshape -1": (lambda: sg.reshape(x, (4, -1)), "no size for -1"),
    "reshape -1 twice": (lambda: sg.reshape(x, (-1, -1)), "more than one -1"),
    "reshape size": (lambda: sg.reshape(x, (2.5, 2)), "reshape: 2.5 is not a size"),
    "transpose": (lambda: sg.transpose(x, (0, 0)), r"transpose: \(0, 0\) is no order"),
    "transpose rank": (lambda: sg.transpose(x, (0,)), "transpose"),
    "squeeze": (lambda: sg.squeeze(x, 0), "squeeze: axis 0 of .* has size 2, not 1"),
    "expand_dims": (lambda: sg.expand_dims(x, 4), "expand_dims: axis 4 is out of range"),
    "broadcast_to": (lambda: sg.broadcast_to(x, (3, 3)), r"\(2, 3\) does not fit \(3, 3\)"),
    "broadcast_to less": (lambda: sg.broadcast_to(x, (3,)), r"does not fit \(3,\)"),
    "concatenate": (lambda: sg.concatenate([x, y]), r"concatenate: shapes \(2, 3\), \(4, 5\)"),
    "concatenate rank": (lambda: sg.concatenate([x, v]), "concatenate: shapes"),
    "concatenate nothing": (lambda: sg.concatenate([]), "at least one"),
    "concatenate one": (lambda: sg.concatenate(x), "takes a list of expressions, got Input"),
    "concatenate run-time": (lambda: sg.concatenate([r, x]), "run-time size n"),
    "stack": (lambda: sg.stack([x, y]), r"stack: shapes \(2, 3\), \(4, 5\) differ"),
    "split": (lambda: sg.split(x, 2, axis=1), "size 3 of axis 1 does not divide into 2"),
    "split run-time": (lambda: sg.split(r, 2), "run-time size"),
    "pad": (lambda: sg.pad(x, -1), r"pad: width \(-1, -1\)"),
    "pad pairs": (lambda: sg.pad(x, ((1, 1),) * 3), "pad: width .* does not fit"),
    "pad mode": (lambda: sg.pad(x, 1, mode="edge"), "mode is 'constant'"),
    "tile": (lambda: sg.tile(x, -1), "tile: -1"),
    "tril": (lambda: sg.tril(v), "tril: takes at least two axes"),
    "diag": (lambda: sg.diag(sg.input("t", (2, 2, 2))), "diag: takes one or two axes"),
    "trace": (lambda: sg.trace(x, axis1=1), "axis1 and axis2 are both 1"),
    "index": (lambda: x[2], r"getitem: index 2 is out of range for axis 0 of \(2, 3\)"),
    "index -4": (lambda: x[0, -4], "index -4 is out of range for axis 1"),
    "indices": (lambda: x[[0, 2]], "getitem: index 2 is out of range for axis 0 of size 2"),
    "too many": (lambda: x[0, 0, 0], "getitem: 3 indices for shape"),
    "two dots": (lambda: x[..., ...], "more than one ellipsis"),
    "mask": (lambda: x[x > 0], r"x\[mask\] depends on values; use where"),
    "step 0": (lambda: x[::0], "getitem: ::0"),
    "slice run-time": (lambda: r[1:], r"getitem: \[1:\] of an axis of run-time size n"),
    "index run-time": (lambda: r[1], r"getitem: \[1\] of an axis of run-time size n"),
    "take": (lambda: sg.take(x, [5], 1), "take: index 5 is out of range for axis 1 of size 3"),
    "take axis": (lambda: sg.take(x, [0], 2), "take: axis 2 is out of range"),
    "take_along": (lambda: sg.take_along_axis(x, i, 0), "different numbers of axes"),
    "one_hot": (lambda: sg.one_hot(i, 0), "one_hot: classes is a positive int"),
    "one_hot label": (lambda: sg.one_hot([0, 4], 4), "one_hot: index 4 is out of range"),
    "arange": (lambda: sg.arange(1, n), "arange: to the run-time size n"),
    "input": (lambda: sg.input("z", (2, -1)), "input 'z': -1 is not a size"),
    "parameter": (lambda: sg.parameter("W", (2, n)), "parameter 'W': its sizes must be ints"),
    "init": (lambda: sg.parameter("W", (2,), np.ones(3)), r"init has shape \(3,\)"),
    "stack of a number": (lambda: sg.stack(3), "stack: takes a list"),
}
DTYPE: dict[str, tuple[Callable[[], Any], str]] = {
    "text": (lambda: x + "a", r"add: takes expressions, arrays and numbers, got 'a' \(str\)"),
    "None": (lambda: x * None, "mul: takes expressions.*NoneType"),
    "object": (lambda: sg.exp(object()), "exp: takes expressions"),
    "complex": (lambda: x + 1j, "add: takes expressions"),
    "array of text": (lambda: x + np.array(["a"]), "add: takes expressions"),
    "take": (lambda: sg.take(x, v), "take: indices must be integers, got float32"),
    "take list": (lambda: sg.take(x, [0.5]), "take: indices must be integers, got float64"),
    "getitem": (lambda: x[v], "getitem: indices must be integers, got float32"),
    "getitem text": (lambda: x["a"], "getitem: an index is an int.* got 'a'"),
    "getitem float": (lambda: x[1.0], "getitem: an index is"),
    "one_hot": (lambda: sg.one_hot(v, 3), "one_hot: labels must be integers, got float32"),
    "neg bool": (lambda: -b, "neg: not defined for bools"),
    "sub bool": (lambda: b - b, "sub: not defined between bools"),
    "int power": (lambda: i**-1, "pow: integers to the negative power -1"),
    "int overflow": (lambda: i + 2**40, "add: 1099511627776 does not fit int32"),
    "cast": (lambda: sg.cast(x, "float16"), "dtype 'float16' is not supported"),
    "input": (lambda: sg.input("z", (2,), "complex64"), "dtype 'complex64' is not supported"),
    "random": (lambda: sg.random.normal((2,), dtype="int32"), "random.normal: dtype is"),
    "constant": (lambda: sg.constant(x), "constant: takes an array or a number"),
    "pad": (lambda: sg.pad(x, 1, constant_values="a"), "pad: the value is a number"),
}


def message(function: Callable[[], Any], kind: type[SymgradError]) -> str:
    with pytest.raises(kind) as caught:
        function()
    return str(caught.value)


@pytest.mark.parametrize("case", SHAPE)
def test_shape_errors(case: str) -> None:
    function, expected = SHAPE[case]
    check(message(function, ShapeError), expected)


@pytest.mark.parametrize("case", DTYPE)
def test_dtype_errors(case: str) -> None:
    function, expected = DTYPE[case]
    check(message(function, DTypeError), expected)


def check(text: str, expected: str) -> None:
    """The message, and below it the line of this file that was at fault."""
    import re

    assert re.search(expected, text), text
    if "init has" not in text and "sizes must be" not in text:
        assert re.search(r"\n  at test_ops_errors\.py:\d+: ", text), text
    assert len(text.splitlines()) == (2 if "\n" in text else 1)


def test_an_expression_has_no_truth_value() -> None:
    with pytest.raises(TypeError, match="no truth value before it is run"):
        bool(x > 0)
    with pytest.raises(TypeError, match="compile it"):
        np.asarray(x)


def test_an_expression_is_not_copied() -> None:
    layer = sg.nn.Linear(3, 2)
    layer(sg.input("rows", (4, 3)))
    for copied in (copy.deepcopy, copy.copy, pickle.dumps):
        with pytest.raises(TypeError, match="neither copied nor pickled"):
            copied(x)
    with pytest.raises(TypeError, match="neither copied nor pickled"):
        copy.deepcopy(layer)
