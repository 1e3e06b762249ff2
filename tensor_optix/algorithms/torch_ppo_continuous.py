"""PPO for continuous actions on PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensor_optix.adapters.pytorch import backend
from tensor_optix.adapters.pytorch.compilation import compiled_backend
from tensor_optix.algorithms._ppo import GaussianPPO

if TYPE_CHECKING:
    from torch import nn, optim

    from tensor_optix.adapters.backend import Backend
    from tensor_optix.core.normalizers import ObsNormalizer, RewardNormalizer
    from tensor_optix.core.types import HyperparamSet


class TorchGaussianPPOAgent(GaussianPPO):
    """PPO for continuous actions on PyTorch: a Gaussian squashed by tanh.

    Actions are in (-1, 1); pipelines stretch them to the bounds of the action space.

    Networks receive float32 whatever the environment's dtype (the indices of a Discrete observation
    space: int64) and run in evaluation mode, so that the policy that learns is the one that acted.

    Args:
        actor: `[B, ...]` observations to `[B, 2A]`, mean and log_std side by side. log_std is clamped to
            [-5, 2].
        critic: `[B, ...]` observations to values, `[B, 1]` or `[B]`.
        optimizer: Holds the parameters of both, for example
            `torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=3e-4)`.
        action_dim: A, the number of components of an action.
        hyperparams: See `PPOHyperparams`; all are optional.
        device: "auto" (a GPU where there is one), "cpu", "cuda", ...
        reward_normalizer: Scales the rewards that are learned from; scores stay raw.
        obs_normalizer: Normalises what the networks see; saved with them, still in evaluation.
        compile: Whether updates are compiled, by TorchInductor, which needs a C++ compiler. The first then
            takes 5 to 40 seconds, and those of small networks on a CPU a third of their time. The
            results are the same up to rounding. What cannot be compiled runs as it is, with a warning.

    Raises:
        ValueError: On an unknown hyperparameter, a value out of range, or an optimizer that does not
            hold exactly the parameters of actor and critic.
    """

    ops: Backend = backend

    def __init__(
        self,
        actor: nn.Module,
        critic: nn.Module,
        optimizer: optim.Optimizer,
        action_dim: int,
        hyperparams: HyperparamSet | None = None,
        device: str = "auto",
        reward_normalizer: RewardNormalizer | None = None,
        obs_normalizer: ObsNormalizer | None = None,
        compile: bool = False,
    ) -> None:
        if compile:
            self.ops = compiled_backend(backend)
        place = backend.resolve_device(device)
        actor.to(place).eval()
        critic.to(place).eval()
        super().__init__(
            actor, critic, optimizer, action_dim, hyperparams, reward_normalizer, obs_normalizer
        )
