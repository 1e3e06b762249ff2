"""PPO for discrete actions on the native engine: nothing but this library is needed."""

from tensor_optix.adapters.native import backend as native
from tensor_optix.algorithms.ppo import PPO


class NativePPOAgent(PPO):
    """PPO for discrete actions on the native engine. The arguments are those of `PPO`.

    Networks are `Perceptron(4, 2)` and `Perceptron(4, 1)`, say, and an optimizer is `NativeAdam(3e-4)`.

    Examples:
        >>> import numpy as np
        >>> from tensor_optix import NativeAdam, NativePPOAgent, Perceptron
        >>> actor, critic = Perceptron(4, 2), Perceptron(4, 1)
        >>> agent = NativePPOAgent(actor, critic, NativeAdam(3e-4))
        >>> agent.act_greedy(np.zeros((5, 4), np.float32)).shape
        (5,)
    """

    backend = native
