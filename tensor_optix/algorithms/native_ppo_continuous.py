"""PPO for continuous actions on the native engine: nothing but this library is needed."""

from tensor_optix.adapters.native import backend as native
from tensor_optix.algorithms.ppo import GaussianPPO


class NativeGaussianPPOAgent(GaussianPPO):
    """PPO for continuous actions on the native engine. The arguments are those of `GaussianPPO`.

    Networks are `Perceptron(3, 2 * action_dim)` and `Perceptron(3, 1)`, say, and an optimizer is
    `NativeAdam(3e-4)`.

    Examples:
        >>> import numpy as np
        >>> from tensor_optix import NativeAdam, NativeGaussianPPOAgent, Perceptron
        >>> actor, critic = Perceptron(3, 2), Perceptron(3, 1)
        >>> agent = NativeGaussianPPOAgent(actor, critic, NativeAdam(3e-4), action_dim=1)
        >>> agent.act_greedy(np.zeros((5, 3), np.float32)).shape
        (5, 1)
    """

    backend = native
