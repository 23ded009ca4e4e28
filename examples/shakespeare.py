"""Shakespeare letter by letter: a small causal transformer.

    python examples/shakespeare.py      # --quick: a tiny one on a few lines

Blocks of attention and a layer of GELU units (Vaswani et al. 2017, in GPT-2's arrangement) predict
the letter that follows each of 64. The last tenth of the text is held out; 3000 steps, two and a
half minutes, bring its loss to 1.59. Row D7 of the systems;
tests/test_text.py trains the same model in PyTorch from the same start and compares every loss.
"""

from typing import NamedTuple

import numpy as np
from common import options
from data.text import Letters, drawn, passages, shakespeare

import symgrad as sg


class Sizes(NamedTuple):
    length: int = 64
    width: int = 128
    heads: int = 4
    blocks: int = 3
    batch: int = 32


class Model(NamedTuple):
    x: sg.Expr
    y: sg.Expr
    loss: sg.Expr  # the mean over the letters of every passage
    following: sg.Expr  # a letter drawn after each passage


def declared(letters: int, sizes: Sizes) -> Model:
    n = sg.dim("batch", max=sizes.batch)
    x = sg.input("x", (n, sizes.length), dtype="int32")
    y = sg.input("y", (n, sizes.length), dtype="int32")
    model = sg.nn.models.gpt(letters, sizes.length, sizes.width, sizes.heads, sizes.blocks)
    loss = sg.losses.cross_entropy(model(x, training=True), y)
    return Model(x, y, loss, drawn(model(x)[:, -1]))


def main() -> None:
    quick = options(__doc__).quick
    text = shakespeare(embedded=quick)
    sizes = Sizes(16, 32, 2, 1, 16) if quick else Sizes()
    steps = 100 if quick else 3000
    letters = Letters(text)
    numbers = letters.encode(text)
    cut = len(numbers) * 9 // 10
    x, y, loss, following = declared(len(letters), sizes)
    rate = sg.schedules.cosine(3e-3, steps=steps, final=1e-4)
    step = sg.train_step(loss, sg.optim.AdamW(rate, weight_decay=0.1), seed=0)

    rng = np.random.default_rng(0)
    for done in range(1, steps + 1):
        value = step(*passages(numbers[:cut], sizes.length, sizes.batch, rng))
        if done % (steps // 10) == 0:
            print(f"step {done:5d}  loss {value:.4f}")

    draw = sg.function([x], following, state=step.state, seed=1)
    written = numbers[None, cut : cut + sizes.length]
    for _ in range(50 if quick else 400):
        written = np.hstack([written, draw(written[:, -sizes.length :])[:, None]])
    print(letters.decode(written[0]))
    f = sg.function([x, y], loss, state=step.state)
    held = [f(*passages(numbers[cut:], sizes.length, sizes.batch, rng)) for _ in range(20)]
    print(f"loss on the text held out: {np.mean(held):.4f}")


if __name__ == "__main__":
    main()
