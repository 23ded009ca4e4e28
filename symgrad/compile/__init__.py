"""From expressions to a callable: `function` and `train_step`.

graph      what is asked for, checked          request       a training step before gradients
pipeline   the stages                          backend       what runs: native, interpreted
arguments  from user's values to arrays        function      the callables
"""

from symgrad.compile.function import Function, TrainStep, function, train_step

__all__ = ["Function", "TrainStep", "function", "train_step"]
