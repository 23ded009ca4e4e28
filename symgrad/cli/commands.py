"""What each command does.

In: parsed arguments. Out: text on standard output, files; errors are raised.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from symgrad import source
from symgrad.cli.terminal import page
from symgrad.errors import InputError
from symgrad.names import alike

if TYPE_CHECKING:
    from symgrad.compile.function import TrainStep
    from symgrad.train.model import Model

KERNELS = ("schedule", "loops", "llvm", "assembly")  # stages that consist of kernels


def train(arguments: argparse.Namespace) -> None:
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


# -- show --------------------------------------------------------------------------------------


def show(arguments: argparse.Namespace) -> None:
    stage = arguments.stage or ("loops" if arguments.kernel else "expression")
    if arguments.kernel and stage not in KERNELS:
        raise InputError(f"--kernel: the stage {stage} has no kernels; {', '.join(KERNELS)} have")
    _, step = _compiled(arguments)
    if arguments.kernel:
        page(_kernels(step, arguments.kernel, stage), stage)
    else:
        page(step.stage(stage), stage)


def _kernels(step: TrainStep, name: str, stage: str) -> str:
    """One stage of the kernels that a name stands for."""
    if not step.kernels:
        raise InputError('--kernel: target "interpret" has no kernels')
    found = [kernel for kernel in step.kernels if kernel.name == name]
    if not found:
        try:
            found = step.kernel_of(name)
        except InputError:
            known = [*(kernel.name for kernel in step.kernels), *step.expressions]
            raise InputError(
                f"no kernel, and no value of one, is named {name!r}; there are {alike(name, known)}"
            ) from None
    if stage == "schedule":
        return "\n".join(map(str, found))
    return "\n".join(getattr(kernel, stage) for kernel in found)


def _compiled(arguments: argparse.Namespace) -> tuple[Model, TrainStep]:
    from symgrad.compile.function import train_step
    from symgrad.train.model import load

    model = load(arguments.file)
    with source.at(model.where):
        step = train_step(
            model.loss,
            model.optimizer,
            outputs=model.outputs,
            target=arguments.target,
            threads=arguments.threads,
        )
    return model, step


# -- grad and draw -----------------------------------------------------------------------------


def grad(arguments: argparse.Namespace) -> None:
    from symgrad.grad import grad as gradient_of
    from symgrad.rewrite import simplify
    from symgrad.train.model import load

    model = load(arguments.file)
    leaf = model.leaf(arguments.wrt)
    if arguments.steps or arguments.html:
        from symgrad.show.derivation import derivation

        found = derivation(model.loss, leaf)
        if arguments.html:
            _write(arguments.html, found.html())
        if arguments.steps or arguments.latex:
            page(found.latex() if arguments.latex else found.text(), _alphabet(arguments))
        return
    gradient = gradient_of(model.loss, leaf)
    if not arguments.plain:
        gradient = simplify(gradient)
    page(gradient.latex() if arguments.latex else str(gradient), _alphabet(arguments))


def _alphabet(arguments: argparse.Namespace) -> str:
    return "latex" if arguments.latex else "maths"


def _write(path: Any, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    print(path)


def draw(arguments: argparse.Namespace) -> None:
    import symgrad as sg
    from symgrad.compile.function import train_step
    from symgrad.train.model import load

    model, out = load(arguments.file), arguments.out
    loss = {"loss": model.loss}
    if arguments.wrt:
        sg.draw(loss, out, wrt=[model.leaf(arguments.wrt)])
    elif arguments.what == "gradient":
        sg.draw(loss, out, wrt=model.parameters)
    elif arguments.what == "loss":
        sg.draw(loss, out)
    else:
        with source.at(model.where):
            step = train_step(model.loss, model.optimizer, outputs=model.outputs)
        sg.draw(step, out)
    print(out)


# -- bench -------------------------------------------------------------------------------------


def bench(arguments: argparse.Namespace) -> None:
    from symgrad.compile.profile import random_inputs
    from symgrad.train.timing import per_call

    model, step = _compiled(arguments)
    graph = step._request.graph
    size = arguments.batch_size or model.batch_size
    sizes = {name: min(size, dim.max) for name, dim in graph.dims.items()}
    arrays = random_inputs(graph.inputs, step._pipeline.domains, sizes)
    times = per_call(lambda: step(*arrays), arguments.seconds / 2)
    profile = step.profile(*arrays, seconds=arguments.seconds / 2)
    batch = ", ".join(f"{name} {value}" for name, value in sizes.items())
    head = f"{model.path}" + (f", {batch}" if batch else "")
    rows = next((a.shape[0] for a in arrays if a.ndim), 0)
    rate = f", {rows / times.middle:,.0f} samples a second" if rows else ""
    page(f"{head}\na step: {times}{rate}\n\n{profile}\n", "table")
