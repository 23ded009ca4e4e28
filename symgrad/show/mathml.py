"""Terms as MathML, which browsers show without a script or a font of ours.

In: a term of `symgrad.show.notation`, or lines of definitions. Out: markup.

>>> mathml(Name("W1", 2))
'<math displaystyle="true"><msub><mi mathvariant="normal">𝐖</mi><mn>1</mn></msub></math>'
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

from symgrad.show.indices import resolved
from symgrad.show.notation import (
    ADD,
    ATOM,
    HADAMARD,
    JUXTAPOSED,
    Big,
    Call,
    Cases,
    Enclosed,
    Fraction,
    Indexed,
    Indicator,
    Mapped,
    Name,
    Number,
    Power,
    Product,
    Relation,
    Slice,
    Spread,
    Sum,
    Term,
    Transpose,
    apart,
    sum_behind,
)
from symgrad.show.notation import BIG as BIG_SUM
from symgrad.show.parts import Line
from symgrad.show.symbols import GREEK, split

# Bold letters are characters of their own: browsers know no other bold in MathML.
BOLD = {
    **{ord("A") + k: 0x1D400 + k for k in range(26)},
    **{ord("a") + k: 0x1D41A + k for k in range(26)},
    **{ord("0") + k: 0x1D7CE + k for k in range(10)},
    **{ord("α") + k: 0x1D6C2 + k for k in range(25)},
}
BIG = {"Σ": "∑", "Π": "∏"}
ENCLOSED = {"abs": ("|", "|"), "norm": ("‖", "‖"), "floor": ("⌊", "⌋"), "ceil": ("⌈", "⌉")}
SIGNS = {"and": "∧", "or": "∨"}


def mathml(term: Term, block: bool = False) -> str:
    """A whole term as a `<math>` element."""
    return wrapped(plain(resolved(term)), block)


def wrapped(markup: str, block: bool = False) -> str:
    display = ' display="block"' if block else ' displaystyle="true"'
    return f"<math{display}>{markup}</math>"


def equations(lines: Sequence[Line]) -> str:
    """Lines of definitions as the rows of one table."""
    if len(lines) == 1 and not lines[0].name:
        return mathml(lines[0].term, block=True)
    rows = []
    for line in lines:
        name = symbol(line.name, line.node.ndim) + _mo("=") if line.name else ""
        body = plain(resolved(line.term))
        left, right = '<mtd columnalign="right">', '<mtd columnalign="left">'
        rows.append(f"<mtr>{left}{name}</mtd>{right}{body}</mtd></mtr>")
    return wrapped(f"<mtable>{''.join(rows)}</mtable>", block=True)


def plain(term: Term) -> str:
    """A term whose indices have letters, as one row of markup."""
    return PRINTERS[type(term)](term)


def within(term: Term, level: int) -> str:
    own = ATOM if isinstance(term, (Fraction, Cases)) and level <= JUXTAPOSED + 1 else term.level
    if isinstance(term, Fraction) and level > BIG_SUM and sum_behind(term):
        return _over(term)  # so that the sum ends there
    shown = plain(term)
    return shown if own >= level else _brackets(shown)


def _brackets(markup: str, left: str = "(", right: str = ")") -> str:
    return f"<mrow>{_mo(left)}{markup}{_mo(right)}</mrow>"


def _row(*parts: str) -> str:
    return f"<mrow>{''.join(parts)}</mrow>"


def _mo(sign: str) -> str:
    return f"<mo>{html.escape(sign)}</mo>"


def _mi(name: str, bold: bool = False, upright: bool = False) -> str:
    style = ' mathvariant="normal"' if upright or bold else ""
    return f"<mi{style}>{html.escape(name.translate(BOLD) if bold else name)}</mi>"


# -- names, numbers ---------------------------------------------------------------------------


def symbol(name: str, rank: int) -> str:
    """A name as a symbol, arrays bold, its digits below."""
    if name.startswith("∂"):
        top, _, bottom = name.partition("/")
        above = _row(_mo("∂"), symbol(top[1:], 0))
        return f"<mfrac>{above}{_row(_mo('∂'), symbol(bottom[1:], 1))}</mfrac>"
    head, below = split(name)
    letter = GREEK.get(head, head)
    shown = _mi(letter, bold=rank > 0, upright=len(letter) > 1 and not rank)
    if not below:
        return shown
    head, digits = split(below)
    index = f"<mn>{below}</mn>" if below.isdigit() else _mi(below, upright=len(below) > 1)
    if digits and len(head) == 1 and not below.isdigit():
        index = f"<msub>{_mi(head)}<mn>{html.escape(digits)}</mn></msub>"
    return f"<msub>{shown}{index}</msub>"


def _name(term: Name) -> str:
    if term.role == "constant":
        return f"<mtext>{html.escape(term.text)}</mtext>"
    return symbol(term.text, term.rank)


# -- sums and products ------------------------------------------------------------------------


def _sum(term: Sum) -> str:
    shown = []
    for k, (negative, part) in enumerate(term.terms):
        if negative or k:
            shown.append(_mo("−" if negative else "+"))
        ends = isinstance(part, Fraction) and k < len(term.terms) - 1
        shown.append(within(part, BIG_SUM + 1 if ends else ADD + 1))
    return _row(*shown)


def _product(term: Product) -> str:
    if term.hadamard:
        return _row(_mo("⊙").join(within(f, HADAMARD + 1) for f in term.factors))
    shown = ""
    for k, factor in enumerate(term.factors):
        last = k == len(term.factors) - 1
        scalars = all(not f.rank for f in term.factors[:k])
        level = JUXTAPOSED + 1
        if last and k and (scalars and isinstance(factor, Product) or isinstance(factor, Big)):
            level = min(factor.level, HADAMARD)
        digit = isinstance(factor, Number) and shown
        shown += (_mo("·") if digit else "<mspace width='0.2em'/>" if shown else "") + within(
            factor, level
        )
    return _row(shown)


def _fraction(term: Fraction) -> str:
    found = apart(term)
    if found is None:
        return _over(term)
    share, behind = found  # a long product stands behind its share, as in 1/n x^T (p - y)
    space = "<mspace width='0.2em'/>"
    return _row(_over(share), space, within(behind, min(behind.level, HADAMARD)))


def _over(term: Fraction) -> str:
    return f"<mfrac>{_row(plain(term.top))}{_row(plain(term.bottom))}</mfrac>"


def _power(term: Power) -> str:
    return _raised(term.base, _row(plain(term.exponent)))


def _transpose(term: Transpose) -> str:
    return _raised(term.base, "<mi>⊤</mi>")


def _raised(base: Term, above: str) -> str:
    """A base with something above; a name with an index has both at one place."""
    shown = within(base, ATOM)
    if isinstance(base, Name) and shown.startswith("<msub>"):
        return f"<msubsup>{shown.removeprefix('<msub>').removesuffix('</msub>')}{above}</msubsup>"
    return f"<msup>{_row(shown)}{above}</msup>"


# -- functions ----------------------------------------------------------------------------------


def _list(terms: Sequence[Term]) -> str:
    return _mo(",").join(plain(t) for t in terms)


def _call(term: Call) -> str:
    if term.name == "sqrt":
        return f"<msqrt>{_row(plain(term.args[0]))}</msqrt>"
    if term.name == "not ":
        return _row(_mo("¬"), within(term.args[0], ATOM))
    name = _mi(term.name.replace("'", "′"), upright=True)
    if term.below:
        name = f"<msub>{name}<mtext>{html.escape(', '.join(term.below))}</mtext></msub>"
    return _row(name, "<mo>&#x2061;</mo>", _brackets(_list(term.args)))


def _relation(term: Relation) -> str:
    left, right = within(term.left, term.level + 1), within(term.right, term.level + 1)
    return _row(left, _mo(SIGNS.get(term.sign, term.sign)), right)


def _enclosed(term: Enclosed) -> str:
    left, right = ENCLOSED[term.kind]
    return _brackets(plain(term.base), left, right)


def _cases(term: Cases) -> str:
    rows = ""
    for value, where in ((term.value, plain(term.condition)), (term.otherwise, "")):
        says = f"<mtext>if&#xa0;</mtext>{where}" if where else "<mtext>otherwise</mtext>"
        rows += f"<mtr><mtd>{plain(value)}</mtd><mtd>{says}</mtd></mtr>"
    return _row(_mo("{"), f'<mtable columnalign="left">{rows}</mtable>')


def _below(base: str, text: str) -> str:
    return f"<msub>{_row(base)}<mtext>{html.escape(text)}</mtext></msub>"


def _slice(term: Slice) -> str:
    return _below(within(term.base, ATOM), f"[{', '.join(term.index)}]")


def _spread(term: Spread) -> str:
    if term.plain:
        return plain(term.base)
    if term.kept == (True, False):
        ones = "<msup><mn>𝟏</mn><mi>⊤</mi></msup>"
        return _row(within(term.base, JUXTAPOSED), ones)
    index = ", ".join(":" if k else "*" for k in term.kept)
    return _below(within(term.base, ATOM), f"[{index}]")


def _big(term: Big) -> str:
    body = plain(term.body) if isinstance(term.body, Big) else within(term.body, HADAMARD)
    sign = _mo(BIG[term.symbol]) if term.symbol in BIG else _mi(term.symbol, upright=True)
    return _row(f"<munder>{sign}{_letters(term.indices)}</munder>", body)


def _indexed(term: Indexed) -> str:
    base = _brackets(plain(term.base), "[", "]") if term.rank else within(term.base, ATOM)
    return f"<msub>{_row(base)}{_letters(term.indices)}</msub>"


def _letters(indices: tuple[str, ...]) -> str:
    comma = "" if all(map(str.isalpha, indices)) else _mo(",")
    return _row(comma.join(_mi(i) for i in indices))


PRINTERS: dict[type[Term], Callable[[Any], str]] = {
    Name: _name,
    Number: lambda t: f"<mn>{html.escape(t.text)}</mn>",
    Sum: _sum,
    Product: _product,
    Fraction: _fraction,
    Power: _power,
    Transpose: _transpose,
    Call: _call,
    Relation: _relation,
    Indicator: lambda t: _row("<mn>1</mn>", _brackets(plain(t.condition), "[", "]")),
    Enclosed: _enclosed,
    Cases: _cases,
    Slice: _slice,
    Mapped: lambda t: _row(
        _mi("reindex", upright=True),
        _brackets(plain(t.base) + f"<mtext>, {html.escape(t.shown)}</mtext>"),
    ),
    Spread: _spread,
    Big: _big,
    Indexed: _indexed,
}
