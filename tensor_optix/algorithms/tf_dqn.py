"""DQN on TensorFlow."""

from tensor_optix.adapters.tensorflow import backend as tensorflow
from tensor_optix.algorithms.dqn import DQN


class TFDQNAgent(DQN):
    """DQN on TensorFlow. The arguments are those of `DQN`.

    An optimizer is, for example, `keras.optimizers.Adam(1e-3)`.

    Examples:
        >>> import keras
        >>> import numpy as np
        >>> from tensor_optix import TFDQNAgent
        >>> q_network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> agent = TFDQNAgent(q_network, n_actions=2, optimizer=keras.optimizers.Adam(3e-4))
        >>> agent.act_greedy(np.zeros((5, 4), np.float32)).shape
        (5,)
    """

    backend = tensorflow
