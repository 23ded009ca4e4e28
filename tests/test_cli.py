"""The command line, as a user runs it: output, files, exit status, one message for each error."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from symgrad.cli import main, parser
from symgrad.cli.terminal import coloured

ROOT = Path(__file__).parent.parent
MODEL = """
import numpy as np
import symgrad as sg

n = sg.dim("batch", 16)
x, y = sg.input("x", (n, 4)), sg.input("y", (n,), dtype="int32")
model = sg.nn.Sequential(sg.nn.Linear(4, 8, name="fc1"), sg.nn.tanh, sg.nn.Linear(8, 3, name="fc2"))
logits = model(x)
loss = sg.losses.cross_entropy(logits, y)
outputs = {"accuracy": sg.mean((sg.argmax(logits, axis=1) == y).astype("float32"))}
optimizer = sg.optim.Adam(0.02)
epochs, batch_size = 4, 16


def data():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((300, 4)).astype("float32")
    labels = values[:, :3].argmax(axis=1)
    cut = lambda a, b: {"x": values[a:b], "y": labels[a:b]}
    return {"train": cut(0, 200), "validation": cut(200, 250), "test": cut(250, 300)}
"""
INTERPRET = ["--target", "interpret"]


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "model.py"
    path.write_text(MODEL)
    return str(path)


def changed(model: str, *pairs: tuple[str, str]) -> str:
    text = Path(model).read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    Path(model).write_text(text)
    return model


# -- train ------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["interpret", "native"])
def test_train(model: str, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main(["train", model, "--out", str(out), "--target", target]) == 0
    shown = capsys.readouterr().out
    assert shown.count("epoch ") >= 4 and "validation loss" in shown
    for row in ("test accuracy", "time per step", "parameters", "67 in 4 arrays"):
        assert row in shown
    record = json.loads((out / "history.json").read_text())
    assert [r["epoch"] for r in record["epochs"]] == [1, 2, 3, 4]
    assert record["epochs"][-1]["train"]["loss"] < record["epochs"][0]["train"]["loss"]
    assert record["test"]["accuracy"] > 0.5
    assert sorted(p.name for p in out.iterdir()) == ["history.json", "state.safetensors"]


def test_resume_goes_on(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, half = tmp_path / "whole", tmp_path / "half"
    train = ["train", model, *INTERPRET]
    assert main([*train, "--epochs", "4", "--out", str(whole)]) == 0
    assert main([*train, "--epochs", "2", "--out", str(half)]) == 0
    assert main([*train, "--epochs", "2", "--out", str(half), "--resume", str(half)]) == 0
    losses = [
        [r["train"]["loss"] for r in json.loads((d / "history.json").read_text())["epochs"]]
        for d in (whole, half)
    ]
    assert losses[0] == losses[1]
    assert (whole / "state.safetensors").read_bytes() == (half / "state.safetensors").read_bytes()


def test_a_model_without_optional_parts(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = Path(model).read_text()
    for name in ("outputs", "optimizer", "epochs"):
        text = "\n".join(line for line in text.splitlines() if not line.startswith(name))
    text = text.replace(', "validation": cut(200, 250), "test": cut(250, 300)', "")
    Path(model).write_text(text)
    assert main(["train", model, "--quick", "--batch-size", "8", "--seed", "3", *INTERPRET]) == 0
    shown = capsys.readouterr().out
    assert "epoch   2" in shown and "validation" not in shown and "test" not in shown


def test_evaluation_apart_from_training(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    changed(model, ("optimizer =", 'evaluation = {"error": 1 - outputs["accuracy"]}\noptimizer ='))
    assert main(["train", model, "--quick", *INTERPRET]) == 0
    assert "test error" in capsys.readouterr().out


# -- show and grad ----------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["expression", "gradient", "rewritten", "schedule", "llvm"])
def test_show(model: str, stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", model, "--stage", stage]) == 0
    expected = {"expression": "loss = ", "gradient": "d loss / d fc1.weight", "llvm": "define void"}
    assert expected.get(stage, "") in capsys.readouterr().out


def test_grad(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grad", model, "--wrt", "fc2.bias"]) == 0
    assert "onehot(y)" in capsys.readouterr().out
    assert main(["grad", model, "--wrt", "x", "--plain"]) == 0
    assert "fc1.weightᵀ" in capsys.readouterr().out
    assert main(["grad", model, "--wrt", "fc2.bias", "--latex"]) == 0
    assert r"\mathbf{fc2.bias}" in capsys.readouterr().out


@pytest.mark.parametrize("stage", ["schedule", "loops", "llvm", "assembly"])
@pytest.mark.parametrize("name", ["logits", "h", "h_tanh"])
def test_show_one_kernel(
    model: str, stage: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", model, "--stage", stage, "--kernel", name]) == 0
    shown = capsys.readouterr().out
    assert "model.py:8" in shown and "adam" not in shown
    start = {"loops": "kernel ", "llvm": "define internal void @"}.get(stage, "")
    assert start in shown


def test_show_lists_mathematics_and_lines(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", model, "--stage", "schedule"]) == 0
    shown = capsys.readouterr().out
    assert "h = tanh(x fc1.weight + fc1.bias)" in shown
    assert "d_fc1_weight_adam(" in shown and "model.py:11" in shown  # the optimizer's line
    assert main(["show", model, "--kernel", "h"]) == 0
    assert capsys.readouterr().out.startswith("kernel h_tanh(")


def test_derivation(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grad = ["grad", model, "--wrt", "fc1.weight"]
    assert main([*grad, "--steps"]) == 0
    assert "∂loss/∂fc1.weight by the chain rule" in capsys.readouterr().out
    assert main([*grad, "--steps", "--latex"]) == 0
    assert "\\begin{aligned}" in capsys.readouterr().out
    page = tmp_path / "page.html"
    assert main([*grad, "--html", str(page)]) == 0
    assert capsys.readouterr().out == f"{page}\n"
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert main([*grad, "--html", str(tmp_path / "none" / "page.html")]) == 1
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["svg", "html", "dot", "mmd"])
@pytest.mark.parametrize("what", [[], ["--what", "gradient"], ["--wrt", "fc1.bias"]])
def test_draw(
    model: str, suffix: str, what: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / f"graph.{suffix}"
    assert main(["draw", model, "-o", str(out), *what]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert "fc1" in out.read_text(encoding="utf-8")


def test_bench(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bench", model, "--seconds", "0.1", "--batch-size", "7", "--target", "sse2"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    first, second, *rest = shown.splitlines()
    assert first == f"{model}, batch 7"
    assert "a step: " in second and "samples a second" in second
    assert "kernel calls, batch 7" in rest[1] and "h_tanh" in shown, shown


# -- terminals --------------------------------------------------------------------------------


@pytest.mark.parametrize("written_in", ["maths", "loops", "llvm", "assembly", "latex", "table"])
@pytest.mark.parametrize(
    "text", ["h1 = tanh(x W1)  model.py:8", "\n  a\n\nb", "kernel f(p0: r):\n\t; [x] %1 = 2\n\n\nz"]
)
def test_colours_change_no_letter(text: str, written_in: str) -> None:
    from rich.console import Console

    shown = coloured(text, written_in)
    assert shown.plain == text
    console = Console(width=10, soft_wrap=True, no_color=True, color_system=None)
    with console.capture() as captured:
        console.print(shown)
    assert captured.get() == text.expandtabs(8) + "\n"


def on_terminal(*command: str, **environment: str) -> str:
    """What a program prints to a terminal of 24 lines."""
    pty = pytest.importorskip("pty")
    own = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "PAGER": "cat", **environment}
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
        if name not in environment:
            own.pop(name, None)
    main_end, other = pty.openpty()
    program = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "symgrad.cli", *command],
        stdin=other, stdout=other, stderr=other, env=own,
    )  # fmt: skip
    os.close(other)
    chunks = []
    while True:
        try:
            chunk = os.read(main_end, 4096)
        except OSError:  # the terminal is closed
            break
        if not chunk:
            break
        chunks.append(chunk)
    os.close(main_end)
    assert program.wait() == 0
    return b"".join(chunks).decode().replace("\r\n", "\n")


def test_output_on_a_terminal(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["grad", model, "--wrt", "fc2.bias"], ["show", model, "--stage", "loops"]):
        assert main(command) == 0
        plain = capsys.readouterr().out
        assert "\x1b[" not in plain
        coloured_text = on_terminal(*command)
        assert "\x1b[" in coloured_text
        assert re.sub(r"\x1b\[[0-9;]*m", "", coloured_text) == plain
        assert on_terminal(*command, NO_COLOR="1").count("\x1b[3") == 0


def test_long_output_is_paged(model: str, tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho paged\ncat > /dev/null\n")
    pager.chmod(0o755)
    assert "paged" in on_terminal("show", model, "--stage", "loops", PAGER=str(pager))
    assert "paged" not in on_terminal("grad", model, "--wrt", "fc2.bias", PAGER=str(pager))


# -- errors -----------------------------------------------------------------------------------


def failure(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("symgrad: error: ") and "Traceback" not in shown.err
    return shown.err


def test_errors_are_one_message(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no such file" in failure(["train", str(tmp_path / "none.py")], capsys)
    assert "no such folder" in failure(
        ["train", model, "--resume", str(tmp_path / "none"), *INTERPRET], capsys
    )
    assert "nothing named 'fc9'" in failure(["grad", model, "--wrt", "fc9"], capsys)
    close = failure(["grad", model, "--wrt", "fc2.wieght"], capsys)
    assert "there are fc2.weight, fc1.weight, " in close  # the likeliest first
    assert "named 'logit'; there are logits, " in failure(
        ["show", model, "--kernel", "logit"], capsys
    )
    assert "the stage gradient has no kernels" in failure(
        ["show", model, "--kernel", "h1", "--stage", "gradient"], capsys
    )
    assert "interpret" in failure(["show", model, "--kernel", "h1", *INTERPRET], capsys)
    assert "must end in .svg" in failure(["draw", model, "-o", str(tmp_path / "x.jpg")], capsys)
    assert "no folder" in failure(["draw", model, "-o", str(tmp_path / "no" / "x.svg")], capsys)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "state.safetensors").write_bytes(b"nothing")
    assert "not a whole safetensors file" in failure(
        ["train", model, "--resume", str(tmp_path / "bad"), *INTERPRET], capsys
    )


CASES = [
    ("loss = sg", "lost = sg", "has no `loss`"),
    ("loss = sg", "loss = 1 or sg", "it must be an expression"),
    ("import numpy as np", "import numpy as np\nimport nowhere", "model.py:3: ModuleNotFoundError"),
    ("sg.optim", "sg.optimum", "AttributeError"),
    ("n = sg", "n == sg", "NameError: name 'n' is not defined"),
    ("import symgrad as sg", "import symgrad as", "invalid syntax"),
    ("(n, 4)", "(n, 5)", "must end in 4 features"),
    ("def data", "def dates", "no function data()"),
    ('"train"', '"training"', 'must give a dict with "train"'),
    ("default_rng(0)", "default_rng(0, 1, 2)", "TypeError"),
    ("labels = values[:, :3]", "labels = 1 + values[:, :3]", "'y'"),
    ("epochs, batch_size = 4, 16", "epochs, batch_size = 4, 17", "batch_size 17"),
    ("epochs, batch_size = 4", "epochs, batch_size = 'x'", "epochs must be a positive int"),
    ('{"accuracy": sg', '{"accuracy": 1 + 0 * logits, "b": sg', "must be a scalar expression"),
]


@pytest.mark.parametrize("old, new, message", CASES)
def test_bad_model_files(
    model: str, old: str, new: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "labels" in old:
        new = "labels = 1 + values[:, :3].argmax(axis=1)  #"
    changed(model, (old, new))
    assert message in failure(["train", model, *INTERPRET], capsys)


def test_wrong_arguments_exit_with_2(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        [],
        ["train"],
        ["train", model, "--epochs", "0"],
        ["show", model, "--stage", "x"],
        ["grad", model],
        ["draw", model],
        ["bench", model, "--seconds", "-1"],
        ["bench", model, "--target", "interpret"],
    ):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
    capsys.readouterr()


def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    actions = [a for a in parser()._actions if hasattr(a, "choices") and a.choices]
    commands = [name for action in actions for name in action.choices or ()]
    assert {"train", "show", "grad", "draw", "bench"} <= set(commands)
    for name in commands:
        with pytest.raises(SystemExit) as stopped:
            main([name, "--help"])
        assert stopped.value.code == 0
        assert "example: symgrad " + name in capsys.readouterr().out


def test_as_a_program(model: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "symgrad.cli"]
    good = subprocess.run(
        [*command, "grad", model, "--wrt", "x"], env=environment, capture_output=True, text=True
    )
    assert good.returncode == 0 and good.stdout and not good.stderr
    bad = subprocess.run(
        [*command, "train", "nothing.py"], env=environment, capture_output=True, text=True
    )
    assert bad.returncode == 1 and bad.stderr == "symgrad: error: nothing.py: no such file\n"
