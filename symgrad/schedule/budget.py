"""A schedule whose arena keeps within a budget, or an error that says what takes the memory.

In: how to arrange a graph, its roots, the budget. Out: the schedule, its kernels written, and what
it computes again. The arena is known exactly only when kernels are written, with the memory they
use inside; so a schedule that misses by that much is made once more, for a lower aim.

>>> fitted, schedule = within(arrange, roots, limit=1 << 20, worth=1 << 20)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from codegen import memory
from codegen.repeats import flat
from symgrad.errors import BudgetError
from symgrad.node import Expr
from symgrad.schedule.recompute import Fitted, fit
from symgrad.sizes import show

if TYPE_CHECKING:
    from symgrad.schedule.build import Schedule

TRIES = 4
SHOWN = 6
LONG = 60  # letters of a value


def within(
    arrange: Callable[[list[Expr], frozenset[Expr]], Any],
    roots: list[Expr],
    limit: int | None,
    worth: int,
    threads: int = 1,
) -> tuple[Fitted, Schedule]:
    """The arrangement, and its schedule."""

    def attempt(aim: int | None) -> tuple[Fitted, Schedule]:
        fitted = fit(arrange, roots, aim, worth)
        made: Schedule = fitted.arranged.build()  # type: ignore[attr-defined]
        return fitted, replace(made, program=replace(made.program, threads=threads))

    fitted, made = attempt(limit)
    if limit is None:
        return fitted, made
    aim = limit
    for _ in range(TRIES):
        size = memory.plan(made.program).size
        if size <= limit:
            return fitted, made
        if fitted.peak > aim:
            break
        aim -= size - limit
        fitted, made = attempt(aim)
    whole = memory.plan(attempt(None)[1].program).size
    raise BudgetError(_complaint(made, fitted, limit, whole))


def _complaint(made: Schedule, fitted: Fitted, limit: int, whole: int) -> str:
    """What is held at the fullest moment, the largest first."""
    from symgrad.show.brief import brief

    program = made.program
    plan = memory.plan(program)
    sizes, lives = plan.bytes, plan.lives
    calls = flat(program)
    held = [
        [name for name, (first, last) in lives.items() if first <= i <= last]
        for i in range(len(calls))
    ]
    moment = max(range(len(held)), key=lambda i: sum(sizes[name] for name in held[i]))
    running = [entry for entry in made.entries if entry.kernel][moment]
    values = values_in(fitted.arranged)
    lines = [
        f"max_bytes={limit:,}: {plan.size:,} bytes is the least arena found, "
        f"{whole:,} without recomputation. Most of it is held while "
        f"{brief(running.nodes[-1], LONG)} is computed, call {moment + 1} of {len(calls)}:"
    ]
    largest = sorted(held[moment], key=lambda name: -sizes[name])
    for name in largest[:SHOWN]:
        n = values.get(name)
        what = (
            f"{brief(n, LONG)} {show(n.shape)} {n.dtype}" if n is not None else "inside the kernel"
        )
        where = f", from {n.where}" if n is not None and n.where else ""
        lines.append(f"  {sizes[name]:>14,}  {name}: {what}{where}")
    rest = largest[SHOWN:]
    if rest:
        lines.append(f"  {sum(sizes[name] for name in rest):>14,}  in {len(rest)} more")
    lines.append("A smaller batch, or a smaller max of a run-time size, takes less.")
    return "\n".join(lines)


def values_in(arranged: Any) -> dict[str, Expr]:
    """The value that each buffer holds."""
    found = {name: n for n, (name, _) in arranged.places.stored.items()}
    found.update((name, n) for (n, _), name in arranged.places.copies.items())
    return found
