"""A causal transformer over tokens, as in GPT-2.

>>> gpt(tokens=64)(sg.input("x", (sg.dim("n", 64), 64), dtype="int32")).shape
(n, 64, 65)
"""

from __future__ import annotations

from typing import Any

from symgrad import init as initialisers
from symgrad import source
from symgrad.errors import ShapeError
from symgrad.nn import functional
from symgrad.nn.attention import MultiHeadAttention
from symgrad.nn.dropout import Dropout
from symgrad.nn.embedding import Embedding
from symgrad.nn.linear import Linear, check_sizes
from symgrad.nn.module import Module, declared
from symgrad.nn.normalization import LayerNorm
from symgrad.node import Expr, Parameter
from symgrad.ops.core import as_expr
from symgrad.sizes import show


def gpt(
    vocabulary: int = 65,
    tokens: int = 64,
    width: int = 128,
    heads: int = 4,
    blocks: int = 4,
    dropout: float = 0.0,
    dtype: Any = "float32",
) -> GPT:
    """A causal transformer over up to `tokens` tokens: (n, t) to logits (n, t, vocabulary)."""
    return GPT(vocabulary, tokens, width, heads, blocks, dropout, dtype=dtype)


class Block(Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): a block of a causal transformer."""

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float = 0.0,
        *,
        name: str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(name, dtype)
        self.norm1, self.norm2 = LayerNorm(width, dtype=dtype), LayerNorm(width, dtype=dtype)
        self.attention = MultiHeadAttention(width, heads, dropout, dtype=dtype)
        self.wide = Linear(width, 4 * width, dtype=dtype)
        self.narrow = Linear(4 * width, width, dtype=dtype)
        self.dropout = Dropout(dropout)

    def __call__(self, x: Expr, training: bool = False) -> Expr:
        mixed = self.attention(self.norm1(x), causal=True, training=training)
        x = x + self.dropout(mixed, training)
        y = self.narrow(functional.gelu(self.wide(self.norm2(x))))
        return x + self.dropout(y, training)


class GPT(Module):
    """Embeddings of tokens and places, blocks, a last norm and a linear layer to logits."""

    def __init__(
        self,
        vocabulary: int,
        tokens: int,
        width: int,
        heads: int,
        blocks: int,
        dropout: float = 0.0,
        *,
        name: str | None = "gpt",
        dtype: Any = "float32",
    ) -> None:
        super().__init__(name, dtype)
        check_sizes(self.label, vocabulary=vocabulary, tokens=tokens, width=width, blocks=blocks)
        self.tokens, self.width = tokens, width
        # GPT-2's initialisation: with the unit variance of a plain embedding the first losses,
        # and so the first steps, are large.
        small = initialisers.normal(0.0, 0.02)
        self.embedding = Embedding(vocabulary, width, init=small, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.blocks = [Block(width, heads, dropout, dtype=dtype) for _ in range(blocks)]
        self.norm = LayerNorm(width, dtype=dtype)
        self.head = Linear(width, vocabulary, dtype=dtype)

    @declared
    def positions(self) -> Parameter:
        start = initialisers.normal(0.0, 0.02)
        return self._parameter("positions", (self.tokens, self.width), start)

    def __call__(self, x: Expr, training: bool = False) -> Expr:
        x = as_expr(self.label, x)
        length = x.shape[-1] if x.ndim == 2 else 0
        if not isinstance(length, int) or not 1 <= length <= self.tokens:
            raise ShapeError(
                f"{self.label}: takes tokens (n, t) with t up to {self.tokens}, got "
                f"{show(x.shape)}" + source.quote(source.here())
            )
        places = self.positions if length == self.tokens else self.positions[:length]
        h = self.dropout(self.embedding(x) + places, training)
        for block in self.blocks:
            h = block(h, training)
        return self.head(self.norm(h))
