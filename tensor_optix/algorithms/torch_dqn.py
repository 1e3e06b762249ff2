"""DQN on PyTorch."""

from tensor_optix.adapters.pytorch import backend as pytorch
from tensor_optix.algorithms.dqn import DQN


class TorchDQNAgent(DQN):
    """DQN on PyTorch. The arguments are those of `DQN`.

    An optimizer is, for example, `torch.optim.Adam(q_network.parameters(), lr=1e-3)`.
    """

    backend = pytorch
