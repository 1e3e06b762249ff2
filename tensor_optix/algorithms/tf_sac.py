"""SAC on TensorFlow."""

from tensor_optix.adapters.tensorflow import backend as tensorflow
from tensor_optix.algorithms.sac import SAC


class TFSACAgent(SAC):
    """SAC on TensorFlow. The arguments are those of `SAC`.

    Optimizers are three fresh ones, for example `keras.optimizers.Adam(3e-4)`.
    """

    backend = tensorflow
