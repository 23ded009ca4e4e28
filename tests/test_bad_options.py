"""Options that make no sense: one clear error each, naming the operation and the value given."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symgrad as sg
from symgrad.errors import GraphError, InputError, ShapeError, SymgradError

nn, optim, losses, init = sg.nn, sg.optim, sg.losses, sg.init
schedules, constraints, regularizers = sg.schedules, sg.constraints, sg.regularizers
NAN, INF = float("nan"), float("inf")


def x(*shape: int) -> sg.Expr:
    return sg.input("x", shape)


def labels(n: int = 4) -> sg.Expr:
    return sg.input("y", (n,), dtype="int64")


def step(optimizer: Any = None, **options: Any) -> Any:
    """A step to call wrongly."""
    w = sg.parameter("w", (5, 3))
    loss = losses.cross_entropy(x(4, 5) @ w, labels())
    chosen = optim.SGD(0.1) if optimizer is None else optimizer
    return sg.train_step(loss, chosen, **{"target": "interpret", **options})


# The call, the error, the operation that its message names, the value that it quotes.
OPTIMIZERS = ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"]
CASES: list[tuple[Callable[[], Any], type[SymgradError], str, str]] = [
    # optimizers
    *[
        (
            lambda k=kind, o=option, v=value: getattr(optim, k)(**{o: v}),
            InputError,
            kind,
            repr(value),
        )
        for kind in OPTIMIZERS
        for option, value in [
            ("lr", -0.1),
            ("lr", NAN),
            ("lr", "fast"),
            ("weight_decay", -0.5),
            ("weight_decay", INF),
            ("clip_norm", 0.0),
            ("clip_norm", -1.0),
            ("clip_value", -2.0),
            ("maximize", "yes"),
            ("constraints", 3.0),
            ("name", ""),
        ]
    ],
    *[
        (lambda k=kind, o=option, v=value: getattr(optim, k)(**{o: v}), InputError, kind, quoted)
        for kind in ("Adam", "AdamW")
        for option, value, quoted in [
            ("betas", (1.0, 0.9), "1.0"),
            ("betas", (0.9, -0.1), "-0.1"),
            ("betas", 0.9, "0.9"),
            ("betas", (0.9, 0.99, 0.999), "(0.9, 0.99, 0.999)"),
            ("eps", -1e-8, "-1e-08"),
            ("amsgrad", 3, "3"),
        ]
    ],
    (lambda: optim.SGD(0.1, momentum=-0.9), InputError, "SGD", "-0.9"),
    (lambda: optim.SGD(0.1, momentum="high"), InputError, "SGD", "'high'"),
    (lambda: optim.SGD(0.1, momentum=0.9, dampening=NAN), InputError, "SGD", "nan"),
    (lambda: optim.SGD(0.1, nesterov=True), InputError, "SGD", "nesterov"),
    (lambda: optim.SGD(0.1, 0.9, 0.1, nesterov=True), InputError, "SGD", "0.1"),
    (lambda: optim.RMSprop(alpha=1.5), InputError, "RMSprop", "1.5"),
    (lambda: optim.RMSprop(momentum=-1.0), InputError, "RMSprop", "-1.0"),
    (lambda: optim.RMSprop(eps=-1.0), InputError, "RMSprop", "-1.0"),
    (lambda: optim.RMSprop(centered=2), InputError, "RMSprop", "2"),
    (lambda: optim.Adagrad(lr_decay=-1.0), InputError, "Adagrad", "-1.0"),
    (lambda: optim.Adagrad(initial_accumulator_value=-1.0), InputError, "Adagrad", "-1.0"),
    (lambda: optim.Adagrad(eps=NAN), InputError, "Adagrad", "nan"),
    (lambda: optim.SGD(lr=x(2)), ShapeError, "SGD", "(2,)"),
    # schedules
    (lambda: schedules.constant(-1.0), InputError, "schedules.constant", "-1.0"),
    (lambda: schedules.step(0.1, 0), InputError, "schedules.step", "0"),
    (lambda: schedules.step(0.1, 5, -0.5), InputError, "schedules.step", "-0.5"),
    (lambda: schedules.exponential(0.1, 0.0), InputError, "schedules.exponential", "0.0"),
    (lambda: schedules.cosine(0.1, -3), InputError, "schedules.cosine", "-3"),
    (lambda: schedules.cosine(0.1, 10, final=-1.0), InputError, "schedules.cosine", "-1.0"),
    (lambda: schedules.warmup(0.1, 0), InputError, "schedules.warmup", "0"),
    (lambda: schedules.warmup("x", 5), InputError, "schedules.warmup", "'x'"),
    (lambda: schedules.one_cycle(0.1, 100, pct_start=2.0), InputError, "one_cycle", "2.0"),
    (lambda: schedules.one_cycle(0.1, 100, pct_start="x"), InputError, "one_cycle", "'x'"),
    (lambda: schedules.one_cycle(NAN, 100), InputError, "one_cycle", "nan"),
    # constraints, penalties, initial values
    (lambda: constraints.max_norm(-1.0), InputError, "max_norm", "-1.0"),
    (lambda: constraints.max_norm(0), InputError, "max_norm", "0"),
    (lambda: constraints.unit_norm(eps=-1.0), InputError, "unit_norm", "-1.0"),
    (lambda: constraints.max_norm(1.0, axis=3)(x(2, 3)), ShapeError, "max_norm", "3"),
    (lambda: constraints.unit_norm(axis=-3)(x(2, 3)), ShapeError, "unit_norm", "-3"),
    (lambda: regularizers.l2([]), InputError, "l2", "no weights"),
    (lambda: regularizers.l1(3.0), InputError, "parameters", "float"),
    (lambda: regularizers.l2(sg.parameter("w", (2,)), -0.1), InputError, "l2", "-0.1"),
    (lambda: regularizers.l1(sg.parameter("w", (2,)), NAN), InputError, "l1", "nan"),
    (lambda: regularizers.tie(x(2), x(2), -1.0), InputError, "tie", "-1.0"),
    (lambda: regularizers.tie(x(2), x(3)), ShapeError, "tie", "(3,)"),
    (
        lambda: regularizers.group_lasso(sg.parameter("w", (2,)), axis=4),
        ShapeError,
        "group_lasso",
        "4",
    ),
    (lambda: init.constant("one"), InputError, "init.constant", "'one'"),
    (lambda: init.normal(std=-1.0), InputError, "init.normal", "-1.0"),
    (lambda: init.uniform(1.0, 0.0), InputError, "init.uniform", "1.0"),
    (lambda: init.he_normal(mode="fan"), InputError, "init.he_normal", "'fan'"),
    (lambda: init.he_uniform(a=NAN), InputError, "init.he_uniform", "nan"),
    (lambda: init.xavier_normal(gain=INF), InputError, "init.xavier_normal", "inf"),
    (lambda: init.orthogonal()((3,)), ShapeError, "init.orthogonal", "(3,)"),
    # declarations
    (lambda: sg.input("", (3,)), InputError, "input", "''"),
    (lambda: sg.parameter(None, (3,)), InputError, "parameter", "None"),
    (lambda: sg.state(3, ()), InputError, "state", "3"),
    # layers
    (lambda: nn.Linear(0, 3), ShapeError, "linear", "0"),
    (lambda: nn.Linear(3, 2.5), ShapeError, "linear", "2.5"),
    (lambda: nn.Linear(3, 2)(x(4, 5)), ShapeError, "linear", "(4, 5)"),
    (lambda: nn.Linear(3, 2, dtype="int32"), InputError, "linear", "int32"),
    (lambda: nn.Linear(3, 2, name=""), InputError, "linear", "''"),
    (lambda: nn.Conv2d(3, 8, 0), ShapeError, "conv2d", "0"),
    (lambda: nn.Conv2d(3, 8, (3, 3, 3)), ShapeError, "conv2d", "(3, 3, 3)"),
    (lambda: nn.Conv2d(3, 8, 3, stride=0), ShapeError, "conv2d", "0"),
    (lambda: nn.Conv2d(3, 8, 3, padding=-1), ShapeError, "conv2d", "-1"),
    (lambda: nn.Conv2d(3, 8, 3, padding="full")(x(1, 3, 9, 9)), SymgradError, "conv2d", "'full'"),
    (lambda: nn.Conv2d(3, 8, 3, dilation=-2), ShapeError, "conv2d", "-2"),
    (lambda: nn.Conv2d(3, 8, 3, groups=2), ShapeError, "conv2d", "2 groups"),
    (lambda: nn.Conv2d(4, 6, 3, groups=4), ShapeError, "conv2d", "4 groups"),
    (lambda: nn.Conv2d(3, 8, 7)(x(1, 3, 5, 9)), ShapeError, "conv2d", "7"),
    (lambda: nn.Conv2d(3, 8, 3)(x(1, 4, 9, 9)), ShapeError, "conv2d", "(1, 4, 9, 9)"),
    (lambda: nn.ConvTranspose2d(3, 8, 3, output_padding=-1), ShapeError, "conv_transpose2d", "-1"),
    (
        lambda: nn.ConvTranspose2d(3, 8, 3, stride=2, output_padding=2)(x(1, 3, 4, 4)),
        ShapeError,
        "conv_transpose2d",
        "2",
    ),
    (lambda: nn.MaxPool2d(0), ShapeError, "max_pool2d", "0"),
    (lambda: nn.MaxPool2d(9)(x(1, 3, 4, 4)), ShapeError, "max_pool2d", "9"),
    (lambda: nn.MaxPool2d(2, padding=3)(x(1, 3, 4, 4)), ShapeError, "max_pool2d", "3"),
    (lambda: nn.AvgPool2d(2, stride=-1), ShapeError, "avg_pool2d", "-1"),
    (lambda: nn.AvgPool2d(9)(x(1, 3, 4, 4)), ShapeError, "avg_pool2d", "9"),
    (lambda: nn.BatchNorm(0), ShapeError, "batch_norm", "0"),
    (lambda: nn.BatchNorm(3, momentum=1.5), InputError, "batch_norm", "1.5"),
    (lambda: nn.BatchNorm(3, momentum=-0.1), InputError, "batch_norm", "-0.1"),
    (lambda: nn.BatchNorm(3, eps=-1e-5), InputError, "batch_norm", "-1e-05"),
    (lambda: nn.BatchNorm(3)(x(4, 5)), ShapeError, "batch_norm", "(4, 5)"),
    (lambda: nn.BatchNorm(3)(x(1, 3), training=True), ShapeError, "batch_norm", "(1, 3)"),
    (lambda: nn.LayerNorm(3, eps=NAN), InputError, "layer_norm", "nan"),
    (lambda: nn.LayerNorm(()), ShapeError, "layer_norm", "()"),
    (lambda: nn.LayerNorm(3)(x(4, 5)), ShapeError, "layer_norm", "(4, 5)"),
    (lambda: nn.GroupNorm(3, 8), ShapeError, "group_norm", "3 groups"),
    (lambda: nn.GroupNorm(2, 8, eps=-1.0), InputError, "group_norm", "-1.0"),
    (lambda: nn.GroupNorm(2, 8)(x(4, 6, 2)), ShapeError, "group_norm", "(4, 6, 2)"),
    (lambda: nn.Dropout(1.0), InputError, "dropout", "1.0"),
    (lambda: nn.Dropout(-0.1), InputError, "dropout", "-0.1"),
    (lambda: nn.dropout(x(2), p="half"), InputError, "dropout", "'half'"),
    (lambda: nn.GaussianNoise(-1.0), InputError, "gaussian_noise", "-1.0"),
    (lambda: nn.gaussian_noise(x(2), INF), InputError, "gaussian_noise", "inf"),
    (lambda: nn.label_noise(labels(), 3, 1.5), InputError, "label_noise", "1.5"),
    (lambda: nn.label_noise(labels(), 0), ShapeError, "label_noise", "0"),
    (lambda: nn.Embedding(10, 0), ShapeError, "embedding", "0"),
    (lambda: nn.Embedding(10, 4, padding_idx=10), InputError, "embedding", "10"),
    (lambda: nn.Embedding(10, 4)(x(3)), SymgradError, "take", "float32"),
    (lambda: nn.PReLU(0), ShapeError, "prelu", "0"),
    (lambda: nn.PReLU(init=NAN), InputError, "prelu", "nan"),
    (lambda: nn.PReLU(3)(x(4, 5)), ShapeError, "prelu", "(4, 5)"),
    (lambda: nn.MultiHeadAttention(10, 3), ShapeError, "multi_head_attention", "3"),
    (lambda: nn.MultiHeadAttention(8, 2, dropout=1.0), InputError, "multi_head_attention", "1.0"),
    (lambda: nn.Sequential(3.0), InputError, "sequential", "3.0"),
    # functions
    (lambda: nn.gelu(x(2), "fast"), InputError, "gelu", "'fast'"),
    (lambda: nn.elu(x(2), NAN), InputError, "elu", "nan"),
    (lambda: nn.leaky_relu(x(2), "steep"), InputError, "leaky_relu", "'steep'"),
    (lambda: nn.softplus(x(2), beta=0.0), InputError, "softplus", "0.0"),
    (lambda: nn.softmax(x(2, 3), axis=5), ShapeError, "softmax", "5"),
    (lambda: nn.log_softmax(x(2, 3), axis=-4), ShapeError, "log_softmax", "-4"),
    (lambda: nn.attention(x(4, 3), x(4, 5), x(4, 5)), ShapeError, "attention", "(4, 5)"),
    (lambda: nn.attention(x(4, 3), x(4, 3), x(4, 3), dropout_p=2), InputError, "attention", "2"),
    (lambda: nn.max_pool2d(x(1, 1, 4, 4), 5), ShapeError, "max_pool2d", "5"),
    # losses
    *[
        (
            lambda n=name, t=target: getattr(losses, n)(x(4, 3), t, reduction="average"),
            InputError,
            name,
            "'average'",
        )
        for name, target in [
            ("mse_loss", x(4, 3)),
            ("l1_loss", x(4, 3)),
            ("huber_loss", x(4, 3)),
            ("bce_loss", x(4, 3)),
            ("bce_with_logits_loss", x(4, 3)),
            ("kl_div", x(4, 3)),
            ("hinge_loss", x(4, 3)),
            ("cross_entropy", labels()),
            ("nll_loss", labels()),
            ("multiclass_hinge_loss", labels()),
        ]
    ],
    (
        lambda: losses.cross_entropy(x(4, 3), labels(), label_smoothing=1.5),
        InputError,
        "cross_entropy",
        "1.5",
    ),
    (
        lambda: losses.cross_entropy(x(4, 3), labels(), label_smoothing="a"),
        InputError,
        "cross_entropy",
        "'a'",
    ),
    (lambda: losses.cross_entropy(x(4, 3), labels(5)), ShapeError, "cross_entropy", "(5,)"),
    (
        lambda: losses.cross_entropy(x(4, 3), labels(), weight=[1.0, 2.0]),
        ShapeError,
        "cross_entropy",
        "(2,)",
    ),
    (
        lambda: losses.cross_entropy(x(4, 3), labels(), ignore_index=0.5),
        InputError,
        "cross_entropy",
        "0.5",
    ),
    (
        lambda: losses.cross_entropy(x(4, 3), x(4, 3), ignore_index=0),
        InputError,
        "cross_entropy",
        "ignore_index",
    ),
    (lambda: losses.nll_loss(x(4, 3), labels(), weight=1.0), ShapeError, "nll_loss", "()"),
    (lambda: losses.bce_loss(x(4, 3), x(4, 3), weight=np.ones(4)), ShapeError, "bce_loss", "(4,)"),
    (
        lambda: losses.bce_with_logits_loss(x(4, 3), x(4, 3), pos_weight=np.ones(2)),
        ShapeError,
        "bce_with_logits_loss",
        "(2,)",
    ),
    (lambda: losses.huber_loss(x(2), x(2), delta=0.0), InputError, "huber_loss", "0.0"),
    (
        lambda: losses.multiclass_hinge_loss(x(4, 3), labels(), margin=-1.0),
        InputError,
        "multiclass_hinge_loss",
        "-1.0",
    ),
    (
        lambda: losses.multiclass_hinge_loss(x(4, 3), labels(), form="max", epsilon=-1.0),
        InputError,
        "multiclass_hinge_loss",
        "-1.0",
    ),
    (
        lambda: losses.multiclass_hinge_loss(x(4, 3), labels(), form="soft"),
        InputError,
        "multiclass_hinge_loss",
        "'soft'",
    ),
    (
        lambda: losses.multiclass_hinge_loss(
            x(4, 3), labels(), form="max", task_loss=np.ones((2, 3))
        ),
        ShapeError,
        "multiclass_hinge_loss",
        "(2, 3)",
    ),
    (lambda: losses.mse_loss(x(4), x(5)), ShapeError, "mse_loss", "(5,)"),
    # compiling and running
    (lambda: step(parameters=[]), GraphError, "parameters", "empty"),
    (lambda: step([]), InputError, "groups", "no optimizer"),
    (lambda: step(optim.SGD), InputError, "optimizer", "SGD"),
    (lambda: step(seed=-1), InputError, "seed", "-1"),
    (lambda: step(threads=0), InputError, "threads", "0"),
    (lambda: step(target="gpu"), InputError, "target", "'gpu'"),
    (lambda: step()(np.ones((4, 5), "f4"), [0, 1, 2, 3]), InputError, "'y'", "3"),
    (lambda: step()(np.ones((4, 5), "f4"), [0, 1, 2, -1]), InputError, "'y'", "-1"),
    (
        lambda: step().run({"x": np.ones((8, 5), "f4"), "y": np.zeros(8, int)}, 0),
        InputError,
        "batch_size",
        "0",
    ),
    (
        lambda: step().run({"x": np.ones((8, 5), "f4"), "y": np.zeros(8, int)}, 4, epochs=-1),
        InputError,
        "epochs",
        "-1",
    ),
    (lambda: sg.dim("n", max=0), SymgradError, "dim", "0"),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_a_bad_option_is_one_clear_error(case: int) -> None:
    call, error, operation, value = CASES[case]
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    first = message.split("\n  at ")[0]
    assert re.search(rf"{re.escape(operation)}", first, re.IGNORECASE), message
    assert value in first, message
    assert "\n" not in first, message
