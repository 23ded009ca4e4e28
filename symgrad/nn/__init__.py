"""Networks: layers (objects called on expressions) and functions, by PyTorch's conventions.

>>> model = nn.Sequential(nn.Linear(64, 32, name="fc1"), nn.relu, nn.Linear(32, 10, name="fc2"))
>>> logits = model(sg.input("x", (sg.dim("n", 256), 64)), training=True)
"""

from symgrad.nn.activation import PReLU
from symgrad.nn.attention import MultiHeadAttention
from symgrad.nn.container import Flatten, Residual, Sequential
from symgrad.nn.dropout import Dropout
from symgrad.nn.embedding import Embedding
from symgrad.nn.functional import (
    attention,
    batch_norm,
    dropout,
    elu,
    gelu,
    group_norm,
    hard_sigmoid,
    layer_norm,
    leaky_relu,
    log_softmax,
    prelu,
    relu,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from symgrad.nn.linear import Linear
from symgrad.nn.module import Module, parameters_of
from symgrad.nn.normalization import BatchNorm, GroupNorm, LayerNorm
from symgrad.nn.statistics import record, updates_of

__all__ = [
    "BatchNorm",
    "Dropout",
    "Embedding",
    "Flatten",
    "GroupNorm",
    "LayerNorm",
    "Linear",
    "Module",
    "MultiHeadAttention",
    "PReLU",
    "Residual",
    "Sequential",
    "attention",
    "batch_norm",
    "dropout",
    "elu",
    "gelu",
    "group_norm",
    "hard_sigmoid",
    "layer_norm",
    "leaky_relu",
    "log_softmax",
    "parameters_of",
    "prelu",
    "record",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
    "updates_of",
]
