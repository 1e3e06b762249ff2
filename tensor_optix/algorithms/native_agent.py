"""The generic agent on the native engine: nothing but this library is needed."""

from tensor_optix.adapters.native import backend as native
from tensor_optix.algorithms.policy_gradient import PolicyGradient


class NativeAgent(PolicyGradient):
    """The generic agent on the native engine. The arguments are those of `PolicyGradient`.

    A network is `Perceptron(4, 2)`, say, and an optimizer is `NativeAdam(3e-4)`. It takes no
    `compute_loss_fn`: gradients of other losses need PyTorch or TensorFlow.

    Examples:
        >>> import numpy as np
        >>> from tensor_optix import NativeAdam, NativeAgent, Perceptron
        >>> agent = NativeAgent(Perceptron(4, 2), NativeAdam(3e-4))
        >>> agent.act_greedy(np.zeros((5, 4), np.float32)).shape
        (5,)
    """

    backend = native
