"""DQN on TensorFlow."""

from tensor_optix.adapters.tensorflow import backend as tensorflow
from tensor_optix.algorithms.dqn import DQN


class TFDQNAgent(DQN):
    """DQN on TensorFlow. The arguments are those of `DQN`.

    An optimizer is, for example, `keras.optimizers.Adam(1e-3)`.
    """

    backend = tensorflow
