"""PPO for discrete actions on TensorFlow."""

from tensor_optix.adapters.tensorflow import backend as tensorflow
from tensor_optix.algorithms.ppo import PPO


class TFPPOAgent(PPO):
    """PPO for discrete actions on TensorFlow. The arguments are those of `PPO`.

    An optimizer is, for example, `keras.optimizers.Adam(3e-4)`.

    Examples:
        >>> import keras
        >>> import numpy as np
        >>> from tensor_optix import TFPPOAgent
        >>> def network(inputs, outputs):
        ...     return keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(outputs)])
        >>> agent = TFPPOAgent(network(4, 2), network(4, 1), keras.optimizers.Adam(3e-4))
        >>> agent.act_greedy(np.zeros((5, 4), np.float32)).shape
        (5,)
    """

    backend = tensorflow
