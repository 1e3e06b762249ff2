"""The generic agent on TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensor_optix.adapters.tensorflow import backend
from tensor_optix.algorithms._policy_gradient import PolicyGradient

if TYPE_CHECKING:
    from collections.abc import Callable

    import keras
    import tensorflow as tf

    from tensor_optix.adapters.backend import Backend
    from tensor_optix.core.normalizers import ObsNormalizer, RewardNormalizer
    from tensor_optix.core.types import EpisodeData, HyperparamSet


class TFAgent(PolicyGradient):
    """REINFORCE (Williams 1992) for discrete actions on TensorFlow: one network, one update per window.

    The loss is `-mean(log pi(a_t) * A_t)`. Where a window has `values`, `A_t = G_t - V_t` (A2C); where not,
    A_t is G_t normalised over the window. `G_t` is the discounted sum of the rewards from row t to the
    end of the episode, or as far as the window shows it: nothing is bootstrapped.

    Networks receive float32 whatever the environment's dtype (the indices of a Discrete observation
    space: int64) and are called as in inference, so that the policy that learns is the one that acted.
    Any Keras 3 model will do; one without an input shape gets its variables from the first observations.

    Args:
        model: `[B, ...]` observations to `[B, A]` logits. The attribute `model` is this very network.
        optimizer: A fresh one for its variables. The attribute `optimizer` is this very optimizer.
        hyperparams: See `PolicyGradientHyperparams`; all are optional.
        compute_loss_fn: `(model, episode, targets) -> loss`, used in place of the loss above, called eagerly
            at every update. `episode` holds the B rows that are learned from, as NumPy arrays, flat
            (`num_envs` is 1) and without ends of episodes; its observations are normalised if there
            is a normalizer. `targets` `[B]` is a tensor of A_t.
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
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        hyperparams: HyperparamSet | None = None,
        compute_loss_fn: Callable[[keras.Model, EpisodeData, tf.Tensor], tf.Tensor] | None = None,
        reward_normalizer: RewardNormalizer | None = None,
        obs_normalizer: ObsNormalizer | None = None,
        device: str = "auto",
    ) -> None:
        backend.require_device({"model": model}, device)
        super().__init__(
            model, optimizer, hyperparams, compute_loss_fn, reward_normalizer, obs_normalizer
        )
