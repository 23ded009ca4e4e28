"""What is printed says what the expression is, and its LaTeX can be set."""

from __future__ import annotations

import warnings
from pathlib import Path

import fuzz_graphs
import lectures
import numpy as np
import pytest
from notation_values import Unknown, value

import symgrad as sg
from symgrad.interpret import evaluate
from symgrad.node import Expr
from symgrad.show.parts import lines

GOLDEN = Path(__file__).parent / "golden" / "derivations"
SEEDS = [*range(16), *(fuzz_graphs.WIDE_FROM + k for k in range(24)), 10_029, 10_039]


def outputs(seed: int) -> tuple[list[Expr], dict[Expr, np.ndarray], dict[str, int]]:
    """A random graph: its outputs and the values of its leaves, in float64."""
    case = fuzz_graphs.case_of(seed)
    return [*case.outputs.values(), *case.updates.values()], case.env, case.dims


@pytest.mark.parametrize("seed", SEEDS)
def test_the_formula_has_the_value_of_the_expression(seed: int) -> None:
    results, env, dims = outputs(seed)
    names = {e.name: v.astype("float64") if v.dtype.kind == "f" else v for e, v in env.items()}
    compared = 0
    for e in results:
        with np.errstate(all="ignore"):
            expected = evaluate([e], env)[0]
            try:
                found = value(lines({"": e}), {**names, **dims})
            except Unknown:
                continue
        fine = np.isfinite(expected) & (np.abs(expected) < 1e4)
        scale = max(1.0, float(np.max(np.abs(expected[fine]), initial=0.0)))
        shown = np.broadcast_to(found, expected.shape)
        assert np.allclose(shown[fine], expected[fine], rtol=2e-3, atol=2e-3 * scale), str(e)
        compared += 1
    if not compared:
        pytest.skip("formulas that leave something open")


# -- LaTeX ------------------------------------------------------------------------------------


def formulas(latex: str) -> list[str]:
    """The lines of an aligned block: mathtext sets one formula at a time."""
    rows = []
    for row in latex.splitlines():
        row = row.strip().removesuffix("\\\\").replace("&", " ").strip()
        if row and not row.startswith(("\\begin", "\\end")):
            rows.append(row)
    return rows


def set_in_type(latex: str) -> int:
    """Parse every line; the number of lines."""
    from matplotlib.mathtext import MathTextParser

    parser = MathTextParser("path")
    rows = formulas(latex)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of signs that the font lacks
        for row in rows:
            try:
                parser.parse(f"${row}$")
            except ValueError as error:
                raise AssertionError(f"{row}\n{error}") from None
    return len(rows)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.tex")), ids=lambda p: p.stem)
def test_golden_latex_can_be_set(path: Path) -> None:
    assert set_in_type(path.read_text(encoding="utf-8")) > 3


@pytest.mark.parametrize("seed", SEEDS[::2])
def test_latex_of_random_graphs_can_be_set(seed: int) -> None:
    for e in outputs(seed)[0]:
        assert set_in_type(e.latex())


@pytest.mark.parametrize("name", lectures.SYSTEMS)
def test_latex_of_gradients_can_be_set(name: str) -> None:
    loss, wrt = lectures.SYSTEMS[name]()
    for e in (loss, *sg.grad(loss, wrt)):
        assert set_in_type(e.latex())


@pytest.mark.parametrize("seed", SEEDS[::4])
def test_markup_of_random_graphs_is_well_formed(seed: int) -> None:
    from xml.etree import ElementTree

    for e in outputs(seed)[0]:
        ElementTree.fromstring(e._repr_html_().replace("&#x2061;", "").replace("&#xa0;", " "))
