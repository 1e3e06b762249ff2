"""Several agents that act and learn as one: observations come in, their common actions go out."""

from __future__ import annotations

import json
import math
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from tensor_optix.core.base_agent import older_than_act
from tensor_optix.core.checkpoints.saved_state import MOST_SMALL_JSON, read_json, reading
from tensor_optix.core.discrete_spaces import DiscreteSpace, first_choices
from tensor_optix.core.evolution import members as mixing
from tensor_optix.core.evolution.members import BaseEnsemble, Choices
from tensor_optix.core.foreign_agent import as_agent, has_averaged, own_object
from tensor_optix.core.types import HyperparamSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.evolution.members import Member
    from tensor_optix.core.foreign_agent import AgentLike
    from tensor_optix.core.policy_manager import PolicyManager
    from tensor_optix.core.replay_buffer import ReplayBuffer
    from tensor_optix.core.types import Array, EpisodeData, PathLike, Transitions

LEAST_PROB = 1e-8
"""Keeps a logarithm finite where rounding makes a chosen action impossible."""
WEIGHTS_FILE = "ensemble.json"
PRIMARY_PLACE = "."
PRIMARY_FILE = "primary_policy"
"""Where the primary agent's policy is, if the agent writes a file."""


class EnsembleAgent(BaseEnsemble):
    """Acts by the weighted opinion of the agents of a `PolicyManager`, and trains all of them.

    Continuous actions are averaged; discrete ones are drawn from the mixed probabilities, and the most
    probable one is the greedy action; of several choices each by itself. Agents without `action_probs`
    count as certain of the action that they chose. On-policy agents with them learn with the probabilities of
    the mixture, which is what really acted.

    Hyperparameters are the primary agent's. Files are, too: it writes into the directory itself, the
    others into folders below it, so that a single agent can load an ensemble's directory, and an ensemble
    a single agent's. An agent that writes a file has it in the directory.

    Args:
        policy_manager: Holds the agents and their weights.
        primary_agent: Speaks for the ensemble where one must; trained also when it is no member.

    Raises:
        ValueError: If the agents differ in `is_on_policy` or `has_unit_actions`; also when they learn.
        RuntimeError: When it is to act without agents.

    Examples:
        >>> import numpy as np
        >>> from tensor_optix import CheckpointRegistry, EnsembleAgent, PolicyManager, make_agent
        >>> manager = PolicyManager(CheckpointRegistry("kept"))
        >>> members = [make_agent("CartPole-v1", framework="native", seed=seed) for seed in range(2)]
        >>> for member in members:
        ...     manager.add_agent(member)
        >>> EnsembleAgent(manager, primary_agent=members[0]).act_batch(np.zeros((3, 4), np.float32)).shape
        (3,)
    """

    def __init__(self, policy_manager: PolicyManager, primary_agent: AgentLike) -> None:
        self.policy_manager = policy_manager
        """Holds the agents and their weights."""
        self._primary = as_agent(primary_agent, "primary_agent")
        self._choices: Choices | None = None
        self._is_discrete: bool | None = None
        self._stored: dict[int, Member] = {}
        self._older_than_act = older_than_act(type(self))
        self._rng = np.random.default_rng()
        self._require_alike()

    @property
    def primary_agent(self) -> Any:
        """Speaks for the ensemble where one must."""
        return own_object(self._primary)

    @property
    def default_param_bounds(self) -> Mapping[str, tuple[float, float]]:
        """The primary agent's, as the hyperparameters are."""
        return self._primary.default_param_bounds

    @property
    def default_log_params(self) -> Sequence[str]:
        """The primary agent's."""
        return self._primary.default_log_params

    @property
    def default_min_episodes_before_dormant(self) -> int:
        """The primary agent's."""
        return self._primary.default_min_episodes_before_dormant

    @property
    def has_unit_actions(self) -> bool:
        """Whether the agents' actions are in [-1, 1]."""
        return self._primary.has_unit_actions

    @property
    def sees_rows(self) -> bool:
        """Whether the agents do."""
        return self._primary.sees_rows

    @property
    def takes_action_masks(self) -> bool:
        """Whether all agents do."""
        return all(agent.takes_action_masks for agent in self._learners())

    @property
    def counts_from_zero(self) -> bool:
        """Whether the agents do."""
        return self._primary.counts_from_zero

    @property
    def is_on_policy(self) -> bool:
        """Whether the agents are."""
        return self._primary.is_on_policy

    @property
    def is_exploring(self) -> bool:
        """Whether one of the agents is."""
        return any(agent.is_exploring for agent in self._learners())

    def check_spaces(self, observation_space: Any, action_space: Any) -> None:
        """Ask every agent, and note what kind of actions there are.

        Raises:
            ValueError: If an agent refuses, if the agents differ in what they are, or if the action space
                is a Dict or of another kind whose elements are no arrays.
        """
        if not isinstance(action_space, DiscreteSpace | Box):
            raise ValueError(
                "an ensemble needs a Discrete, MultiDiscrete, MultiBinary or Box action space, got "
                f"{action_space}"
            )
        self._require_alike()
        if not _is_plain(action_space):
            self._require_alike(("counts_from_zero",))
        for agent in self._learners():
            agent.check_spaces(observation_space, action_space)
        self._is_discrete, self._choices = not isinstance(action_space, Box), None
        if isinstance(action_space, DiscreteSpace):
            self._choices = Choices.of(action_space, self.counts_from_zero)

    def seed(self, seed: int) -> None:
        """Make every random choice follow from `seed`; each agent gets a stream of its own."""
        learners = self._learners()
        own, *theirs = np.random.SeedSequence(seed).generate_state(1 + len(learners))
        self._rng = np.random.default_rng(int(own))
        for agent, child in zip(learners, theirs, strict=True):
            agent.seed(int(child))

    def act(self, observation: Any) -> Any:
        """Choose an action for one observation `[...]`: an int where it is one choice."""
        members = self._members()
        if len(members) == 1:
            return members[0].agent.act(observation)
        is_overridden = type(self).act is not EnsembleAgent.act
        choose = self._sample if is_overridden else self.act_batch
        action = choose(np.asarray(observation)[None])[0]
        return int(action) if self._is_discrete and np.ndim(action) == 0 else action

    def act_batch(self, observations: Array) -> Array:
        """Choose actions for `[N, ...]` observations, with one call per agent."""
        if "act_batch" in self._older_than_act:
            return super().act_batch(observations)
        return self._sample(observations)

    def act_greedy(self, observations: Array) -> Array:
        """Choose the most probable actions for `[N, ...]` observations, or the mean of the agents' best."""
        if "act_greedy" in self._older_than_act:
            return super().act_greedy(observations)
        return self._common_actions(observations, greedy=True)

    def action_probs(self, observations: Array) -> Array:
        """Return the mixed probabilities `[N, A]` for `[N, ...]` observations.

        Raises:
            NotImplementedError: If an agent has none.
        """
        if "action_probs" in self._older_than_act:
            return super().action_probs(observations)
        probs = [mixing.action_probs(member, observations) for member in self._members()]
        known = [one for one in probs if one is not None]
        if len(known) < len(probs):
            raise NotImplementedError("an agent of the ensemble does not tell action probabilities")
        return mixing.weighted_mean(self._members(), known)

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        """Train every agent on the window; return the primary agent's diagnostics."""
        self._require_alike()
        episode = self._with_behaviour(episode_data)
        diagnostics = [agent.learn(episode) for agent in self._learners()]
        return diagnostics[0] or {}

    def observe(self, transitions: Transitions) -> None:
        """Pass the step on to every agent."""
        for agent in self._learners():
            agent.observe(transitions)

    def get_hyperparams(self) -> HyperparamSet:
        """Return the primary agent's hyperparameters."""
        return self._primary.get_hyperparams()

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        """Set the primary agent's hyperparameters; the other agents keep theirs."""
        self._primary.set_hyperparams(hyperparams)

    @property
    def scheduled_params(self) -> frozenset[str]:
        """The primary agent's, as the hyperparameters are."""
        return self._primary.scheduled_params

    def set_progress(self, remaining: float) -> None:
        """Tell every agent how much of the run is left."""
        for agent in self._learners():
            agent.set_progress(remaining)

    @property
    def stored_members(self) -> dict[int, Member]:
        """Members of the ensembles that were stored, present and past, by number: they may come back."""
        return self._stored

    def without(self, agent: BaseAgent) -> BaseAgent:
        """Return an ensemble of the same agents but for one; where it is the only one, the primary agent."""
        others = self.policy_manager.without(agent)
        return EnsembleAgent(others, self._primary) if others.members else self._primary

    def save_weights(self, path: PathLike) -> None:
        """Write every agent's policy and weight."""
        self._save(Path(path).expanduser(), lambda agent, folder: agent.save_weights(folder))

    def load_weights(self, path: PathLike) -> None:
        """Read an ensemble, whose members become those that there were; or a single agent's policy.

        Raises:
            ValueError: If the stored ensemble has members that this one never had; nothing has changed then.
        """
        self._load(Path(path).expanduser(), lambda agent, folder: agent.load_weights(folder))

    def save_state(self, path: PathLike) -> None:
        """Write every whole learner, with its weight."""
        self._save(Path(path).expanduser(), lambda agent, folder: agent.save_state(folder))

    def load_state(self, path: PathLike) -> None:
        """Read what `save_state` wrote, as `load_weights` does."""
        self._load(Path(path).expanduser(), lambda agent, folder: agent.load_state(folder))

    def run_state(self) -> dict[str, Any]:
        """Return what a checkpoint of the whole run holds beside `save_state` and `replays`."""
        return {
            "rng": self._rng.bit_generator.state,
            "is_discrete": self._is_discrete,
            "learners": [
                {"params": agent.unscheduled_params(), "state": agent.run_state()}
                for agent in self._learners()
            ],
        }

    def load_run_state(self, state: dict[str, Any]) -> None:
        """Take on what `run_state` returned; called when the members are those that there were.

        Raises:
            ValueError: If it does not fit; also KeyError and TypeError are understood as that.
        """
        for agent, kept in zip(self._learners(), state["learners"], strict=True):
            agent.set_hyperparams(HyperparamSet(dict(kept["params"])))
            agent.load_run_state(kept["state"])
        self._rng.bit_generator.state = state["rng"]
        self._is_discrete = state["is_discrete"]

    @property
    def replays(self) -> Mapping[str, ReplayBuffer]:
        """Those of every agent, by its place among them and its own name."""
        return {
            f"{place}-{name}": replay
            for place, agent in enumerate(self._learners())
            for name, replay in agent.replays.items()
        }

    def load_replays(self, states: Mapping[str, Mapping[str, Array]]) -> None:
        """Give every agent the states of its own.

        Raises:
            ValueError: If one is damaged, or does not fit.
        """
        for place, agent in enumerate(self._learners()):
            prefix = f"{place}-"
            own = {name: one for name, one in states.items() if name.startswith(prefix)}
            agent.load_replays({name.removeprefix(prefix): one for name, one in own.items()})

    def begin_episodes(self) -> None:
        """Tell every agent."""
        for agent in self._learners():
            agent.begin_episodes()

    @contextmanager
    def keeping_progress(self) -> Iterator[None]:
        """Keep that of every agent."""
        with ExitStack() as stack:
            for agent in self._learners():
                stack.enter_context(agent.keeping_progress())
            yield

    def has_finite_weights(self) -> bool:
        """Whether every weight of every agent is a finite number."""
        return all(agent.has_finite_weights() for agent in self._learners())

    def reduce_step(self) -> None:
        """Let every agent learn more carefully."""
        for agent in self._learners():
            agent.reduce_step()

    def average_weights(self, paths: Sequence[PathLike]) -> bool:
        """Take on the mean of stored ensembles, agent by agent, and of their weights.

        Returns:
            False if an agent cannot, or if the ensembles do not have the present members.
        """
        members = self.policy_manager.members
        numbers = {member.number for member in members}
        directories = [Path(path).expanduser() for path in paths]
        stored = [_read_weights(directory) for directory in directories]
        same = [weights for weights in stored if weights is not None and weights.keys() == numbers]
        if len(same) < len(stored):
            return False
        for agent, place in self._places():
            if not has_averaged(agent, [_stored_at(one, place) for one in directories]):
                return False
        for member in members:
            member.weight = sum(weights[member.number] for weights in same) / len(same)
        return True

    def perturb_weights(self, noise_scale: float) -> None:
        """Perturb every agent."""
        for agent in self._learners():
            agent.perturb_weights(noise_scale)

    def _members(self) -> tuple[Member, ...]:
        members = self.policy_manager.members
        if not members:
            raise RuntimeError("the ensemble has no agents; add_agent(...) to its PolicyManager")
        return members

    def _places(self) -> list[tuple[BaseAgent, str]]:
        """Return every agent that learns with its place below a directory, the primary one first."""
        others = [one for one in self.policy_manager.members if one.agent is not self._primary]
        return [
            (self._primary, PRIMARY_PLACE),
            *((one.agent, f"members/{one.number}") for one in others),
        ]

    def _learners(self) -> list[BaseAgent]:
        return [agent for agent, _ in self._places()]

    def _save(self, directory: Path, write: Callable[[BaseAgent, Path], None]) -> None:
        for agent, place in self._places():
            path = directory / place
            path.parent.mkdir(parents=True, exist_ok=True)
            write(agent, path)
            if place == PRIMARY_PLACE:
                _make_directory(directory)
        members = self.policy_manager.members
        # So that a stored ensemble can come back after a member has left.
        self._stored |= {member.number: member for member in members}
        content = {"weights": {str(member.number): member.weight for member in members}}
        (directory / WEIGHTS_FILE).write_text(json.dumps(content), encoding="utf-8")

    def _load(self, directory: Path, read: Callable[[BaseAgent, Path], None]) -> None:
        weights = _read_weights(directory)
        if weights is None:
            read(self._primary, directory)
            return
        known = self._stored | {member.number: member for member in self.policy_manager.members}
        if not weights.keys() <= known.keys():
            raise ValueError(
                f"the ensemble in {directory} has the members {sorted(weights)}, this one knows "
                f"{sorted(known)}; add agents to its PolicyManager until it has them all"
            )
        for number, weight in weights.items():
            known[number].weight = weight
        self.policy_manager.reset_members([known[number] for number in weights])
        for agent, place in self._places():
            read(agent, _stored_at(directory, place))

    def _require_alike(self, names: Sequence[str] = ("is_on_policy", "has_unit_actions")) -> None:
        for agent in self._learners():
            for name in names:
                mine, other = getattr(self._primary, name), getattr(agent, name)
                if mine != other:
                    raise ValueError(
                        f"the agents of an ensemble must have the same {name}: it is {mine} for the "
                        f"primary {type(self.primary_agent).__name__}, and {other} for "
                        f"{type(own_object(agent)).__name__}"
                    )

    def _sample(self, observations: Array) -> Array:
        return self._common_actions(observations, greedy=False)

    def _common_actions(self, observations: Array, greedy: bool) -> Array:
        members = self._members()
        agents = [member.agent for member in members]
        acts = [agent.act_greedy if greedy else agent.act_batch for agent in agents]
        if len(members) == 1:
            return acts[0](observations)
        if self._is_discrete is None:
            actions = [np.asarray(agent.act_batch(observations)) for agent in agents]
            mixing.require_no_rows(members, [action[0] for action in actions])
            self._is_discrete = all(map(mixing.are_discrete, actions))
        if not self._is_discrete:
            return mixing.weighted_mean(members, [act(observations) for act in acts])
        probs = mixing.mixed_probs(members, observations, greedy, self._choices)
        return self._choices_among(probs).actions(probs, None if greedy else self._rng)

    def _with_behaviour(self, episode: EpisodeData) -> EpisodeData:
        """Add the log-probabilities `[R]` with which the ensemble chose its actions, if it knows them."""
        is_alone = self.policy_manager.agents in ([], [self.primary_agent])
        is_known = episode.log_probs is not None
        if not (self._is_discrete and self.is_on_policy) or is_alone or is_known:
            return episode
        try:
            probs = self.action_probs(np.asarray(episode.observations))
        except NotImplementedError:
            return episode
        actions = np.asarray(episode.actions, np.int64)
        chosen = self._choices_among(probs).probs_of(actions, probs)
        log_probs = np.log(np.maximum(chosen, LEAST_PROB)).sum(axis=1).astype(np.float32)
        return replace(episode, log_probs=log_probs)

    def _choices_among(self, probs: Array) -> Choices:
        """Return what the probabilities `[N, A]` are of: one choice where no action space was named."""
        return self._choices or Choices((probs.shape[1],), np.zeros(1, np.int64), ())


def _is_plain(space: Any) -> bool:
    """Whether actions are the same whether or not agents count from 0 and give rows."""
    is_counted = isinstance(space, DiscreteSpace) and first_choices(space).any()
    return not is_counted and (isinstance(space, Discrete) or len(space.shape) == 1)


def _make_directory(path: Path) -> None:
    """Make a directory of what an agent wrote: of a file, one that holds it."""
    if path.is_file():
        aside = path.with_name(f"{path.name}.{PRIMARY_FILE}")
        path.rename(aside)
        path.mkdir()
        aside.rename(path / PRIMARY_FILE)
    path.mkdir(exist_ok=True)


def _stored_at(directory: Path, place: str) -> Path:
    """Return where in an ensemble's directory the policy of a place is."""
    is_file = place == PRIMARY_PLACE and (directory / PRIMARY_FILE).is_file()
    return directory / (PRIMARY_FILE if is_file else place)


def _read_weights(directory: Path) -> dict[int, float] | None:
    """Return the weights by the members' numbers; None if no ensemble wrote the directory."""
    path = directory / WEIGHTS_FILE
    if not path.exists():
        return None
    with reading(WEIGHTS_FILE):
        weights = read_json(path, MOST_SMALL_JSON)["weights"]
        found = {int(number): float(weight) for number, weight in weights.items()}
        if not all(0.0 <= weight < math.inf for weight in found.values()):
            raise ValueError(f"weights must be finite and >= 0, got {found}")
        return found
