"""What the batch and the vector pipeline have in common: collecting windows from a `VectorEnv`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tensor_optix.core.base_pipeline import BasePipeline
from tensor_optix.core.episode_returns import EpisodeCounter
from tensor_optix.core.types import Array, EpisodeData, Transitions
from tensor_optix.pipeline.action_scaling import environment_actions, kept_dtype
from tensor_optix.pipeline.vector_contract import VectorStep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.pipeline.vector_env import VectorEnv


class Rollout:
    """Reused storage for one window, a column per environment.

    Environments that answer in lockstep fill row after row. Those that answer in any order fill each
    column at its own pace; columns then differ in length, and the missing rows are marked invalid.

    Args:
        env: Tells the number of environments and the spaces.
        window_size: Rows per environment; on average, where the environments run at their own pace.
        action_dtype: In which actions are stored; can be read again.
    """

    def __init__(self, env: VectorEnv, window_size: int, action_dtype: np.dtype[Any]) -> None:
        self._num_envs = env.num_envs
        self._lockstep = env.batch_size == env.num_envs
        self._budget = window_size * env.num_envs
        self._capacity = window_size if self._lockstep else 2 * window_size
        self.action_dtype = action_dtype
        shape = (self._capacity, env.num_envs)
        obs, action = env.observation_space, env.action_space
        self._observations = np.zeros((*shape, *(obs.shape or ())), obs.dtype)
        self._has_floats = np.issubdtype(self._observations.dtype, np.floating)
        self._actions = np.zeros((*shape, *(action.shape or ())), action_dtype)
        self._rewards = np.zeros(shape, np.float32)
        self._terminated = np.zeros(shape, bool)
        self._truncated = np.zeros(shape, bool)
        self._valid = np.zeros(shape, bool)
        self.clear()

    def clear(self) -> None:
        """Forget the rows; the arrays are written over."""
        self._cursors = np.zeros(self._num_envs, np.int64)
        self._rows_begun = 0
        self._ends: list[tuple[Array, Array]] = []
        self._infos: list[dict[str, Any]] = []
        if not self._lockstep:
            self._valid.fill(False)

    @property
    def is_full(self) -> bool:
        """Whether no further action may be taken in this window."""
        return self._rows_begun >= self._budget or int(self._cursors.max()) >= self._capacity

    def begin(self, env_ids: Array, observations: Array, actions: Array) -> Array:
        """Store what was seen and done; return the actions as stored, in `action_dtype`.

        Raises:
            TypeError: If the actions are of another kind than those stored (floats for ints).
            ValueError: If there is not one action of the action space's shape per environment.
        """
        rows = self._rows(env_ids)
        self._observations[rows] = observations
        stored: Array = self._actions[rows]  # a view of the row in lockstep, else a copy
        if np.shape(actions) != stored.shape:
            raise ValueError(
                f"act must give actions of shape {stored.shape[1:]} for each of {len(stored)} "
                f"environments, {stored.shape} in all, got {np.shape(actions)}"
            )
        np.copyto(stored, actions, casting="same_kind")
        if not self._lockstep:
            self._actions[rows] = stored
        self._rows_begun += len(env_ids)
        return stored

    def transitions(self, step: VectorStep) -> Transitions:
        """Return the valid rows that `step` completes, before `finish` stores it.

        Where nothing has to be left out or put right, these are views of the stored row and the
        step's own arrays.
        """
        rows = self._rows(step.env_ids)
        # Of the dtype of the space, which the rows before have too: EnvPool's own may differ.
        following = step.observations.astype(self._observations.dtype, copy=False)
        if len(step.end_observations):
            following = following.copy()
            following[step.terminated | step.truncated] = step.end_observations
        transitions = Transitions(
            self._observations[rows],
            self._actions[rows],
            step.rewards,
            following,
            step.terminated,
            step.truncated,
            step.env_ids,
            self._num_envs,
        )
        if np.count_nonzero(step.valid) == len(step.valid):
            return transitions
        valid = (field[step.valid] for field in transitions[:-1])
        return Transitions._make((*valid, self._num_envs))

    def finish(self, step: VectorStep) -> None:
        """Store what came of it, for the same environments in any order."""
        rows = self._rows(step.env_ids)
        self._rewards[rows] = step.rewards
        self._terminated[rows] = step.terminated
        self._truncated[rows] = step.truncated
        self._valid[rows] = step.valid
        if len(step.end_observations):
            ended = step.env_ids[step.terminated | step.truncated]
            end_rows = self._cursors[ended] * self._num_envs + ended
            self._ends.append((end_rows, np.array(step.end_observations)))
        self._infos.extend(step.infos)
        self._cursors[step.env_ids] += 1

    def require_finite(self, step: VectorStep, window: int) -> None:
        """Check the rewards and the observations of `step`, before `finish` stores it.

        Raises:
            ValueError: If one is NaN or infinite, naming the environment, the step and the value.
        """
        ids, steps = step.env_ids, self._cursors
        _require_finite("reward", step.rewards, window, lambda i: (steps[ids[i]], ids[i]))
        if self._has_floats:
            shown, last = step.observations, step.end_observations
            _require_finite("observation", shown, window, lambda i: (steps[ids[i]] + 1, ids[i]))
            ended = ids[step.terminated | step.truncated]
            _require_finite(
                "final observation", last, window, lambda i: (steps[ended[i]], ended[i])
            )

    def to_window(
        self, number: int, next_observations: Array, counter: EpisodeCounter
    ) -> EpisodeData:
        """Return the window as a view of this storage, valid until it is written over.

        Args:
            number: The window's.
            next_observations: `[N, ...]`, what each environment shows after its last row.
            counter: Counts the window's rewards; gives the episodes that finished.

        Raises:
            ValueError: If a reward or an observation is NaN or infinite, naming the environment, the step and
                the value.
        """
        length = int(self._cursors.max())
        self._keep_bootstrap_rows(length, next_observations)
        rewards, valid = self._rewards[:length], self._valid[:length]
        _require_finite("reward", _flat(rewards), number, lambda i: divmod(i, self._num_envs))
        if self._has_floats:
            self._require_finite_observations(length, next_observations, number)
        dones = self._terminated[:length] | self._truncated[:length]
        returns, lengths = counter.add_window(rewards, dones, valid)
        end_rows, end_observations = self._sorted_ends()
        single = self._num_envs == 1
        ended = single and bool(dones[-1, 0])
        return EpisodeData(
            observations=_flat(self._observations[:length]),
            actions=_flat(self._actions[:length]),
            rewards=_rows_of(rewards, single),
            terminated=_rows_of(self._terminated[:length], single),
            truncated=_rows_of(self._truncated[:length], single),
            infos=self._infos,
            episode_id=number,
            episode_starts=_episode_starts(dones, valid),
            final_obs=None
            if ended
            else np.array(next_observations[0] if single else next_observations),
            num_envs=self._num_envs,
            valid=None if valid.all() else _flat(valid),
            end_rows=end_rows,
            end_observations=end_observations,
            finished_returns=returns,
            finished_lengths=lengths,
        )

    def _require_finite_observations(self, length: int, following: Array, window: int) -> None:
        """Check what the window shows: observations acted on, those at its end, and those of episodes."""
        n, rows = self._num_envs, _flat(self._observations[:length])
        _require_finite("observation", rows, window, lambda i: divmod(i, n))
        _require_finite("observation", following, window, lambda i: (self._cursors[i], i))
        end_rows, last = self._sorted_ends()
        _require_finite("final observation", last, window, lambda i: divmod(int(end_rows[i]), n))

    def _rows(self, env_ids: Array) -> Any:
        return int(self._cursors[0]) if self._lockstep else (self._cursors[env_ids], env_ids)

    def _keep_bootstrap_rows(self, length: int, next_observations: Array) -> None:
        """Show the next observation in the first missing row of each short column.

        The row before it is bootstrapped from the value of that observation.
        """
        for n in np.flatnonzero(self._cursors < length):
            cursor = int(self._cursors[n])
            self._observations[cursor, n] = next_observations[n]
            self._rewards[cursor:length, n] = 0.0
            self._terminated[cursor:length, n] = False
            self._truncated[cursor:length, n] = False

    def _sorted_ends(self) -> tuple[Array, Array]:
        if not self._ends:
            shape = self._observations.shape[2:]
            return np.empty(0, np.int64), np.empty((0, *shape), self._observations.dtype)
        rows = np.concatenate([rows for rows, _ in self._ends])
        observations = np.concatenate([observations for _, observations in self._ends])
        order = np.argsort(rows)
        return rows[order], observations[order]


def _require_finite(
    name: str, rows: Array, window: int, place: Callable[[int], tuple[int, int]]
) -> None:
    """Check rewards `[B]`, or observations `[B, ...]`; `place` gives the step and the environment of a row.

    Raises:
        ValueError: If a number is NaN or infinite: the first one, and where it is.
    """
    is_finite = np.isfinite(rows)
    if np.count_nonzero(is_finite) == is_finite.size:
        return
    row, *element = np.argwhere(~is_finite)[0].tolist()
    step, env_id = place(row)
    where = f" in element {', '.join(map(str, element))}" if element else ""
    raise ValueError(
        f"{name}s must be finite, got {rows[(row, *element)]}{where} from environment {env_id} at step "
        f"{step} of window {window}: no policy can be learned from it, so look into the environment's {name}"
    )


def _flat(grid: Array) -> Array:
    return grid.reshape(-1, *grid.shape[2:])


def _rows_of(grid: Array, single: bool) -> Any:
    return grid[:, 0].tolist() if single else _flat(grid)


def _episode_starts(dones: Array, valid: Array) -> list[int]:
    starts = valid.copy()
    starts[1:] &= dones[:-1] | ~valid[:-1]
    starts[0, 0] = True
    return [int(row) for row in np.flatnonzero(starts)]


Finisher: TypeAlias = Callable[[Rollout, VectorStep], None]
"""What is done with a vector step before the next action is chosen."""


class RolloutPipeline(BasePipeline):
    """Steps a vector environment and yields windows; episodes go on over their borders.

    Two rollouts are used in turn: what a window shows is valid until the next but one is asked for.

    Args:
        make_env: Makes the environments, with a seed or None; called by the first `setup`.
        agent: Chooses the actions; may also be given later, by `set_agent`.
        window_size: Rows per environment and window.
        seed: Where the environments' randomness starts, at every `setup`. None: anywhere.
        rescale_actions: Whether an agent's actions in [-1, 1] are stretched to the action space.
    """

    def __init__(
        self,
        make_env: Callable[[int | None], VectorEnv],
        agent: BaseAgent | None,
        window_size: int,
        seed: int | None,
        rescale_actions: bool = True,
    ) -> None:
        if not isinstance(window_size, int | np.integer) or window_size < 1:
            raise ValueError(f"window_size must be a whole number >= 1, got {window_size!r}")
        self.window_size = window_size
        self._agent = agent
        self._seed = seed
        self._rescale_actions = rescale_actions
        self._make_env = make_env
        self._env: VectorEnv | None = None
        self._rollouts: tuple[Rollout, Rollout] | None = None
        self._is_set_up = False

    @property
    def env(self) -> VectorEnv:
        """The vector environment, made when first asked for."""
        if self._env is None:
            self._env = self._make_env(self._seed)
        return self._env

    @property
    def n_steps(self) -> int:
        """Another name of `window_size`."""
        return self.window_size

    @property
    def is_live(self) -> bool:
        """False: the environments can be reset."""
        return False

    def set_agent(self, agent: BaseAgent) -> None:
        """Let `agent` choose the actions from the next window on.

        Raises:
            ValueError: If its actions cannot be stretched to the action space.
        """
        if self._is_set_up:
            self._fit_to(agent)
        self._agent = agent

    def seed(self, seed: int) -> None:
        """Make the environments follow from `seed`, from the next `setup` on."""
        self._seed = seed

    def setup(self) -> None:
        """Reset the environments; the next window is number 0.

        Raises:
            ValueError: If the agent and the environments do not fit together.
        """
        env = self.env
        if self._agent is not None:
            self._agent.check_spaces(env.observation_space, env.action_space)
            self._fit_to(self._agent)
        env.reset(self._seed)
        self._window = 0
        self._counter = EpisodeCounter(env.num_envs)
        shape, dtype = env.observation_space.shape, env.observation_space.dtype
        self._observations = np.zeros((env.num_envs, *(shape or ())), dtype)
        self._all_ids = np.arange(env.num_envs)
        for _ in range(env.num_envs // env.batch_size):
            first = env.recv()
            self._observations[first.env_ids] = first.observations
        if np.issubdtype(self._observations.dtype, np.floating):
            _require_finite("observation", self._observations, 0, lambda env_id: (0, env_id))
        self._is_set_up = True

    def restart(self) -> None:
        """Reset the environments without making them anew."""
        self.setup()

    def episodes(self) -> Iterator[EpisodeData]:
        """Yield windows without end."""
        if not self._is_set_up:
            self.setup()
        while True:
            yield self._collect()

    def teardown(self) -> None:
        """Close the environments, if they were made here; a later `setup` makes them again."""
        self._is_set_up = False
        if self._env is not None:
            self._env.close()
            self._env = None
            self._rollouts = None

    def _fit_to(self, agent: BaseAgent) -> None:
        """Choose what is done at every step, so that no step has to ask."""
        space = self.env.action_space
        self._to_env = environment_actions(agent, space, self._rescale_actions)
        self._finish = Rollout.finish if agent.is_on_policy else self._observing(agent)
        dtype, size = kept_dtype(agent, space), self.window_size
        if self._rollouts is None or self._rollouts[0].action_dtype != dtype:
            self._rollouts = (Rollout(self.env, size, dtype), Rollout(self.env, size, dtype))

    def _collect(self) -> EpisodeData:
        if self._agent is None:
            raise RuntimeError(
                f"{type(self).__name__} has no agent: pass agent=, or give the pipeline to RLOptimizer"
            )
        assert self._rollouts is not None
        rollout = self._rollouts[self._window % 2]
        rollout.clear()
        env = self.env
        self._act(rollout, self._all_ids, self._observations)
        in_flight = env.num_envs
        while in_flight:
            step = env.recv()
            self._finish(rollout, step)
            if rollout.is_full:
                self._observations[step.env_ids] = step.observations
                in_flight -= len(step.env_ids)
            else:
                self._act(rollout, step.env_ids, step.observations)
        window = rollout.to_window(self._window, self._observations, self._counter)
        self._window += 1
        return window

    def _act(self, rollout: Rollout, env_ids: Array, observations: Array) -> None:
        assert self._agent is not None
        actions = self._agent.act_batch(observations)
        self.env.send(self._to_env(rollout.begin(env_ids, observations, actions)), env_ids)

    def _observing(self, agent: BaseAgent) -> Finisher:
        """Return a finisher that shows every step to `agent`, unless it holds nothing but resets."""

        def finish(rollout: Rollout, step: VectorStep) -> None:
            rollout.require_finite(step, self._window)
            transitions = rollout.transitions(step)
            rollout.finish(step)
            if len(transitions.env_ids):
                agent.observe(transitions)

        return finish
