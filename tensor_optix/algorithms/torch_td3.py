"""TD3 on PyTorch."""

from tensor_optix.adapters.pytorch import backend as pytorch
from tensor_optix.algorithms.td3 import TD3


class TorchTD3Agent(TD3):
    """TD3 on PyTorch. The arguments are those of `TD3`.

    Optimizers are, for example, `torch.optim.Adam(actor.parameters(), lr=3e-4)`, and one like it of both
    critics. Two critics that are perceptrons of one shape run as one batched pass.

    Examples:
        >>> import torch
        >>> from tensor_optix import TorchTD3Agent
        >>> actor, critics = torch.nn.Linear(3, 1), [torch.nn.Linear(3 + 1, 1) for _ in range(2)]
        >>> weights = [one for critic in critics for one in critic.parameters()]
        >>> adams = [torch.optim.Adam(one) for one in (actor.parameters(), weights)]
        >>> agent = TorchTD3Agent(actor, *critics, 1, *adams)
        >>> agent.act_greedy(torch.zeros(5, 3).numpy()).shape
        (5, 1)
    """

    backend = pytorch
