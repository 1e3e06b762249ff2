"""DQN on the native engine: nothing but this library is needed."""

from tensor_optix.adapters.native import backend as native
from tensor_optix.algorithms.dqn import DQN


class NativeDQNAgent(DQN):
    """DQN on the native engine. The arguments are those of `DQN`.

    A network is `Perceptron(4, 2, activation="relu")`, say, and an optimizer is `NativeAdam(1e-3)`.

    Examples:
        >>> import numpy as np
        >>> from tensor_optix import NativeAdam, NativeDQNAgent, Perceptron
        >>> q_network = Perceptron(4, 2, activation="relu")
        >>> agent = NativeDQNAgent(q_network, n_actions=2, optimizer=NativeAdam(1e-3))
        >>> agent.act_greedy(np.zeros((5, 4), np.float32)).shape
        (5,)
    """

    backend = native
