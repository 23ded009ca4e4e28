"""The tutorial notebook runs, cell by cell, and everything in it shows itself."""

from __future__ import annotations

import ast
import json
import linecache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgrad as sg

PATH = Path(__file__).parent.parent / "examples/tutorial.ipynb"
RICH = ("_repr_latex_", "_repr_html_", "_repr_svg_")


class Checker(HTMLParser):
    """Whether every tag is closed by its own."""

    VOID = {"br", "meta", "hr", "img", "input", "link"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.text += data


def html_text(html: str) -> str:
    """The text of well-formed HTML that asks nothing of a network."""
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert not checker.open, checker.open
    assert "<script" not in html and "http://" not in html.replace("http://www.w3.org", "")
    assert "https://" not in html
    return checker.text


def cells() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(PATH.read_text(encoding="utf-8"))["cells"]
    return found


def test_the_file_is_a_clean_notebook() -> None:
    notebook = json.loads(PATH.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4 and notebook["metadata"]["language_info"]["name"] == "python"
    assert PATH.stat().st_size < 20_000
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        assert cell["cell_type"] in ("markdown", "code")
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
    try:
        import nbformat
    except ImportError:
        return
    nbformat.validate(notebook)


def run(source: str, name: str, space: dict[str, Any]) -> Any:
    """What a notebook shows of a cell: the value of its last expression."""
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    tree = ast.parse(source, name)
    last = tree.body[-1]
    if not isinstance(last, ast.Expr):
        exec(compile(tree, name, "exec"), space)  # noqa: S102
        return None
    tree.body.pop()
    exec(compile(tree, name, "exec"), space)  # noqa: S102
    return eval(compile(ast.Expression(last.value), name, "eval"), space)  # noqa: S307


def test_every_cell_runs_and_shows_itself(capsys: pytest.CaptureFixture[str]) -> None:
    space: dict[str, Any] = {"__name__": "__main__"}
    shown: dict[str, Any] = {}
    for i, cell in enumerate(cells()):
        if cell["cell_type"] != "code":
            continue
        source = "".join(cell["source"])
        value = run(source, f"cell{i}.py", space)
        if value is not None:
            assert any(hasattr(value, name) for name in RICH), source
            shown[source.splitlines()[-1]] = value
            for name in RICH:
                if hasattr(value, name):
                    text = getattr(value, name)()
                    assert text if name == "_repr_latex_" else html_text(text), (source, name)
    assert "% right" in capsys.readouterr().out
    assert "tanh" in shown["h"]._repr_latex_()
    gradient = str(shown["sg.simplify(sg.grad(loss, W2))"])
    assert "hᵀ" in gradient and "onehot(y)" in gradient
    assert "h = tanh(x W1 + b1)" in html_text(shown["step.kernels"]._repr_html_())
    assert "cell1.py" in html_text(shown["kernel"]._repr_html_())
    assert shown["kernel"].name == "h_tanh" and "h_tanh:" in shown["kernel"].assembly


def test_it_runs_in_a_kernel() -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(PATH, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300).execute()


def test_names_are_escaped() -> None:
    x = sg.input("<b>x</b>", (3,))
    w = sg.parameter("<i>", (3,), sg.init.ones())
    step = sg.train_step(sg.mean(sg.exp(x * w)), sg.optim.SGD(0.1))
    profile = step.profile(seconds=0.01)
    for value in (step, step.state, step.kernels, step.kernels[0], step.report(), profile):
        shown = value._repr_html_()
        assert "<b>x" not in shown and "<i>" not in shown
        assert "<i>" in html_text(shown)


def test_interpreted_and_empty_things_show_themselves() -> None:
    x = sg.input("x", (3,))
    f = sg.function([x], x + 1, target="interpret")
    assert np.allclose(f(np.zeros(3)), 1)
    for value in (f, f.state, f.kernels, f.report(), f.rewrites):
        html_text(value._repr_html_())
    assert isinstance(f.report(), str) and isinstance(f.kernels, list)
