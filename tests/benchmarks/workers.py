"""Processes that build steps and time them when asked, each pinned to its cores.

In: a name, a number of threads, environment variables. Out: a `Worker`, which keeps what it built
by name and waits, without using its cores, between two requests.

>>> worker = Worker("numpy", threads=1)
>>> worker.build("sum", make_a_sum, 1000)      # make_a_sum(1000) gives a function without arguments
>>> worker.time("sum", 100)                    # seconds per call, over 100 calls
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any, Callable, Mapping

SETTLE = 0.01  # seconds before a time is taken: threads of the one before have gone to sleep


class Failed(RuntimeError):
    """A request raised an error in its process, whose traceback is the message."""


class Worker:
    """A process of one library."""

    def __init__(self, name: str, threads: int, environment: Mapping[str, str] = {}) -> None:
        self.name, self.threads = name, threads
        context = multiprocessing.get_context("spawn")
        self.end, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, threads), daemon=True)
        kept = dict(os.environ)
        os.environ.update(_environment(threads, environment))
        try:
            self.process.start()
        finally:
            os.environ.clear()
            os.environ.update(kept)
        other.close()

    def build(self, key: str, function: Callable[..., Any], *args: Any) -> Any:
        """Keep `function(*args)`, a function without arguments, as `key`."""
        return self._ask("build", key, function, args)

    def call(self, key: str, function: Callable[[Any], Any] | None = None) -> Any:
        """What a call gives, or `function` of it."""
        return self._ask("call", key, function)

    def time(self, key: str, count: int) -> float:
        """Seconds per call, over `count` calls after one that is not counted."""
        return float(self._ask("time", key, count))

    def ask(self, function: Callable[..., Any], *args: Any) -> Any:
        """`function(*args)` in the process."""
        return self._ask("ask", function, args)

    def drop(self, key: str) -> None:
        self._ask("drop", key)

    def close(self) -> None:
        self.end.close()
        self.process.join()

    def _ask(self, *request: Any) -> Any:
        self.end.send(request)
        try:
            fine, answer = self.end.recv()
        except EOFError:
            raise Failed(f"the process of {self.name} has ended") from None
        if not fine:
            raise Failed(f"{self.name}, {self.threads} threads:\n{answer}")
        return answer


def _environment(threads: int, more: Mapping[str, str]) -> dict[str, str]:
    """What libraries read when they are imported; XLA counts the cores it may run on by itself."""
    names = ("OMP", "OPENBLAS", "MKL")
    found = {f"{name}_NUM_THREADS": str(threads) for name in names} | dict(more)
    if threads == 1:
        flags = found.get("XLA_FLAGS", "")
        found["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    here = os.path.dirname(os.path.abspath(__file__))
    root = os.path.dirname(os.path.dirname(here))
    found["PYTHONPATH"] = os.pathsep.join([here, root, os.environ.get("PYTHONPATH", "")])
    return found


def _serve(end: Connection, threads: int) -> None:
    """The process: answers requests until the pipe closes."""
    pin(threads)
    os.dup2(2, 1)  # libraries that print do not disturb the table
    kept: dict[str, Callable[[], Any]] = {}
    while True:
        try:
            kind, *request = end.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            answer = True, _ANSWERS[kind](kept, *request)
        except BaseException:
            answer = False, traceback.format_exc()
        end.send(answer)


def _build(kept: dict[str, Any], key: str, function: Callable[..., Any], args: Any) -> None:
    kept[key] = function(*args)


def _call(kept: dict[str, Any], key: str, function: Callable[[Any], Any] | None) -> Any:
    result = kept[key]()
    return result if function is None else function(result)


def _time(kept: dict[str, Any], key: str, count: int) -> float:
    step = kept[key]
    time.sleep(SETTLE)
    step()
    start = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - start) / count


def _run(kept: dict[str, Any], function: Callable[..., Any], args: Any) -> Any:
    return function(*args)


def _drop(kept: dict[str, Any], key: str) -> None:
    kept.pop(key, None)


_ANSWERS: dict[str, Callable[..., Any]] = {
    "build": _build,
    "call": _call,
    "time": _time,
    "ask": _run,
    "drop": _drop,
}


def pin(threads: int) -> None:
    """To as many cores, the last ones: the first is where others' work starts."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < threads:
            sys.exit(f"{threads} threads need as many cores, this process may use {len(cores)}")
        os.sched_setaffinity(0, set(cores[-threads:]))
