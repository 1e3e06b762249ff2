"""SAC on TensorFlow."""

from tensor_optix.adapters.tensorflow import backend as tensorflow
from tensor_optix.algorithms.sac import SAC


class TFSACAgent(SAC):
    """SAC on TensorFlow. The arguments are those of `SAC`.

    Optimizers are three fresh ones, for example `keras.optimizers.Adam(3e-4)`.

    Examples:
        >>> import keras
        >>> import numpy as np
        >>> from tensor_optix import TFSACAgent
        >>> def network(inputs, outputs):
        ...     return keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(outputs)])
        >>> adams = [keras.optimizers.Adam(3e-4) for _ in range(3)]
        >>> agent = TFSACAgent(network(3, 2), network(4, 1), network(4, 1), 1, *adams)
        >>> agent.act_greedy(np.zeros((5, 3), np.float32)).shape
        (5, 1)
    """

    backend = tensorflow
