"""Every error symgrad raises on purpose, and warnings: one clear message each.

A message names the operation, the shapes or names involved and, where an expression is at
fault, the user's own source line:

>>> raise ShapeError("matmul: inner sizes 3 and 4 differ, shapes (2, 3) and (4, 5)")
Traceback (most recent call last):
symgrad.errors.ShapeError: matmul: inner sizes 3 and 4 differ, shapes (2, 3) and (4, 5)
"""

from __future__ import annotations


class SymgradError(Exception):
    """Base of every error raised by symgrad."""


class ShapeError(SymgradError, ValueError):
    """Shapes that do not fit, raised where the expression is built."""


class DTypeError(SymgradError, TypeError):
    """Element types that do not fit, raised where the expression is built."""


class GraphError(SymgradError, ValueError):
    """A graph that cannot be differentiated or compiled as asked (a loss that is no scalar...)."""


class InputError(SymgradError, ValueError):
    """Arguments of a call: names, shapes, dtype, batch over max, label or index out of range."""


class NonFiniteError(SymgradError, ArithmeticError):
    """A NaN or infinity, found under `check="finite"`; names the term and its source line."""


class BudgetError(SymgradError, MemoryError):
    """A `max_bytes` below which a function cannot be compiled; names what takes the memory."""


class StateError(SymgradError):
    """State files that are missing, truncated or do not match the model."""


class DisconnectedWarning(UserWarning):
    """A gradient was asked for with respect to something the loss does not depend on."""
