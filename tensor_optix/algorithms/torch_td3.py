"""TD3 on PyTorch."""

from tensor_optix.adapters.pytorch import backend as pytorch
from tensor_optix.algorithms.td3 import TD3


class TorchTD3Agent(TD3):
    """TD3 on PyTorch. The arguments are those of `TD3`.

    Optimizers are, for example, `torch.optim.Adam(actor.parameters(), lr=3e-4)`, and one like it of both
    critics. Two critics that are perceptrons of one shape run as one batched pass.
    """

    backend = pytorch
