"""The pictures of the README, made again: python examples/pictures/make.py

    backpropagation.svg   forward and backward through a two-layer network, gates labelled
    page.png              the page of a training step (a screenshot; needs Chromium)

Shows: both graphs drawable, with gates labelled (row A3).
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

import symgrad as sg

HERE = Path(__file__).parent


def network() -> tuple[sg.Expr, list[sg.Expr]]:
    """Two layers and softmax cross-entropy, as a lecture writes them."""
    n = sg.dim("n", max=64)
    x = sg.input("x", (n, 784))
    y = sg.input("y", (n,), dtype="int32")
    W1, b1 = sg.parameter("W1", (784, 128), init=sg.init.he_normal()), sg.parameter("b1", (128,))
    W2, b2 = sg.parameter("W2", (128, 10), init=sg.init.he_normal()), sg.parameter("b2", (10,))
    h = sg.nn.relu(x @ W1 + b1)
    z = h @ W2 + b2
    loss = sg.losses.cross_entropy(z, y)
    return loss, [W1, b1, W2, b2]


def main() -> None:
    loss, parameters = network()
    sg.draw({"loss": loss}, HERE / "backpropagation.svg", wrt=parameters)
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("page.png needs Chromium")
        return
    step = sg.train_step(loss, sg.optim.SGD(0.1))
    random = np.random.default_rng(0)
    data = {
        "x": random.standard_normal((64, 784)).astype("float32"),
        "y": random.integers(0, 10, 64),
    }
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "step.html"
        picture = sg.draw(step, page, data=data, title="two layers")
        (h,) = [node.key for node in picture.graph.nodes if node.name == "h"]
        subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--hide-scrollbars",
                "--virtual-time-budget=4000", "--window-size=1280,800",
                f"--screenshot={HERE / 'page.png'}", f"file://{page}#node={h}",
            ],
            check=True, capture_output=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
