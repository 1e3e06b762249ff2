"""The generic agent on TensorFlow: one network, the plain policy gradient or the user's own loss."""

from tensor_optix.adapters.tensorflow import backend as tensorflow
from tensor_optix.algorithms.policy_gradient import PolicyGradient


class TFAgent(PolicyGradient):
    """The generic agent on TensorFlow. The arguments are those of `PolicyGradient`.

    An optimizer is, for example, `keras.optimizers.Adam(3e-4)`.

    Examples:
        >>> import keras
        >>> import numpy as np
        >>> from tensor_optix import TFAgent
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> agent = TFAgent(model, keras.optimizers.Adam(3e-4))
        >>> agent.act_greedy(np.zeros((5, 4), np.float32)).shape
        (5,)
    """

    backend = tensorflow
