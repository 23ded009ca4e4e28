"""Products by register tiles: what their schedules say, and that all tiles compute the same.

Attention and dense layers over (batch, tokens, features), where one block of samples is in lanes;
each graph is run in every way and compared.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from fuzz_graphs import Case
from fuzzing import check_case

import symgrad as sg
from codegen.show import show_kernel
from symgrad.compile.pipeline import Pipeline
from symgrad.node import Expr, Input, Parameter


def case(outputs: dict[str, Expr], inputs: list[Input], parameters: list[Parameter]) -> Case:
    rng = np.random.default_rng(0)
    env = {x: rng.normal(size=x.shape) for x in [*inputs, *parameters]}
    updates = {p: p - 0.1 * g for p, g in zip(parameters, sg.grad(outputs["loss"], parameters))}
    return Case(0, inputs, outputs, updates, env, {})


def dense(batch: int, tokens: int, features: int, width: int, activation: str) -> Case:
    x = Input("x", (batch, tokens, features))
    w = Parameter("w", (features, width))
    b = Parameter("b", (width,))
    v = Parameter("v", (width, features))
    hidden = getattr(sg.nn, activation)(x @ w + b)
    return case({"loss": sg.mean((hidden @ v - x) ** 2)}, [x], [w, b, v])


def attention(batch: int, tokens: int, heads: int, width: int) -> Case:
    x = Input("x", (batch, tokens, heads * width))
    parameters = [Parameter(name, (heads * width, heads * width)) for name in "qkvo"]
    q, k, v = (
        sg.transpose(sg.reshape(x @ p, (batch, tokens, heads, width)), (0, 2, 1, 3))
        for p in parameters[:3]
    )
    mixed = sg.transpose(sg.nn.functional.attention(q, k, v, causal=True), (0, 2, 1, 3))
    y = sg.reshape(mixed, (batch, tokens, heads * width)) @ parameters[3]
    return case({"loss": sg.mean(y**2)}, [x], parameters)


DENSE = [
    (16, 4, 16, 32),
    (12, 5, 7, 24),
    (16, 3, 9, 5),
    (4, 8, 16, 16),
    (3, 4, 16, 16),
    (32, 2, 8, 8),
]
ATTENTION = [(16, 16, 2, 8), (5, 17, 2, 16), (16, 32, 1, 4)]


@pytest.mark.parametrize("sizes", DENSE)
def test_dense_layers_of_tokens(sizes: tuple[int, int, int, int]) -> None:
    check_case(dense(*sizes, "gelu"))


def test_tokens_of_all_samples_as_rows() -> None:
    """A reshape that is not the same memory, since samples lie in lanes before it."""
    x = Input("x", (16, 3, 8))
    w, v = Parameter("w", (8, 16)), Parameter("v", (16, 8))
    rows = sg.reshape(sg.tanh(x @ w), (48, 16)) @ v
    check_case(case({"loss": sg.mean(rows**2)}, [x], [w, v]))


@pytest.mark.parametrize("sizes", ATTENTION)
def test_attention(sizes: tuple[int, int, int, int]) -> None:
    check_case(attention(*sizes))


def test_attention_whose_vectors_are_copied_together() -> None:
    """A head's values lie pages apart: native code against the interpreter of graphs."""
    c = attention(16, 24, 4, 16)
    c.outputs["loss"] *= 1e3  # gradients of some size
    leaves = [p for p in c.updates]
    results = []
    for target in ("native", "interpret"):
        grads = sg.grad(c.outputs["loss"], leaves)
        f = sg.function(c.inputs, grads, updates={p: p * 1 for p in leaves}, target=target)
        for p in leaves:
            f.state[p] = c.env[p].astype("float32") * 0.2
        results.append(f(*(c.env[x].astype("float32") for x in c.inputs)))
        if target == "native":
            kernels = [show_kernel(k) for k in f._pipeline.schedule.program.kernels]
            assert sum("acc" in k and "[16*j" in k for k in kernels), kernels
    for ours, theirs in zip(*results):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())


def lines(c: Case) -> str:
    loss, updates = c.outputs["loss"], c.updates
    step = sg.function(c.inputs, loss, updates=updates)
    pipeline: Pipeline = step._pipeline
    return "\n".join(
        f"{e.kernel}({', '.join(e.buffers)}): {', '.join(n.name for n in e.nodes)}"
        for e in pipeline.schedule.entries
    )


@pytest.mark.parametrize("activation", ["gelu", "silu"])
def test_the_derivative_of_an_activation_is_kept_in_place_of_its_argument(activation: str) -> None:
    text = lines(dense(16, 4, 16, 32, activation))
    product = next(line for line in text.splitlines() if ": contract" in line and "mul" in line)
    results = re.search(r"\((.*)\): (.*)", product)
    assert results is not None
    assert "contract" not in results[1], product  # the sum itself is not stored


def test_heads_are_read_where_they_lie() -> None:
    """Gradients of the three projections are copied, transposed, for those of the weights."""
    found = re.findall("^.*reshape.*$", lines(attention(16, 16, 2, 16)), re.M)
    assert sum(line.startswith("convert") for line in found) <= 3, found


def test_what_comes_from_far_is_asked_for_in_time() -> None:
    """A weight gradient of many tokens, and an epilogue with a large operand: as NumPy has them."""
    x = Input("x", (16, 80, 64))
    w = Parameter("w", (64, 64))
    y = x @ w
    f = sg.function([x], sg.grad(sg.mean(y**3), w), updates={w: w})
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=x.shape).astype("float32"), rng.normal(size=(64, 64)).astype("float32")
    f.state[w] = b
    program = f._pipeline.schedule.program
    kernels = [show_kernel(k) for k in program.kernels]
    assert any("prefetch" in k for k in kernels), kernels
    wanted = np.einsum("btk,btl->kl", a, 3 * (a.astype("float64") @ b) ** 2) / y.size
    np.testing.assert_allclose(f(a), wanted, rtol=2e-4, atol=1e-5)
