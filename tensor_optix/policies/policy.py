"""A policy to act by: observations as an environment gives them come in, what its `step` takes goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tensor_optix.core.recorded_spaces import whole_space
from tensor_optix.pipeline.prediction import Predictor

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensor_optix.core.observation_layout import AnySpace
    from tensor_optix.core.types import Array, PolicySnapshot


class PolicyActor(Protocol):
    """What chooses actions: an agent, or what was read of one. `BaseAgent` says what the members mean."""

    @property
    def has_unit_actions(self) -> bool:
        """Whether continuous actions are in [-1, 1]."""

    @property
    def counts_from_zero(self) -> bool:
        """Whether actions are numbers or rows, and discrete ones counted from 0."""

    def act_greedy(self, observations: Array, /) -> Array:
        """Choose the best actions for `[N, ...]` observations."""

    def act_batch(self, observations: Array, /) -> Array:
        """Choose actions as the policy draws them."""

    def seed(self, seed: int, /) -> None:
        """Make what is drawn follow from `seed`."""


class Policy:
    """The policy of a run, which acts and does not learn. `tensor_optix.load` makes it.

    Attributes:
        observation_space: Of one environment: what `predict` takes.
        action_space: Of one environment: what `predict` returns.
        snapshot: What was loaded, with its score and its hyperparameters.
        actor: What chooses: `policies.acting.StoredActor`, or the agent that `load` was given.
        rescale_actions: Whether actions in [-1, 1] are stretched to the bounds of the action space.

    Examples:
        >>> import numpy as np
        >>> import tensor_optix
        >>> from tensor_optix import BatchPipeline, RLOptimizer, make_agent
        >>> agent = make_agent("Pendulum-v1", framework="native")
        >>> pipeline = BatchPipeline(env_id="Pendulum-v1", window_size=256)
        >>> RLOptimizer(agent, pipeline, max_episodes=1, run_dir="run").run()
        >>> tensor_optix.load("run").predict(np.zeros((5, 3), np.float32)).shape
        (5, 1)
    """

    def __init__(
        self,
        actor: PolicyActor,
        spaces: tuple[AnySpace, AnySpace],
        snapshot: PolicySnapshot,
        make_agent: Callable[[], Any],
        *,
        rescale_actions: bool = True,
        quick: Callable[[Array], Any] | None = None,
    ) -> None:
        """Keep what acts.

        Args:
            actor: Acts.
            spaces: The observations as it sees them, and the actions.
            snapshot: Where it comes from.
            make_agent: Makes the whole learner.
            rescale_actions: Whether actions in [-1, 1] are stretched to the bounds of the action space.
            quick: A shorter way to the best action for one float32 vector; None for one that it leaves alone.
        """
        seen, self.action_space = spaces
        self.observation_space = whole_space(seen)
        self.snapshot, self.actor, self.rescale_actions = snapshot, actor, rescale_actions
        self._make_agent, self._quick = make_agent, quick
        self._shape = self.observation_space.shape
        self._predictor = Predictor(actor, seen, self.action_space, rescale_actions)

    def predict(
        self, observation: Any, deterministic: bool = True, *, action_masks: Any = None
    ) -> Any:
        """Return what an environment's `step` takes, for one observation as that gives it, or a batch.

        Observations are normalised and actions stretched to their bounds as in training. Which it is, one or
        a batch, the shape tells; of a Dict or a Tuple that of its first part.

        Args:
            observation: An element of the observation space; or a batch of them, `[N, ...]`, of a Dict or
                a Tuple nested as that, with arrays `[N, ...]` as leaves, as vector environments give them.
            deterministic: Whether to take the best action. False: as the policy explored when it was stored;
                see `seed`.
            action_masks: `[A]` or `[N, A]`, 1 where an action is allowed, where infos tell it; those of
                several choices side by side. None: those under `"action_mask"` in a Dict, if there are any.

        Returns:
            An element of the action space, an int of a Discrete; or a batch of them, `[N, ...]`.

        Raises:
            TypeError: If an observation is not made of numbers, or of floats where its space has integers.
            ValueError: If an observation is of another shape, not finite, or not in its space, a mask does
                not fit, or an action is not finite.
        """
        if (
            self._quick is not None
            and observation.__class__ is np.ndarray
            and observation.dtype == np.float32
            and observation.shape == self._shape
            and deterministic
            and action_masks is None
        ):
            action = self._quick(observation)
            if action is not None:
                return action
        choose = self.actor.act_greedy if deterministic else self.actor.act_batch
        return self._predictor(choose, observation, action_masks)

    def seed(self, seed: int) -> None:
        """Make what `predict` draws with `deterministic=False` follow from `seed`."""
        self.actor.seed(seed)

    def agent(self) -> Any:
        """Return the whole learner, made anew and loaded: an agent that goes on learning from here.

        Raises:
            ValueError: If it was not made by `make_agent`: then make it, and `load(path, agent=...)`.
            ImportError: If the framework is not installed.
        """
        return self._make_agent()

    def __repr__(self) -> str:
        return (
            f"Policy({self.snapshot.snapshot_id}, {self.observation_space} -> {self.action_space})"
        )
