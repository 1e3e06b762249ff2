"""PPO for discrete actions on TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensor_optix.adapters.tensorflow import backend
from tensor_optix.algorithms._ppo import PPO

if TYPE_CHECKING:
    import keras

    from tensor_optix.adapters.backend import Backend
    from tensor_optix.core.normalizers import ObsNormalizer, RewardNormalizer
    from tensor_optix.core.types import HyperparamSet


class TFPPOAgent(PPO):
    """PPO for discrete actions on TensorFlow.

    Networks receive float32 whatever the environment's dtype (the indices of a Discrete observation
    space: int64) and are called as in inference, so that the policy that learns is the one that acted.
    Any Keras 3 model will do; one without an input shape gets its variables from the first observations.

    Args:
        actor: `[B, ...]` observations to `[B, A]` logits.
        critic: `[B, ...]` observations to values, `[B, 1]` or `[B]`.
        optimizer: A fresh one for the variables of both, for example `keras.optimizers.Adam(3e-4)`. A
            learning rate that follows a schedule is scaled where hyperparameters change it.
        hyperparams: See `PPOHyperparams`; all are optional.
        reward_normalizer: Scales the rewards that are learned from; scores stay raw.
        obs_normalizer: Normalises what the networks see; saved with them, still in evaluation.
        device: "auto" (where the networks are: TensorFlow makes them on a GPU if there is one), or the
            device that they must be on: "cpu", "cuda", "cuda:1", ...

    Raises:
        ImportError: If Keras runs on another framework.
        TypeError: If a network or an optimizer is none of Keras 3.
        ValueError: On an unknown hyperparameter, a value out of range, an optimizer that was built for
            other variables, or networks on another device.
    """

    ops: Backend = backend

    def __init__(
        self,
        actor: keras.Model,
        critic: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        hyperparams: HyperparamSet | None = None,
        reward_normalizer: RewardNormalizer | None = None,
        obs_normalizer: ObsNormalizer | None = None,
        device: str = "auto",
    ) -> None:
        backend.require_device({"actor": actor, "critic": critic}, device)
        super().__init__(actor, critic, optimizer, hyperparams, reward_normalizer, obs_normalizer)
