"""TD3 on the native engine: nothing but this library is needed."""

from tensor_optix.adapters.native import backend as native
from tensor_optix.algorithms.td3 import TD3


class NativeTD3Agent(TD3):
    """TD3 on the native engine. The arguments are those of `TD3`.

    Networks are an actor `Perceptron(3, 1)` and two critics `Perceptron(3 + 1, 1)`, say, and optimizers are
    two fresh ones, such as `NativeAdam(3e-4)`.
    """

    backend = native
