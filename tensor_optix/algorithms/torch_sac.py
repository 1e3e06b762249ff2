"""SAC on PyTorch."""

from tensor_optix.adapters.pytorch import backend as pytorch
from tensor_optix.algorithms.sac import SAC


class TorchSACAgent(SAC):
    """SAC on PyTorch. The arguments are those of `SAC`.

    Optimizers are, for example, `torch.optim.Adam(actor.parameters(), lr=3e-4)`, one like it of both
    critics, and `torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=3e-4)` of the number that becomes
    log alpha. Two critics that are perceptrons of one shape run as one batched pass.

    Examples:
        >>> import torch
        >>> from tensor_optix import TorchSACAgent
        >>> actor, critics = torch.nn.Linear(3, 2), [torch.nn.Linear(3 + 1, 1) for _ in range(2)]
        >>> weights = [one for critic in critics for one in critic.parameters()]
        >>> log_alpha = torch.zeros(1, requires_grad=True)
        >>> adams = [torch.optim.Adam(one) for one in (actor.parameters(), weights, [log_alpha])]
        >>> agent = TorchSACAgent(actor, *critics, 1, *adams)
        >>> agent.act_greedy(torch.zeros(5, 3).numpy()).shape
        (5, 1)
    """

    backend = pytorch
