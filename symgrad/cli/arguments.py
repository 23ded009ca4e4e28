"""The arguments of the command line.

In: nothing. Out: the parser of all commands; each has `--help` with an example.

>>> parser().parse_args(["show", "model.py", "--stage", "loops"]).stage
'loops'
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from symgrad.cli import commands

STAGES = ("expression", "gradient", "rewritten", "schedule", "loops", "llvm", "assembly")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="symgrad",
        description="Neural networks as mathematics, trained by one native step.",
        epilog="example: symgrad train examples/digits_mlp.py",
    )
    top.add_argument("--version", action="version", version=f"symgrad {_version()}")
    added = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    train = _command(
        added,
        "train",
        "Train a model file: loss and accuracy per epoch, a summary at the end.",
        "symgrad train examples/digits_mlp.py --epochs 30 --out runs/digits",
        commands.train,
    )
    train.add_argument("--epochs", type=_positive, help="passes over the training data")
    train.add_argument("--batch-size", type=_positive, help="samples in a step")
    train.add_argument("--out", type=Path, metavar="DIR", help="folder to save to")
    train.add_argument("--resume", type=Path, metavar="DIR", help="go on from a saved run")
    train.add_argument("--seed", type=_seed, default=0, help="of initial values and random numbers")
    train.add_argument("--check", choices=["finite"], help="stop at the first NaN, naming the term")
    train.add_argument("--quick", action="store_true", help="two epochs, to see that it works")
    _add_target(train)

    show = _command(
        added,
        "show",
        "Print one stage of compiling a model's training step, or one kernel of it.",
        "symgrad show examples/digits_mlp.py --stage loops --kernel logits",
        commands.show,
    )
    show.add_argument("--stage", choices=STAGES, help="which stage (expression; of kernels, loops)")
    show.add_argument(
        "--kernel",
        metavar="NAME",
        help="only this kernel, or those that compute this value, of the stages from schedule on",
    )
    _add_target(show)
    _add_threads(show)

    grad = _command(
        added,
        "grad",
        "Print the gradient of a model's loss as mathematics, or its derivation.",
        "symgrad grad examples/digits_mlp.py --wrt fc1.weight --steps",
        commands.grad,
    )
    grad.add_argument("--wrt", required=True, metavar="NAME", help="a parameter or an input")
    grad.add_argument("--steps", action="store_true", help="the chain rule, step by step")
    grad.add_argument("--latex", action="store_true", help="as LaTeX")
    grad.add_argument("--plain", action="store_true", help="as derived, without simplifying")
    grad.add_argument("--html", type=Path, metavar="OUT", help="the derivation as a page")

    draw = _command(
        added,
        "draw",
        "Draw a model's training step: forward and backward graph, layers as boxes.",
        "symgrad draw examples/digits_mlp.py -o graph.html",
        commands.draw,
    )
    draw.add_argument(
        "-o", "--out", type=Path, required=True, help=".html, .svg, .png, .dot or .mmd (Mermaid)"
    )
    draw.add_argument(
        "--what",
        choices=["step", "gradient", "loss"],
        default="step",
        help="the whole training step, the loss with its gradients, or the loss alone",
    )
    draw.add_argument("--wrt", metavar="NAME", help="the gradient by this parameter or input only")

    bench = _command(
        added,
        "bench",
        "Time a model's training step on random inputs, kernel by kernel.",
        "symgrad bench examples/digits_mlp.py --batch-size 64",
        commands.bench,
    )
    bench.add_argument("--batch-size", type=_positive, help="samples in a step")
    bench.add_argument("--seconds", type=_duration, default=1.0, help="how long to measure")
    _add_target(bench, native=True)
    _add_threads(bench)
    return top


def _command(
    added: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    what: str,
    example: str,
    run: Callable[[argparse.Namespace], None],
) -> argparse.ArgumentParser:
    made = added.add_parser(name, help=what, description=what, epilog=f"example: {example}")
    made.add_argument("file", metavar="FILE", help="a Python file with `loss` at module level")
    made.set_defaults(command=run)
    return made


def _add_target(command: argparse.ArgumentParser, native: bool = False) -> None:
    interpret = [] if native else ["interpret"]
    note = "" if native else "; interpret runs the graph in NumPy"
    command.add_argument(
        "--target",
        choices=["native", "avx512", "avx2", "sse2", *interpret],
        help=f"the machine to compile for{note}",
    )


def _add_threads(command: argparse.ArgumentParser) -> None:
    command.add_argument("--threads", type=_positive, help="how many may work on a step")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _duration(text: str) -> float:
    value = float(text)
    if not 0 < value < 3600:
        raise argparse.ArgumentTypeError(f"{text} is not a time in seconds")
    return value


def _seed(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("symgrad")
    except PackageNotFoundError:
        return "from source"
