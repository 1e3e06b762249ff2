"""PPO for discrete actions on TensorFlow."""

from tensor_optix.adapters.tensorflow import backend as tensorflow
from tensor_optix.algorithms.ppo import PPO


class TFPPOAgent(PPO):
    """PPO for discrete actions on TensorFlow. The arguments are those of `PPO`.

    An optimizer is, for example, `keras.optimizers.Adam(3e-4)`.
    """

    backend = tensorflow
