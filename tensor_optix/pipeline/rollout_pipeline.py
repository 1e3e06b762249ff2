"""What the batch and the vector pipeline have in common: collecting windows from a `VectorEnv`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tensor_optix.core.argument_checks import whole_number
from tensor_optix.core.base_evaluator import RAW_REWARDS
from tensor_optix.core.base_pipeline import BasePipeline, Source
from tensor_optix.core.episode_returns import EpisodeCounter
from tensor_optix.core.foreign_agent import as_actor
from tensor_optix.core.observation_layout import MaskedSpace
from tensor_optix.core.observation_values import described
from tensor_optix.core.types import Array, EpisodeData, Transitions
from tensor_optix.pipeline.action_scaling import (
    chooser_of,
    environment_actions,
    kept_dtype,
    kept_shape,
)
from tensor_optix.pipeline.agent_view import seen_by
from tensor_optix.pipeline.game import Game
from tensor_optix.pipeline.observation_report import ObservationReport
from tensor_optix.pipeline.vector_contract import (
    SEEDS,
    VectorStep,
    space_dtype,
    space_shape,
    spread_seed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.foreign_agent import Actor
    from tensor_optix.pipeline.info_keys import InfoKeys
    from tensor_optix.pipeline.vector_env import VectorEnv

RESTART_SEED = 1_690_842_617
"""Of the episodes that a pipeline without a seed begins at every `restart`."""


class Rollout:
    """Storage for one window, a column per environment. It is used again once nobody holds any of its rows.

    Environments that answer in lockstep fill row after row. Those that answer in any order fill each
    column at its own pace; columns then differ in length, and the missing rows are marked invalid.

    Args:
        env: Tells the number of environments and the spaces.
        window_size: Rows per environment; on average, where the environments run at their own pace.
        actions: Shape of one, and dtype, in which actions are stored.
    """

    def __init__(
        self, env: VectorEnv, window_size: int, actions: tuple[tuple[int, ...], np.dtype[Any]]
    ) -> None:
        self._num_envs = env.num_envs
        self._all_ids = np.arange(env.num_envs)
        self._lockstep = env.batch_size == env.num_envs
        self._budget = window_size * env.num_envs
        self._capacity = window_size if self._lockstep else 2 * window_size
        shape = (self._capacity, env.num_envs)
        obs, (action_shape, action_dtype) = env.observation_space, actions
        # One row more, for what the last action led to.
        grid = (self._capacity + 1, env.num_envs)
        self._observations = np.zeros((*grid, *space_shape(obs)), space_dtype(obs))
        self._has_floats = np.issubdtype(self._observations.dtype, np.floating)
        self._mask_size = obs.mask_size if isinstance(obs, MaskedSpace) else 0
        self._actions = np.zeros((*shape, *action_shape), action_dtype)
        self._rewards = np.zeros(shape, np.float32)
        self._terminated = np.zeros(shape, bool)
        self._truncated = np.zeros(shape, bool)
        self._valid = np.zeros(shape, bool)
        self._arrays = (
            self._observations,
            self._actions,
            self._rewards,
            self._terminated,
            self._truncated,
            self._valid,
        )
        # No other name refers to an array here, or it would be counted as one that stays.
        self._own_references = self._references()

    @property
    def is_held(self) -> bool:
        """Whether somebody holds a row: whatever shows a part of an array, refers to the array."""
        return self._references() > self._own_references

    def start(self, observations: Array, seen_dtype: np.dtype[Any] | None) -> None:
        """Write a new window over the old rows; its first actions are chosen from `[N, ...]`.

        Args:
            observations: What they are chosen from.
            seen_dtype: In which the agent computes with observations of floats. None: in their own.
        """
        self._seen_dtype = seen_dtype
        self._cursor = 0
        self._cursors = np.zeros(self._num_envs, np.int64)
        self._rows_begun = 0
        self._ends: list[tuple[Array, Array]] = []
        self._games: list[tuple[Array, Game]] = []
        self._infos: list[dict[str, Any]] = []
        self._info_rows: list[Array] = []
        self._observations[0] = observations
        if not self._lockstep:
            self._valid.fill(False)

    @property
    def is_full(self) -> bool:
        """Whether no further action may be taken in this window."""
        if self._rows_begun >= self._budget:
            return True
        return not self._lockstep and int(self._cursors.max()) >= self._capacity

    def shown(self, env_ids: Array) -> Array:
        """Return the observations `[B, ...]` that the next actions are chosen from, as stored."""
        observations: Array = self._observations[self._rows(env_ids)]
        return observations

    def begin(self, env_ids: Array, actions: Array) -> Array:
        """Store what was done; return the actions as stored.

        Raises:
            TypeError: If the actions are of another kind than those stored (floats for ints).
            ValueError: If there is not one action of the shape that is stored per environment.
        """
        rows = self._rows(env_ids)
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

    def finish(self, step: VectorStep) -> None:
        """Store what came of it, for the same environments in any order."""
        self._finished = rows = self._rows(step.env_ids)
        self._rewards[rows] = step.rewards
        self._terminated[rows] = step.terminated
        self._truncated[rows] = step.truncated
        self._valid[rows] = step.valid
        if len(step.end_observations):
            ended = step.env_ids[step.terminated | step.truncated]
            self._ends.append((self._flat_rows(ended), np.array(step.end_observations)))
        if step.game is not None:
            copied = Game(*(np.array(column) for column in step.game))
            self._games.append((self._flat_rows(step.env_ids), copied))
        self._infos.extend(step.infos)
        if step.infos and not self._lockstep:
            self._info_rows.append(self._flat_rows(step.env_ids))
        if self._lockstep:
            self._cursor += 1
        else:
            self._cursors[step.env_ids] += 1
        self._observations[self._rows(step.env_ids)] = step.observations

    def transitions(self, step: VectorStep) -> Transitions:
        """Return the valid rows that `step` completed, after `finish` stored it.

        In lockstep, observations and actions are views of the stored rows, where no episode ends the next
        observations too. Rewards and flags are copies: who rescales them in place changes no score.
        """
        following = self.shown(step.env_ids)
        if len(step.end_observations):
            following = following.copy()
            following[step.terminated | step.truncated] = step.end_observations
        rows = self._finished
        transitions = Transitions(
            self._observations[rows],
            self._actions[rows],
            step.rewards.copy(),
            following,
            step.terminated.copy(),
            step.truncated.copy(),
            step.env_ids,
            self._num_envs,
        )
        if np.count_nonzero(step.valid) == len(step.valid):
            return transitions
        valid = (field[step.valid] for field in transitions[:-1])
        return Transitions._make((*valid, self._num_envs))

    def require_finite(self, step: VectorStep, window: int) -> None:
        """Check the rewards and the observations of `step`, before `finish` stores it.

        Raises:
            ValueError: If one is NaN or infinite, naming the environment, the step and the value.
        """
        ids = step.env_ids

        def place(row: int, later: int = 0) -> tuple[int, int]:
            return int(np.broadcast_to(self._times(ids), ids.shape)[row]) + later, int(ids[row])

        _require_moderate(step.rewards, window, place)
        if not self._has_floats:
            return
        shown, last, dtype = step.observations, step.end_observations, self._seen_dtype
        _require_finite("observation", shown, window, lambda i: place(i, later=1), dtype)
        if len(last):
            ended = np.flatnonzero(step.terminated | step.truncated)
            _require_finite("final observation", last, window, lambda i: place(ended[i]), dtype)

    def following(self) -> Array:
        """Return what each environment shows after its last row, `[N, ...]`."""
        return self.shown(self._all_ids)

    def to_window(self, number: int, counter: EpisodeCounter) -> EpisodeData:
        """Return the window as a view of this storage.

        Args:
            number: The window's.
            counter: Counts the window's rewards; gives the episodes that finished.

        Raises:
            ValueError: If a reward or an observation is NaN or infinite, naming the environment, the step and
                the value.
        """
        length = self._cursor if self._lockstep else int(self._cursors.max())
        if not self._lockstep:
            self._clear_missing_rows(length)
        rewards, valid = self._rewards[:length], self._valid[:length]
        _require_moderate(_flat(rewards), number, lambda i: divmod(i, self._num_envs))
        if self._has_floats:
            self._require_finite_observations(length, number)
        dones = self._terminated[:length] | self._truncated[:length]
        game = self._placed_game(length)
        paid, ends = game or (rewards, dones)
        returns, lengths = counter.add_window(paid, ends, valid)
        end_rows, end_observations = self._sorted_ends()
        single = self._num_envs == 1
        ended = single and bool(dones[-1, 0])
        # A copy, as the next window begins with what it shows.
        following = self.following().copy()
        return EpisodeData(
            observations=_flat(self._observations[:length]),
            actions=_flat(self._actions[:length]),
            rewards=_rows_of(rewards, single),
            terminated=_rows_of(self._terminated[:length], single),
            truncated=_rows_of(self._truncated[:length], single),
            infos=self._infos if self._lockstep else self._placed_infos(length),
            episode_id=number,
            episode_starts=_episode_starts(dones, valid),
            final_obs=None if ended else following[0] if single else following,
            num_envs=self._num_envs,
            valid=None if valid.all() else _flat(valid),
            end_rows=end_rows,
            end_observations=end_observations,
            finished_returns=returns,
            finished_lengths=lengths,
            mask_size=self._mask_size,
            finished_rows=np.flatnonzero(ends & valid),
            under_way=counter.under_way,
            metadata={} if game is None else {RAW_REWARDS: _flat(paid)},
        )

    def _references(self) -> int:
        return sum(map(sys.getrefcount, self._arrays))

    def _times(self, env_ids: Array) -> Any:
        """Return at which time `t` the environments are: one number in lockstep, else `[B]`."""
        return self._cursor if self._lockstep else self._cursors[env_ids]

    def _require_finite_observations(self, length: int, window: int) -> None:
        """Check what the window shows: observations acted on, those at its end, and those of episodes."""
        n, rows, dtype = self._num_envs, _flat(self._observations[: length + 1]), self._seen_dtype
        _require_finite("observation", rows, window, lambda i: divmod(i, n), dtype)
        end_rows, last = self._sorted_ends()
        places = [divmod(int(row), n) for row in end_rows]
        _require_finite("final observation", last, window, places.__getitem__, dtype)

    def _rows(self, env_ids: Array) -> Any:
        return self._cursor if self._lockstep else (self._cursors[env_ids], env_ids)

    def _flat_rows(self, env_ids: Array) -> Array:
        rows: Array = self._times(env_ids) * self._num_envs + env_ids
        return rows

    def _placed_infos(self, length: int) -> list[dict[str, Any]]:
        """Return the infos in the order of the flat rows; rows that are missing have none."""
        if not self._infos:
            return []
        placed: list[dict[str, Any]] = [{} for _ in range(length * self._num_envs)]
        for row, info in zip(np.concatenate(self._info_rows), self._infos, strict=True):
            placed[row] = info
        return placed

    def _placed_game(self, length: int) -> Game | None:
        """Return what counts for the score, as grids `[T, N]`; None where that is the rewards and flags."""
        if not self._games:
            return None
        shape = (length, self._num_envs)
        game = Game(np.zeros(shape, np.float32), np.zeros(shape, bool))
        for rows, step in self._games:
            for grid, column in zip(game, step, strict=True):
                grid.flat[rows] = column
        return game

    def _clear_missing_rows(self, length: int) -> None:
        """Wipe out what an earlier window left below a short column, but for the next observation.

        From that observation the row before it is bootstrapped.
        """
        for n in np.flatnonzero(self._cursors < length):
            cursor = int(self._cursors[n])
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
    name: str,
    rows: Array,
    window: int,
    place: Callable[[int], tuple[int, int]],
    dtype: np.dtype[Any] | None = None,
) -> None:
    """Check rewards `[B]`, or observations `[B, ...]`; `place` gives the step and the environment of a row.

    Raises:
        ValueError: If a number is NaN or infinite, as it is or in `dtype`: the first one, and where it is.
    """
    seen = rows
    if dtype is not None and rows.dtype.itemsize > dtype.itemsize:
        with np.errstate(over="ignore"):
            seen = rows.astype(dtype)
    is_finite = np.isfinite(seen)
    if np.count_nonzero(is_finite) == is_finite.size:
        return
    row, *element = np.argwhere(~is_finite)[0].tolist()
    step, env_id = place(row)
    where = f" in element {', '.join(map(str, element))}" if element else ""
    value = rows[(row, *element)]
    within = f" in {dtype}" if np.isfinite(value) else ""
    raise ValueError(
        f"{name}s must be finite{within}, got {value}{where} from environment {env_id} at step {step} of "
        f"window {window}: no policy can be learned from it, so look into the environment's {name}"
    )


MOST_REWARD = 1e15
"""The largest size of a reward: squares of larger ones, which every loss has, leave float32."""


def _require_moderate(rewards: Array, window: int, place: Callable[[int], tuple[int, int]]) -> None:
    """Check rewards `[B]` as `_require_finite` does, and that they are no larger than `MOST_REWARD`.

    Raises:
        ValueError: If one is; the first one, and where it is.
    """
    sizes = np.abs(rewards)
    if sizes.max(initial=0.0) <= MOST_REWARD:
        return
    _require_finite("reward", rewards, window, place)
    row = int(np.flatnonzero(sizes > MOST_REWARD)[0])
    step, env_id = place(row)
    raise ValueError(
        f"rewards must be between -{MOST_REWARD:g} and {MOST_REWARD:g}, got {rewards[row]} from environment "
        f"{env_id} at step {step} of window {window}: losses square them, so scale the environment's reward"
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


MOST_ROLLOUTS = 3
"""How many are kept to be used again: one to fill, the window that a loop is at, and one put aside."""

Finisher: TypeAlias = Callable[[Rollout, VectorStep], None]
"""What is done with a vector step before the next action is chosen."""


class RolloutPipeline(BasePipeline):
    """Steps a vector environment and yields windows; episodes go on over their borders.

    A rollout is filled again when nobody holds a row of it any more; until then the next one takes its turn.

    Args:
        make_env: `fn(seed, most_envs=None)` makes the environments, with a seed or None, and no more than so
            many; called by the first `setup`.
        agent: Chooses the actions; may also be given later, by `set_agent`.
        window_size: Rows per environment and window.
        seed: Where the environments' randomness starts, at every `setup`; pipelines of different seeds share
            none of it. None: anywhere.
        rescale_actions: Whether an agent's actions in [-1, 1] are stretched to the action space.
        makes_new: Whether every call of `make_env` makes new environments.
        info_keys: Which of the environments' infos windows have. None: all of a plain environment's,
            none of a vector's.
        report: Says what there is to say of observations. None: one of its own.
    """

    def __init__(
        self,
        make_env: Callable[..., VectorEnv],
        agent: Actor | None,
        window_size: int,
        seed: int | None,
        rescale_actions: bool = True,
        *,
        makes_new: bool = False,
        info_keys: InfoKeys | None = None,
        report: ObservationReport | None = None,
    ) -> None:
        if not isinstance(window_size, int | np.integer) or window_size < 1:
            raise ValueError(f"window_size must be a whole number >= 1, got {window_size!r}")
        self.window_size = window_size
        self._agent = None if agent is None else as_actor(agent)
        self._seed = None if seed is None else spread_seed(seed)
        self._rescale_actions = rescale_actions
        self._info_keys = info_keys
        self._report = report or ObservationReport()
        self._make_env = make_env
        self._makes_new = makes_new
        self._renewals = 0
        self._env: VectorEnv | None = None
        self._rollouts: list[Rollout] = []
        self._observations: Array
        self._seen_space: Any = None
        self._seen_dtype: np.dtype[Any] | None = None
        self._kept: tuple[tuple[int, ...], np.dtype[Any]] | None = None
        self._is_set_up = self._is_between_windows = False

    @property
    def env(self) -> VectorEnv:
        """The vector environment, made when first asked for."""
        if self._env is None:
            self._env = self._make_env(self._seed)
            self._env.info_keys = self._info_keys
        return self._env

    @property
    def source(self) -> Source:
        """Where the windows come from."""
        env = self.env
        return Source(
            recipe=env.recipe,
            backend=env.name,
            num_envs=env.num_envs,
            window_size=int(self.window_size),
            observation_space=env.observation_space,
            action_space=env.action_space,
            rescale_actions=self._rescale_actions,
        )

    @property
    def n_steps(self) -> int:
        """Another name of `window_size`."""
        return self.window_size

    @property
    def is_live(self) -> bool:
        """False: the environments can be reset."""
        return False

    @property
    def time_limit(self) -> int | None:
        """Steps after which the environments cut an episode; None where that is not known."""
        return self.env.max_episode_steps

    def set_agent(self, agent: Actor) -> None:
        """Let `agent` choose the actions from the next window on."""
        self._agent = as_actor(agent)
        if not self._is_set_up:
            return
        before = self._seen_space
        if self._fit_to(self._agent).observation_space != before:
            # What it sees of the environments has another form: its rows cannot go on from those before.
            self._begin(self._seed)

    def seed(self, seed: int) -> None:
        """Make the environments follow from `seed`, from the next `setup` on."""
        self._seed = seed

    def setup(self) -> None:
        """Reset the environments; the next window is number 0.

        Raises:
            ValueError: If the agent and the environments do not fit together.
        """
        self._renewals = 0
        self._begin(self._seed)

    def restart(self) -> None:
        """Reset the environments, to the same episodes each time, also where no seed was given."""
        self._begin(self._restart_seed)

    def renew(self) -> None:
        """Reset the environments to episodes that neither `setup` nor an earlier call has begun."""
        self._renewals += 1
        seeds = np.random.SeedSequence([self._restart_seed, self._renewals])
        self._begin(int(seeds.generate_state(1)[0]) % 2**31)

    def state_dict(self) -> dict[str, Any] | None:
        """Return what a resumed run goes on with; None before the first `setup`.

        The episodes under way are held by their actions, and by the random state from which each began.
        Where one cannot be rebuilt so, or an error has stopped the last window in its middle, none is held,
        and a resumed run begins fresh ones.
        """
        if not self._is_set_up:
            return None
        is_whole = self._is_between_windows and self._observations.dtype != object
        episodes = self._shown_env.episode_states() if is_whole else None
        return {
            "window": self._window,
            "renewals": self._renewals,
            "episodes": episodes,
            "observations": None if episodes is None else self._observations.copy(),
            "counter": self._counter.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Go on with the episodes under way, or begin fresh ones, and number the windows on.

        Episodes go on only where all of them, played once more, lead to the observations that were saved, to
        the bit. Fresh ones follow from the pipeline's seed and the number of windows.
        """
        window = whole_number("window", state["window"], least=0)
        goes_on = state["episodes"] is not None and self._rebuild(state)
        if not goes_on:
            self._begin(self._resumed_seed(window))
        self._renewals = whole_number("renewals", state["renewals"], least=0)
        self._window = window
        return goes_on

    def twin(
        self, most_envs: int | None = None, most_rows: int | None = None
    ) -> BasePipeline | None:
        """Return a pipeline over further environments of the same kind, as `BasePipeline.twin` has it.

        None where the environments are the user's.
        """
        if not self._makes_new:
            return None
        return RolloutPipeline(
            partial(self._make_env, most_envs=most_envs),
            None,
            min(self.window_size, most_rows or self.window_size),
            self._seed,
            self._rescale_actions,
            makes_new=True,
            info_keys=self._info_keys,
            report=self._report,
        )

    @property
    def _restart_seed(self) -> int:
        return RESTART_SEED if self._seed is None else self._seed

    def _resumed_seed(self, window: int) -> int | None:
        """Return the seed of the episodes that a run begins when it is resumed after so many windows."""
        if self._seed is None:
            return None
        # Three numbers: other seeds than those of `renew`.
        seeds = np.random.SeedSequence([self._seed, window, 1])
        return int(seeds.generate_state(1)[0]) % SEEDS

    @property
    def _shown_env(self) -> VectorEnv:
        return self.env if self._agent is None else self._view

    def _rebuild(self, state: dict[str, Any]) -> bool:
        """Rebuild the episodes of a state; return whether they are as they were."""
        env, shown = self._shown_env, state["observations"]
        if np.shape(shown) != self._observations.shape or shown.dtype != self._observations.dtype:
            raise ValueError(
                f"observations must be of {self._observations.dtype} and the shape "
                f"{self._observations.shape}, got {described(shown)}: they are of other environments"
            )
        counter = EpisodeCounter(env.num_envs)
        counter.load_state_dict(state["counter"])
        if not env.rebuild(state["episodes"]):
            return False
        rebuilt = env.recv().observations
        if np.ascontiguousarray(rebuilt).tobytes() != np.ascontiguousarray(shown).tobytes():
            return False
        self._observations[:] = shown
        self._counter = counter
        return True

    def _begin(self, seed: int | None) -> None:
        env = self.env
        # Only then it is known whether they tell which actions are allowed.
        env.reset(seed)
        if self._agent is not None:
            env = self._fit_to(self._agent)
            self._agent.check_spaces(env.observation_space, env.action_space)
            self._agent.begin_episodes()
        self._window = 0
        self._counter = EpisodeCounter(env.num_envs)
        space = env.observation_space
        self._observations = np.zeros((env.num_envs, *space_shape(space)), space_dtype(space))
        self._all_ids = np.arange(env.num_envs)
        for _ in range(env.num_envs // env.batch_size):
            first = env.recv()
            self._observations[first.env_ids] = first.observations
        if np.issubdtype(self._observations.dtype, np.floating):
            place, dtype = lambda env_id: (0, env_id), self._seen_dtype
            _require_finite("observation", self._observations, 0, place, dtype)
        self._is_set_up = self._is_between_windows = True

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
            self._rollouts = []

    def _fit_to(self, agent: BaseAgent) -> VectorEnv:
        """Choose what is done at every step, so that no step has to ask; return the environments it sees."""
        view = seen_by(agent, self.env)
        self._report.parts(view)
        # Ready-made agents compute in it, and so see an infinite number in place of a larger one.
        self._seen_dtype = np.dtype(np.float32) if agent.sees_rows else None
        space = view.action_space
        self._to_env = environment_actions(agent, space, self._rescale_actions)
        self._actor = chooser_of(agent, space)
        self._finish = Rollout.finish if agent.is_on_policy else self._observing(agent)
        kept = kept_shape(agent, space), kept_dtype(agent, space)
        if view.observation_space != self._seen_space or kept != self._kept:
            self._rollouts = []
        self._view, self._seen_space, self._kept = view, view.observation_space, kept
        return view

    def _free_rollout(self) -> Rollout:
        """Return one of which nobody holds a row."""
        for rollout in self._rollouts:
            if not rollout.is_held:
                return rollout
        assert self._kept is not None
        rollout = Rollout(self._view, self.window_size, self._kept)
        self._rollouts = [*self._rollouts, rollout][-MOST_ROLLOUTS:]
        return rollout

    def _collect(self) -> EpisodeData:
        if self._agent is None:
            raise RuntimeError(
                f"{type(self).__name__} has no agent: pass agent=, or give the pipeline to RLOptimizer"
            )
        rollout = self._free_rollout()
        self._is_between_windows = False
        rollout.start(self._observations, self._seen_dtype)
        env = self._view
        self._act(rollout, self._all_ids)
        in_flight = env.num_envs
        while in_flight:
            step = env.recv()
            self._finish(rollout, step)
            if rollout.is_full:
                in_flight -= len(step.env_ids)
            else:
                self._act(rollout, step.env_ids)
        window = rollout.to_window(self._window, self._counter)
        self._observations = rollout.following()
        if self._window == 0:
            self._report.bounds(env, window)
            if self._info_keys is not None:
                self._info_keys.report_missing()
        self._window += 1
        self._is_between_windows = True
        return window

    def _act(self, rollout: Rollout, env_ids: Array) -> None:
        # Of the rollout's own rows, as the environment's may be written over: an agent may keep them.
        actions = self._actor.act_batch(rollout.shown(env_ids))
        self._view.send(self._to_env(rollout.begin(env_ids, actions)), env_ids)

    def _observing(self, agent: BaseAgent) -> Finisher:
        """Return a finisher that shows every step to `agent`, unless it holds nothing but resets."""

        def finish(rollout: Rollout, step: VectorStep) -> None:
            rollout.require_finite(step, self._window)
            rollout.finish(step)
            transitions = rollout.transitions(step)
            if len(transitions.env_ids):
                agent.observe(transitions)

        return finish
