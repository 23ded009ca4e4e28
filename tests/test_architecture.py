"""The one-way dependency between the two packages, and what `import symgrad` may load."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# The only parts of symgrad that may know the machine.
MAY_IMPORT_CODEGEN = ("symgrad/schedule/", "symgrad/compile/", "symgrad/export")


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every absolute module name that a file imports, with its line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, node.lineno


def offences(folder: str, banned: tuple[str, ...], except_in: tuple[str, ...] = ()) -> list[str]:
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(except_in):
            continue
        for module, line in imports(path):
            if module.split(".")[0] in banned:
                found.append(f"{name}:{line} imports {module}")
    return found


def test_codegen_never_imports_symgrad() -> None:
    assert offences("codegen", ("symgrad",)) == []


def test_symgrad_never_imports_the_machine() -> None:
    assert offences("symgrad", ("llvmlite", "ctypes")) == []


def test_only_scheduling_and_compiling_import_codegen() -> None:
    assert offences("symgrad", ("codegen",), except_in=MAY_IMPORT_CODEGEN) == []


@pytest.mark.parametrize("module", ["sympy", "llvmlite", "rich", "opt_einsum"])
def test_import_is_light(module: str) -> None:
    code = f"import symgrad, sys; sys.exit({module!r} in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


def test_the_digits_are_in_the_repository() -> None:
    assert (ROOT / "examples/data/digits.csv.gz").stat().st_size > 10_000
