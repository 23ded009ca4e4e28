"""Rows of measurements as text: a line as soon as a row is done, and Markdown for the README.

In: `Row`s. Out: text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

if TYPE_CHECKING:
    from run import Row

COLUMNS = {
    "torch": "PyTorch",
    "torch channels-last": "PyTorch, channels last",
    "jax": "JAX",
    "pytensor": "PyTensor",
    "numpy": "NumPy",
}
OPTIMIZERS = {"sgd": "SGD", "momentum": "momentum", "adam": "Adam"}


def show(seconds: float) -> str:
    """Three digits and a unit."""
    for unit, scale in (("us", 1e6), ("ms", 1e3)):
        if seconds * scale < 1000:
            return f"{_digits(seconds * scale)} {unit}"
    return f"{_digits(seconds)} s"


def _digits(value: float) -> str:
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def line(row: Row) -> str:
    """One line for the terminal."""
    ours = row.times["symgrad"]
    shown = [
        f"{row.workload.name:13s}{row.threads} thread{'s' if row.threads > 1 else ' '} "
        f"{show(ours):>8s}  floor {row.arithmetic / ours:4.0%}"
    ]
    shown += [
        f"{name} {show(t)} ({t / ours:.2f}x)" for name, t in row.times.items() if name != "symgrad"
    ]
    if row.workload.aim and row.threads == 1:
        shown.append(f"aim {show(row.workload.aim * 1e-6)}")
    return "  ".join(shown)


def markdown(rows: Sequence[Row]) -> str:
    """A table for each number of threads."""
    alone = {row.workload.name: row for row in rows if row.threads == 1}
    parts = []
    for threads in sorted({row.threads for row in rows}):
        chosen = [row for row in rows if row.threads == threads]
        parts.append(_table(chosen, alone if threads > 1 else {}))
    return "\n\n".join(parts)


def _table(rows: Sequence[Row], alone: dict[str, Row]) -> str:
    """`alone` holds the rows with one thread, where a speed-up is to be shown."""
    peers = [name for name in COLUMNS if any(name in row.times for row in rows)]
    threads = rows[0].threads
    head = ["network (batch, optimizer)", f"symgrad, {threads} thread{'s' * (threads > 1)}"]
    head += ["over one thread"] if alone else []
    head += ["of the floor", "with the update's traffic"]
    lines = [head + [COLUMNS[name] for name in peers], ["---"] * (len(head) + len(peers))]
    for row in rows:
        lines.append(_cells(row, peers, alone))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cells(row: Row, peers: Sequence[str], alone: dict[str, Row]) -> list[str]:
    w, ours = row.workload, row.times["symgrad"]
    time = show(ours)
    if "symgrad run" in row.times:
        time += f", {show(row.times['symgrad run'])} in `run`"
    cells = [f"{w.title} ({w.batch}, {OPTIMIZERS[w.optimizer]})", time]
    if alone:
        one = alone.get(w.name)
        cells.append(f"{one.times['symgrad'] / ours:.2f}x" if one else "")
    cells += [f"{row.arithmetic / ours:.0%}", f"{row.traffic / ours:.0%}"]
    for name in peers:
        t = row.times.get(name)
        cells.append(f"{show(t)} ({_digits(t / ours)}x)" if t else "")
    return cells
