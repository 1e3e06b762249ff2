"""Scores on held-out data: an agent and a pipeline come in, the score of whole episodes goes out."""

from __future__ import annotations

import copy
import logging
import math
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.base_agent import BaseAgent, has_own
from tensor_optix.core.base_evaluator import finished_episodes
from tensor_optix.core.decisions.episode_ends import (
    EpisodeEnds,
    EpisodesWithoutEnd,
    did_not_end,
    steps_to_end,
)
from tensor_optix.core.episode_returns import FirstEpisodes
from tensor_optix.core.foreign_agent import own_object
from tensor_optix.core.types import EvalMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tensor_optix.core.base_evaluator import BaseEvaluator
    from tensor_optix.core.base_pipeline import BasePipeline, Source
    from tensor_optix.core.types import Array, EpisodeData, HyperparamSet, PathLike

logger = logging.getLogger(__name__)

PLAYED_ENVS, PLAYED_ROWS = 8, 32
"""Environments of what only plays, at most, and rows of each in a window: all of them step on until the last
episode is over, and its window."""
OUTLIVED = 10.0
"""Times as long as the latest episodes one may last that is played within bounds, where no limit is known."""


@dataclass(frozen=True)
class PlayBounds:
    """What playing takes at most."""

    num_envs: int
    rows: int
    """Of each environment in a window."""
    longest: int
    """Steps that an episode is given to end."""

    def steps(self, episodes: int) -> int:
        """Return how many steps a policy takes, of all environments, to play so many episodes."""
        of_each = math.ceil(episodes / self.num_envs)
        return self.num_envs * of_each * (self.longest + self.rows)


class GreedyAgent(BaseAgent):
    """Acts without exploration and never learns; weights and hyperparameters are the agent's own."""

    def __init__(self, agent: BaseAgent) -> None:
        self._agent = agent
        self.has_unit_actions = agent.has_unit_actions
        self.sees_rows = agent.sees_rows
        self.takes_action_masks = agent.takes_action_masks
        self.counts_from_zero = agent.counts_from_zero

    def check_spaces(self, observation_space: Any, action_space: Any) -> None:
        """Ask the agent."""
        self._agent.check_spaces(observation_space, action_space)

    def act(self, observation: Any) -> Any:
        """Choose the best action for one observation."""
        if not has_own(self._agent, "act_greedy") and not has_own(self._agent, "act_batch"):
            return self._agent.act(observation)
        return self._agent.act_greedy(np.asarray(observation)[None])[0]

    def act_batch(self, observations: Array) -> Array:
        """Choose the best actions for `[N, ...]` observations."""
        return self._agent.act_greedy(observations)

    def act_each(self, observations: Array) -> list[Any]:
        """Choose the best actions for `[N, ...]` observations, each as the agent gives it."""
        if not has_own(self._agent, "act_greedy"):
            return self._agent.act_each(observations)
        return list(self._agent.act_greedy(observations))

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        """Do nothing: what is validated on is never learned from."""
        return {}

    def get_hyperparams(self) -> HyperparamSet:
        """Return the agent's hyperparameters."""
        return self._agent.get_hyperparams()

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        """Set the agent's hyperparameters."""
        self._agent.set_hyperparams(hyperparams)

    def save_weights(self, path: PathLike) -> None:
        """Save the agent's weights."""
        self._agent.save_weights(path)

    def load_weights(self, path: PathLike) -> None:
        """Load the agent's weights."""
        self._agent.load_weights(path)


@dataclass(frozen=True)
class HeldOut:
    """What a policy reached in held-out episodes, which are the same ones for every policy."""

    score: EvalMetrics
    """Of the first episodes, which every policy plays: what the decisions rest on."""
    confirmed: EvalMetrics | None = None
    """Of these and those that follow; None: the policy did not look like the best."""
    returns: tuple[Array, ...] = ()
    """The returns that the score is the mean of, `[K]` of each environment in order; none where the score
    is something else."""
    train_score: float | None = None
    """What the held-out score is compared with for the generalization gap. Held-out episodes are played
    greedily, and the gap would measure the exploration if the other side were not. So it is the score of
    greedy episodes of the training's kind, a window of them a validation; NaN, and no gap, where the
    pipeline has no further environments to play them in. None: of the window that is trained on, as the
    agent has only one way to act."""

    def state_dict(self) -> dict[str, Any]:
        """Return it as plain values and arrays."""
        confirmed = self.confirmed
        return {
            "score": vars(self.score).copy(),
            "confirmed": None if confirmed is None else vars(confirmed).copy(),
            "returns": list(self.returns),
            "train_score": self.train_score,
        }

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> HeldOut:
        """Return what `state_dict` was made of."""
        confirmed = state["confirmed"]
        return cls(
            EvalMetrics(**state["score"]),
            None if confirmed is None else EvalMetrics(**confirmed),
            tuple(state["returns"]),
            state["train_score"],
        )

    @property
    def ranking(self) -> EvalMetrics:
        """The score by which the policy is ranked."""
        return self.score if self.confirmed is None else self.confirmed

    def gain_over(self, other: HeldOut) -> float:
        """Return by how much the score is higher in the episodes that both played, for sure.

        That is one standard error below the mean of the differences, episode by episode: where luck is
        in the episode alone it cancels. Episodes are the same for two policies as far as the
        environments start alike after a reset with the same seed; where they cannot be reseeded, the
        luck of both is in the differences, and the standard error says so. A score that is no mean of
        returns is compared as it is, that of the first episodes with that of the first episodes.
        """
        if not (self.returns and other.returns):
            mine, others = (self.score, other.score)
            if self.confirmed is not None and other.confirmed is not None:
                mine, others = self.confirmed, other.confirmed
            return mine.primary_score - others.primary_score
        pairs = zip(self.returns, other.returns, strict=True)
        differences = np.concatenate(
            [mine[: len(others)] - others[: len(mine)] for mine, others in pairs]
        )
        if not len(differences):
            return -math.inf
        # Of the differences themselves, so that who is better in one episode and worse in none is better.
        return float(differences.mean() - differences.std() / math.sqrt(len(differences)))


class Validation:
    """Plays an agent's best actions in a pipeline of its own, the same fresh episodes each time.

    Args:
        pipeline: Held-out; never learned from.
        evaluator: Scores its windows.
        is_set_up: Whether the pipeline is set up already, by someone else who tears it down.
        ends: What is known of the ends of episodes. None: that there are some.
    """

    def __init__(
        self,
        pipeline: BasePipeline,
        evaluator: BaseEvaluator,
        is_set_up: bool = False,
        ends: EpisodeEnds | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._evaluator = evaluator
        self._is_set_up = is_set_up
        self._ends = ends or EpisodeEnds(have_come=True)
        self.most_windows: int | None = None
        """How many further windows an episode may take to end. None: as many as its steps take."""
        self._windows = EpisodeRecord(iter(()))
        self._steps = 0

    @property
    def steps(self) -> int:
        """The environment steps that policies took here so far."""
        return self._steps + self._windows.steps

    def score(self, agent: BaseAgent) -> EvalMetrics:
        """Score the agent as it is now, in the same episodes each time."""
        self._begin(agent)
        return self.confirm()

    def assess(self, agent: BaseAgent, would_be_best: Callable[[HeldOut], bool]) -> HeldOut:
        """Score the agent as it is now, and by more episodes if with this score it would be the best."""
        score = self.score(agent)
        sign = _sign_of_returns(score.primary_score, self._windows.returns())
        held_out = HeldOut(score, None, self._windows.returns(sign))
        if not would_be_best(held_out):
            return held_out
        confirmed = score.pooled(self.confirm())
        return HeldOut(score, confirmed, self._windows.returns(sign))

    def confirm(self) -> EvalMetrics:
        """Score the same agent in the episodes that follow."""
        self._windows.begin_part()
        return self._score_next()

    def score_surely(self, agent: BaseAgent, episodes: int) -> EvalMetrics:
        """Score the agent by at least so many episodes, where the score says how many it is the mean of."""
        metrics = self.score(agent)
        count = 0
        # A greedy policy may get stuck where no time limit ends the episode: then nothing is added.
        while count < (count := metrics.score_count) < episodes:
            metrics = metrics.pooled(self.confirm())
        return metrics

    def play(self, agents: Sequence[BaseAgent], episodes: int, longest: int | None = None) -> Array:
        """Play the same episodes with each agent; return `[len(agents), episodes]` returns.

        Args:
            agents: Play in turn.
            episodes: How many.
            longest: Steps that an episode is given to end. None: its time limit, or `MOST_STEPS`.

        Raises:
            EpisodesWithoutEnd: If one takes more.
        """
        most_steps = steps_to_end(self._pipeline.time_limit) if longest is None else longest
        returns = []
        for agent in agents:
            self._begin(agent)
            returns.append(first_returns(self._windows, episodes, most_steps))
        return np.array(returns)

    def play_bounds(self, length: float) -> PlayBounds:
        """Return what `play` takes at most, where episodes last so many steps at present (NaN: not known)."""
        source, longest = self._pipeline.source, steps_to_end(self._pipeline.time_limit)
        if self._pipeline.time_limit is None and OUTLIVED * length < longest:
            longest = math.ceil(OUTLIVED * length)
        return PlayBounds(source.num_envs, source.window_size or 0, longest)

    def teardown(self) -> None:
        """Let go of the pipeline, if it was used."""
        if self._is_set_up:
            self._is_set_up = False
            self._pipeline.teardown()

    def _score_next(self) -> EvalMetrics:
        """Score the next window, with its episodes played to their ends where these are to be expected."""
        first, limit, ends = next(self._windows), self._pipeline.time_limit, self._ends
        ends.note_held_out(first)
        if limit is None and not ends.have_come:
            metrics = self._evaluator.score_validation(first)
            if math.isfinite(metrics.primary_score):
                return metrics
        most = ends.windows_to_wait(limit, _rows(first))
        if self.most_windows is not None:
            most = min(most, self.most_windows)
        whole = whole_episodes(chain([first], self._windows), most)
        ends.note_held_out(whole, was_awaited=True)
        return self._evaluator.score_validation(whole)

    def _begin(self, agent: BaseAgent) -> None:
        """Begin fresh episodes with an agent."""
        self._pipeline.set_agent(GreedyAgent(agent))
        if not self._is_set_up:
            self._is_set_up = True
            self._pipeline.setup()
        # Also the first time: without a seed `setup` begins anywhere, and everyone is to play the same.
        self._pipeline.restart()
        self._steps += self._windows.steps
        self._windows = EpisodeRecord(self._pipeline.episodes())


class EpisodeRecord:
    """Passes windows on, and notes the returns of the episodes in them, by environment and in order.

    Args:
        windows: Of fresh episodes.
    """

    def __init__(self, windows: Iterator[EpisodeData]) -> None:
        self._windows = windows
        self._returns: list[list[float]] = []
        self._begun: list[int] = []
        self._begins_part = True
        self.steps = 0
        """Environment steps of all windows that were passed on."""

    def __iter__(self) -> Iterator[EpisodeData]:
        return self

    def __next__(self) -> EpisodeData:
        """Return the next window."""
        window = next(self._windows)
        self.steps += window.num_steps
        self._returns = self._returns or [[] for _ in range(window.num_envs)]
        if window.num_envs == 1 or _rows_of_ends(window) is not None:
            for env_id, total, _ in _episodes_by_env(window):
                self._returns[env_id].append(total)
        if self._begins_part:
            pending = _under_way(window)
            self._begun = [len(own) + (n in pending) for n, own in enumerate(self._returns)]
            self._begins_part = False
        return window

    def begin_part(self) -> None:
        """Count the episodes up to those that begin in the next window.

        Which of the later ones have ended depends on their lengths, and short ones must not be favoured.
        """
        self._begins_part = True

    def returns(self, sign: float = 1.0) -> tuple[Array, ...]:
        """Return those of the episodes that count, `[K]` of each environment, times a sign.

        There are none where nobody knows which episode is whose, nor where the sign is 0.
        """
        if not sign or not any(self._returns):
            return ()
        counted = zip(self._returns, self._begun, strict=True)
        return tuple(sign * np.array(own[:begun], np.float64) for own, begun in counted)


def _sign_of_returns(score: float, returns: tuple[Array, ...]) -> float:
    """Return 1 if a score is the mean of these returns, -1 if it is that of their negatives, else 0."""
    if not any(map(len, returns)):
        return 0.0
    mean = np.concatenate(returns).mean()
    return 1.0 if np.isclose(score, mean) else -1.0 if np.isclose(score, -mean) else 0.0


def first_returns(windows: Iterator[EpisodeData], episodes: int, most_steps: int) -> Array:
    """Return the returns `[episodes]` of the first episodes that the environments begin.

    Of each environment the same number is taken (one more of the first ones, where they do not divide),
    so that short episodes are not favoured, and ordered by environment, so that the episodes of two
    agents can be compared in pairs.

    Args:
        windows: Of fresh episodes.
        episodes: How many.
        most_steps: What an episode is given to end.

    Raises:
        EpisodesWithoutEnd: If one takes longer.
    """
    first: FirstEpisodes | None = None
    waited = np.zeros(1, np.int64)
    for window in windows:
        first = first or FirstEpisodes(episodes, window.num_envs)
        steps = np.ones(window.length, bool) if window.valid is None else window.valid
        waited = waited + window.grid(steps).sum(0)
        for env_id, total, length in _episodes_by_env(window):
            first.add(env_id, total, length)
            waited[env_id] = 0
        if first.is_complete:
            return first.returns
        if lost := first.give_up(waited >= most_steps):
            raise EpisodesWithoutEnd(
                f"{did_not_end(lost, episodes, most_steps)}; give the environment a time limit"
            )
    raise RuntimeError(f"the pipeline gave no further window before {episodes} episodes ended")


def _episodes_by_env(window: EpisodeData) -> list[tuple[int, float, int]]:
    """Return environment, return and length of each episode that finished, in order."""
    if _rows_of_ends(window) is not None and window.finished_returns is not None:
        return [(row % window.num_envs, total, length) for row, total, length in _finished(window)]
    if window.num_envs > 1:
        raise RuntimeError("a pipeline of several environments must say which episode is whose")
    returns, lengths = (figures.tolist() for figures in finished_episodes(window))
    return [(0, total, length) for total, length in zip(returns, lengths, strict=True)]


def whole_episodes(windows: Iterator[EpisodeData], most: int) -> EpisodeData:
    """Return the first window, with the episodes that began in it played to their ends.

    Counting only those that fit into the window would favour short episodes, and score a policy that
    outlives the window not at all. Windows that do not track finished episodes are returned as they are.

    Args:
        windows: Of fresh episodes; further ones are taken until every episode of the first is over.
        most: How many further ones at most.
    """
    first = next(windows)
    pending = _under_way(first)
    if first.finished_returns is None or not pending or not most:
        return first
    first = copy.deepcopy(first)
    finished = _finished(first)
    for window in islice(windows, most):
        for episode in _finished(window):
            if episode[0] % window.num_envs in pending:
                pending.discard(episode[0] % window.num_envs)
                finished.append(episode)
        if not pending:
            break
    else:
        logger.warning(
            "validation: %s and are not counted; give the environment a time limit",
            did_not_end(len(pending), len(pending) + len(finished), most * _rows(first)),
        )
    return replace(
        first,
        finished_returns=np.array([episode[1] for episode in finished], np.float64),
        finished_lengths=np.array([episode[2] for episode in finished], np.int64),
    )


def _finished(window: EpisodeData) -> list[tuple[int, float, int]]:
    """Return the last row, the return and the length of each episode that finished."""
    fields = (_rows_of_ends(window), window.finished_returns, window.finished_lengths)
    if any(field is None for field in fields):
        return []
    return list(zip(*(np.asarray(field).tolist() for field in fields), strict=True))


def _rows_of_ends(window: EpisodeData) -> Array | None:
    """Return the flat rows at which the episodes that count ended; None where nobody knows."""
    return window.end_rows if window.finished_rows is None else window.finished_rows


def _rows(window: EpisodeData) -> int:
    """Return the steps of each environment in a window."""
    return window.length // window.num_envs


def _under_way(window: EpisodeData) -> set[int]:
    """Return the environments that are in the middle of an episode after the window's last row."""
    if window.under_way is not None:
        return {int(n) for n in np.flatnonzero(window.under_way)}
    dones = window.grid(window.dones)[-1]
    valid = np.ones(len(dones), bool) if window.valid is None else window.grid(window.valid)[-1]
    return {int(n) for n in np.flatnonzero(valid & ~dones)}


class Collector:
    """Collects windows with the agent in training, and lets policies play between two windows.

    Args:
        pipeline: Trained on.
        val_pipeline: Held-out, or None.
        evaluator: Scores windows.
        ends: What is known of the ends of episodes.

    Raises:
        ValueError: If both pipelines are the same.
    """

    def __init__(
        self,
        pipeline: BasePipeline,
        val_pipeline: BasePipeline | None,
        evaluator: BaseEvaluator,
        ends: EpisodeEnds,
    ) -> None:
        if val_pipeline is pipeline:
            raise ValueError("val_pipeline must be another pipeline than the one trained on")
        self._pipeline = pipeline
        self._evaluator = evaluator
        self._ends = ends
        self.validation = (
            None if val_pipeline is None else Validation(val_pipeline, evaluator, ends=ends)
        )
        """Plays held-out episodes, if there are any."""
        self.is_set_up = False
        """Whether there is something to tear down."""
        self._is_restarted = False
        self._twin: Validation | None = None
        self._contest_steps = 0

    @property
    def steps_played(self) -> int:
        """The environment steps that policies have played beside what is trained on."""
        others = (one for one in (self.validation, self._twin) if one is not None)
        return self._contest_steps + sum(one.steps for one in others)

    @property
    def rows_per_window(self) -> int | None:
        """The most environment steps of a window trained on; None where that is not known."""
        return self._pipeline.source.rows_per_window

    def begin(self, agent: BaseAgent) -> None:
        """Set the pipeline up, with the agent to train."""
        self.is_set_up = True
        self._pipeline.set_agent(own_object(agent))
        self._pipeline.setup()

    def state_dict(self) -> dict[str, Any] | None:
        """Return what a resumed run needs of the pipeline."""
        return self._pipeline.state_dict()

    def go_on(self, agent: BaseAgent, state: dict[str, Any] | None) -> bool:
        """Let an agent act where the pipeline was; called after `begin`, with what `state_dict` returned.

        Returns:
            Whether the episodes under way go on.
        """
        self._pipeline.set_agent(own_object(agent))
        return state is not None and self._pipeline.load_state_dict(state)

    @property
    def source(self) -> Source:
        """Where the windows come from."""
        return self._pipeline.source

    @property
    def time_limit(self) -> int | None:
        """Steps after which an episode that is trained on is cut; None where that is not known."""
        return self._pipeline.time_limit

    def play_bounds(self, length: float) -> PlayBounds | None:
        """Return what playing takes at most; None where nothing can be compared, as far as is known.

        Args:
            length: Of the latest episodes, in steps; NaN where that is not known.
        """
        if self._ends.are_given_up or self._ends.are_late:
            return None
        player = self.validation or self._training_twin() or self.contest()
        return None if player is None else player.play_bounds(length)

    def windows(self) -> Iterator[EpisodeData]:
        """Yield the pipeline's windows; after a restart, those of the fresh episodes."""
        while True:
            self._is_restarted = False
            for window in self._pipeline.episodes():
                yield window
                if self._is_restarted:
                    break
            else:
                return

    def assess(self, agent: BaseAgent, would_be_best: Callable[[HeldOut], bool]) -> HeldOut | None:
        """Return what the agent as it is now reaches in held-out episodes; None without any."""
        if self.validation is None:
            return None
        held_out = self.validation.assess(agent, would_be_best)
        if not has_own(agent, "act_greedy"):
            return held_out
        twin = self._training_twin()
        score = math.nan if twin is None else twin.score(agent).primary_score
        return replace(held_out, train_score=score)

    def hand_over(self, agent: BaseAgent) -> None:
        """Go on with another agent, in new episodes where the data are not live."""
        self._pipeline.set_agent(own_object(agent))
        if not self._pipeline.is_live:
            self._pipeline.renew()
            self._is_restarted = True

    def play(
        self,
        agents: Sequence[BaseAgent],
        episodes: int,
        trainee: BaseAgent,
        longest: int | None = None,
    ) -> Array:
        """Play the same greedy episodes with each agent; return `[len(agents), episodes]` returns.

        Held-out ones, or else some of further environments of the kind that is trained on, so that the
        training's episodes go on. Where the pipeline can make none, its own environments are played in,
        and the training goes on with `trainee` in new episodes.

        Args:
            agents: Play in turn.
            episodes: How many.
            trainee: Is trained on after it.
            longest: Steps that an episode is given to end. None: its time limit, or `MOST_STEPS`.

        Raises:
            RuntimeError: If the data are live and cannot be replayed, or no episode ends.
        """
        if self._ends.are_given_up or self._ends.are_late:
            raise RuntimeError(
                f"no episode has ended in {self._ends.windows} windows: none can be compared"
            )
        apart = self.validation or self._training_twin()
        if apart is not None:
            return apart.play(agents, episodes, longest)
        contest = self.contest()
        if contest is None:
            raise RuntimeError("live data cannot be played again: give a val_pipeline")
        try:
            return contest.play(agents, episodes, longest)
        finally:
            self._contest_steps += contest.steps
            self.hand_over(trainee)

    def contest(self) -> Validation | None:
        """Return a validation in the training pipeline itself; None if its data are live."""
        if self._pipeline.is_live:
            return None
        return Validation(self._pipeline, self._evaluator, is_set_up=True, ends=self._ends)

    def _training_twin(self) -> Validation | None:
        """Return what plays in further environments of the kind that is trained on; None without such."""
        # Beside held-out episodes it scores windows, which are to be as long as those that are trained on.
        most = (PLAYED_ENVS, PLAYED_ROWS) if self.validation is None else (None, None)
        if self._twin is None and (pipeline := self._pipeline.twin(*most)) is not None:
            self._twin = Validation(pipeline, self._evaluator, ends=self._ends)
        return self._twin

    def teardown_training(self) -> None:
        """Let go of the training pipeline."""
        self.is_set_up = False
        self._pipeline.teardown()

    def teardown_validation(self) -> None:
        """Let go of the held-out pipeline, and of the training's twin, where they were used."""
        for used in (self.validation, self._twin):
            if used is not None:
                used.teardown()
