"""The generic agent on PyTorch: one network, the plain policy gradient or the user's own loss."""

from tensor_optix.adapters.pytorch import backend as pytorch
from tensor_optix.algorithms.policy_gradient import PolicyGradient


class TorchAgent(PolicyGradient):
    """The generic agent on PyTorch. The arguments are those of `PolicyGradient`.

    An optimizer is, for example, `torch.optim.Adam(model.parameters(), lr=3e-4)`.

    Examples:
        >>> import torch
        >>> from tensor_optix import TorchAgent
        >>> model = torch.nn.Linear(4, 2)
        >>> agent = TorchAgent(model, torch.optim.Adam(model.parameters(), lr=1e-2))
        >>> agent.act_greedy(torch.zeros(5, 4).numpy()).shape
        (5,)
    """

    backend = pytorch
