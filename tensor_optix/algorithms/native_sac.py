"""SAC on the native engine: nothing but this library is needed."""

from tensor_optix.adapters.native import backend as native
from tensor_optix.algorithms.sac import SAC


class NativeSACAgent(SAC):
    """SAC on the native engine. The arguments are those of `SAC`.

    Networks are an actor `Perceptron(3, 2)` and two critics `Perceptron(3 + 1, 1)`, say, and optimizers are
    three fresh ones, such as `NativeAdam(3e-4)`.

    Examples:
        >>> import numpy as np
        >>> from tensor_optix import NativeAdam, NativeSACAgent, Perceptron
        >>> networks = Perceptron(3, 2), Perceptron(3 + 1, 1), Perceptron(3 + 1, 1)
        >>> optimizers = NativeAdam(3e-4), NativeAdam(3e-4), NativeAdam(3e-4)
        >>> agent = NativeSACAgent(*networks, 1, *optimizers)
        >>> agent.act_greedy(np.zeros((5, 3), np.float32)).shape
        (5, 1)
    """

    backend = native
