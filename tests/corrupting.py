"""Ways to break one thing of the product inside this process, and to mend it again.

In: what to change. Out: a context manager factory: the product is broken while it is entered.

    edit("codegen.memory:padded", "-(-size // ALIGNMENT)", "size // ALIGNMENT")
    item("codegen.vecmath.exponential:EXP", "float32", (0.0,))
    rule("log of exp", 2 * x)
    partial("exp", lambda x, out: 2 * out)

`edit` replaces the code object of a function, so that every reference to it is broken at once. A
text that no longer occurs exactly once is an error: then the table of corruptions needs a new line.
"""

from __future__ import annotations
import __future__

import ast
import dataclasses
import functools
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FunctionType, ModuleType
from typing import Any

from symgrad import rewrite, scalar
from symgrad.rewrite.engine import Rule

Change = Callable[[], AbstractContextManager[None]]


class OutOfDate(Exception):
    """What was to be corrupted is not there any more."""


def found(path: str) -> tuple[Any, str]:
    """Owner and name of what `module:name.name` means; of a package, in any module of it."""
    place, _, names = path.partition(":")
    *outer, name = names.split(".")
    owner: Any = importlib.import_module(place)
    if hasattr(owner, "__path__") and not hasattr(owner, (outer or [name])[0]):
        owner = _holder(owner, (outer or [name])[0])
    for part in outer:
        owner = inspect.getattr_static(owner, part)
    return owner, name


def _holder(package: ModuleType, name: str) -> ModuleType:
    """The module of a package that defines a name."""
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        if getattr(vars(module).get(name), "__module__", None) == module.__name__:
            return module
    raise OutOfDate(f"{package.__name__} defines no {name}")


def function(path: str) -> FunctionType:
    """The plain function behind decorators and properties."""
    owner, name = found(path)
    value = inspect.getattr_static(owner, name)
    value = getattr(value, "__func__", value)  # class methods
    value = getattr(value, "fget", value)  # properties
    value = value.func if isinstance(value, functools.cached_property) else value
    value = inspect.unwrap(value)
    if not isinstance(value, FunctionType):
        raise OutOfDate(f"{path} is no function")
    return value


def forget() -> None:
    """Empty what is remembered of what was true before."""
    from codegen import entry
    from codegen.vecmath import integer, trigonometric

    for remembered in (rewrite.rules, integer._philox, entry.text, entry.module):
        remembered.cache_clear()
    for value in vars(trigonometric).values():
        getattr(value, "cache_clear", lambda: None)()


def change(make: Callable[..., Iterator[None]]) -> Callable[..., Change]:
    """A generator that breaks, yields and mends, as a factory of context managers."""

    @contextmanager
    def broken(*args: Any) -> Iterator[None]:
        steps = make(*args)
        next(steps)
        forget()
        try:
            yield
        finally:
            next(steps, None)
            forget()

    return lambda *args: functools.partial(broken, *args)


@change
def edit(path: str, old: str, new: str) -> Iterator[None]:
    """One piece of a function's text replaced."""
    target = function(path)
    text = textwrap.dedent(inspect.getsource(target))
    if text.count(old) != 1:
        raise OutOfDate(f"{path} holds {old!r} {text.count(old)} times: corrupt something else")
    tree = ast.parse(text.replace(old, new))
    assert isinstance(tree.body[0], ast.FunctionDef)
    tree.body[0].decorator_list = []
    code = compile(tree, f"<corrupted {path}>", "exec", __future__.annotations.compiler_flag)
    scope = dict(target.__globals__)
    exec(code, scope)
    kept, target.__code__ = target.__code__, scope[target.__name__].__code__
    yield
    target.__code__ = kept


@change
def text(path: str, old: str, new: str) -> Iterator[None]:
    """One piece of a string of a module replaced."""
    owner, name = found(path)
    kept = getattr(owner, name)
    if kept.count(old) != 1:
        raise OutOfDate(f"{path} holds {old!r} {kept.count(old)} times: corrupt something else")
    setattr(owner, name, kept.replace(old, new))
    yield
    setattr(owner, name, kept)


@change
def item(path: str, key: Any, new: Any) -> Iterator[None]:
    """Another entry of a dict."""
    owner, name = found(path)
    table = getattr(owner, name)
    kept, table[key] = table[key], new
    yield
    table[key] = kept


def rule_named(name: str) -> Rule:
    """The first rule of that name."""
    for tables in (*rewrite.TABLES.values(), (rewrite.MAXIMA,)):
        for table in tables:
            for found in table.rules:
                if found.name == name:
                    return found
    raise OutOfDate(f"there is no rule {name!r}")


@change
def rule(name: str, result: Any) -> Iterator[None]:
    """Another right side of a rewrite rule."""
    changed = rule_named(name)
    kept = changed.result
    changed.result, changed._variants = Rule("other", changed.pattern, result).result, None
    yield
    changed.result, changed._variants = kept, None


@change
def anywhere(name: str) -> Iterator[None]:
    """A rewrite rule without its condition."""
    changed = rule_named(name)
    kept = changed.when
    if kept is None:
        raise OutOfDate(f"rule {name!r} has no condition")
    changed.when, changed._variants = None, None
    yield
    changed.when, changed._variants = kept, None


@change
def partial(name: str, derivative: Callable[..., Any]) -> Iterator[None]:
    """Another derivative in the op table."""
    kept = scalar.OPS[name]
    scalar.OPS[name] = dataclasses.replace(kept, derivative=derivative)
    yield
    scalar.OPS[name] = kept


@change
def body(name: str, value: Callable[..., Any]) -> Iterator[None]:
    """Another body in the op table."""
    kept = scalar.OPS[name]
    scalar.OPS[name] = dataclasses.replace(kept, body=value)
    yield
    scalar.OPS[name] = kept
