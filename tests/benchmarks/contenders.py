"""Who is timed: symgrad and the peers that are installed, each in processes of its own.

In: a `Workload`, a number of threads. Out: workers, and a `Contender` for every way in which the
workload can be run.

A library that reads its number of threads when it is imported needs a process for each number;
then every library gets processes, and none can disturb another's threads or memory.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any, Callable, Sequence

from workers import Worker
from workloads import Workload

PEERS = ("torch", "jax", "pytensor", "numpy")
# Restricted to 256-bit vectors; read by PyTorch, oneDNN, MKL, OpenBLAS and XLA when they start.
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
}


@dataclass(frozen=True)
class Contender:
    """A column of the table: `build(workload)` in the worker's process makes a step, one call of
    which is `steps` training steps."""

    name: str
    worker: Worker
    build: Callable[..., Any]
    options: tuple[Any, ...]
    steps: int = 1

    def ready(self, w: Workload) -> None:
        self.worker.build(self.name, build, self.build, w, self.options)

    def losses(self, count: int) -> list[float]:
        return [self.worker.call(self.name) for _ in range(count)]

    def seconds(self, count: int) -> float:
        """Per training step, over `count` calls."""
        return self.worker.time(self.name, count) / self.steps

    def drop(self) -> None:
        self.worker.drop(self.name)


def build(path: tuple[str, str], w: Workload, options: Sequence[Any]) -> Any:
    """In a worker: the step that the named function makes."""
    module, function = path
    return getattr(importlib.import_module(module), function)(w, *options)


def installed(names: Sequence[str] | None = None) -> list[str]:
    """The peers that can be imported here, or those of `names`."""
    return [
        name
        for name in PEERS
        if (names is None or name in names) and importlib.util.find_spec(name) is not None
    ]


class Field:
    """The workers for one number of threads."""

    def __init__(
        self, threads: int, names: Sequence[str] | None = None, target: str | None = None
    ) -> None:
        self.threads, self.target = threads, target
        environment = AVX2 if target == "avx2" else {}
        self.workers = {
            name: Worker(name, threads, environment) for name in ("symgrad", *installed(names))
        }

    def contenders(self, w: Workload) -> list[Contender]:
        """Who can run the workload; symgrad comes first."""
        ours = (self.threads, self.target)
        found = [Contender("symgrad", self.workers["symgrad"], ("ours", "build"), ours)]
        if w.name in ("mlp_xs", "mlp_tab"):
            run = ("ours", "epoch")
            found.append(Contender("symgrad run", self.workers["symgrad"], run, ours, 256))
        for name, worker in self.workers.items():
            for label, path, options in ways(name, w, self.threads):
                found.append(Contender(label, worker, path, options))
        return found

    def close(self) -> None:
        for worker in self.workers.values():
            worker.close()


def ways(name: str, w: Workload, threads: int) -> list[tuple[str, tuple[str, str], tuple]]:
    """How a peer runs the workload: label, function, options."""
    if name == "torch":
        plain = ("torch", ("peer_torch", "build"), (threads,))
        last = ("torch channels-last", ("peer_torch", "build"), (threads, True))
        return [plain, last] if w.images else [plain]
    if name == "jax":
        return [("jax", ("peer_jax", "build"), (threads,))]
    gelu = any(getattr(layer, "name", "") == "gelu" for layer in w.layers)
    if name == "pytensor" and w.dense:
        return [("pytensor", ("peer_small", "pytensor"), (threads,))]
    if name == "numpy" and w.dense and not gelu:  # NumPy has no erf
        return [("numpy", ("peer_small", "numpy"), (threads,))]
    return []
