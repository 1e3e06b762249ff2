"""The generic agent on PyTorch: one network, the plain policy gradient or the user's own loss."""

from tensor_optix.adapters.pytorch import backend as pytorch
from tensor_optix.algorithms.policy_gradient import PolicyGradient


class TorchAgent(PolicyGradient):
    """The generic agent on PyTorch. The arguments are those of `PolicyGradient`.

    An optimizer is, for example, `torch.optim.Adam(model.parameters(), lr=3e-4)`.
    """

    backend = pytorch
