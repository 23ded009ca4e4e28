"""Well-known networks, built from the layers of this package: each call gives a new one.

In: sizes, all with the defaults of the paper or of torchvision. Out: a `Module`, called on images
(n, channels, h, w) or, for `gpt`, on tokens (n, t) of an integer type; it gives logits.

| call                       | parameters  | for                                                 |
|----------------------------|-------------|-----------------------------------------------------|
| `lenet()`                  |      61,706 | 28x28, LeCun et al. (1998)                          |
| `alexnet()`                |  61,100,840 | 224x224, Krizhevsky (2014), the single tower        |
| `vgg16()`, `vgg19()`       | 138,357,544 | 224x224, Simonyan and Zisserman (2014), D and E     |
|                            | 143,667,240 |                                                     |
| `googlenet()`              |  13,004,888 | 224x224, Szegedy et al. (2014), with batch norm and |
| `googlenet(heads=False)`   |   6,624,904 | two auxiliary heads, or without them                |
| `resnet18()`               |  11,689,512 | 224x224, He et al. (2015)                           |
| `resnet20()`               |     272,474 | 32x32, section 4.2 of the same                      |
| `gpt()`                    |     818,241 | 64 tokens, a causal transformer                     |
| `alexnet_small() vgg_small() googlenet_small() resnet_small()`: the same blocks for 28x28, 32x32 |

Parameters are named as in torchvision (`features.0.weight`, `layer1.0.bn1.bias`), in its order; a
matrix is the transpose of PyTorch's.

>>> lenet()(sg.input("x", (sg.dim("n", 64), 1, 28, 28))).shape
(n, 10)
"""

from symgrad.nn.models.classic import AlexNet, alexnet, alexnet_small, lenet
from symgrad.nn.models.inception import GoogLeNet, Heads, Inception, googlenet, googlenet_small
from symgrad.nn.models.residual import BasicBlock, ResNet, resnet18, resnet20, resnet_small
from symgrad.nn.models.transformer import GPT, Block, gpt
from symgrad.nn.models.vgg import VGG, vgg16, vgg19, vgg_small

__all__ = [
    "GPT",
    "VGG",
    "AlexNet",
    "BasicBlock",
    "Block",
    "GoogLeNet",
    "Heads",
    "Inception",
    "ResNet",
    "alexnet",
    "alexnet_small",
    "googlenet",
    "googlenet_small",
    "gpt",
    "lenet",
    "resnet18",
    "resnet20",
    "resnet_small",
    "vgg16",
    "vgg19",
    "vgg_small",
]
