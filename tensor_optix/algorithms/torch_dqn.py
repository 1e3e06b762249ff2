"""DQN on PyTorch."""

from tensor_optix.adapters.pytorch import backend as pytorch
from tensor_optix.algorithms.dqn import DQN


class TorchDQNAgent(DQN):
    """DQN on PyTorch. The arguments are those of `DQN`.

    An optimizer is, for example, `torch.optim.Adam(q_network.parameters(), lr=1e-3)`.

    Examples:
        >>> import torch
        >>> from tensor_optix import TorchDQNAgent
        >>> q_network = torch.nn.Linear(4, 2)
        >>> adam = torch.optim.Adam(q_network.parameters(), lr=1e-3)
        >>> agent = TorchDQNAgent(q_network, n_actions=2, optimizer=adam)
        >>> agent.act_greedy(torch.zeros(5, 4).numpy()).shape
        (5,)
    """

    backend = pytorch
