"""PPO for continuous actions on PyTorch."""

from tensor_optix.adapters.pytorch import backend as pytorch
from tensor_optix.algorithms.ppo import GaussianPPO


class TorchGaussianPPOAgent(GaussianPPO):
    """PPO for continuous actions on PyTorch. The arguments are those of `GaussianPPO`.

    An optimizer is, for example, `torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=3e-4)`.

    Examples:
        >>> import torch
        >>> from tensor_optix import TorchGaussianPPOAgent
        >>> actor, critic = torch.nn.Linear(3, 2), torch.nn.Linear(3, 1)
        >>> adam = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=3e-4)
        >>> agent = TorchGaussianPPOAgent(actor, critic, adam, action_dim=1)
        >>> agent.act_greedy(torch.zeros(5, 3).numpy()).shape
        (5, 1)
    """

    backend = pytorch
