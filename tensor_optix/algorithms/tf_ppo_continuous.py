"""PPO for continuous actions on TensorFlow."""

from tensor_optix.adapters.tensorflow import backend as tensorflow
from tensor_optix.algorithms.ppo import GaussianPPO


class TFGaussianPPOAgent(GaussianPPO):
    """PPO for continuous actions on TensorFlow. The arguments are those of `GaussianPPO`.

    An optimizer is, for example, `keras.optimizers.Adam(3e-4)`.
    """

    backend = tensorflow
