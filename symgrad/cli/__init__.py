"""The command line, `symgrad`.

    symgrad train FILE [--epochs N] [--out DIR]            train a model file
    symgrad grad FILE --wrt fc1.weight [--steps] [--latex] a gradient, or how it comes about
    symgrad draw FILE -o graph.html                        a picture of the training step
    symgrad show FILE --stage loops [--kernel h1_tanh]     one stage of its compile
    symgrad bench FILE                                     time per step, kernel by kernel

In: arguments. Out: an exit status; errors are one message on standard error, status 1. Text is
coloured and paged where it goes to a terminal (`symgrad.cli.terminal`), plain elsewhere.

>>> main(["grad", "examples/digits_mlp.py", "--wrt", "fc3.bias"])
0
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from symgrad.cli.arguments import parser
from symgrad.errors import SymgradError

__all__ = ["main", "parser"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command."""
    arguments = parser().parse_args(argv)
    command: Callable[[argparse.Namespace], None] = arguments.command
    try:
        command(arguments)
        sys.stdout.flush()
    except SymgradError as error:
        return _fail(str(error), error)
    except BrokenPipeError:  # `symgrad show ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        return _fail(f"{type(error).__name__}: {error}", error)
    return 0


def _fail(message: str, error: Exception) -> int:
    if os.environ.get("SYMGRAD_DEBUG", "0") not in ("", "0"):
        import traceback

        traceback.print_exception(error)
    print(f"symgrad: error: {message}", file=sys.stderr)
    return 1
