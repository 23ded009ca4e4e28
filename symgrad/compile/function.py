"""Compiled functions and training steps: what the user calls.

In: expressions. Out: callables over NumPy arrays, whose parameters live in a `Store`.

>>> f = function([x, W], {"loss": loss, "dW": grad(loss, W)})
>>> step = train_step(loss, optim.Adam(1e-3), outputs={"accuracy": accuracy})
>>> step(X, Y)
{'loss': 2.31, 'accuracy': 0.08}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from symgrad.compile import arguments, epochs
from symgrad.compile.backend import backend
from symgrad.compile.epochs import Callback
from symgrad.compile.graph import Form, gather
from symgrad.compile.options import Options, options
from symgrad.compile.pipeline import Pipeline
from symgrad.compile.rates import Rates
from symgrad.compile.request import Request, numbered, training
from symgrad.errors import InputError
from symgrad.node import Expr
from symgrad.optim.groups import Groups
from symgrad.state import Store

if TYPE_CHECKING:
    from symgrad.compile.profile import Profile
    from symgrad.compile.provenance import KernelFacts

Array = np.ndarray[Any, Any]


class Function:
    """A compiled graph. Call it with arrays, by position or by name."""

    def __init__(self, request: Request, form: Form, store: Store, chosen: Options) -> None:
        self._request, self._form, self._store, self._options = request, form, store, chosen
        self._leaves = request.graph.inputs
        store.add(request.graph.parameters)
        self._pipeline = Pipeline(request, store, chosen)
        self._backend = backend(self._pipeline, store)
        self._fast: Callable[..., Any] = self._backend.fast(form) or _no_way
        if chosen.check == "finite":
            self._fast = _no_way

    def __call__(self, *args: Any, **named: Any) -> Any:
        if not named:
            result = self._fast(*args)
            if result is not NotImplemented:
                return result
        arrays, sizes = arguments.bind(self._leaves, args, named)
        return self._form.build(self._run(arrays, sizes))

    def _run(self, arrays: list[Array], sizes: dict[str, int]) -> dict[str, Array]:
        arguments.check_domains(self._pipeline.domains, self._leaves, arrays, sizes)
        if self._options.check == "finite":
            from symgrad.compile import finite

            return finite.call(self._pipeline, self._backend, self._store, arrays, sizes)
        return self._backend.call(arrays, sizes)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs, in the order in which a call takes them."""
        return tuple(leaf.name for leaf in self._leaves)

    @property
    def state(self) -> Store:
        """Parameters, states and the random generator, by name."""
        return self._store

    @property
    def rewrites(self) -> list[Any]:
        """What was rewritten, by which rule, from which source line; `print` it."""
        from symgrad.compile.notebook import Rewrites

        _ = self._pipeline.rewritten
        return Rewrites(self._pipeline.log, self._pipeline.gradient.roots)

    def stage(self, name: str) -> str:
        """One stage of the compile as text: "expression", "gradient", "rewritten", "schedule",
        "loops", "llvm" or "assembly"."""
        return self._pipeline.stage(name)

    @property
    def kernels(self) -> list[KernelFacts]:
        """Every kernel in the order of calls: the expressions it computes and their lines, its
        loops, LLVM and assembly, its work at the largest sizes, its time if `profile` ran before.
        None where the graph is interpreted."""
        from symgrad.compile.notebook import Kernels

        return Kernels(self._pipeline.provenance.kernels() if self._is_native else ())

    @property
    def expressions(self) -> dict[str, Expr]:
        """The values that have names in `stage("rewritten")`, as nodes of the compiled graph."""
        return dict(self._pipeline.provenance.expressions)

    def kernel_of(self, expression: Expr | str) -> list[KernelFacts]:
        """The kernels that compute an expression of the model, or a value by name; InputError
        where no kernel does. A value that is cheap may be computed by several."""
        if not self._is_native:
            raise InputError('target="interpret" has no kernels')
        names = self._pipeline.provenance.kernels_of(expression)
        from symgrad.compile.notebook import Kernels

        found = {kernel.name: kernel for kernel in self.kernels}
        return Kernels(found[name] for name in names)

    @property
    def _is_native(self) -> bool:
        return hasattr(getattr(self._backend, "native", self._backend), "code")

    def report(self) -> str:
        """Kernels, work, memory: what the compiled code consists of."""
        from symgrad.compile.report import report

        return report(self._pipeline, self._backend)

    def profile(self, *args: Any, seconds: float = 0.2, **named: Any) -> Profile:
        """Time, arithmetic and bytes of every kernel: `print` it, or read its `rows`.

        Takes the inputs of a call; without any, random ones at the largest sizes. It runs for about
        so many seconds, on copies: parameters stay what they are.
        """
        from symgrad.compile.profile import profile

        return profile(self._pipeline, self._backend, args, named, seconds)

    def _repr_html_(self) -> str:
        from symgrad.compile import notebook

        return notebook.function(self)

    def __repr__(self) -> str:
        outputs = ", ".join(self._request.graph.outputs)
        return f"<{type(self).__name__} ({', '.join(self.inputs)}) -> {outputs}>"


def _no_way(*_: Any) -> Any:
    """In the place of a native entry: every call takes the checked way."""
    return NotImplemented


class TrainStep(Function):
    """One optimization step: computes the loss, and moves the parameters."""

    def __init__(
        self, request: Request, form: Form, store: Store, chosen: Options, optimizer: Any
    ) -> None:
        self.means: dict[str, float] = {}  # of every scalar output, over the last pass of `run`
        self._rates = Rates(optimizer, store)
        super().__init__(request, form, store, chosen)

    @property
    def lr(self) -> Any:
        """The learning rate: set it between calls. A schedule is read only.

        With groups of optimizers a list or dict, as they are given; a dict that is assigned may
        name some of them.
        """
        return self._rates.get()

    @lr.setter
    def lr(self, value: Any) -> None:
        self._rates.set(value)

    def run(
        self,
        data: Mapping[str, Any],
        batch_size: int,
        epochs: int = 1,
        shuffle: bool = True,
        progress: bool = False,
        callback: Callback | Sequence[Callback] | None = None,
    ) -> list[float]:
        """Whole passes over data, `{"x": X, "y": Y}`; the mean loss of each.

        The last batch of a pass may be smaller. `callback(epoch, mean loss)` is called after each
        pass and stops the run by returning True; it may be a list of them, all of which are called
        (see sg.callbacks). `progress` shows a bar.
        """
        return _run(self, data, batch_size, epochs, shuffle, progress, callback)


_run = epochs.run


def function(
    inputs: Any,
    outputs: Any,
    updates: Mapping[Any, Any] | None = None,
    *,
    state: Store | None = None,
    seed: int = 0,
    threads: int | None = None,
    target: str | None = None,
    check: str | None = None,
    max_bytes: int | None = None,
    tolerance: float = 0.0,
) -> Function:
    """Compile expressions into a function of their inputs.

    inputs    inputs (and parameters, if they are to be given at each call) in the order of a call
    outputs   one expression, a list or a dict of them: the results come in the same form
    updates   {parameter: its value after the call}; all are computed from the values before it
    state     the state of another function, to share its parameters
    seed      of initial values and random numbers, where no state is given
    threads   how many may work on a call at most; None: SYMGRAD_THREADS, else one
    target    None for this machine; "avx512", "avx2", "sse2"; or "interpret" to run in NumPy
    check     "finite" raises NonFiniteError at the first term that is NaN or infinite
    max_bytes the most working memory of a call, besides parameters, inputs and outputs: cheap
              values are computed again instead of being kept; BudgetError where that is not enough
    tolerance the relative error that results may have beyond plain summation's: from about 6e-5 on
              (float32) convolutions may use Winograd's F(4x4), faster at five times the error
    """
    chosen = options(target, threads, check, max_bytes, tolerance)
    store = _store(state, seed)
    graph, form = gather(inputs, outputs, updates, store)
    return Function(Request(numbered(graph)), form, store, chosen)


def train_step(
    loss: Expr | Mapping[str, Expr],
    optimizer: Any,
    outputs: Mapping[str, Any] | None = None,
    *,
    parameters: Any = None,
    frozen: Any = None,
    state: Store | None = None,
    seed: int = 0,
    threads: int | None = None,
    target: str | None = None,
    check: str | None = None,
    max_bytes: int | None = None,
    tolerance: float = 0.0,
) -> TrainStep:
    """Compile one training step: the loss, its gradients, the optimizer's update.

    Every parameter that the loss depends on is trained, or those in `parameters`, without those
    that are `frozen` (layers, parameters, lists of them): what only the gradient of a frozen
    parameter would need is not computed. Inputs come in the order in which they were created. A
    call gives the loss as a float, with `outputs` a dict whose "loss" comes first. The other
    arguments are `function`'s.

    Several optimizers are a list or dict of groups `(optimizer, parameters)`, one of which may be
    an optimizer alone, for all the others; `step.lr` has that form too:

        sg.train_step(loss, [(sg.optim.SGD(1e-3), backbone), sg.optim.Adam(1e-2)])
        sg.train_step(lagrangian, {"w": (sg.optim.SGD(0.1), model),
                                   "multiplier": (sg.optim.SGD(0.01, maximize=True), lam)})

    Several losses are a dict, with a group of each name that this loss moves; all gradients are
    taken before anything moves. A call then gives a dict: "loss", their sum, and each of them.

        sg.train_step({"critic": critic_loss, "generator": generator_loss},
                      {"critic": (sg.optim.Adam(1e-4), critic),
                       "generator": (sg.optim.Adam(1e-4), generator)})

    Raises GraphError for a loss that is no scalar or depends on nothing to train, InputError for a
    parameter in two groups or in none.
    """
    chosen = options(target, threads, check, max_bytes, tolerance)
    store = _store(state, seed)
    if isinstance(optimizer, (list, Mapping)):
        optimizer = Groups(optimizer)
    request = training(loss, optimizer, outputs, parameters, frozen, store)
    found = tuple(request.graph.outputs)
    form = Form("dict" if len(found) > 1 else "one", found, number=True)
    return TrainStep(request, form, store, chosen, optimizer)


def _store(state: Any, seed: int) -> Store:
    if state is None:
        return Store(seed)
    if not isinstance(state, Store):
        raise InputError(f"state must be the state of a function, got {type(state).__name__}")
    return state
