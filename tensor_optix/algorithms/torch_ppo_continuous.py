"""PPO for continuous actions on PyTorch."""

from tensor_optix.adapters.pytorch import backend as pytorch
from tensor_optix.algorithms.ppo import GaussianPPO


class TorchGaussianPPOAgent(GaussianPPO):
    """PPO for continuous actions on PyTorch. The arguments are those of `GaussianPPO`.

    An optimizer is, for example, `torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=3e-4)`.
    """

    backend = pytorch
