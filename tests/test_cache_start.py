"""A start from the object cache: what it imports, what it is keyed by, what invalidates it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgrad as sg
from symgrad.compile.function import Function

ROOT = Path(__file__).parent.parent
PROGRAM = """
import sys
import numpy as np
import symgrad as sg

n = sg.dim("batch", 8)
x, y = sg.input("x", (n, 4)), sg.input("y", (n,), dtype="int32")
model = sg.nn.Sequential(sg.nn.Linear(4, 8), sg.nn.gelu, sg.nn.Dropout(0.2), sg.nn.Linear(8, 3))
loss = sg.losses.cross_entropy(model(x, training=True), y)
step = sg.train_step(loss, sg.optim.Adam(0.01), outputs={"z": model(x)})
rng = np.random.default_rng(0)
for _ in range(3):
    result = step(rng.standard_normal((8, 4)), rng.integers(0, 3, 8))
heavy = [m for m in ("llvmlite", "sympy", "rich", "opt_einsum", "symgrad.rewrite", "symgrad.grad",
                     "symgrad.schedule.build", "codegen.emit") if m in sys.modules]
print(step._backend.code.cached, heavy, result["loss"].hex())
print(step.report().splitlines()[0])
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SYMGRAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SYMGRAD_CHECK", raising=False)
    return tmp_path / "cache"


def start(path: Path) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(path)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_second_start_compiles_nothing(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    first, second = start(tmp_path / "program.py"), start(tmp_path / "program.py")
    assert first[0].startswith("False") and second[0].startswith("True [] ")
    assert first[0].split()[-1] == second[0].split()[-1]  # the same bits
    assert first[1] == second[1]


def test_a_damaged_entry_is_compiled_again(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    first = start(tmp_path / "program.py")
    for entry in folder.rglob("*"):
        if entry.is_file():
            entry.write_bytes(entry.read_bytes()[:-7])
    assert start(tmp_path / "program.py")[0].split()[0] == "False"
    again = start(tmp_path / "program.py")
    assert again[0].startswith("True") and again[0].split()[-1] == first[0].split()[-1]


def cached(f: Function) -> bool:
    return bool(f._backend.code.cached)  # type: ignore[attr-defined]


def build(
    scale: float = 2.0, names: tuple[str, str] = ("a", "b"), swap: bool = False, **options: Any
) -> Function:
    x = sg.input("x", (4,))
    a, b = (sg.parameter(name, (4,), init=i + 1.0) for i, name in enumerate(names))
    return sg.function([x], x * scale + (a - b if not swap else b - a), **options)


def test_the_key_is_the_mathematics() -> None:
    assert not cached(build())
    assert cached(build())
    assert cached(build(names=("p", "q")))  # names are no part of the code
    assert not cached(build(scale=3.0))
    assert not cached(build(target="sse2"))


def test_the_key_knows_the_largest_sizes() -> None:
    for largest in (8, 16, 8):
        x = sg.input("x", (sg.dim("n", largest),))
        f = sg.function([x], x * 2)
        assert f(np.ones(largest, np.float32)).tolist() == [2] * largest
        with pytest.raises(sg.errors.InputError, match=f"outside 1..{largest}"):
            f(np.ones(largest + 1, np.float32))


def test_positions_and_not_names_bind_parameters() -> None:
    one = np.zeros(4, np.float32)
    assert build()(one).tolist() == [-1] * 4
    assert build(names=("z", "y"))(one).tolist() == [-1] * 4
    assert build(swap=True)(one).tolist() == [1] * 4
    assert build(swap=True)(one).tolist() == [1] * 4


def test_a_users_operation_is_keyed_by_its_formula() -> None:
    import sympy as sp

    x = sg.input("x", (4,))
    values = np.array([1, 2, 3, 4], np.float32)
    program = (
        "import sympy as sp, symgrad as sg, numpy as np\n"
        "op = sg.elementwise('users', lambda x: {})\n"
        "f = sg.function([x := sg.input('x', (4,))], op(x))\n"
        "print(f(np.array([1, 2, 3, 4], np.float32)).tolist())\n"
    )
    path = Path(os.environ["SYMGRAD_CACHE"]).parent / "users.py"
    for formula, expected in (("x + 1", values + 1), ("x * 2", values * 2)):
        path.write_text(program.format(formula))
        assert start(path) == [str(expected.tolist())] == start(path)
    assert sp.__name__ == "sympy" and x.name == "x"


def test_ones_own_gradient_is_keyed_by_what_it_is() -> None:
    def step(slope: float) -> Any:
        w = sg.parameter("w", (4,), init=np.ones(4))

        @sg.custom_gradient
        def double(v: Any) -> Any:
            return v * 2, lambda g: g * slope

        made = sg.train_step(sg.sum(double(w)), sg.optim.SGD(1.0))
        made()
        return made

    first, second, third = step(2.0), step(3.0), step(2.0)
    assert first.state["w"].tolist() == [-1] * 4 and second.state["w"].tolist() == [-2] * 4
    assert not cached(second) and cached(third) and third.state["w"].tolist() == [-1] * 4


def test_without_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYMGRAD_CACHE", "off")
    assert not cached(build()) and not cached(build())


def test_a_parameter_given_at_each_call_is_another_function() -> None:
    x, w = sg.input("x", (3,)), sg.parameter("w", (3,), init=sg.init.ones())
    given, kept = sg.function([x, w], x * w), sg.function([x], x * w)
    X = np.arange(3, dtype="float32")
    assert given(X, 2 * X).tolist() == [0, 2, 8]
    assert kept(X).tolist() == [0, 1, 2]
    kept.state["w"] = 3 * np.ones(3)
    assert kept(X).tolist() == [0, 3, 6] and given(X, X).tolist() == [0, 1, 4]
