"""DQN on the native engine: nothing but this library is needed."""

from tensor_optix.adapters.native import backend as native
from tensor_optix.algorithms.dqn import DQN


class NativeDQNAgent(DQN):
    """DQN on the native engine. The arguments are those of `DQN`.

    A network is `Perceptron(4, 2, activation="relu")`, say, and an optimizer is `NativeAdam(1e-3)`.
    """

    backend = native
