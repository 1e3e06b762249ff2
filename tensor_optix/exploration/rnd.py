"""Random network distillation (Burda et al. 2018): windows come in, and go out with novelty in the rewards.

A network with random weights, never trained, maps observations to embeddings; a second one learns to
predict them. Where it errs, little like it was seen before.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.argument_checks import at_least
from tensor_optix.core.base_evaluator import RAW_REWARDS, finished_episodes
from tensor_optix.core.base_pipeline import BasePipeline, Source
from tensor_optix.core.foreign_agent import as_actor, own_object
from tensor_optix.core.normalizers import RunningMeanStd

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tensor_optix.core.foreign_agent import Actor
    from tensor_optix.core.types import Array, EpisodeData

CLIP = 5.0
"""Bound of the normalised observations, in standard deviations, as in the paper."""
BATCH = 256
"""Rows of one step of the predictor."""
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Of Adam."""


class RNDPipeline(BasePipeline):
    """Adds `eta * novelty` to the rewards that are learned from; what is scored stays as it is.

    The novelty of a row is the squared error of the predictor at the observation that the action led to,
    divided by the root mean square of all such errors so far: about 1 at first, and less the better the
    surroundings are known. (The paper divides by a standard deviation, which errors of one size lack.) The
    returns of finished episodes are those of the environment's own rewards, so that a policy is not taken
    for a better one because it is curious; `metadata["raw_rewards"]` holds the rewards themselves.

    Args:
        pipeline: Gives the windows, of an agent that learns on-policy.
        obs_dim: D, the numbers in one observation.
        embedding_dim: E, the numbers in an embedding, and in a hidden layer.
        eta: The weight of the novelty.
        predictor_lr: The predictor's learning rate.
        norm_eps: Added to the mean square before its root divides.
        seed: Of both networks.

    Raises:
        ValueError: If a number is out of range. While running: if an observation does not hold D numbers.

    Examples:
        >>> from tensor_optix import BatchPipeline, RNDPipeline
        >>> plain = BatchPipeline(env_id="MountainCar-v0", window_size=256)
        >>> curious = RNDPipeline(plain, obs_dim=2, eta=0.05)
        >>> curious.eta
        0.05
    """

    def __init__(
        self,
        pipeline: BasePipeline,
        obs_dim: int,
        embedding_dim: int = 64,
        eta: float = 0.1,
        predictor_lr: float = 1e-3,
        norm_eps: float = 1e-8,
        *,
        seed: int = 0,
    ) -> None:
        at_least("obs_dim", obs_dim, 1)
        at_least("embedding_dim", embedding_dim, 1)
        for name, value in (("predictor_lr", predictor_lr), ("norm_eps", norm_eps)):
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be more than 0, got {value}")
        self._pipeline = pipeline
        self._obs_dim, self._embedding_dim = obs_dim, embedding_dim
        self._learning_rate, self._norm_eps = predictor_lr, norm_eps
        self.set_eta(eta)
        self._forget(seed)

    @property
    def eta(self) -> float:
        """The weight of the novelty."""
        return self._eta

    def set_eta(self, eta: float) -> None:
        """Change the weight of the novelty; with 0 the windows are left alone.

        Raises:
            ValueError: If it is negative or not finite.
        """
        if not (eta >= 0 and math.isfinite(eta)):
            raise ValueError(f"eta must be 0 or more, got {eta}")
        self._eta = float(eta)

    @property
    def source(self) -> Source:
        """Where the windows come from."""
        return self._pipeline.source

    @property
    def is_live(self) -> bool:
        """Whether the wrapped pipeline's data are live."""
        return self._pipeline.is_live

    @property
    def time_limit(self) -> int | None:
        """That of the wrapped pipeline."""
        return self._pipeline.time_limit

    @property
    def environments(self) -> Sequence[object]:
        """The wrapped pipeline's."""
        return self._pipeline.environments

    def set_agent(self, agent: Actor) -> None:
        """Let `agent` choose the actions.

        Raises:
            ValueError: If it is off-policy: it would learn from the rows before their novelty is known.
        """
        if not as_actor(agent).is_on_policy:
            raise ValueError(
                f"RNDPipeline needs an on-policy agent, such as PPO, got {type(agent).__name__}: it "
                "learns while the window is collected, without the novelty. Use its pipeline itself"
            )
        self._pipeline.set_agent(own_object(agent))

    def seed(self, seed: int) -> None:
        """Make the wrapped pipeline and the networks follow from `seed`; novelty starts anew."""
        children = np.random.SeedSequence(seed).generate_state(2)
        self._pipeline.seed(int(children[0]) % 2**31)
        self._forget(int(children[1]))

    def setup(self) -> None:
        """Set the wrapped pipeline up. What is no longer new stays known."""
        self._pipeline.setup()

    def restart(self) -> None:
        """Begin fresh episodes."""
        self._pipeline.restart()

    def renew(self) -> None:
        """Begin fresh episodes, others than those of `restart`."""
        self._pipeline.renew()

    def twin(
        self, most_envs: int | None = None, most_rows: int | None = None
    ) -> BasePipeline | None:
        """Return a twin of the wrapped pipeline, whose rewards are the environments' own."""
        return self._pipeline.twin(most_envs, most_rows)

    def teardown(self) -> None:
        """Tear the wrapped pipeline down."""
        self._pipeline.teardown()

    def state_dict(self) -> dict[str, Any]:
        """Return what is known so far, and what the wrapped pipeline keeps."""
        return {
            "pipeline": self._pipeline.state_dict(),
            "eta": self._eta,
            "target": self._target.state_dict(),
            "predictor": self._predictor.state_dict(),
            "observed": self._observed.state_dict(),
            "errors": self._errors.state_dict(),
            "rng": self._rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Go on from what `state_dict` returned.

        Returns:
            Whether the wrapped pipeline's episodes go on.

        Raises:
            ValueError: If the networks have other sizes; like KeyError and TypeError, if it is damaged.
        """
        self._target.load_state_dict(state["target"])
        self._predictor.load_state_dict(state["predictor"])
        self._observed.load_state_dict(state["observed"])
        self._errors.load_state_dict(state["errors"])
        self._rng.bit_generator.state = state["rng"]
        self.set_eta(state["eta"])
        kept = state["pipeline"]
        return kept is not None and self._pipeline.load_state_dict(kept)

    def episodes(self) -> Iterator[EpisodeData]:
        """Yield the wrapped pipeline's windows with novelty in their rewards."""
        for episode in self._pipeline.episodes():
            yield self._enriched(episode) if self._eta else episode

    def _forget(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        dim, size = self._obs_dim, self._embedding_dim
        self._target = SmallNetwork((dim, size, size), rng)
        self._predictor = SmallNetwork((dim, size, size, size), rng)
        self._observed = RunningMeanStd((dim,))
        self._errors = RunningMeanStd()
        self._rng = rng

    def _enriched(self, episode: EpisodeData) -> EpisodeData:
        returns, lengths = finished_episodes(episode)
        raw = np.array(episode.rewards, np.float32)
        rewards: Array = raw + np.float32(self._eta) * self._novelty(self._reached(episode))
        return replace(
            episode,
            rewards=rewards.tolist() if isinstance(episode.rewards, list) else rewards,
            finished_returns=returns,
            finished_lengths=lengths,
            metadata={RAW_REWARDS: raw} | episode.metadata,
        )

    def _reached(self, episode: EpisodeData) -> Array:
        """Return what each row led to, `[R, D]`, with NaN where there is no row or nobody knows."""
        observations = self._flat(episode.observations, episode.mask_size)
        reached = np.full(observations.shape, np.nan, np.float32)
        reached[: -episode.num_envs] = observations[episode.num_envs :]
        if episode.final_obs is not None:
            final = np.asarray(episode.final_obs)
            rows = final if episode.num_envs > 1 else final[None]
            reached[-episode.num_envs :] = self._flat(rows, episode.mask_size)
        reached[np.asarray(episode.terminated, bool) | np.asarray(episode.truncated, bool)] = np.nan
        if episode.end_rows is not None and episode.end_observations is not None:
            reached[episode.end_rows] = self._flat(episode.end_observations, episode.mask_size)
        if episode.valid is not None:
            reached[~np.asarray(episode.valid, bool)] = np.nan
        return reached

    def _flat(self, observations: Array, mask_size: int) -> Array:
        """Return observations as rows `[R, D]`, without what they say of allowed actions."""
        size = math.prod(np.shape(observations)[1:]) - mask_size
        if size != self._obs_dim:
            raise ValueError(
                f"obs_dim must be the numbers in one observation, {size}, got {self._obs_dim}"
            )
        rows = np.asarray(observations, np.float32).reshape(-1, size + mask_size)
        return rows[:, :size]

    def _novelty(self, reached: Array) -> Array:
        """Return the novelty `[R]` of observations `[R, D]`, 0 where they are not finite, and learn them."""
        novelty = np.zeros(len(reached), np.float32)
        known = np.flatnonzero(np.isfinite(reached).all(axis=1))
        if not len(known):
            return novelty
        self._observed.update(reached[known])
        inputs = self._observed.normalize(reached[known], CLIP)
        targets = self._target(inputs)
        errors = np.square(self._predictor(inputs) - targets).sum(axis=1)
        self._errors.update(errors)
        mean_square = float(self._errors.var + self._errors.mean**2)
        novelty[known] = errors / math.sqrt(mean_square + self._norm_eps)
        self._learn(inputs, targets)
        return novelty

    def _learn(self, inputs: Array, targets: Array) -> None:
        order = self._rng.permutation(len(inputs))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            self._predictor.descend(inputs[rows], targets[rows], self._learning_rate)


class SmallNetwork:
    """Linear layers with ReLU between them, trained by Adam (Kingma and Ba 2015).

    Args:
        sizes: Of the input, of each hidden layer, and of the output.
        rng: Draws the weights, normal with the variance `2 / inputs` of He et al. 2015.
    """

    def __init__(self, sizes: Sequence[int], rng: np.random.Generator) -> None:
        self._weights: list[Array] = []
        for inputs, outputs in pairwise(sizes):
            scale = np.sqrt(2.0 / inputs)
            self._weights.append((scale * rng.standard_normal((inputs, outputs))).astype("f4"))
            self._weights.append(np.zeros(outputs, np.float32))
        self._first = [np.zeros_like(weight) for weight in self._weights]
        self._second = [np.zeros_like(weight) for weight in self._weights]
        self._steps = 0

    def __call__(self, inputs: Array) -> Array:
        """Return the outputs `[B, E]` for `[B, D]`, float32."""
        return self._layers(inputs)[-1]

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the weights, of Adam's moments, and its steps."""
        return {
            "weights": [weight.copy() for weight in self._weights],
            "first": [moment.copy() for moment in self._first],
            "second": [moment.copy() for moment in self._second],
            "steps": self._steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned.

        Raises:
            ValueError: If the layers have other sizes.
        """
        arrays = {"weights": self._weights, "first": self._first, "second": self._second}
        for name, own in arrays.items():
            shapes, stored = [one.shape for one in own], [np.shape(one) for one in state[name]]
            if stored != shapes:
                raise ValueError(
                    f"the {name} of the network must have the shapes {shapes}, got {stored}: make "
                    "RNDPipeline with the obs_dim and embedding_dim that the run began with"
                )
            own[:] = [np.array(one, np.float32) for one in state[name]]
        self._steps = int(state["steps"])

    def descend(self, inputs: Array, targets: Array, learning_rate: float) -> None:
        """Make one Adam step down the mean squared distance to `targets` `[B, E]`."""
        layers = self._layers(inputs)
        slope = 2.0 * (layers[-1] - targets) / targets.size
        gradients: list[Array] = []
        for k in range(len(layers) - 2, -1, -1):
            gradients += [slope.sum(axis=0), layers[k].T @ slope]
            if k:
                slope = (slope @ self._weights[2 * k].T) * (layers[k] > 0)
        self._adam(gradients[::-1], learning_rate)

    def _layers(self, inputs: Array) -> list[Array]:
        layers = [inputs]
        for k in range(0, len(self._weights), 2):
            after = layers[-1] @ self._weights[k] + self._weights[k + 1]
            is_last = k + 2 == len(self._weights)
            layers.append(after if is_last else np.maximum(after, 0.0))
        return layers

    def _adam(self, gradients: list[Array], learning_rate: float) -> None:
        self._steps += 1
        corrected = learning_rate * np.sqrt(1 - BETA2**self._steps) / (1 - BETA1**self._steps)
        parts = zip(self._weights, gradients, self._first, self._second, strict=True)
        for weight, gradient, first, second in parts:
            first += (1 - BETA1) * (gradient - first)
            second += (1 - BETA2) * (gradient * gradient - second)
            weight -= np.float32(corrected) * first / (np.sqrt(second) + np.float32(EPSILON))
