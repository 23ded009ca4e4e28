"""Shakespeare letter by letter: two layers of LSTM, and new text written by one native loop.

    python examples/shakespeare_lstm.py      # --quick: a small one on a few lines

The text is read in 32 places at once, 64 letters at a time. The state after them is where the next
64 begin; gradients stop there (truncated backpropagation through time, Williams and Peng 1990). The
compiled step keeps that state from call to call, as batch norm keeps its statistics. The last tenth
of the text is held out: 8 passes over the rest, a minute and a half, bring its loss to 1.53. Row C8
of the systems: recurrent nets.
"""

from typing import Any, NamedTuple

import numpy as np
from common import options
from data.text import Letters, noise, shakespeare

import symgrad as sg


class Sizes(NamedTuple):
    length: int = 64
    width: int = 128
    layers: int = 2
    batch: int = 32


class Network(sg.nn.Module):
    """Letters to vectors, layers of LSTM, scores of the letter that follows."""

    def __init__(self, letters: int, sizes: Sizes) -> None:
        super().__init__()
        self.letters = sg.nn.Embedding(letters, sizes.width)
        self.recurrent = sg.nn.LSTM(sizes.width, sizes.width, sizes.layers)
        self.out = sg.nn.Linear(sizes.width, letters)

    def __call__(self, x: sg.Expr, state: Any) -> tuple[sg.Expr, Any]:
        outputs, state = self.recurrent(self.letters(x), state)
        return self.out(outputs), state


def written(network: Network, letters: int, sizes: Sizes, first: int, count: int) -> sg.Expr:
    """`count` letters after the first one."""

    def turn(carry: Any, noise: sg.Expr) -> Any:
        letter, state = carry
        scores, state = network(letter[:, None], state)
        letter = sg.argmax(scores[:, 0] + noise, axis=1).astype("int32")
        return (letter, state), letter

    blank = sg.constant(np.zeros((sizes.layers, 1, sizes.width), np.float32))
    start = sg.constant(np.array([first], np.int32)), (blank, blank)
    return sg.scan(turn, start, noise((count, 1, letters)))[1][:, 0]


def pieces(numbers: np.ndarray, sizes: Sizes) -> list[tuple[np.ndarray, np.ndarray]]:
    """The text in `batch` long parts one beside the other, cut into `length` letters at a time."""
    long = (len(numbers) - 1) // sizes.batch // sizes.length * sizes.length
    rows = [numbers[i : i + sizes.batch * long].reshape(sizes.batch, long) for i in (0, 1)]
    cuts = range(0, long, sizes.length)
    return [(rows[0][:, i : i + sizes.length], rows[1][:, i : i + sizes.length]) for i in cuts]


def main() -> None:
    quick = options(__doc__).quick
    text = shakespeare(embedded=quick)
    sizes = Sizes(16, 32, 1, 4) if quick else Sizes()
    epochs = 8
    letters = Letters(text)
    numbers = letters.encode(text)
    cut = len(numbers) * 9 // 10
    train, held = pieces(numbers[:cut], sizes), pieces(numbers[cut:], sizes)

    x = sg.input("x", (sizes.batch, sizes.length), dtype="int32")
    y = sg.input("y", (sizes.batch, sizes.length), dtype="int32")
    h = sg.state("h", (sizes.layers, sizes.batch, sizes.width))
    c = sg.state("c", (sizes.layers, sizes.batch, sizes.width))
    network = Network(len(letters), sizes)
    scores, after = network(x, (h, c))
    loss = sg.losses.cross_entropy(scores, y)
    for state, new in zip((h, c), after):
        sg.nn.record(scores, state, lambda before, new=new: new)
    rate = sg.schedules.cosine(5e-3, steps=epochs * len(train), final=1e-4)
    step = sg.train_step(loss, sg.optim.AdamW(rate), seed=0)
    evaluate = sg.function([x, y], loss, sg.nn.updates_of(loss), state=step.state)

    def start() -> None:
        """At the beginning of a text."""
        step.state["h"] = step.state["c"] = np.zeros(h.shape, np.float32)

    for epoch in range(1, epochs + 1):
        start()
        losses = [step(*piece) for piece in train]
        print(f"pass {epoch} over the text: loss {np.mean(losses):.4f}")

    count = 50 if quick else 400
    write = written(network, len(letters), sizes, int(letters.encode("\n")[0]), count)
    print(letters.decode(sg.function([], write, state=step.state, seed=1)()))
    start()
    print(f"loss on the text held out: {np.mean([evaluate(*piece) for piece in held]):.4f}")


if __name__ == "__main__":
    main()
