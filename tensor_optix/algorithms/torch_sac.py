"""SAC on PyTorch."""

from tensor_optix.adapters.pytorch import backend as pytorch
from tensor_optix.algorithms.sac import SAC


class TorchSACAgent(SAC):
    """SAC on PyTorch. The arguments are those of `SAC`.

    Optimizers are, for example, `torch.optim.Adam(actor.parameters(), lr=3e-4)`, one like it of both
    critics, and `torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=3e-4)` of the number that becomes
    log alpha. Two critics that are perceptrons of one shape run as one batched pass.
    """

    backend = pytorch
