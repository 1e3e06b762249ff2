"""Windows from a running system: a data source comes in, windows of what it yields go out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.base_pipeline import BasePipeline
from tensor_optix.core.types import Array, EpisodeData, Transitions
from tensor_optix.pipeline.action_scaling import ActionMap, environment_actions, kept_dtype
from tensor_optix.pipeline.live_stream import (
    ActionListener,
    ActionReceiver,
    DataSource,
    LiveRow,
    LiveStream,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.base_pipeline import EpisodeBoundaryFn
    from tensor_optix.pipeline._vector_contract import AnySpace


class LivePipeline(BasePipeline):
    """Follows a system that runs by itself and cannot be reset.

    A thread reads the source ahead, up to `buffer_size` rows, and then waits: however long `learn` takes, no
    row is lost or comes twice. The agent acts when a row is taken out, not when it comes in.

    A window ends where an episode ends, where `episode_boundary_fn` says so, and where the stream is lost.
    A window that ends in the middle of an episode carries `final_obs`, to bootstrap from. Nothing is
    learned across a lost connection: the last row before it is truncated, and, where nobody knows what it
    led to, marked as not valid. What such an episode had earned is not scored.

    Args:
        data_source: Its `stream()` yields `(obs, reward, terminated, truncated, info)`. If it has
            `send_action(action)`, or `on_action(action)`, that is called with each action at once.
        agent: Chooses the actions; `RLOptimizer` sets its own.
        episode_boundary_fn: Asked after each row whether the window ends there. None: `on_done_signal()`.
        buffer_size: Rows that are read ahead at most.
        reconnect_on_disconnect: Whether a stream that ends or fails is opened again, after a delay of 0.1 s
            that doubles up to 30 s until rows arrive. Otherwise the windows end with it.
        reward_delay: 0: reward, flags and info belong to the action chosen for the observation that they come
            with. What a truncated row led to is then only known if its info holds "final_obs"; otherwise
            that row is not learned from. 1: they belong to the action before, as in `env.step`, and an
            observation that comes with an end is the last of its episode.
        action_space: If given, an agent whose actions are in [-1, 1] has them stretched to its bounds;
            windows keep them as they were chosen.

    Raises:
        TypeError: If the data source has no `stream()`.
        ValueError: If a number is out of range. While running: if the source yields what is no row, a reward
            that is not finite, or an observation unlike the first.
    """

    def __init__(
        self,
        data_source: DataSource,
        agent: BaseAgent | None = None,
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
        self._source = data_source
        self._send = _sender(data_source)
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

    def set_agent(self, agent: BaseAgent) -> None:
        """Let `agent` choose the actions from the next row on.

        Raises:
            ValueError: If its actions cannot be stretched to the action space.
        """
        space = self._action_space
        to_env = _as_chosen if space is None else environment_actions(agent, space, rescale=True)
        self._keep, self._to_env = _keeper(agent, space), to_env
        self._agent = agent

    def setup(self) -> None:
        """Begin to read the source; the next window is number 0."""
        self.teardown()
        self._window = 0
        self._tally = EpisodeTally()
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
            episode = self._collect(self._stream)
            if episode is None:
                return
            self._window += 1
            yield episode

    def teardown(self) -> None:
        """Stop reading, and forget what was read but not taken. A second call does nothing."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _collect(self, stream: LiveStream) -> EpisodeData | None:
        """Return the next window; None when the source has ended for good and all rows are taken."""
        window = LiveWindow()
        while True:
            row = self._waiting or stream.take()
            self._waiting = None
            if isinstance(row, LiveRow):
                episode = self._follow(window, row) or self._begin(window, row)
            else:
                episode = self._lose(window)
                if row is None:
                    return episode
            if episode is not None:
                return episode

    def _follow(self, window: LiveWindow, row: LiveRow) -> EpisodeData | None:
        """Let the newest row of the window lead to `row`; return the window if it ends there."""
        if not len(window):
            return None
        if self._is_delayed:
            self._pay(window, row)
        self._show(window, row.observation)
        if self._is_delayed and row.done:
            return window.end(self._window, row.observation, self._tally.take())
        if self._is_boundary(len(window), window.seconds, window.last_observation):
            self._waiting = row
            return window.cut(self._window, row.observation)
        return None

    def _begin(self, window: LiveWindow, row: LiveRow) -> EpisodeData | None:
        """Act on `row`; return the window if the episode ends with that."""
        if self._is_delayed and row.done:
            return None  # the end of an episode in which nothing was done
        window.begin(row.observation, self._act(row.observation))
        if self._is_delayed:
            return None
        self._pay(window, row)
        if not row.done:
            return None
        if row.terminated or row.final_obs is not None:
            self._show(window, row.observation if row.final_obs is None else row.final_obs)
        return window.end(self._window, row.final_obs, self._tally.take())

    def _lose(self, window: LiveWindow) -> EpisodeData | None:
        """End the window in the middle of an episode; None if it holds nothing to learn from."""
        self._tally.clear()
        final_obs = window.drop_unpaid()
        # Of a row that led to nothing known, only its observation counts: as what another led to.
        if len(window) >= (2 if final_obs is None else 1):
            return window.lost(self._window, final_obs)
        window.clear()
        return None

    def _act(self, observation: Array) -> Array:
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
        if self._send is not None:
            self._send(_single(self._to_env(kept)))
        action: Array = kept[0]
        return action

    def _pay(self, window: LiveWindow, row: LiveRow) -> None:
        window.pay(row)
        self._tally.add(row.reward)

    def _show(self, window: LiveWindow, following: Array) -> None:
        """Let an agent that learns while collecting see the newest row, and what it led to."""
        if self._agent is not None and not self._agent.is_on_policy:
            self._agent.observe(window.transition(following))


def _sender(source: DataSource) -> Callable[[Any], None] | None:
    if isinstance(source, ActionReceiver):
        return source.send_action
    return source.on_action if isinstance(source, ActionListener) else None


def _keeper(agent: BaseAgent, space: AnySpace | None) -> ActionMap:
    """Return what makes a copy `[1, ...]` of the agent's actions, to learn from."""
    if space is None:
        return np.array
    dtype, shape = kept_dtype(agent, space), (1, *(space.shape or ()))

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
    return action.item() if np.ndim(action) == 0 else action.copy()


_ENV_IDS = np.zeros(1, np.int64)


class EpisodeTally:
    """Return and length of the episode under way, across windows."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget the episode."""
        self._return, self._length = 0.0, 0

    def add(self, reward: float) -> None:
        """Count a step."""
        self._return += reward
        self._length += 1

    def take(self) -> tuple[float, int]:
        """Return what the episode came to, and begin the next one."""
        result = self._return, self._length
        self.clear()
        return result


class LiveWindow:
    """Rows of one episode, or of a part of one. A row begins with an action, and may be paid later."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all rows."""
        self._begun = time.monotonic()
        self._observations: list[Array] = []
        self._actions: list[Array] = []
        self._paid: list[LiveRow] = []

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

    def begin(self, observation: Array, action: Array) -> None:
        """Add what was seen and done."""
        if not self._observations:
            self._begun = time.monotonic()
        self._observations.append(observation)
        self._actions.append(action)

    def pay(self, source: LiveRow) -> None:
        """Add what came of the newest row: the reward, the flags and the info of `source`."""
        self._paid.append(source)

    def drop_unpaid(self) -> Array | None:
        """Take out a row whose reward never came; return its observation, None if there is none."""
        if len(self._paid) == len(self):
            return None
        self._actions.pop()
        return self._observations.pop()

    def transition(self, following: Array) -> Transitions:
        """Return the newest row as a vector step of one environment; `following` is what it led to."""
        paid = self._paid[-1]
        return Transitions(
            self._observations[-1][None],
            self._actions[-1][None],
            np.array([paid.reward], np.float32),
            following[None],
            np.array([paid.terminated]),
            np.array([paid.truncated]),
            _ENV_IDS,
            1,
        )

    def cut(self, number: int, final_obs: Array) -> EpisodeData:
        """Return the window; the episode goes on with `final_obs` `[...]`."""
        return self._episode(number, final_obs=final_obs)

    def lost(self, number: int, final_obs: Array | None) -> EpisodeData:
        """Return the window; nobody knows how the episode went on.

        Args:
            number: The window's.
            final_obs: What the last row led to. None: that is not known, and the row is no transition.
        """
        episode = self._episode(number, final_obs=final_obs)
        episode.truncated[-1] = True  # type: ignore[index]
        if final_obs is None:
            episode.final_obs = self.last_observation
            episode.valid = self._all_but_last()
        return episode

    def end(self, number: int, last: Array | None, finished: tuple[float, int]) -> EpisodeData:
        """Return the window; the episode is over.

        Args:
            number: The window's.
            last: The episode's last observation. None: not known; then a truncated row cannot be
                bootstrapped, and is no transition.
            finished: The episode's return and length.
        """
        episode = self._episode(number, final_obs=None)
        episode.end_rows = np.array([len(self) - 1])
        episode.end_observations = (self.last_observation if last is None else last)[None]
        episode.finished_returns = np.array([finished[0]], np.float64)
        episode.finished_lengths = np.array([finished[1]], np.int64)
        if last is None and not self._paid[-1].terminated:
            episode.valid = self._all_but_last()
        return episode

    def _all_but_last(self) -> Array:
        return np.arange(len(self)) < len(self) - 1

    def _episode(self, number: int, final_obs: Array | None) -> EpisodeData:
        shown = self.last_observation
        infos: list[dict[str, Any]] = [paid.info for paid in self._paid]
        return EpisodeData(
            observations=np.stack(self._observations),
            actions=np.stack(self._actions),
            rewards=[paid.reward for paid in self._paid],
            terminated=[paid.terminated for paid in self._paid],
            truncated=[paid.truncated for paid in self._paid],
            infos=infos,
            episode_id=number,
            episode_starts=[0],
            final_obs=final_obs,
            end_rows=np.empty(0, np.int64),
            end_observations=np.empty((0, *shown.shape), shown.dtype),
            finished_returns=np.empty(0, np.float64),
            finished_lengths=np.empty(0, np.int64),
        )
