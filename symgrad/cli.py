"""The command line, `symgrad`.

    symgrad train FILE [--epochs N] [--out DIR]       train a model file
    symgrad show FILE --stage loops                   one stage of its compile
    symgrad grad FILE --wrt fc1.weight [--latex]      a gradient as mathematics

In: arguments. Out: an exit status; errors are one message on standard error, status 1.

>>> main(["grad", "examples/digits_mlp.py", "--wrt", "fc3.bias"])
0
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from symgrad.errors import SymgradError

STAGES = ("expression", "gradient", "rewritten", "schedule", "loops", "llvm", "assembly")


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


# -- arguments ---------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="symgrad",
        description="Neural networks as mathematics, trained by one native step.",
        epilog="example: symgrad train examples/digits_mlp.py",
    )
    top.add_argument("--version", action="version", version=f"symgrad {_version()}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    train = _command(
        commands,
        "train",
        "Train a model file: loss and accuracy per epoch, a summary at the end.",
        "symgrad train examples/digits_mlp.py --epochs 30 --out runs/digits",
        _train,
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
        commands,
        "show",
        "Print one stage of compiling a model's training step.",
        "symgrad show examples/digits_mlp.py --stage rewritten",
        _show,
    )
    show.add_argument("--stage", choices=STAGES, default="expression", help="which stage")
    _add_target(show)

    grad = _command(
        commands,
        "grad",
        "Print the gradient of a model's loss as mathematics.",
        "symgrad grad examples/digits_mlp.py --wrt fc1.weight",
        _grad,
    )
    grad.add_argument("--wrt", required=True, metavar="NAME", help="a parameter or an input")
    grad.add_argument("--latex", action="store_true", help="as LaTeX")
    grad.add_argument("--plain", action="store_true", help="as derived, without simplifying")
    return top


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    what: str,
    example: str,
    run: Callable[[argparse.Namespace], None],
) -> argparse.ArgumentParser:
    made = commands.add_parser(name, help=what, description=what, epilog=f"example: {example}")
    made.add_argument("file", metavar="FILE", help="a Python file with `loss` at module level")
    made.set_defaults(command=run)
    return made


def _add_target(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--target",
        choices=["native", "avx512", "avx2", "sse2", "interpret"],
        help="the machine to compile for; interpret runs the graph in NumPy",
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
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


# -- commands ----------------------------------------------------------------------------------


def _train(arguments: argparse.Namespace) -> None:
    from symgrad.train.fit import Settings, fit
    from symgrad.train.model import load

    epochs = arguments.epochs or (2 if arguments.quick else None)
    settings = Settings(
        epochs=epochs,
        batch_size=arguments.batch_size,
        out=arguments.out,
        resume=arguments.resume,
        seed=arguments.seed,
        target=arguments.target,
        check=arguments.check,
    )
    fit(load(arguments.file), settings)


def _show(arguments: argparse.Namespace) -> None:
    from symgrad.compile.function import train_step
    from symgrad.train.model import load

    model = load(arguments.file)
    step = train_step(model.loss, model.optimizer, outputs=model.outputs, target=arguments.target)
    print(step.stage(arguments.stage).rstrip("\n"))


def _grad(arguments: argparse.Namespace) -> None:
    from symgrad.grad import grad
    from symgrad.rewrite import simplify
    from symgrad.train.model import load

    model = load(arguments.file)
    gradient = grad(model.loss, model.leaf(arguments.wrt))
    if not arguments.plain:
        gradient = simplify(gradient)
    print(gradient.latex() if arguments.latex else gradient)


if __name__ == "__main__":
    sys.exit(main())
