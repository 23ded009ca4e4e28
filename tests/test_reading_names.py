"""Names of variables: the one that really holds a value, or none."""

# ruff: noqa: E702 - several statements on a line are what is tested

from __future__ import annotations

import symgrad as sg
from symgrad.node import Expr, toposort
from symgrad.show.names import from_model

x = sg.input("x", (3, 4))


def named(*outputs: Expr) -> dict[str, str]:
    """What each name of a graph is the name of: the function of its node."""
    order = toposort(list(outputs))
    names = from_model(order, outputs)
    return {names[id(e)]: e.attrs[0] for e in order if id(e) in names}


def test_several_on_a_line() -> None:
    a = sg.tanh(x); b = sg.exp(a)  # fmt: skip
    assert named(sg.sum(b)) == {"a": "tanh", "b": "exp"}


def test_tuples() -> None:
    """Right, or none: how a tuple is stored differs between versions of Python."""
    a, b = sg.sin(x), sg.cosh(x)
    found = named(sg.sum(a * b))
    assert found.items() <= {"a": "sin", "b": "cosh"}.items()


def test_other_assignments() -> None:
    a: Expr = sg.sin(x)
    a += 1.0
    if (b := sg.cos(a)) is not None:
        c = d = sg.tan(b)
    assert named(sg.sum(c)) == {"a1": "sin", "a2": "add", "b": "cos", "c": "tan"}
    assert d is c


def test_loops() -> None:
    h: Expr = x
    for k in range(3):
        h = sg.tanh(h * float(k + 2))
    assert named(sg.sum(h)) == {"h1": "tanh", "h2": "tanh", "h3": "tanh"}


def test_what_a_function_returns() -> None:
    """The caller's variable, through layers and functions that return it as it is."""
    layer = sg.nn.Linear(4, 4)

    def net(v: Expr) -> Expr:
        u = layer(v)
        return sg.nn.relu(u) + v

    logits = net(x)
    probs = sg.nn.softmax(logits)
    assert named(sg.sum(sg.log(probs))) == {"u": "add", "logits": "add", "probs": "div"}


def test_parts_of_a_line_have_no_name() -> None:
    """The sum in `p = exp(z) / sum(exp(z))` is not p, also where p is gone."""
    p = sg.exp(x) / sg.exp(x).sum(axis=1, keepdims=True)
    assert named(p) == {"p": "div"}
    (below,) = [e for e in toposort([p]) if e.kind == "contract" and e.ndim == 1]
    assert named(below) == {}
    stable, _ = sg.rewrite.run([p])
    assert "p" not in named(*[e for e in toposort(stable) if e.ndim == 1])
    assert str(sg.simplify(sg.grad((p * p).sum(), x))).startswith("p = softmax(x)\n")


def test_attributes() -> None:
    class Model:
        hidden: Expr

    m = Model()
    m.hidden = sg.tanh(x)
    assert named(sg.sum(m.hidden)) == {"hidden": "tanh"}
