"""SAC on the native engine: nothing but this library is needed."""

from tensor_optix.adapters.native import backend as native
from tensor_optix.algorithms.sac import SAC


class NativeSACAgent(SAC):
    """SAC on the native engine. The arguments are those of `SAC`.

    Networks are an actor `Perceptron(3, 2)` and two critics `Perceptron(3 + 1, 1)`, say, and optimizers are
    three fresh ones, such as `NativeAdam(3e-4)`.
    """

    backend = native
