"""PPO for discrete actions on PyTorch."""

from tensor_optix.adapters.pytorch import backend as pytorch
from tensor_optix.algorithms.ppo import PPO


class TorchPPOAgent(PPO):
    """PPO for discrete actions on PyTorch. The arguments are those of `PPO`.

    An optimizer is, for example, `torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=3e-4)`.

    Examples:
        >>> import torch
        >>> from tensor_optix import TorchPPOAgent
        >>> actor, critic = torch.nn.Linear(4, 2), torch.nn.Linear(4, 1)
        >>> adam = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=3e-4)
        >>> agent = TorchPPOAgent(actor, critic, adam)
        >>> agent.act_greedy(torch.zeros(5, 4).numpy()).shape
        (5,)
    """

    backend = pytorch
