"""What kernels compute as mathematics, and names for them that say so.

In: the graph, and what every call carries (`symgrad.compile.carried`). Out: for each call its lines
of mathematics, with the names that `step.stage("rewritten")` uses; for each kernel a name.

>>> wording = Wording(graph, computed)
>>> wording.maths(computed[2])
[Statement('h1 = tanh(x W1 + b1)', <tanh>, Source('model.py', 8))]
>>> wording.kernel_names()["product_contract_2"]
'h1_tanh'
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from symgrad.compile.carried import Computed
from symgrad.compile.graph import Graph
from symgrad.node import Constant, Contract, Expr, Leaf, Map, Parameter, Reduce, Reindex, State
from symgrad.show.forms import form
from symgrad.show.listing import text_line
from symgrad.show.names import ACTIVATIONS, fresh
from symgrad.show.notation import Name
from symgrad.show.parts import Line, lines, role
from symgrad.show.symbols import LETTERS
from symgrad.source import Source

LONGEST = 48  # letters of a kernel's name
MOST = 3  # results that give their names to a kernel


@dataclass(frozen=True)
class Statement:
    """A line of mathematics, and the user's line that it comes from."""

    text: str
    node: Expr
    where: Source

    def __str__(self) -> str:
        return f"{self.text}  {self.where}"


class Wording:
    """The names of all values that are kept, and what is written with them."""

    def __init__(self, graph: Graph, computed: Sequence[Computed]) -> None:
        self.graph, self.computed = graph, computed
        self.outputs: dict[str, Expr] = {**graph.outputs}
        self.outputs.update((f"{p.name}'", value) for p, value in graph.updates.items())

    # -- lines ----------------------------------------------------------------------------------
    @cached_property
    def listing(self) -> list[Line]:
        """The whole graph as definitions: of what is named there, and of what is kept."""
        kept = {id(n) for c in self.computed for n in c.results}
        return lines(self.outputs, kept=kept)

    @cached_property
    def names(self) -> dict[int, str]:
        """The name of every value that has a line, by id."""
        found = {id(line.node): line.name for line in reversed(self.listing)}
        used = {*found.values(), *(n.name for n in self.graph.nodes if isinstance(n, Leaf))}
        for c in self.computed:
            for n in c.results:  # inside of what a reader sees as one function
                if id(n) not in found and not isinstance(n, Leaf):
                    found[id(n)] = fresh("t", used)
                    used.add(found[id(n)])
        return found

    @cached_property
    def _visible(self) -> dict[int, list[Line]]:
        found: dict[int, list[Line]] = {}
        for line in self.listing:
            found.setdefault(id(line.node), []).append(line)
        return found

    def _hidden(self, n: Expr) -> list[Line]:
        """A value that the listing does not show, from those that have names."""
        known = {i: Name(name, m.ndim, role(m)) for i, (name, m) in self._named.items()}
        known.pop(id(n), None)
        return lines({self.names[id(n)]: n}, known)[-1:]

    @cached_property
    def _named(self) -> dict[int, tuple[str, Expr]]:
        return {id(n): (self.names[id(n)], n) for n in self.graph.nodes if id(n) in self.names}

    def maths(self, c: Computed) -> list[Statement]:
        """What a call computes, what is needed first before what is made of it."""
        if c.moves:
            return [Statement(f"{_move(c)} {self.name(n)}", n, n.where) for n in c.expressions]
        if c.entry.kernel == c.entry.kind:
            names = ", ".join(dict.fromkeys(self.name(n) for n in c.expressions))
            return [Statement(f"next {names}".rstrip(), n, n.where) for n in c.expressions[:1]]
        found: list[Line] = []
        for n in c.expressions:
            found += self._visible.get(id(n), ())
            if id(n) not in self._visible and c.has_result(n) and not isinstance(n, Leaf):
                found += self._hidden(n)
        if not found and c.expressions:
            last = c.expressions[-1]
            found = lines({"": last}, self._known(last))[-1:]
        return [Statement(text_line(line), line.node, line.node.where) for line in found]

    def _known(self, n: Expr) -> dict[int, Name]:
        named = self._named.items()
        return {i: Name(name, m.ndim, role(m)) for i, (name, m) in named if m is not n}

    def name(self, n: Expr) -> str:
        """A value in a word, or as the formula it is."""
        if id(n) in self.names:
            return self.names[id(n)]
        if isinstance(n, Leaf):
            return getattr(n, "label", n.name)
        return text_line(lines({"": n}, self._known(n))[-1])

    def find(self, name: str) -> Expr | None:
        """The value of a name."""
        return next((line.node for line in self.listing if line.name == name), None)

    # -- names of kernels -----------------------------------------------------------------------
    def kernel_names(self, taken: Collection[str] = ()) -> dict[str, str]:
        """For each kernel of the schedule, by what its first call computes; all are different, and
        different from those that are taken."""
        found: dict[str, str] = {}
        used = {"step", *taken}
        for c in self.computed:
            if c.entry.kernel not in found:
                name = base = self._kernel_name(c)
                k = 1
                while name in used:
                    k += 1
                    name = f"{base}_{k}"
                used.add(name)
                found[c.entry.kernel] = name
        return found

    def _kernel_name(self, c: Computed) -> str:
        if c.entry.kernel == c.entry.kind:  # written by hand
            return c.entry.kernel
        if c.moves:
            return identifier(f"{_move(c).split()[0]} {self._short(c.expressions[-1])}", "copy")
        updated = [p for p, value in self.graph.updates.items() if c.has_result(value)]
        if updated:
            return self._update_name(c, updated)
        results = c.results or c.expressions[-1:]
        outputs = [n for n in results if any(n is m for m in self.graph.outputs.values())]
        order = [*outputs, *results[-MOST:]]
        words = list(dict.fromkeys(map(self._short, order)))[: max(MOST, len(outputs))]
        if len(words) == 1:
            words += [verb for verb in (_verb(results[-1]) or _product(c),) if verb]
        return identifier(" ".join(words), c.entry.kind)

    def _short(self, n: Expr) -> str:
        if isinstance(n, Leaf):
            return getattr(n, "label", n.name)
        return self.names.get(id(n), "")

    def _update_name(self, c: Computed, updated: Sequence[Parameter]) -> str:
        weights = [p.name for p in updated if not isinstance(p, State)]
        names = weights or [p.name for p in updated]
        owner = next((p.name.split(".")[0] for p in updated if isinstance(p, State)), "")
        ends = {p.name.removeprefix(f"{owner}.").partition(".")[2] for p in updated}
        by = owner if weights and any(w in ends for w in weights) else "update"
        words = names[:1] if len(names) < 3 else [*names[:1], f"and {len(names) - 1} more"]
        words = names if len(names) == 2 else words
        gradient = ["d"] if c.entry.kind == "product" else []
        return identifier(" ".join([*gradient, *words, by]), "update")


def _move(c: Computed) -> str:
    if all(isinstance(n, Constant) for n in c.expressions):
        return "fill with"
    return "Winograd form of" if c.entry.kind == "winograd" else "copy of"


def _verb(n: Expr) -> str:
    """The operation that a value is the result of, where that is one with a name."""
    found = form(n)
    if found is not None and found.name != "value":
        return found.name
    if isinstance(n, Map):
        return n.op if n.op in ACTIVATIONS or n.op in ("exp", "log", "sqrt", "square") else ""
    if isinstance(n, Reduce):
        return n.law
    if isinstance(n, Contract) and len(n.args) == 1:
        return "sum" if n.summed else ""
    return ""


def _product(c: Computed) -> str:
    if c.entry.kind not in ("product", "winograd"):
        return ""
    found = [n for n in c.expressions if isinstance(n, Contract) and len(n.args) == 2]
    return "conv" if any(_windows(n) for n in found) else "matmul"


def _windows(n: Contract) -> bool:
    """Whether a product runs over windows: a convolution, or a gradient of one."""
    return any(isinstance(a, Reindex) and a.ndim > a.args[0].ndim for a in n.args)


def identifier(words: str, otherwise: str) -> str:
    """Words as a name that LLVM and assemblers take without quotes."""
    plain = re.sub(r"[^0-9A-Za-z]+", "_", "".join(_plain(words))).strip("_")
    if len(plain) > LONGEST:
        plain = plain[:LONGEST].rpartition("_")[0] or plain[:LONGEST]
    if not plain or plain[0].isdigit():
        plain = f"{otherwise}_{plain}".rstrip("_")
    return plain


def _plain(words: str) -> Iterator[str]:
    return (LETTERS.get(c, c) for c in words)
