"""The files that sg.draw writes: SVG, PNG, DOT, Mermaid, HTML; what it says when it cannot."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import drawings
import numpy as np
import pytest

import symgrad as sg

SVG = "{http://www.w3.org/2000/svg}"


def picture(**options: Any) -> Any:
    loss, parameters = drawings.two_layers()
    return sg.draw({"loss": loss}, wrt=parameters, **options)


def test_svg_is_xml_with_every_mark_and_shape(tmp_path: Path) -> None:
    loss, parameters = drawings.two_layers()
    made = sg.draw({"loss": loss}, tmp_path / "graph.svg", wrt=parameters)
    root = ET.parse(tmp_path / "graph.svg").getroot()
    assert root.tag == f"{SVG}svg"
    texts = {t.text for t in root.iter(f"{SVG}text")}
    assert texts >= {"x", "fc1.weight", "(784, 128)", "(n, 128)", "softmax", "∂ fc1", "backward"}
    assert "h · routes" in texts
    marks = [g for g in root.iter(f"{SVG}g") if "mark" in g.get("class", "").split()]
    assert len(marks) == len(made.scene().marks)
    assert "http" not in (tmp_path / "graph.svg").read_text().replace(SVG[1:-1], "")
    assert made._repr_svg_() == made.svg()


def test_names_are_escaped_everywhere(tmp_path: Path) -> None:
    w = sg.parameter('a<b>&"c"|', (3,))
    loss = sg.sum(sg.tanh(w) * sg.square(w))
    for suffix in ("svg", "html", "dot", "mmd"):
        sg.draw({"</script><b>": loss}, tmp_path / f"g.{suffix}", wrt=[w])
    ET.parse(tmp_path / "g.svg")
    assert '\\"c\\"' in (tmp_path / "g.dot").read_text()
    assert (tmp_path / "g.html").read_text().count("</script>") == 3


def test_depth_says_what_is_open() -> None:
    closed = {m.title for m in picture(depth=0).scene().marks if m.kind == "box"}
    assert closed >= {"fc1", "fc2", "cross_entropy", "∂ fc2"}
    assert not [m for m in picture(depth=9).scene().marks if m.kind == "box"]


def test_png_is_an_image(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    loss, _ = drawings.two_layers()
    sg.draw(loss, tmp_path / "graph.png")
    start = (tmp_path / "graph.png").read_bytes()
    assert start[:8] == b"\x89PNG\r\n\x1a\n" and len(start) > 5000


def test_png_without_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    loss, _ = drawings.two_layers()
    with pytest.raises(sg.errors.InputError, match="needs matplotlib"):
        sg.draw(loss, tmp_path / "graph.png")
    assert not list(tmp_path.iterdir())


def test_dot_is_well_formed() -> None:
    text = picture().dot()
    assert text.startswith("digraph ") and text.count("{") == text.count("}")
    strings = re.compile(r'"(?:[^"\\]|\\.)*"')
    bare = strings.sub('""', text)
    assert bare.count("[") == bare.count("]")
    nodes = set(re.findall(r"^\s*(\w+) \[label", bare, re.M))
    ends = re.findall(r"^  (\w+) -> (\w+) \[", bare, re.M)
    assert len(ends) > 20 and {k for pair in ends for k in pair} <= nodes
    assert "subgraph cluster_" in text


def test_mermaid_is_well_formed() -> None:
    text = picture().mermaid()
    lines = [line.strip() for line in text.splitlines()]
    assert lines[0] == "flowchart TB"
    assert sum(line.startswith("subgraph ") for line in lines) == lines.count("end") > 2
    nodes = {m[1] for line in lines if (m := re.match(r'(\w+)(?:\(\[|\[\[|\[|\()"', line))}
    ends = [m for line in lines if (m := re.match(r'(\w+) -\.?->(?:\|"[^"]*"\|)? (\w+)$', line))]
    assert len(ends) > 20 and all({m[1], m[2]} <= nodes for m in ends)
    for line in lines:  # no character within a string that ends it
        for inner in re.findall(r'"([^"]*)"', line):
            assert not set(inner.replace("<br>", "")) & set('<>[]{}()|"')


def test_a_page_refers_to_nothing_outside() -> None:
    page = picture().html()
    page = re.sub(r"http://www\.w3\.org/(2000/svg|1998/Math/MathML)", "", page)
    assert not re.findall(r"https?:|//[a-z]+\.[a-z]|@import|url\(|<link|src=", page)


def data_of(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found is not None
    return json.loads(found[1])


def test_a_page_knows_values_kernels_and_lines() -> None:
    loss, _ = drawings.two_layers()
    step = sg.train_step(loss, sg.optim.SGD(0.1))
    random = np.random.default_rng(0)
    x, y = random.standard_normal((8, 784)).astype("float32"), random.integers(0, 10, 8)
    before = step.state["fc1.weight"]
    data = data_of(sg.draw(step, data={"x": x, "y": y}).html())
    assert (step.state["fc1.weight"] == before).all()
    nodes = data["nodes"]
    (h,) = [n for n in nodes.values() if n["name"] == "h"]
    expected = np.maximum(x @ before + step.state["fc1.bias"], 0)
    assert h["stats"]["count"] == expected.size and h["stats"]["nan"] == 0
    assert h["stats"]["max"] == pytest.approx(expected.max(), rel=1e-5)
    assert h["stats"]["mean"] == pytest.approx(expected.mean(), rel=1e-4)
    assert sum(h["stats"]["histogram"]) == expected.size
    assert h["line"] == "h = sg.nn.relu(fc1(x))" and h["where"].startswith("drawings.py:")
    kernels = data["kernels"]
    assert len(kernels) == len(step.kernels)
    assert all(k["seconds"] is not None and k["nodes"] for k in kernels if k["flops"])
    mine = [kernels[k] for k in h["kernels"]]
    assert mine and all(any(nodes[key]["name"] == "h" for key in k["nodes"]) for k in mine)
    moved = {n["name"] for k in kernels for n in (nodes[key] for key in k["nodes"])}
    assert moved >= {"loss", "logits", "fc1.weight'", "fc2.bias'"}


def test_values_of_expressions_by_name() -> None:
    x = sg.input("x", (2,))
    data = data_of(sg.draw({"y": sg.log(x)}, data={"x": [1.0, 0.0]}).html())
    (y,) = [n["stats"] for n in data["nodes"].values() if n["name"] == "y"]
    assert y["inf"] == 1 and y["count"] == 2 and y["max"] == 0
    (x_,) = [n["stats"] for n in data["nodes"].values() if n["label"] == "x"]
    assert x_["mean"] == 0.5


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("graph.jpg", r"'graph.jpg' must end in .svg, .png, .html, .dot or .mmd"),
        ("graph", "must end in"),
        ("missing/graph.svg", "there is no folder"),
    ],
)
def test_paths_that_cannot_be_written(tmp_path: Path, path: str, message: str) -> None:
    loss, _ = drawings.two_layers()
    with pytest.raises(sg.errors.InputError, match=message):
        sg.draw(loss, tmp_path / path)
    assert not list(tmp_path.iterdir())


def test_nothing_is_half_written(tmp_path: Path) -> None:
    (tmp_path / "graph.svg").mkdir()
    loss, _ = drawings.two_layers()
    with pytest.raises(sg.errors.InputError, match="cannot write"):
        sg.draw(loss, tmp_path / "graph.svg")
    assert [p.name for p in tmp_path.iterdir()] == ["graph.svg"]


@pytest.mark.parametrize(
    "options", [{"direction": "up"}, {"depth": -1}, {"depth": "all"}, {"wrt": 3}]
)
def test_bad_options(options: dict[str, Any]) -> None:
    loss, _ = drawings.two_layers()
    with pytest.raises(sg.errors.SymgradError):
        sg.draw(loss, **options)


def test_importing_symgrad_loads_no_pictures() -> None:
    code = "import sys, symgrad; print([m for m in sys.modules if m.startswith('symgrad.draw')])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.stdout.strip() == "[]", shown.stderr
