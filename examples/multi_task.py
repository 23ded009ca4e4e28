"""Several tasks with little data each: alone, hard sharing, soft sharing, a mean in common.

The tasks: how good a wine is, for red and for white ones (UCI wine quality, where SYMGRAD_DATA has
it); else whether a digit is even, for the hands of four groups of writers. Each task has few rows.

    alone          a network for each task
    hard sharing   one hidden layer for all, an output of its own for each task
    soft sharing   a network for each, drawn together by sum |w_A - w_B|^2
    common mean    linear: a_t penalised by |abar|^2 + lambda/T sum_t |a_t - abar|^2

All tasks train in one compiled step, whose loss is the sum of theirs.

Shows: parameter sharing and tying (row F8); multi-task learning with hard sharing, soft sharing,
the task-relationship regulariser (row F9).

    python examples/multi_task.py     # --quick: fewer samples
"""

import numpy as np
from common import options, raw_digits, uci

import symgrad as sg

ROWS = 60  # to train on, for each task
Task = tuple[np.ndarray, np.ndarray]


def tasks() -> list[Task]:
    """The inputs and targets (rows, 1) of each task, inputs standardised."""
    wines = [uci(f"winequality-{kind}") for kind in ("red", "white")]
    if any(table is None for table in wines):
        pixels, labels = raw_digits()  # in the file, each writer's digits follow each other
        groups = np.array_split(np.arange(len(labels)), 4)
        found = [(pixels[rows] / 16 - 0.3, 1.0 - 2 * (labels[rows] % 2)) for rows in groups]
    else:
        tables = [table.astype(float) for table in wines]
        found = [(t[:, :-1], t[:, -1] - t[:, -1].mean()) for t in tables]
        found = [((x - x.mean(axis=0)) / x.std(axis=0), y) for x, y in found]
    return [(x.astype(np.float32), y[:, None].astype(np.float32)) for x, y in found]


def tied(nets: list[sg.nn.Sequential]) -> sg.Expr:
    """sum |w_A - w_B|^2 over the weights of neighbouring tasks."""
    return sum(
        sg.regularizers.tie(a, b)
        for one, other in zip(nets, nets[1:])
        for a, b in zip(one.parameters(), other.parameters())
    )


def network(name: str, hidden: sg.nn.Linear) -> sg.nn.Sequential:
    return sg.nn.Sequential(hidden, sg.tanh, sg.nn.Linear(16, 1, name=f"{name}.out"))


def declare(way: str, xs: list[sg.Expr]) -> tuple[list[sg.Expr], sg.Expr]:
    """The prediction of each task, and the penalty."""
    features = xs[0].shape[1]
    names = [f"task{t}" for t in range(len(xs))]
    if way.startswith("linear"):
        lines = [sg.nn.Linear(features, 1, name=name) for name in names]
        weights = [line.weight for line in lines]
        alone = sum(sg.regularizers.l2(line) for line in lines)
        spread = {"linear, common mean": 20.0, "linear, one for all": 300.0}.get(way)
        related = sg.regularizers.task_relationship
        penalty = alone if spread is None else related(weights, len(xs), spread)
        return [line(x) for line, x in zip(lines, xs)], 0.1 * penalty
    if way == "hard sharing":
        shared = sg.nn.Linear(features, 16, name="shared")
        nets = [network(name, shared) for name in names]
    else:
        nets = [network(name, sg.nn.Linear(features, 16, name=f"{name}.hidden")) for name in names]
    penalty = 0.03 * sg.regularizers.l2(nets)
    if way == "soft sharing":
        penalty = penalty + 0.2 * tied(nets)
    return [net(x) for net, x in zip(nets, xs)], penalty


def errors(way: str, sets: list[Task], draws: int, steps: int) -> np.ndarray:
    """The mean squared test error of each task, relative to that of 0: (draws, tasks)."""
    rows = [sg.dim(f"rows{t}", max=len(x)) for t, (x, _) in enumerate(sets)]
    xs = [sg.input(f"x{t}", (r, sets[0][0].shape[1])) for t, r in enumerate(rows)]
    ys = [sg.input(f"y{t}", (r, 1)) for t, r in enumerate(rows)]
    predictions, penalty = declare(way, xs)
    losses = [sg.losses.mse_loss(p, y) for p, y in zip(predictions, ys)]
    step = sg.train_step(sum(losses) + penalty, sg.optim.Adam(0.01), seed=0)
    score = sg.function([*xs, *ys], losses, state=step.state)
    start = dict(step.state)
    found = []
    for draw in range(draws):
        rng = np.random.default_rng(draw)
        chosen = [rng.permutation(len(x)) for x, _ in sets]
        few = [(x[c[:ROWS]], y[c[:ROWS]]) for (x, y), c in zip(sets, chosen)]
        rest = [(x[c[ROWS:]], y[c[ROWS:]]) for (x, y), c in zip(sets, chosen)]
        step.state.update(start)
        for _ in range(steps):
            step(*(x for x, _ in few), *(y for _, y in few))
        scores = score(*(x for x, _ in rest), *(y for _, y in rest))
        found.append([e / np.mean(y**2) for e, (_, y) in zip(scores, rest)])
    return np.array(found)


def main() -> None:
    quick = options(__doc__).quick
    draws, steps = (3, 500) if quick else (30, 800)
    sets = tasks()
    print(f"{len(sets)} tasks of {ROWS} rows; mean squared test error, 1 for always answering 0")
    means = {}
    ways = ["networks alone", "hard sharing", "soft sharing"]
    for way in [*ways, "linear, alone", "linear, one for all", "linear, common mean"]:
        found = errors(way, sets, draws, steps)
        means[way] = found.mean()
        each = "  ".join(f"{e:.3f}" for e in found.mean(axis=0))
        print(f"{way:20s} by task {each}   mean {means[way]:.4f}")
    assert means["soft sharing"] < means["networks alone"]
    assert means["linear, common mean"] < means["linear, alone"]


if __name__ == "__main__":
    main()
