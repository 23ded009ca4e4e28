"""Values computed early: kept in place of the value they are made of.

In: which values of a program are kept (`Kept`). Out: others to keep. A backward pass often reads a
sum of the forward pass for nothing but an expensive function of it, such as the derivative of an
activation. Where that function is applied while the sum is still in registers, it shares its
exponentials with the activation, and is as large in memory as the sum would be.

    forward    s = x @ w;  y = gelu(s)                     forward   y, d = gelu(s), gelu'(s)
    backward   ds = dy * gelu'(s)                  ->      backward  ds = dy * d

>>> early(kept)
{<add>}
"""

from __future__ import annotations

from symgrad.node import Expr
from symgrad.schedule.kept import Kept, is_elementwise, is_leaf_in_memory, is_product

EXPENSIVE = 12  # operations, those of an exponential: below, the function is computed again


def early(kept: Kept) -> set[Expr]:
    """The functions to keep: one for each sum that all later kernels read through it."""
    found = (_function(kept, s) for s in kept.named if is_product(s) and s not in kept.roots)
    return {d for d in found if d is not None}


def _function(kept: Kept, s: Expr) -> Expr | None:
    """The function of `s` alone through which everyone reads it who needs anything else."""
    made = {s: None}  # kept values that are functions of `s` alone
    for n in kept.readers.get(s, ()):
        if _made_of(kept, n, made):
            made[n] = None
    functions: dict[Expr, None] = {}
    for reader in kept.readers.get(s, ()):
        if reader in made:
            continue
        if not kept.needs(reader)[s]:
            return None
        stack: list[Expr] = list(reader.args)
        seen: set[Expr] = set()
        while stack:
            n = stack.pop()
            if n is s:
                return None
            if n in seen or n in kept.named or is_leaf_in_memory(n):
                continue
            seen.add(n)
            if _made_of(kept, n, made):
                functions[n] = None
            else:
                stack.extend(n.args)
    if len(functions) != 1:
        return None
    (d,) = functions
    return d if kept.cost[d] >= EXPENSIVE and d.dtype == s.dtype else None


def _made_of(kept: Kept, n: Expr, made: dict[Expr, None]) -> bool:
    """True when `n` is computed elementwise from these values, and from parameters."""
    if not is_elementwise(n) or n.shape != next(iter(made)).shape:
        return False
    needs = kept.needs(n)
    rest = [m for m in needs if m not in made]
    return len(rest) < len(needs) and all(
        same if m in made else is_leaf_in_memory(m) for m, same in needs.items()
    )
