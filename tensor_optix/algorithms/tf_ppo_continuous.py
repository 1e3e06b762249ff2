"""PPO for continuous actions on TensorFlow."""

from tensor_optix.adapters.tensorflow import backend as tensorflow
from tensor_optix.algorithms.ppo import GaussianPPO


class TFGaussianPPOAgent(GaussianPPO):
    """PPO for continuous actions on TensorFlow. The arguments are those of `GaussianPPO`.

    An optimizer is, for example, `keras.optimizers.Adam(3e-4)`.

    Examples:
        >>> import keras
        >>> import numpy as np
        >>> from tensor_optix import TFGaussianPPOAgent
        >>> def network(inputs, outputs):
        ...     return keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(outputs)])
        >>> agent = TFGaussianPPOAgent(network(3, 2), network(3, 1), keras.optimizers.Adam(3e-4), 1)
        >>> agent.act_greedy(np.zeros((5, 3), np.float32)).shape
        (5, 1)
    """

    backend = tensorflow
