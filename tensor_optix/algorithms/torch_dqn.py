"""DQN on PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensor_optix.adapters.pytorch import backend
from tensor_optix.adapters.pytorch.compilation import compiled_backend
from tensor_optix.algorithms._dqn import DQN

if TYPE_CHECKING:
    from torch import nn, optim

    from tensor_optix.adapters.backend import Backend
    from tensor_optix.core.normalizers import ObsNormalizer, RewardNormalizer
    from tensor_optix.core.types import HyperparamSet


class TorchDQNAgent(DQN):
    """DQN on PyTorch: discrete actions, learned while they are taken.

    The network receives float32 whatever the environment's dtype (the indices of a Discrete observation
    space: int64).

    Args:
        q_network: `[B, ...]` observations to `[B, A]` values, one per action.
        n_actions: A.
        optimizer: Holds its parameters, for example `torch.optim.Adam(q_network.parameters(), lr=1e-3)`.
        hyperparams: See `DQNHyperparams`; all are optional.
        device: "auto" (a GPU where there is one), "cpu", "cuda", ...
        reward_normalizer: Scales the rewards that are learned from; scores stay raw.
        obs_normalizer: Normalises what the network sees; saved with it, still in evaluation.
        compile: Whether updates are compiled, by TorchInductor, which needs a C++ compiler. The first then
            takes 5 to 40 seconds, and those of small networks on a CPU a third of their time. The
            results are the same up to rounding. What cannot be compiled runs as it is, with a warning.

    Raises:
        ValueError: On an unknown hyperparameter, a value out of range, or an optimizer that does not
            hold exactly the network's parameters.
    """

    ops: Backend = backend

    def __init__(
        self,
        q_network: nn.Module,
        n_actions: int,
        optimizer: optim.Optimizer,
        hyperparams: HyperparamSet | None = None,
        device: str = "auto",
        reward_normalizer: RewardNormalizer | None = None,
        obs_normalizer: ObsNormalizer | None = None,
        compile: bool = False,
    ) -> None:
        if compile:
            self.ops = compiled_backend(backend)
        q_network.to(backend.resolve_device(device)).eval()
        super().__init__(
            q_network, n_actions, optimizer, hyperparams, reward_normalizer, obs_normalizer
        )
