"""The generic agent on TensorFlow: one network, the plain policy gradient or the user's own loss."""

from tensor_optix.adapters.tensorflow import backend as tensorflow
from tensor_optix.algorithms.policy_gradient import PolicyGradient


class TFAgent(PolicyGradient):
    """The generic agent on TensorFlow. The arguments are those of `PolicyGradient`.

    An optimizer is, for example, `keras.optimizers.Adam(3e-4)`.
    """

    backend = tensorflow
