"""SAC on TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensor_optix.adapters.tensorflow import backend
from tensor_optix.algorithms._sac import SAC

if TYPE_CHECKING:
    import keras

    from tensor_optix.adapters.backend import Backend
    from tensor_optix.core.normalizers import ObsNormalizer, RewardNormalizer
    from tensor_optix.core.types import HyperparamSet


class TFSACAgent(SAC):
    """SAC on TensorFlow: continuous actions, learned while they are taken.

    Actions are in (-1, 1); pipelines stretch them to the bounds of the action space.

    Networks receive float32 whatever the environment's dtype (the indices of a Discrete observation
    space: int64) and are called as in inference, so that the policy that learns is the one that acted.
    Any Keras 3 model will do; one without an input shape gets its variables from the first observations.

    Args:
        actor: `[B, ...]` observations to `[B, 2A]`, mean and log_std side by side. log_std is clamped to
            [-5, 2].
        critic1: `[B, D + A]`, observation and action side by side, to values, `[B, 1]` or `[B]`. Where
            observations are no vectors: `critic1(observations, actions)`.
        critic2: Likewise.
        action_dim: A, the number of components of an action.
        actor_optimizer: A fresh one for the actor's variables, for example
            `keras.optimizers.Adam(3e-4)`.
        critic_optimizer: A fresh one for those of both critics.
        alpha_optimizer: A fresh one for log alpha.
        hyperparams: See `SACHyperparams`; all are optional.
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
        critic1: keras.Model,
        critic2: keras.Model,
        action_dim: int,
        actor_optimizer: keras.optimizers.Optimizer,
        critic_optimizer: keras.optimizers.Optimizer,
        alpha_optimizer: keras.optimizers.Optimizer,
        hyperparams: HyperparamSet | None = None,
        reward_normalizer: RewardNormalizer | None = None,
        obs_normalizer: ObsNormalizer | None = None,
        device: str = "auto",
    ) -> None:
        networks = {"actor": actor, "critic1": critic1, "critic2": critic2}
        backend.require_device(networks, device)
        # Log alpha is made here.
        with backend.beside([actor]):
            super().__init__(
                (actor, critic1, critic2),
                action_dim,
                (actor_optimizer, critic_optimizer, alpha_optimizer),
                hyperparams,
                reward_normalizer,
                obs_normalizer,
            )
