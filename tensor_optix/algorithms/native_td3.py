"""TD3 on the native engine: nothing but this library is needed."""

from tensor_optix.adapters.native import backend as native
from tensor_optix.algorithms.td3 import TD3


class NativeTD3Agent(TD3):
    """TD3 on the native engine. The arguments are those of `TD3`.

    Networks are an actor `Perceptron(3, 1)` and two critics `Perceptron(3 + 1, 1)`, say, and optimizers are
    two fresh ones, such as `NativeAdam(3e-4)`.

    Examples:
        >>> import numpy as np
        >>> from tensor_optix import NativeAdam, NativeTD3Agent, Perceptron
        >>> networks = Perceptron(3, 1), Perceptron(3 + 1, 1), Perceptron(3 + 1, 1)
        >>> agent = NativeTD3Agent(*networks, 1, NativeAdam(3e-4), NativeAdam(3e-4))
        >>> agent.act_greedy(np.zeros((5, 3), np.float32)).shape
        (5, 1)
    """

    backend = native
