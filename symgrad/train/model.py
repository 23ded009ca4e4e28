"""Model files: Python files that declare a network for the command line.

In: a path. Out: a `Model`, checked. A model file has at module level

    loss                       the scalar to minimise
    optimizer                  optional, sg.optim.Adam(1e-3) otherwise
    outputs                    optional dict of further scalars, {"accuracy": accuracy}
    evaluation                 optional dict of scalars for validation and test, where those are
                               computed otherwise (without dropout); {"loss": loss, **outputs}
    data()                     {"train": {"x": X, "y": Y}, "validation": {...}, "test": {...}},
                               the last two optional; what `symgrad train` needs
    epochs, batch_size         optional, 10 and 32 otherwise

>>> load("examples/digits_mlp.py").loss
<mul () float32>
"""

from __future__ import annotations

import ast
import importlib.util
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from symgrad.errors import InputError, SymgradError
from symgrad.names import alike
from symgrad.node import Expr, Input, Parameter, State, toposort
from symgrad.source import Source

Split = Mapping[str, Any]


class ModelError(SymgradError):
    """A model file that is missing, does not run, or lacks what a command needs."""


@dataclass(frozen=True)
class Model:
    """What a model file declares."""

    path: Path
    loss: Expr
    optimizer: Any
    outputs: Mapping[str, Expr]
    evaluation: Mapping[str, Expr]
    epochs: int
    batch_size: int
    module: ModuleType

    def data(self) -> dict[str, Split]:
        """The data sets by name; "train" is among them."""
        make = getattr(self.module, "data", None)
        if not callable(make):
            raise ModelError(f"{self.path} has no function data(), which training needs")
        parts = _guarded(self.path, make)
        if not isinstance(parts, Mapping) or "train" not in parts:
            raise ModelError(f'{self.path}: data() must give a dict with "train"')
        for name, part in parts.items():
            if not isinstance(part, Mapping):
                raise ModelError(
                    f"{self.path}: data()[{name!r}] must be a dict of arrays by input name, got "
                    f"{type(part).__name__}"
                )
        return dict(parts)

    @property
    def where(self) -> Source:
        """The line that an optimizer's updates belong to: the one that declares it, else the
        loss's. Nobody's own line calls for the step when a command does."""
        try:
            tree = ast.parse(self.path.read_text(encoding="utf-8"))
        except (OSError, SyntaxError, ValueError):
            return self.loss.where
        for statement in tree.body:
            targets = statement.targets if isinstance(statement, ast.Assign) else []
            if any(isinstance(t, ast.Name) and t.id == "optimizer" for t in targets):
                return Source(str(self.module.__file__), statement.lineno, "<module>")
        return self.loss.where

    def leaf(self, name: str) -> Expr:
        """A parameter or input of the loss by name."""
        found = {n.name: n for n in toposort([self.loss]) if isinstance(n, (Input, Parameter))}
        if name not in found:
            raise InputError(
                f"the loss depends on nothing named {name!r}; there are {alike(name, found)}"
            )
        return found[name]

    @property
    def parameters(self) -> list[Parameter]:
        """What the loss depends on and training changes, in the order of declaration."""
        nodes = toposort([self.loss])
        found = [n for n in nodes if isinstance(n, Parameter) and not isinstance(n, State)]
        return sorted(found, key=lambda p: p.order)


def load(path: str | Path) -> Model:
    """Run a model file and take what it declares."""
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    module = _guarded(path, lambda: _module(path))
    loss = getattr(module, "loss", None)
    if not isinstance(loss, Expr):
        what = "has no `loss` at module level" if loss is None else f"has loss = {loss!r}"
        raise ModelError(f"{path} {what}: it must be an expression")
    outputs = _scalars(path, module, "outputs", {})
    evaluation = _scalars(path, module, "evaluation", {"loss": loss, **outputs})
    optimizer = getattr(module, "optimizer", None)
    if optimizer is None:
        from symgrad.optim import Adam

        optimizer = Adam(1e-3)
    epochs = _count(path, module, "epochs", 10)
    batch_size = _count(path, module, "batch_size", 32)
    return Model(path, loss, optimizer, outputs, evaluation, epochs, batch_size, module)


def _module(path: Path) -> ModuleType:
    name = f"symgrad_model_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ModelError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # a model file may import its neighbours
    spec.loader.exec_module(module)
    return module


def _guarded(path: Path, work: Any) -> Any:
    """Run the user's code; what goes wrong in it becomes one message with its line."""
    try:
        return work()
    except SymgradError:
        raise
    except SyntaxError as error:
        raise ModelError(f"{path}:{error.lineno}: {error.msg}") from error
    except Exception as error:
        line = ""
        for frame in traceback.extract_tb(error.__traceback__):
            if Path(frame.filename).resolve() == path.resolve():
                line = f":{frame.lineno}"
        raise ModelError(f"{path}{line}: {type(error).__name__}: {error}") from error


def _scalars(path: Path, module: ModuleType, name: str, default: Any) -> dict[str, Expr]:
    value = getattr(module, name, default)
    if not isinstance(value, Mapping):
        raise ModelError(f"{path}: {name} must be a dict of scalars, got {type(value).__name__}")
    for key, e in value.items():
        if not isinstance(e, Expr) or e.shape != ():
            raise ModelError(f"{path}: {name}[{key!r}] must be a scalar expression, got {e!r}")
    return dict(value)


def _count(path: Path, module: ModuleType, name: str, default: int) -> int:
    value = getattr(module, name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelError(f"{path}: {name} must be a positive int, got {value!r}")
    return value
