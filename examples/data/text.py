"""Text as numbers: names letter by letter, and running text.

In: SYMGRAD_DATA/text, or the few hundred names and lines that are in this folder. Out: arrays of
letter numbers for training, and new letters drawn from a network's scores.

>>> windows(["ab"], context=2)[0]        # each letter's row holds those before it; 0 is "."
array([[0, 0],
       [0, 1],
       [1, 2]], dtype=int32)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from data.find import find

import symgrad as sg

HERE = Path(__file__).parent
LETTERS = ".abcdefghijklmnopqrstuvwxyz"  # a name begins and ends with "."


def names(embedded: bool = False) -> list[str]:
    """The 32,033 first names of the makemore lectures (ssa.gov), or a few hundred common ones."""
    return _read("names.txt", embedded, "raw.githubusercontent.com/karpathy/makemore").split()


def shakespeare(embedded: bool = False) -> str:
    """A million letters of Shakespeare's plays, or a few of his lines."""
    return _read("tinyshakespeare.txt", embedded, "the char-rnn repository of karpathy")


def _read(name: str, embedded: bool, origin: str) -> str:
    path = None if embedded else find("text", name)
    if path is None:
        if not embedded:
            print(f"SYMGRAD_DATA has no text/{name} (see {origin}): a small text instead")
        path = HERE / name
    return path.read_text(encoding="utf-8")


# -- names --------------------------------------------------------------------------------------
def split(words: list[str], seed: int = 42) -> tuple[list[str], list[str], list[str]]:
    """80 % to train on, 10 % held out for choices, 10 % to test."""
    order = np.random.default_rng(seed).permutation(len(words))
    cuts = [round(0.8 * len(words)), round(0.9 * len(words))]
    train, held, test = ([words[i] for i in part] for part in np.split(order, cuts))
    return train, held, test


def encode(word: str) -> list[int]:
    return [LETTERS.index(letter) for letter in word]


def decode(numbers: np.ndarray) -> str:
    """The name up to the first "."."""
    return "".join(LETTERS[i] for i in numbers).split(".")[0]


def windows(words: list[str], context: int) -> tuple[np.ndarray, np.ndarray]:
    """Every letter, its end included, and the `context` letters before it, "." before the first."""
    rows, labels = [], []
    for word in words:
        numbers = [0] * context + encode(word) + [0]
        for i, label in enumerate(numbers[context:]):
            rows.append(numbers[i : i + context])
            labels.append(label)
    return np.array(rows, np.int32), np.array(labels, np.int32)


def padded(words: list[str], length: int) -> tuple[np.ndarray, np.ndarray]:
    """What a recurrent network reads and what it shall say, (n, length) each.

    It reads "." and the letters, it says the letters and "."; labels after that are -1.
    """
    x = np.zeros((len(words), length), np.int32)
    y = np.full((len(words), length), -1, np.int32)
    for row, word in enumerate(words):
        numbers = [*encode(word[: length - 1]), 0]
        x[row, 1 : len(numbers)] = numbers[:-1]
        y[row, : len(numbers)] = numbers
    return x, y


# -- running text -------------------------------------------------------------------------------
class Letters:
    """The letters that occur in a text, numbered in their order."""

    def __init__(self, text: str) -> None:
        self.all = sorted(set(text))
        self.number = {letter: i for i, letter in enumerate(self.all)}

    def __len__(self) -> int:
        return len(self.all)

    def encode(self, text: str) -> np.ndarray:
        return np.array([self.number[letter] for letter in text], np.int32)

    def decode(self, numbers: np.ndarray) -> str:
        return "".join(self.all[i] for i in numbers)


def passages(
    numbers: np.ndarray, length: int, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """`count` random passages, and the same one letter on: (count, length) each."""
    starts = rng.integers(0, len(numbers) - length, count)
    index = starts[:, None] + np.arange(length)
    return numbers[index], numbers[index + 1]


# -- new text -----------------------------------------------------------------------------------
def noise(shape: tuple[Any, ...]) -> sg.Expr:
    """Gumbel's, -log(-log u): the largest of scores plus noise has the probabilities of their
    softmax (Gumbel 1954)."""
    return -sg.log(-sg.log(sg.random.uniform(shape)))


def drawn(scores: sg.Expr) -> sg.Expr:
    """A letter for each row of scores, with the probabilities of their softmax."""
    return sg.argmax(scores + noise(scores.shape), axis=-1).astype("int32")
