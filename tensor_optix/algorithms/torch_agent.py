"""The generic agent on PyTorch: one network, the plain policy gradient or the user's own loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensor_optix.adapters.pytorch import backend
from tensor_optix.algorithms._policy_gradient import PolicyGradient

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn, optim

    from tensor_optix.adapters.backend import Backend
    from tensor_optix.core.normalizers import ObsNormalizer, RewardNormalizer
    from tensor_optix.core.types import EpisodeData, HyperparamSet


class TorchAgent(PolicyGradient):
    """REINFORCE (Williams 1992) for discrete actions on PyTorch: one network, one update per window.

    The loss is `-mean(log pi(a_t) * A_t)`. Where a window has `values`, `A_t = G_t - V_t` (A2C); where not,
    A_t is G_t normalised over the window. `G_t` is the discounted sum of the rewards from row t to the
    end of the episode, or as far as the window shows it: nothing is bootstrapped.

    The network receives float32 whatever the environment's dtype (the indices of a Discrete observation
    space: int64) and runs in evaluation mode, so that the policy that learns is the one that acted.

    Args:
        model: `[B, ...]` observations to `[B, A]` logits. The attribute `model` is this very network.
        optimizer: Holds its parameters. The attribute `optimizer` is this very optimizer.
        hyperparams: See `PolicyGradientHyperparams`; all are optional.
        compute_loss_fn: `(model, episode, targets) -> loss`, used in place of the loss above. `episode` holds
            the B rows that are learned from, as NumPy arrays, flat (`num_envs` is 1) and without ends
            of episodes; its observations are normalised if there is a normalizer. `targets` `[B]` is
            a tensor of A_t on the network's device.
        device: "auto" (a GPU where there is one), "cpu", "cuda", ...
        reward_normalizer: Scales the rewards that are learned from; scores stay raw.
        obs_normalizer: Normalises what the network sees; saved with it, still in evaluation.

    Raises:
        ValueError: On an unknown hyperparameter, a value out of range, or an optimizer that does not
            hold exactly the parameters of the model.
    """

    ops: Backend = backend

    def __init__(
        self,
        model: nn.Module,
        optimizer: optim.Optimizer,
        hyperparams: HyperparamSet | None = None,
        compute_loss_fn: Callable[[nn.Module, EpisodeData, Tensor], Tensor] | None = None,
        device: str = "auto",
        reward_normalizer: RewardNormalizer | None = None,
        obs_normalizer: ObsNormalizer | None = None,
    ) -> None:
        model.to(backend.resolve_device(device)).eval()
        super().__init__(
            model, optimizer, hyperparams, compute_loss_fn, reward_normalizer, obs_normalizer
        )
