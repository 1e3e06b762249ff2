"""TD3 on TensorFlow."""

from tensor_optix.adapters.tensorflow import backend as tensorflow
from tensor_optix.algorithms.td3 import TD3


class TFTD3Agent(TD3):
    """TD3 on TensorFlow. The arguments are those of `TD3`.

    Optimizers are two fresh ones, for example `keras.optimizers.Adam(3e-4)`.

    Examples:
        >>> import keras
        >>> import numpy as np
        >>> from tensor_optix import TFTD3Agent
        >>> def network(inputs, outputs):
        ...     return keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(outputs)])
        >>> adams = [keras.optimizers.Adam(3e-4) for _ in range(2)]
        >>> agent = TFTD3Agent(network(3, 1), network(4, 1), network(4, 1), 1, *adams)
        >>> agent.act_greedy(np.zeros((5, 3), np.float32)).shape
        (5, 1)
    """

    backend = tensorflow
