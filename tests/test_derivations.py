"""The chain rule as the lectures write it, against golden files and against what is compiled."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lectures
import pytest

import symgrad as sg
from symgrad.node import Expr
from symgrad.show.derivation import Derivation
from symgrad.show.listing import listing
from symgrad.show.text import text

HERE = Path(__file__).parent
Golden = Callable[[str, str], None]

# What the closed form of each gradient must read, by the lecture's formula.
CLOSED = {
    "weight_decay": {
        "W2": "2 λ W2 + hᵀ (p - onehot(y)) / n",
        "W1": "2 λ W1 + xᵀ ((p - onehot(y)) W2ᵀ ⊙ 1[h > 0]) / n",
    },
    "relu_regression": {"W": "2 ((h - z) ⊙ 1[h > 0]) xᵀ", "b": "2 (h - z) ⊙ 1[h > 0]"},
    "prelu_elu": {
        "W3": "(h3 - y) h2ᵀ",
        "W2": "(W3ᵀ (h3 - y) ⊙ elu'(z2)) h1ᵀ",
        "W1": "(W2ᵀ (W3ᵀ (h3 - y) ⊙ elu'(z2)) ⊙ leaky_relu'(z1)) xᵀ",
    },
    "sigmoid_network": {
        "W3": "(a3 - y) a2ᵀ",
        "b3": "a3 - y",
        "W2": "(W3ᵀ (a3 - y) ⊙ a2 ⊙ (1 - a2)) a1ᵀ",
        "b2": "W3ᵀ (a3 - y) ⊙ a2 ⊙ (1 - a2)",
        "W1": "(W2ᵀ (W3ᵀ (a3 - y) ⊙ a2 ⊙ (1 - a2)) ⊙ a1 ⊙ (1 - a1)) xᵀ",
        "b1": "W2ᵀ (W3ᵀ (a3 - y) ⊙ a2 ⊙ (1 - a2)) ⊙ a1 ⊙ (1 - a1)",
    },
    "sigmoid_batch": {
        "W3": "a2ᵀ (a3 - y) / n",
        "b3": "Σ_i (a3_ij - y_ij) / n",
        "W2": "a1ᵀ ((a3 - y) W3ᵀ ⊙ a2 ⊙ (1 - a2)) / n",
        "b2": "Σ_i ((a3 - y) W3ᵀ)_ij a2_ij (1 - a2_ij) / n",
        "W1": "xᵀ (((a3 - y) W3ᵀ ⊙ a2 ⊙ (1 - a2)) W2ᵀ ⊙ a1 ⊙ (1 - a1)) / n",
        "b1": "Σ_i (((a3 - y) W3ᵀ ⊙ a2 ⊙ (1 - a2)) W2ᵀ)_ij a1_ij (1 - a1_ij) / n",
    },
    "softmax_cross_entropy": {"z": "p - onehot(y)"},
    "l1_penalty": {"W": "α sign(W) + 2 xᵀ (x W - y) / n"},
}


def derived(name: str) -> tuple[Derivation, Expr, list[Expr]]:
    loss, wrt = lectures.SYSTEMS[name]()
    return sg.derivation(loss, wrt), loss, wrt


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms(name: str) -> None:
    d, _, wrt = derived(name)
    found = {}
    for target, result in zip(wrt, d.results):
        (line,) = result.closed
        found[target.name] = text(line.term)
    assert found == CLOSED[name]


@pytest.mark.parametrize("name", CLOSED)
def test_what_is_printed_is_what_is_compiled(name: str) -> None:
    d, loss, wrt = derived(name)
    for result, gradient in zip(d.results, sg.grad(loss, wrt)):
        assert result.gradient is gradient
        assert sg.equivalent(result.read, gradient)


@pytest.mark.parametrize("name", CLOSED)
def test_golden(name: str, golden: Golden) -> None:
    d, _, _ = derived(name)
    golden(f"derivations/{name}.txt", d.text())
    golden(f"derivations/{name}.tex", d.latex() + "\n")


def test_derivations_are_deterministic() -> None:
    first, second = (derived("sigmoid_batch")[0] for _ in range(2))
    assert first.text() == second.text()
    assert first.html() == second.html()


@pytest.mark.parametrize("seed", ["1", "77"])
def test_texts_do_not_depend_on_hashes(seed: str) -> None:
    code = "import lectures, symgrad as sg; print(sg.derivation(*lectures.weight_decay()), end='')"
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parent)])
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    expected = (HERE / "golden/derivations/weight_decay.txt").read_text(encoding="utf-8")
    assert run.stdout.decode() == expected, run.stderr.decode()


def test_both_paths_of_weight_decay() -> None:
    d, _, _ = derived("weight_decay")
    paths = [[n.text for n in p] for p in d.results[1].paths]
    assert paths == [["J", "z", "h", "z1", "W1"], ["J", "W1"]]
    parts = {t.name.text: text(t.term) for t in d.results[1].local.through}
    assert parts == {"z1": "xᵀ δ_z1", "J": "2 λ W1"}


def test_hessian_of_softmax_cross_entropy(golden: Golden) -> None:
    loss, (z,) = lectures.softmax_cross_entropy()
    hessian = sg.hessian(loss, z)
    shown = sg.simplify(hessian)
    assert str(shown).splitlines() == ["p = softmax(z)", "diag(p) - p pᵀ"]
    assert sg.equivalent(shown, hessian)
    golden("derivations/hessian.txt", f"{shown}\n{shown.latex()}\n")


def test_weight_decay_is_a_factor(golden: Golden) -> None:
    gradient, update = lectures.decayed_step()
    assert str(sg.simplify(update)) == "(1 - ε α) W - 2 ε xᵀ (x W - y) / n"
    assert sg.equivalent(sg.simplify(update), update)
    shown = listing({"∇": sg.simplify(gradient), "W'": update_in_terms_of(gradient)})
    assert shown.splitlines() == ["∇ = 2 xᵀ (x W - y) / n", "W' = (1 - ε α) W - ε ∇"]
    golden("derivations/weight_decay_step.txt", shown + "\n")


def update_in_terms_of(gradient: Expr) -> Expr:
    """An optimizer's own update, the gradient of the data kept as it is."""
    kept = sg.simplify(gradient)
    (W,) = [e for e in sg.node.toposort([gradient]) if e.name == "W"]
    eps, alpha = sg.input("epsilon", ()), sg.input("alpha", ())
    return sg.simplify(W - eps * (kept + alpha * W), keep=[kept])


def test_every_step_has_its_shape_and_line() -> None:
    d, _, _ = derived("sigmoid_network")
    shapes = {s.name.text: s.shape for s in d.steps}
    assert shapes == {"δ_z3": (2,), "δ_a2": (5,), "δ_z2": (5,), "δ_a1": (3,), "δ_z1": (3,)}
    lines = {s.of.text: s.where.text for s in d.steps}
    assert lines["a2"] == "a2 = sg.sigmoid(z2)" and lines["z3"] == "z3 = W3 @ a2 + b3"
    local = {s.of.text: text(t.local) for s in d.steps for t in s.through if t.local is not None}
    assert local["a2"] == "W3" and local["z1"] == "diag(a1 ⊙ (1 - a1))"


def test_a_page_needs_no_network() -> None:
    d, _, _ = derived("weight_decay")
    page = d.html()
    assert page.startswith("<!doctype html>") and "<math" in page
    assert "http" not in page and "<script" not in page and "src=" not in page
    assert page.count("<math") == page.count("</math>")
    assert "lectures.py" in page
    import xml.etree.ElementTree as tree

    body = page[page.index("<body>") : page.index("</body>") + len("</body>")]
    tree.fromstring(body.replace("&#x2061;", "").replace("&#xa0;", " "))


def test_notebooks() -> None:
    d, loss, wrt = derived("softmax_cross_entropy")
    assert d._repr_html_().startswith('<div class="symgrad">')
    assert d._repr_latex_().startswith("$$")
    assert loss._repr_latex_().startswith("$$") and "<math" in loss._repr_html_()


def test_errors() -> None:
    x = sg.input("x", (3,))
    with pytest.raises(sg.errors.GraphError, match="scalar"):
        sg.derivation(sg.exp(x), x)


def test_soft_labels_end_in_p() -> None:
    """No shift by the maximum in any step, and the closed form in p."""
    n = sg.dim("batch", 64)
    x, y = sg.input("x", (n, 4)), sg.input("y", (n, 3))
    W = sg.parameter("W", (4, 3))
    z = x @ W
    p = sg.exp(z) / sg.exp(z).sum(axis=1, keepdims=True)
    loss = -(y * sg.log(p)).sum(axis=1).mean()
    d = sg.derivation(loss, W)
    shown = d.text()
    assert "max_" not in shown and "stop_gradient" not in shown
    assert "log(p)  →  z - logsumexp(z)" in shown
    assert "= xᵀ (p ⊙ (Σ_j y_ij) - y) / batch\n" in shown
    assert r"\max" not in d.latex()


def test_rules_used_often_are_counted() -> None:
    """A rule that fires at every layer is listed once, with its shortest example."""
    weights = [sg.parameter(f"W{k}", (5, 5)) for k in range(6)]
    h = sg.input("x", (8, 5))
    for W in weights:
        h = 1 / (1 + sg.exp(-(h @ W)))
    d = sg.derivation(sg.mean(h), weights[0])
    (line,) = [row for row in d.text().splitlines() if row.startswith("  stabilise: sigmoid")]
    assert ", 6 times  (test_derivations.py:" in line
    assert "6 times" in d.html()
