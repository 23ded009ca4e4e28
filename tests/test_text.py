"""Character models: published losses on names, and a transformer beside the same one in PyTorch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import symgrad as sg

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path.append(str(EXAMPLES))

import names_gru  # noqa: E402
import shakespeare  # noqa: E402
from data import text  # noqa: E402
from data.find import find  # noqa: E402


def last_words(example: str) -> list[float]:
    """The number at the end of each line of a full run."""
    if find("text", "names.txt") is None:
        pytest.skip("SYMGRAD_DATA has no text/names.txt")
    command = [sys.executable, str(EXAMPLES / example)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    words = [line.split()[-1] for line in done.stdout.splitlines()]
    return [float(word) for word in words if word.replace(".", "").isdigit()]


def test_the_bigram_network_reaches_what_counting_does() -> None:
    counted, with_penalty = last_words("names_bigram.py")
    assert counted == pytest.approx(2.4546, abs=1e-4)
    assert with_penalty <= 2.482  # published: 2.4818


def test_the_perceptron_reaches_the_published_losses() -> None:
    train, held = last_words("names_mlp.py")
    assert train <= 2.13 and held <= 2.18  # published: 2.1260 and 2.1701


def test_recurrent_networks_know_more_than_the_perceptron() -> None:
    """After a fifth of the example's training: its result on the names held out is 2.00."""
    if find("text", "names.txt") is None:
        pytest.skip("SYMGRAD_DATA has no text/names.txt")
    train, held, _ = (text.padded(part, names_gru.LENGTH) for part in text.split(text.names()))
    network, step = names_gru.trained("GRU", *train, epochs=4)
    assert names_gru.mean_loss(network, step.state, *held) <= 2.06


@pytest.mark.parametrize("kind", names_gru.KINDS)
def test_names_are_written_by_one_native_loop(kind: str) -> None:
    """Letter after letter as the interpreter writes them, from the same random numbers."""
    letters = names_gru.written(names_gru.Network(kind), 5)
    native = sg.function([], letters, seed=3)
    interpreted = sg.function([], letters, seed=3, target="interpret")
    first = native()
    assert first.shape == (names_gru.LENGTH, 5) and first.dtype == np.int32
    np.testing.assert_array_equal(first, interpreted())
    assert (native() != first).any()  # the next call draws other ones


SIZES = shakespeare.Sizes(length=32, width=48, heads=4, blocks=2, batch=8)


def test_the_transformer_trains_as_in_pytorch() -> None:
    """The same batches from the same start: every loss of 300 steps within 1 %."""
    torch = pytest.importorskip("torch")
    from gpt_torch import GPT

    torch.set_num_threads(1)
    words = text.shakespeare(embedded=find("text", "tinyshakespeare.txt") is None)
    letters = text.Letters(words)
    numbers = letters.encode(words)
    model = shakespeare.declared(len(letters), SIZES)
    step = sg.train_step(model.loss, sg.optim.Adam(1e-3), seed=0)
    peer = GPT(len(letters), *SIZES[:4])
    peer.copy(step.state)
    optimizer = torch.optim.Adam(peer.parameters(), lr=1e-3)
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(300):
        x, y = text.passages(numbers, SIZES.length, SIZES.batch, rng)
        loss = torch.nn.functional.cross_entropy(
            peer(torch.from_numpy(x)).flatten(0, 1), torch.from_numpy(y).long().flatten()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append((step(x, y), loss.item()))
    ours, theirs = np.array(losses).T
    np.testing.assert_allclose(ours, theirs, rtol=0.01)
    assert ours[-20:].mean() < 0.7 * ours[0]


# -- the data ----------------------------------------------------------------------------------
def test_windows_hold_the_letters_before() -> None:
    x, y = text.windows(["ab", "c"], context=2)
    np.testing.assert_array_equal(x, [[0, 0], [0, 1], [1, 2], [0, 0], [0, 3]])
    np.testing.assert_array_equal(y, [1, 2, 0, 3, 0])


def test_padded_names_say_the_next_letter() -> None:
    x, y = text.padded(["ab", "cdefg"], length=4)
    np.testing.assert_array_equal(x, [[0, 1, 2, 0], [0, 3, 4, 5]])
    np.testing.assert_array_equal(y, [[1, 2, 0, -1], [3, 4, 5, 0]])


def test_parts_of_the_names_are_disjoint_and_seeded() -> None:
    words = text.names(embedded=True)
    train, held, test = text.split(words)
    assert sorted(train + held + test) == sorted(words)
    assert text.split(words) == (train, held, test) != text.split(words, seed=1)
    assert len(train) == round(0.8 * len(words))


def test_letters_are_drawn_with_the_probabilities_of_the_softmax() -> None:
    scores = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    draw = sg.function([], text.drawn(sg.constant(np.tile(scores, (20000, 1)))), seed=0)
    share = np.bincount(draw(), minlength=4) / 20000
    np.testing.assert_allclose(share, np.exp(scores), atol=0.015)


def test_passages_are_one_letter_apart() -> None:
    x, y = text.passages(np.arange(50), 8, 5, np.random.default_rng(0))
    assert x.shape == y.shape == (5, 8)
    np.testing.assert_array_equal(y, x + 1)
