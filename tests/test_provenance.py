"""Provenance both ways: every kernel knows its mathematics and lines, every value its kernels."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgrad as sg
from symgrad.node import Constant, Expr, Leaf, Random, SizeOf
from symgrad.show.brief import brief

HERE = Path(__file__)
N = sg.dim("batch", 32)


def labels() -> Expr:
    return sg.input("y", (N,), dtype="int32")


def mlp(**options: Any) -> Any:
    x = sg.input("x", (N, 20))
    W1, b1 = sg.parameter("W1", (20, 32), sg.init.he_normal()), sg.parameter("b1", (32,))
    W2 = sg.parameter("W2", (32, 5), sg.init.he_normal())
    h1 = sg.tanh(x @ W1 + b1)
    logits = h1 @ W2
    loss = sg.losses.cross_entropy(logits, labels())
    return sg.train_step(loss, sg.optim.Adam(1e-2), **options)


def conv(**options: Any) -> Any:
    x = sg.input("x", (N, 1, 12, 12))
    net = sg.nn.Sequential(
        sg.nn.Conv2d(1, 8, 3), sg.nn.BatchNorm(8), sg.nn.relu, sg.nn.MaxPool2d(2),
        sg.nn.Conv2d(8, 8, 3), sg.nn.relu, sg.nn.Flatten(), sg.nn.Dropout(0.1),
        sg.nn.Linear(72, 5),
    )  # fmt: skip
    loss = sg.losses.cross_entropy(net(x, training=True), labels())
    return sg.train_step(loss, sg.optim.SGD(1e-2, momentum=0.9), **options)


def attention(**options: Any) -> Any:
    x, y = sg.input("x", (N, 6, 16)), sg.input("y", (N, 6), dtype="int32")
    h = sg.nn.Residual(sg.nn.MultiHeadAttention(16, 2))(sg.nn.LayerNorm(16)(x))
    logits = sg.nn.Linear(16, 7)(sg.nn.gelu(h))
    return sg.train_step(sg.losses.cross_entropy(logits, y), sg.optim.AdamW(1e-3), **options)


def lstm(**options: Any) -> Any:
    x = sg.input("x", (N, 7, 4))
    h = sg.nn.LSTM(4, 16)(x)
    last = h[0][:, -1] if isinstance(h, tuple) else h[:, -1]
    loss = sg.losses.cross_entropy(sg.nn.Linear(16, 5)(last), labels())
    return sg.train_step(loss, sg.optim.Adam(1e-2), **options)


def embedding(**options: Any) -> Any:
    x = sg.input("x", (N, 4), dtype="int32")
    h = sg.nn.Embedding(30, 8)(x).reshape(N, 32)
    loss = sg.losses.cross_entropy(sg.nn.Linear(32, 5)(h), labels())
    return sg.train_step(loss, sg.optim.Adagrad(1e-2), outputs={"best": sg.max(h)}, **options)


NETWORKS = [mlp, conv, attention, lstm, embedding]
networks = pytest.mark.parametrize("make", NETWORKS, ids=[f.__name__ for f in NETWORKS])


def computed(step: Any) -> list[Expr]:
    """The nodes of the rewritten graph that something has to compute."""
    known = step._pipeline.provenance
    image = known.origins.image
    return [
        n
        for n in known.graph.nodes
        if n in image and not isinstance(n, Leaf) and not isinstance(image[n], (Constant, SizeOf))
    ]


@networks
def test_every_value_has_a_kernel_and_every_kernel_a_value(make: Callable[[], Any]) -> None:
    step = make()
    kernels = step.kernels
    carried = {n for kernel in kernels for n in kernel.expressions}
    missing = [repr(n) for n in computed(step) if n not in carried]
    assert not missing, missing
    program = step._pipeline.schedule.program
    assert len(kernels) == len(program.kernels)
    for kernel in kernels:
        assert kernel.expressions and kernel.maths and kernel.calls >= 1, kernel
        assert kernel.sources, kernel
        assert kernel.bytes or kernel.name.startswith(("copy", "advance")), kernel


@networks
def test_every_value_comes_from_a_line_of_this_file(make: Callable[[], Any]) -> None:
    lines = HERE.read_text().splitlines()
    for kernel in make().kernels:
        for source in kernel.sources:
            assert source.file == str(HERE), (kernel.name, source)
            assert source.text == lines[source.line - 1].strip()


@networks
def test_texts_hold_the_mathematics(make: Callable[[], Any]) -> None:
    step = make()
    schedule, loops = step.stage("schedule"), step.stage("loops")
    llvm, assembly = step.stage("llvm"), step.stage("assembly")
    report = step.report()
    names = [kernel.name for kernel in step.kernels]
    assert len(set(names)) == len(names)
    for kernel in step.kernels:
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", kernel.name), kernel.name
        assert f"define internal void @{kernel.name}(" in kernel.llvm
        assert f"kernel {kernel.name}(" in kernel.loops and kernel.loops in loops
        assert f"\n{kernel.name}:" in "\n" + kernel.assembly
        assert kernel.llvm in llvm and kernel.assembly.splitlines()[-1] in assembly
        assert f"{kernel.name}(" in schedule and f"  {kernel.name}" in report
        for line in kernel.maths[:12]:
            assert f"; {line}  " in re.sub(" +", " ", kernel.llvm).replace(line + " ", line + "  ")
            assert all(line in text for text in (kernel.loops, kernel.assembly, schedule, report))


def test_a_line_of_each_kind() -> None:
    step = mlp()
    named = {kernel.name: kernel for kernel in step.kernels}
    assert {"h1_tanh", "d_W1_adam", "d_W2_adam", "b1_adam"} <= set(named), list(named)
    assert named["h1_tanh"].maths == ("h1 = tanh(x W1 + b1)",)
    assert any("loss = " in line for kernel in step.kernels for line in kernel.maths)
    schedule = step.stage("schedule")
    assert re.search(r"h1 = tanh\(x W1 \+ b1\) +test_provenance.py:\d+", schedule)
    table = str(step.profile(seconds=0.01))
    assert re.search(r"h1_tanh +h1 = tanh\(x W1 \+ b1\)  test_provenance.py:\d+", table)


def test_the_way_back() -> None:
    x = sg.input("x", (N, 20))
    W = sg.parameter("W", (20, 8), sg.init.he_normal())
    z = x @ W
    h = sg.nn.silu(z)
    loss = sg.mean(h**2)
    step = sg.train_step(loss, sg.optim.SGD(0.1))

    def names(what: Any) -> list[str]:
        return [kernel.name for kernel in step.kernel_of(what)]

    assert names(h) and names(h)[0] in names("h")
    assert set(names(z)) & set(names("z"))
    assert names(W) == names("W") == names("W'")  # what changes it
    assert any(name in names("loss") for name in names(loss))
    assert step.expressions["loss"] is step._pipeline.rewritten.outputs["loss"]
    for name, e in step.expressions.items():
        assert [k.name for k in step.kernel_of(e)] == names(name)
    with pytest.raises(sg.errors.InputError, match="no kernel computes 'nothing'"):
        step.kernel_of("nothing")
    with pytest.raises(sg.errors.InputError, match="no kernel computes"):
        step.kernel_of(sg.cos(x))


def test_rewrites_read_as_mathematics() -> None:
    z = sg.input("z", (N, 5))
    y = labels()
    p = sg.exp(z) / sg.exp(z).sum(axis=1, keepdims=True)
    loss = -(sg.one_hot(y, 5) * sg.log(p)).sum(axis=1).mean()
    rewrites = sg.function([z, y], [loss, sg.grad(loss, z)]).rewrites
    lines = str(rewrites).splitlines()
    assert len(lines) == len(rewrites) > 3
    assert any(
        re.fullmatch(
            r"test_provenance.py:\d+: stabilise: softmax: exp\(z\) / \(Σ_j exp\(z_ij\)\) -> "
            r"softmax\(z\)",
            line,
        )
        for line in lines
    ), lines
    assert any("softmax: exp(z)" in str(r) for r in rewrites)  # one alone
    assert not any("<" in line for line in lines)


def test_a_deep_graph_is_told_in_a_few_words() -> None:
    h = sg.input("x", (3, 3))
    for _ in range(300):
        h = sg.sin(h @ h) + h
    assert len(brief(h)) <= 88 and len(brief(h, 20)) <= 20
    assert brief(sg.exp(sg.input("a", (2,)))) == "exp(a)"


def test_what_is_not_finite_is_named_as_in_the_model() -> None:
    x = sg.input("x", (4,))
    p = sg.exp(x) - 2
    loss = sg.sum(sg.sqrt(p) * x)
    f = sg.function([x], loss, check="finite")
    with pytest.raises(sg.errors.NonFiniteError) as caught:
        f(np.array([1, -1, 2, 3]))
    first, line = str(caught.value).splitlines()
    assert first == "sqrt(p) is nan in 1 of 4 elements, first at [1]"
    assert re.fullmatch(r"  at test_provenance.py:\d+: loss = sg.sum\(sg.sqrt\(p\) \* x\)", line)


def test_equal_kernels_are_one_with_all_its_calls() -> None:
    x = sg.input("x", (N, 16))
    h = x
    for i in range(4):
        h = sg.tanh(h @ sg.parameter(f"W{i}", (16, 16), sg.init.he_normal()))
    f = sg.function([x], h)
    shared = [kernel for kernel in f.kernels if kernel.calls > 1]
    assert shared and all(len(kernel.maths) >= kernel.calls for kernel in shared)


def test_names_that_become_one_are_numbered() -> None:
    x = sg.input("x", (N, 32))
    one, other = sg.parameter("w.a", (32, 16)), sg.parameter("w_a", (32, 48))
    loss = sg.mean(sg.tanh(x @ one)) + sg.mean(sg.exp(x @ other))
    names = [kernel.name for kernel in sg.train_step(loss, sg.optim.SGD(0.1)).kernels]
    assert {"d_w_a_update", "d_w_a_update_2"} <= set(names) and len(set(names)) == len(names)


def test_kernels_of_a_loop_run_at_every_step() -> None:
    step = lstm()
    assert any(kernel.calls % 7 == 0 for kernel in step.kernels)
    assert "for t of 7, in order:" in step.stage("schedule")
    often = sum(kernel.calls for kernel in step.kernels)
    assert f"in {often} calls" in step.report()


def test_random_numbers_belong_to_a_kernel() -> None:
    step = conv()
    (kernel,) = [k for k in step.kernels if k.name == "advance_rng"]
    assert all(isinstance(n, Random) for n in kernel.expressions)


def test_interpreted_functions_have_no_kernels() -> None:
    step = mlp(target="interpret")
    assert step.kernels == []
    with pytest.raises(sg.errors.InputError, match="interpret"):
        step.kernel_of("h1")


def test_names_change_nothing_that_is_compiled() -> None:
    """The module for readers is the module that is compiled, but for names and comments."""
    pipeline = mlp()._pipeline
    plain, readable = pipeline.llvm, pipeline.readable_llvm
    for old, new in pipeline.provenance.names.items():
        plain = re.sub(rf"@{old}\b", f"@{new}", plain)
    assert without_comments(readable) == without_comments(plain)
    assert "test_provenance.py" in readable and "test_provenance.py" not in plain


def without_comments(llvm: str) -> list[str]:
    return [line for line in llvm.splitlines() if line[:1] != ";"]


MODEL = """
import symgrad as sg
{pad}
def build():
    {x} = sg.input("x", (4, 3))
    {w} = sg.parameter("{w}", (3, 2), sg.init.ones())
    {h} = sg.tanh({x} @ {w})
    loss = sg.mean({h} ** 2)
    return sg.train_step(loss, sg.optim.SGD(0.1))
"""


def test_a_cached_function_shows_its_own_names_and_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYMGRAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SYMGRAD_CHECK", raising=False)
    steps = []
    for name, words in (
        ("one", {"pad": "", "x": "x", "w": "w", "h": "h"}),
        ("other", {"pad": "\n\n\n", "x": "rows", "w": "weight", "h": "hidden"}),
    ):
        path = tmp_path / f"{name}.py"
        path.write_text(MODEL.format(**words))
        space: dict[str, Any] = {}
        exec(compile(path.read_text(), str(path), "exec"), space)  # noqa: S102
        steps.append(space["build"]())
    one, other = steps
    assert not one._backend.code.cached and other._backend.code.cached
    assert "h = tanh(x w)" in one.report() and "one.py:7" in one.report()
    for text in (other.report(), other.stage("llvm"), str(other.profile(seconds=0.01))):
        assert "hidden" in text and "other.py:10" in text
        assert "one.py" not in text
    assert np.float32(one(np.ones((4, 3)))) == np.float32(other(np.ones((4, 3))))


def test_comments_cannot_be_closed_by_names() -> None:
    """Names are the user's: any text may stand in them."""
    x = sg.input("x\nret void", (4,))
    w = sg.parameter("w }\n@", (4,), sg.init.ones())
    step = sg.train_step(sg.mean((x * w) ** 2), sg.optim.SGD(0.1))
    for kernel in step.kernels:
        assert kernel.llvm and kernel.assembly


def test_numbers_written_elsewhere_first_are_no_lines_of_a_model() -> None:
    """`1 / batch` is one node for all that use it."""
    n = sg.dim("elsewhere", max=8)
    other = {"sg": sg, "n": n}
    exec(compile("kept = sg.mean(sg.input('q', (n,)))", "elsewhere.py", "exec"), other)
    x = sg.input("x", (n, 4))
    loss = sg.mean(sg.square(x @ sg.parameter("w", (4,))))
    step = sg.train_step(loss, sg.optim.SGD(0.1))
    files = {source.file for kernel in step.kernels for source in kernel.sources}
    assert files == {str(HERE)}
