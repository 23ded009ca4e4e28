"""Networks: layers (objects called on expressions) and functions, by PyTorch's conventions.

>>> model = nn.Sequential(nn.Linear(64, 32, name="fc1"), nn.relu, nn.Linear(32, 10, name="fc2"))
>>> logits = model(sg.input("x", (sg.dim("n", 256), 64)), training=True)
"""

from symgrad.nn import models
from symgrad.nn.activation import PReLU
from symgrad.nn.attention import MultiHeadAttention
from symgrad.nn.container import Flatten, Residual, Sequential
from symgrad.nn.conv_layers import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
from symgrad.nn.convolution import conv1d, conv2d, conv_transpose1d, conv_transpose2d
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
from symgrad.nn.noise import GaussianNoise, gaussian_noise, label_noise
from symgrad.nn.normalization import BatchNorm, GroupNorm, LayerNorm
from symgrad.nn.pooling import (
    AvgPool1d,
    AvgPool2d,
    GlobalAvgPool2d,
    MaxPool1d,
    MaxPool2d,
    adaptive_avg_pool2d,
    avg_pool1d,
    avg_pool2d,
    global_avg_pool2d,
    max_pool1d,
    max_pool2d,
)
from symgrad.nn.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from symgrad.nn.standardize import Standardize
from symgrad.nn.statistics import record, updates_of

__all__ = [
    "AvgPool1d",
    "AvgPool2d",
    "BatchNorm",
    "Conv1d",
    "Conv2d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "Dropout",
    "Embedding",
    "Flatten",
    "GRU",
    "GRUCell",
    "GaussianNoise",
    "GlobalAvgPool2d",
    "GroupNorm",
    "LSTM",
    "LSTMCell",
    "LayerNorm",
    "Linear",
    "MaxPool1d",
    "MaxPool2d",
    "Module",
    "MultiHeadAttention",
    "PReLU",
    "RNN",
    "RNNCell",
    "Residual",
    "Sequential",
    "Standardize",
    "adaptive_avg_pool2d",
    "attention",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "conv_transpose2d",
    "dropout",
    "elu",
    "gaussian_noise",
    "gelu",
    "global_avg_pool2d",
    "group_norm",
    "hard_sigmoid",
    "label_noise",
    "layer_norm",
    "leaky_relu",
    "log_softmax",
    "max_pool1d",
    "max_pool2d",
    "models",
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
