"""SAC on PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensor_optix.adapters.pytorch import backend
from tensor_optix.adapters.pytorch.compilation import compiled_backend
from tensor_optix.algorithms._sac import SAC

if TYPE_CHECKING:
    from torch import nn, optim

    from tensor_optix.adapters.backend import Backend
    from tensor_optix.core.normalizers import ObsNormalizer, RewardNormalizer
    from tensor_optix.core.types import HyperparamSet


class TorchSACAgent(SAC):
    """SAC on PyTorch: continuous actions, learned while they are taken.

    Actions are in (-1, 1); pipelines stretch them to the bounds of the action space. Networks receive float32
    whatever the environment's dtype.

    Args:
        actor: `[B, ...]` observations to `[B, 2A]`, mean and log_std side by side. log_std is clamped to
            [-5, 2].
        critic1: `[B, D + A]`, observation and action side by side, to values, `[B, 1]` or `[B]`. Where
            observations are no vectors: `critic1(observations, actions)`.
        critic2: Likewise. Two perceptrons of one shape run as one batched pass.
        action_dim: A, the number of components of an action.
        actor_optimizer: Holds the actor's parameters.
        critic_optimizer: Holds those of both critics.
        alpha_optimizer: Holds one number, which becomes log alpha:
            `torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=3e-4)`.
        hyperparams: See `SACHyperparams`; all are optional.
        device: "auto" (a GPU where there is one), "cpu", "cuda", ...
        reward_normalizer: Scales the rewards that are learned from; scores stay raw.
        obs_normalizer: Normalises what the networks see; saved with them, still in evaluation.
        compile: Whether updates are compiled, by TorchInductor, which needs a C++ compiler. The first then
            takes 5 to 40 seconds, and those of small networks on a CPU a third of their time. The
            results are the same up to rounding. What cannot be compiled runs as it is, with a warning.

    Raises:
        ValueError: On an unknown hyperparameter, a value out of range, or an optimizer that does not
            hold exactly the parameters of its networks.
    """

    ops: Backend = backend

    def __init__(
        self,
        actor: nn.Module,
        critic1: nn.Module,
        critic2: nn.Module,
        action_dim: int,
        actor_optimizer: optim.Optimizer,
        critic_optimizer: optim.Optimizer,
        alpha_optimizer: optim.Optimizer,
        hyperparams: HyperparamSet | None = None,
        device: str = "auto",
        reward_normalizer: RewardNormalizer | None = None,
        obs_normalizer: ObsNormalizer | None = None,
        compile: bool = False,
    ) -> None:
        if compile:
            self.ops = compiled_backend(backend)
        place = backend.resolve_device(device)
        for network in (actor, critic1, critic2):
            network.to(place).eval()
        backend.move_parameters(alpha_optimizer, place)
        super().__init__(
            (actor, critic1, critic2),
            action_dim,
            (actor_optimizer, critic_optimizer, alpha_optimizer),
            hyperparams,
            reward_normalizer,
            obs_normalizer,
        )
