"""Networks to draw, for the tests of pictures, and a browser to open them in."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import symgrad as sg

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)


def two_layers() -> tuple[Any, list[Any]]:
    """A two-layer network with softmax cross-entropy: the loss and its parameters."""
    n = sg.dim("n", max=64)
    x = sg.input("x", (n, 784))
    y = sg.input("y", (n,), dtype="int32")
    fc1, fc2 = sg.nn.Linear(784, 128, name="fc1"), sg.nn.Linear(128, 10, name="fc2")
    h = sg.nn.relu(fc1(x))
    logits = fc2(h)
    loss = sg.losses.cross_entropy(logits, y)
    return loss, [*fc1.parameters(), *fc2.parameters()]


def recurrent() -> Any:
    """The loss of an LSTM."""
    n = sg.dim("n", max=16)
    x, y = sg.input("x", (n, 5, 4)), sg.input("y", (n,), dtype="int32")
    outputs = sg.nn.LSTM(4, 6, name="lstm")(x)[0]
    return sg.losses.cross_entropy(sg.nn.Linear(6, 3, name="out")(outputs[:, -1]), y)


@functools.cache
def residual() -> Any:
    """A step of a residual network of 20 layers."""
    n = sg.dim("n", max=8)
    x, y = sg.input("x", (n, 3, 32, 32)), sg.input("y", (n,), dtype="int32")
    logits = sg.nn.models.resnet20()(x, training=True)
    loss = sg.losses.cross_entropy(logits, y)
    return sg.train_step(loss, sg.optim.SGD(0.1, momentum=0.9))


@functools.cache
def transformer() -> Any:
    n = sg.dim("n", max=4)
    tokens = sg.input("tokens", (n, 8), dtype="int32")
    targets = sg.input("targets", (n, 8), dtype="int32")
    logits = sg.nn.models.gpt(20, 8, 16, 2, 2)(tokens)
    loss = sg.losses.cross_entropy(logits, targets)
    return sg.train_step(loss, sg.optim.AdamW(1e-3))


def opened(page: Path, fragment: str = "", wait: int = 4000) -> str:
    """The document that a browser makes of a page, without a network; no errors on its console.

    What the page does later is waited for, by a clock that does not run in real time.
    """
    if not BROWSER:
        pytest.skip("no Chromium or Chrome is installed: pages are not opened")
    done = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,800",
            "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr",
            *([f"--virtual-time-budget={wait}"] if wait else []),
            "--dump-dom", f"file://{page}{fragment}",
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not console, console
    assert done.stdout, done.stderr
    return done.stdout


def panel(document: str) -> str:
    found = re.search(r'<aside id="panel".*?</aside>', document, re.S)
    assert found is not None
    return found[0]
