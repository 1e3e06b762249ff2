"""Windows from a running system: a data source comes in, windows of what it yields go out."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.argument_checks import whole_number
from tensor_optix.core.base_pipeline import BasePipeline
from tensor_optix.core.episode_returns import EpisodeCounter
from tensor_optix.core.foreign_agent import as_actor
from tensor_optix.core.types import Array, EpisodeData, Transitions
from tensor_optix.pipeline.action_scaling import (
    ActionMap,
    environment_actions,
    kept_dtype,
    kept_shape,
)
from tensor_optix.pipeline.live_stream import DataSource, LiveRow, LiveStream, sender_of
from tensor_optix.pipeline.vector_contract import has_arrays

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.base_pipeline import EpisodeBoundaryFn
    from tensor_optix.core.foreign_agent import Actor
    from tensor_optix.core.observation_layout import AnySpace

logger = logging.getLogger(__name__)

_ENV_IDS = np.zeros(1, np.int64)


class LivePipeline(BasePipeline):
    """Follows a system that runs by itself and cannot be reset.

    A thread reads the source ahead, up to `buffer_size` rows, and then waits: however long `learn` takes, no
    row is lost or comes twice. The agent acts when a row is taken out, not when it comes in. A source that is
    silent for 10 seconds, or ten times as long as usual, is reported, and again whenever that has doubled.

    A reward belongs to the action that was in force when the source gave it: the last one sent before. A
    source that takes actions is therefore not read ahead. It is asked for a row when the one before has been
    answered and another is needed, never while the agent learns; so an action lies between two rows of an
    episode, chosen from the first of them, and its reward comes with the second. That is `reward_delay=1`.
    With `reward_delay=0` the reward that comes with the first is credited to it, which an action sent later
    cannot have earned: it suits rewards that do not follow from the actions, and is warned of where a source
    takes them. What a source has queued by itself meanwhile was made under earlier actions; its `stream()`
    should give the newest. A source that hears of the actions by other ways than its methods is read ahead.

    A window ends where an episode ends, where `episode_boundary_fn` says so, and where the stream is lost.
    A window that ends in the middle of an episode carries `final_obs`, to bootstrap from. Nothing is
    learned across a lost connection: the last row before it is truncated, and, where nobody knows what it
    led to, marked as not valid. What such an episode had earned is not scored.

    Args:
        data_source: Its `stream()` yields `(obs, reward, terminated, truncated, info)`. If it has
            `send_action(action)`, or `on_action(action)`, it takes actions: that is called with each of them,
            once for every observation that is acted on, before the next row is asked for.
        agent: Chooses the actions: any object with `act`; `RLOptimizer` sets its own.
        episode_boundary_fn: Asked after each row whether the window ends there. None: `on_done_signal()`.
        buffer_size: Rows that are read ahead at most, of a source that takes no actions.
        reconnect_on_disconnect: Whether a stream that ends or fails is opened again, after a delay of 0.1 s
            that doubles up to 30 s until rows arrive. Otherwise the windows end with it.
        reward_delay: 0: reward, flags and info belong to the action chosen for the observation that they come
            with. What a truncated row led to is then only known if its info holds "final_obs"; otherwise
            that row is not learned from. 1: they belong to the action before, as in `env.step`, and an
            observation that comes with an end is the last of its episode: no action follows it. The reward of
            the first row after it, or after a lost connection, belongs to no action and is left out.
        action_space: If given, an agent whose actions are in [-1, 1] has them stretched to its bounds, and
            one that counts its actions from 0 has what it starts at added; windows keep them as they were
            chosen.

    Raises:
        TypeError: If the data source has no `stream()`.
        ValueError: If a number is out of range. While running: if the source yields what is no row, a reward
            that is not finite, or an observation unlike the first.

    Examples:
        >>> from tensor_optix import LivePipeline, make_agent
        >>> class Sensor:
        ...     def stream(self):
        ...         yield from ([[0.1, 0.2, 0.3, 0.4], 1.0, row == 9, False, {}] for row in range(10))
        >>> agent = make_agent("CartPole-v1", framework="native")
        >>> pipeline = LivePipeline(Sensor(), agent, reconnect_on_disconnect=False)
        >>> [window.num_steps for window in pipeline.episodes()]
        [10]
    """

    def __init__(
        self,
        data_source: DataSource,
        agent: Actor | None = None,
        episode_boundary_fn: EpisodeBoundaryFn | None = None,
        buffer_size: int = 1000,
        reconnect_on_disconnect: bool = True,
        *,
        reward_delay: int = 0,
        action_space: AnySpace | None = None,
    ) -> None:
        if not isinstance(data_source, DataSource):
            raise TypeError(
                f"data_source must have a method stream(), got {type(data_source).__name__}"
            )
        if buffer_size < 1:
            raise ValueError(f"buffer_size must be at least 1, got {buffer_size}")
        if reward_delay not in (0, 1):
            raise ValueError(f"reward_delay must be 0 or 1, got {reward_delay}")
        if reward_delay == 0 and sender_of(data_source) is not None:
            logger.warning(
                "%s takes actions, but with reward_delay=0 a reward is credited to the action that is chosen "
                "after it came: pass reward_delay=1 if the rewards follow from the actions",
                type(data_source).__name__,
            )
        if action_space is not None and not has_arrays(action_space):
            raise ValueError(
                "action_space must be a Box, Discrete, MultiDiscrete or MultiBinary, got "
                f"{action_space}: leave it out to have the actions sent as they are chosen"
            )
        self._source = data_source
        self._is_boundary = episode_boundary_fn or LivePipeline.on_done_signal()
        self._buffer_size = buffer_size
        self._reconnects = reconnect_on_disconnect
        self._is_delayed = reward_delay == 1
        self._action_space = action_space
        self._agent: BaseAgent | None = None
        self._stream: LiveStream | None = None
        if agent is not None:
            self.set_agent(agent)

    @staticmethod
    def every_n_steps(n: int) -> EpisodeBoundaryFn:
        """Return a boundary after `n` rows of a window; ValueError if `n` is below 1."""
        if n < 1:
            raise ValueError(f"n must be at least 1 step, got {n}")
        return lambda step_count, elapsed, last_observation: step_count >= n

    @staticmethod
    def every_n_seconds(n: float) -> EpisodeBoundaryFn:
        """Return a boundary `n` seconds after a window's first row; ValueError unless `n` > 0."""
        if not n > 0:
            raise ValueError(f"n must be more than 0 seconds, got {n}")
        return lambda step_count, elapsed, last_observation: elapsed >= n

    @staticmethod
    def on_done_signal() -> EpisodeBoundaryFn:
        """Return no boundary but those of the episodes."""
        return lambda step_count, elapsed, last_observation: False

    @property
    def is_live(self) -> bool:
        """True: the system cannot be reset."""
        return True

    def set_agent(self, agent: Actor) -> None:
        """Let `agent` choose the actions from the next row on."""
        space = self._action_space
        actor = as_actor(agent)
        to_env = _as_chosen if space is None else environment_actions(actor, space, rescale=True)
        self._keep, self._to_env = _keeper(actor, space), to_env
        self._agent = actor

    def setup(self) -> None:
        """Begin to read the source; the next window is number 0."""
        self.teardown()
        self._window = 0
        self._counter = EpisodeCounter(1)
        self._waiting: LiveRow | None = None
        self._stream = LiveStream(self._source, self._buffer_size, self._reconnects)

    def episodes(self) -> Iterator[EpisodeData]:
        """Yield windows; without end if the stream is opened again whenever it ends.

        Raises:
            ValueError: If the source yields what is no row.
        """
        if self._stream is None:
            self.setup()
        while self._stream is not None:
            window = self._collect(self._stream)
            if window is None:
                return
            self._window += 1
            yield window

    def teardown(self) -> None:
        """Stop reading, and forget what was read but not taken. A second call does nothing."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def state_dict(self) -> dict[str, Any] | None:
        """Return the number of windows; None before the first `setup`. The stream itself cannot be kept."""
        return None if self._stream is None else {"window": self._window}

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Number the windows on, and return False: the stream goes on by itself."""
        self._window = whole_number("window", state["window"], least=0)
        return False

    def _collect(self, stream: LiveStream) -> EpisodeData | None:
        """Return the next window; None when the source has ended for good and all rows are taken."""
        window = LiveWindow(self._window)
        while True:
            row = self._waiting or stream.take(len(window))
            self._waiting = None
            if isinstance(row, LiveRow):
                collected = self._follow(window, row) or self._begin(window, row, stream)
            else:
                collected = self._break_off(window)
                window = LiveWindow(self._window)
            if collected is not None or row is None:
                return collected

    def _follow(self, window: LiveWindow, row: LiveRow) -> EpisodeData | None:
        """Let the newest row of the window lead to `row`; return the window if it ends there."""
        if not len(window):
            return None
        if self._is_delayed:
            window.add_reward(row, self._counter)
        self._show(window, row.observation)
        if self._is_delayed and row.done:
            return window.finished(row.observation)
        if self._is_boundary(len(window), window.seconds, window.last_observation):
            self._waiting = row
            return window.unfinished(row.observation)
        return None

    def _begin(self, window: LiveWindow, row: LiveRow, stream: LiveStream) -> EpisodeData | None:
        """Act on `row`; return the window if the episode ends with that."""
        if self._is_delayed and row.done:
            return None  # the end of an episode in which nothing was done
        window.add_action(row.observation, self._act(row.observation, stream))
        if self._is_delayed:
            return None
        window.add_reward(row, self._counter)
        if not row.done:
            return None
        if row.terminated or row.final_obs is not None:
            self._show(window, row.observation if row.final_obs is None else row.final_obs)
        return window.finished(row.final_obs)

    def _break_off(self, window: LiveWindow) -> EpisodeData | None:
        """End the window in the middle of an episode; None if it holds nothing to learn from."""
        self._counter.clear()
        final_obs = window.drop_unrewarded()
        # Of a row that led to nothing known, only its observation counts: as what another led to.
        if len(window) >= (2 if final_obs is None else 1):
            return window.truncated(final_obs)
        return None

    def _act(self, observation: Array, stream: LiveStream) -> Array:
        """Choose an action and send it out; return it as the agent chose it."""
        if self._agent is None:
            raise RuntimeError(
                "LivePipeline has no agent: pass agent=, or give the pipeline to RLOptimizer"
            )
        actions = np.asarray(self._agent.act_batch(observation[None]))
        if actions.shape[:1] != (1,):
            raise ValueError(
                f"act_batch must give one action for one observation, got shape {actions.shape}"
            )
        kept = self._keep(actions)
        if stream.takes_actions:
            stream.send(_single(self._to_env(kept)))
        action: Array = kept[0]
        return action

    def _show(self, window: LiveWindow, following: Array) -> None:
        """Let an agent that learns while collecting see the newest row, and what it led to."""
        if self._agent is not None and not self._agent.is_on_policy:
            self._agent.observe(window.transition(following))


class LiveWindow:
    """Rows of one episode, or of a part of one. A row begins with an action; its reward may come later.

    Args:
        number: The window's.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._begun = 0.0
        self._observations: list[Array] = []
        self._actions: list[Array] = []
        self._outcomes: list[LiveRow] = []
        self._returns, self._lengths = np.empty(0, np.float64), np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._observations)

    @property
    def seconds(self) -> float:
        """Since the first row began."""
        return time.monotonic() - self._begun

    @property
    def last_observation(self) -> Array:
        """`[...]`, of the newest row."""
        return self._observations[-1]

    def add_action(self, observation: Array, action: Array) -> None:
        """Begin a row with what was seen and done."""
        if not self._observations:
            self._begun = time.monotonic()
        self._observations.append(observation)
        self._actions.append(action)

    def add_reward(self, source: LiveRow, counter: EpisodeCounter) -> None:
        """Add what came of the newest row: the reward, the flags and the info of `source`."""
        self._outcomes.append(source)
        done = np.array([source.done])
        _, self._returns, self._lengths = counter.add_step(_ENV_IDS, source.reward, done)

    def drop_unrewarded(self) -> Array | None:
        """Take out a row whose reward never came; return its observation, None if there is none."""
        if len(self._outcomes) == len(self):
            return None
        self._actions.pop()
        return self._observations.pop()

    def transition(self, following: Array) -> Transitions:
        """Return the newest row as a vector step of one environment; `following` is what it led to."""
        outcome = self._outcomes[-1]
        return Transitions(
            self._observations[-1][None],
            self._actions[-1][None],
            np.array([outcome.reward], np.float32),
            following[None],
            np.array([outcome.terminated]),
            np.array([outcome.truncated]),
            _ENV_IDS,
            1,
        )

    def unfinished(self, final_obs: Array | None) -> EpisodeData:
        """Return the window; the episode goes on with `final_obs` `[...]`."""
        shown = self.last_observation
        return EpisodeData(
            observations=np.stack(self._observations),
            actions=np.stack(self._actions),
            rewards=[outcome.reward for outcome in self._outcomes],
            terminated=[outcome.terminated for outcome in self._outcomes],
            truncated=[outcome.truncated for outcome in self._outcomes],
            infos=[outcome.info for outcome in self._outcomes],
            episode_id=self._number,
            episode_starts=[0],
            final_obs=final_obs,
            end_rows=np.empty(0, np.int64),
            end_observations=np.empty((0, *shown.shape), shown.dtype),
            finished_returns=self._returns,
            finished_lengths=self._lengths,
        )

    def truncated(self, final_obs: Array | None) -> EpisodeData:
        """Return the window; nobody knows how the episode went on.

        Args:
            final_obs: What the last row led to. None: that is not known, and the row is no transition.
        """
        window = self.unfinished(final_obs)
        window.truncated[-1] = True  # type: ignore[index]
        if final_obs is None:
            window.final_obs = self.last_observation
            window.valid = self._all_but_last()
        return window

    def finished(self, last: Array | None) -> EpisodeData:
        """Return the window; the episode is over.

        Args:
            last: The episode's last observation. None: not known; then a truncated row cannot be
                bootstrapped, and is no transition.
        """
        window = self.unfinished(final_obs=None)
        window.end_rows = np.array([len(self) - 1])
        window.end_observations = (self.last_observation if last is None else last)[None]
        if last is None and not self._outcomes[-1].terminated:
            window.valid = self._all_but_last()
        return window

    def _all_but_last(self) -> Array:
        return np.arange(len(self)) < len(self) - 1


def _keeper(agent: BaseAgent, space: AnySpace | None) -> ActionMap:
    """Return what makes a copy `[1, ...]` of the agent's actions, to learn from."""
    if space is None:
        return np.array
    dtype, shape = kept_dtype(agent, space), (1, *kept_shape(agent, space))

    def keep(actions: Array) -> Array:
        if actions.shape != shape:
            raise ValueError(f"act_batch must give actions of shape {shape}, got {actions.shape}")
        return actions.astype(dtype, casting="same_kind")

    return keep


def _as_chosen(actions: Array) -> Array:
    return actions


def _single(actions: Array) -> Any:
    """Return the only one of `[1, ...]` actions, as a plain number where it is one."""
    action = actions[0]
    if isinstance(action, np.ndarray):
        return action.copy()
    return action.item() if isinstance(action, np.generic) else action
