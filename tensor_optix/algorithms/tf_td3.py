"""TD3 on TensorFlow."""

from tensor_optix.adapters.tensorflow import backend as tensorflow
from tensor_optix.algorithms.td3 import TD3


class TFTD3Agent(TD3):
    """TD3 on TensorFlow. The arguments are those of `TD3`.

    Optimizers are two fresh ones, for example `keras.optimizers.Adam(3e-4)`.
    """

    backend = tensorflow
