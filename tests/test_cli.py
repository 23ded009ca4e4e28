"""The command line, as a user runs it: output, files, exit status, one message for each error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from symgrad.cli import main, parser

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
    ):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
    capsys.readouterr()


def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    actions = [a for a in parser()._actions if hasattr(a, "choices") and a.choices]
    commands = [name for action in actions for name in action.choices or ()]
    assert {"train", "show", "grad"} <= set(commands)
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
