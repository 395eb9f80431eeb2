"""Layers, losses and what trains them: the part of `torch.nn` that stands here."""

from vibetensor.nn import clip as utils
from vibetensor.nn import functional, init, parameter
from vibetensor.nn.activation import GELU, LogSoftmax, ReLU, Sigmoid, SiLU, Softmax, Tanh
from vibetensor.nn.attention import MultiheadAttention
from vibetensor.nn.containers import ModuleDict, ModuleList, ParameterList, Sequential
from vibetensor.nn.convolution import AvgPool2d, Conv1d, Conv2d, MaxPool2d
from vibetensor.nn.dropout import Dropout
from vibetensor.nn.embedding import Embedding
from vibetensor.nn.flatten import Flatten
from vibetensor.nn.linear import Identity, Linear
from vibetensor.nn.loss import CrossEntropyLoss, MSELoss, NLLLoss
from vibetensor.nn.module import Module
from vibetensor.nn.norm import LayerNorm, RMSNorm
from vibetensor.nn.parameter import Parameter
from vibetensor.nn.rotary import RotaryEmbedding
from vibetensor.nn.transformer import TransformerEncoder, TransformerEncoderLayer

__all__ = [
    "GELU",
    "AvgPool2d",
    "Conv1d",
    "Conv2d",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "Flatten",
    "Identity",
    "LayerNorm",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "ModuleDict",
    "ModuleList",
    "MultiheadAttention",
    "NLLLoss",
    "Parameter",
    "ParameterList",
    "RMSNorm",
    "ReLU",
    "RotaryEmbedding",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "functional",
    "init",
    "parameter",
    "utils",
]
