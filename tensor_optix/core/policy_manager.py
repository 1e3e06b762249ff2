"""A population of policies: agents, scores and snapshots come in, weights, variants and a report go out.

While a loop runs, `PolicyManagerCallback` spawns variants of the best policy, one at a time. A variant is
trained until the loop finds nothing left to gain. Then it plays the same episodes as the best policy before
it, and stays only if it is better. Where an ensemble is under training, the variant joins it, and the
ensemble with it plays against the ensemble without it.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import asdict
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tensor_optix.core.argument_checks import at_least, with_method
from tensor_optix.core.callbacks import LoopCallback, LoopEvent, Rescored, Variant
from tensor_optix.core.decisions.episode_ends import EpisodesWithoutEnd
from tensor_optix.core.decisions.run_state import MOST_HISTORY
from tensor_optix.core.evolution import variants
from tensor_optix.core.evolution.members import (
    BaseEnsemble,
    Member,
    common_action,
    stand_out,
    weights_of_scores,
)
from tensor_optix.core.evolution.variants import (
    EPISODES,
    VariantTrial,
    Verdict,
    compare_pairs,
    compare_records,
    recent_scores,
    spawn_noise,
)
from tensor_optix.core.foreign_agent import as_agent, own_object
from tensor_optix.core.meta_controller import MetaAction
from tensor_optix.core.types import EvalMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.callbacks import LoopControl
    from tensor_optix.core.checkpoint_registry import CheckpointRegistry
    from tensor_optix.core.foreign_agent import AgentLike
    from tensor_optix.core.meta_controller import DecidesOnMetaActions
    from tensor_optix.core.types import Array, PolicySnapshot

logger = logging.getLogger(__name__)

PATIENCE = 3
"""Without a spawn budget, evolution ends after so many variants in a row that were no better."""
SCORES_PER_CONTEST = 5
"""Scores that a member gets for the episodes of a contest: from several the noise of one can be told."""
BUDGET_SPENT = "Spawn budget exhausted"
PLATEAU = "Plateau — model converged"
META_DECISION = "MetaController decision"

Shell = TypeVar("Shell", bound="AgentLike")


class PolicyManager:
    """Keeps an ensemble of agents, weighs them by their scores, and spawns variants of the best policy.

    Args:
        registry: Where the best policies are. In a loop it is replaced by the loop's own.
        score_window: How many scores of each agent are remembered.
        max_spawns: The budget of variants. None: no limit.
        max_ensemble_size: Never more agents than this: who joins displaces the lowest weight. None: no limit.

    Raises:
        ValueError: If a number is out of range.

    Examples:
        >>> from tensor_optix import CheckpointRegistry, PolicyManager, make_agent
        >>> manager = PolicyManager(CheckpointRegistry("kept"), max_ensemble_size=3)
        >>> for seed in range(2):
        ...     manager.add_agent(make_agent("CartPole-v1", framework="native", seed=seed))
        >>> manager.update_weights({0: 10.0, 1: 30.0})
        >>> manager.weights
        [0.5, 1.5]
    """

    def __init__(
        self,
        registry: CheckpointRegistry,
        score_window: int = 10,
        max_spawns: int | None = None,
        max_ensemble_size: int | None = None,
    ) -> None:
        at_least("score_window", score_window, 1)
        if max_spawns is not None and max_spawns < 0:
            raise ValueError(f"max_spawns must be at least 0 or None, got {max_spawns}")
        if max_ensemble_size is not None:
            at_least("max_ensemble_size", max_ensemble_size, 1)
        self.registry = registry
        """Where the best policies are."""
        self._members: list[Member] = []
        self._joined = 0
        self._score_window = score_window
        self._max_spawns = max_spawns
        self._max_size = max_ensemble_size
        self.spawn_count = 0
        """How many variants were spawned."""
        self._prune_count = 0
        self._regime: str | None = None

    adaptive_noise_scale = staticmethod(variants.adaptive_noise_scale)

    @property
    def members(self) -> tuple[Member, ...]:
        """The members of the ensemble, in the order in which they joined."""
        return tuple(self._members)

    @property
    def agents(self) -> list[Any]:
        """Their agents, the very objects that joined."""
        return [own_object(member.agent) for member in self.members]

    @property
    def weights(self) -> list[float]:
        """Their weights, which need not sum to 1."""
        return [member.weight for member in self.members]

    @property
    def ensemble_size(self) -> int:
        """How many agents there are."""
        return len(self.members)

    @property
    def spawns_remaining(self) -> int | None:
        """What is left of the budget; None without one."""
        return None if self._max_spawns is None else max(self._max_spawns - self.spawn_count, 0)

    @property
    def budget_exhausted(self) -> bool:
        """Whether there is a budget, and nothing is left of it."""
        return self.spawns_remaining == 0

    @property
    def ranked_snapshots(self) -> list[PolicySnapshot]:
        """The registry's snapshots, best first."""
        return self.registry.snapshots

    def add_agent(self, agent: AgentLike, weight: float = 1.0) -> None:
        """Let an agent join; where that is one too many, the lowest weight of the others goes.

        Raises:
            TypeError: If it is no agent.
            ValueError: If the weight is negative or not finite.
        """
        joining = as_agent(agent)
        if not (math.isfinite(weight) and weight >= 0.0):
            raise ValueError(f"weight must be a finite number >= 0, got {weight}")
        self._members.append(Member(joining, float(weight), self._joined, self.record_of_scores()))
        self._joined += 1
        if self._max_size is None or self.ensemble_size <= self._max_size:
            return
        excess = self.ensemble_size - self._max_size
        gone = self._drop(_lowest_first(self.members[:-1])[:excess])
        logger.info(
            "the ensemble is limited to %d: %d displaced by the newest", self._max_size, len(gone)
        )

    def index_of(self, agent: AgentLike) -> int | None:
        """Return the place of an agent in the ensemble; None if it is no member."""
        sought = own_object(agent)
        places = (i for i, known in enumerate(self.agents) if known is sought)
        return next(places, None)

    def remove(self, agent: AgentLike) -> None:
        """Prune one agent; nothing happens if it is no member."""
        index = self.index_of(agent)
        if index is not None:
            self._drop([index])

    def reset_members(self, members: Sequence[Member]) -> None:
        """Make members, present or past, the ensemble: how a stored one comes back."""
        self._members = sorted(members, key=lambda member: member.number)

    def without(self, agent: AgentLike) -> PolicyManager:
        """Return another manager of the same agents and weights, but for one agent."""
        others = PolicyManager(self.registry, self._score_window)
        for member in self.members:
            if own_object(member.agent) is not own_object(agent):
                others.add_agent(member.agent, member.weight)
        return others

    def ensemble_action(self, obs: Any) -> Any:
        """Return the agents' common action for one observation.

        `sum_i w_i a_i / sum_i w_i` where actions are continuous; where each is one whole number the most
        probable of the mixed probabilities (`EnsembleAgent` samples). A single agent acts by itself.

        Raises:
            RuntimeError: Without agents.
        """
        if not self.members:
            raise RuntimeError("the ensemble has no agents; add_agent(...) first")
        return common_action(self.members, obs)

    def update_weights(self, agent_scores: Mapping[int, float]) -> None:
        """Weigh agents in proportion to their scores; those that are not listed keep their weight.

        See `weights_of_scores`: positive, higher for a higher score, whatever the scores' scale, and 1 on
        average. A single score says nothing of rank: its agent gets 1. Scores that are not finite are no
        evidence.

        Args:
            agent_scores: `{index: score}`.

        Raises:
            ValueError: If there is no such agent.
        """
        for index in agent_scores:
            self._require(index)
        known = {index: score for index, score in agent_scores.items() if math.isfinite(score)}
        for index, weight in zip(known, weights_of_scores(list(known.values())), strict=True):
            self.members[index].weight = float(weight)

    def record_agent_score(self, agent_idx: int, score: float) -> None:
        """Remember a score of an agent; one that is not finite is no evidence.

        Raises:
            ValueError: If there is no such agent.
        """
        self._require(agent_idx)
        if math.isfinite(score):
            self.members[agent_idx].scores.append(float(score))

    def auto_update_weights(self) -> None:
        """Weigh the agents in proportion to the means of their latest scores.

        All alike where the means do not stand out of the noise of the scores (`stand_out`). Those without
        scores keep their weight.
        """
        scored = {i: member.scores for i, member in enumerate(self.members) if member.scores}
        differ = stand_out(list(scored.values()))
        self.update_weights({i: fmean(own) if differ else 1.0 for i, own in scored.items()})

    def prune(self, bottom_k: int = 1) -> list[Any]:
        """Remove and return the `bottom_k` agents of the lowest weight; none if no more would be left.

        Raises:
            ValueError: If `bottom_k` is negative.
        """
        at_least("bottom_k", bottom_k, 0)
        if self.ensemble_size <= bottom_k:
            return []
        return self._drop(_lowest_first(self.members)[:bottom_k])

    def boost(self, agent: AgentLike, factor: float = 2.0) -> None:
        """Multiply an agent's weight; an unknown agent is only warned of.

        Raises:
            ValueError: If the factor is negative or not finite.
        """
        if not (math.isfinite(factor) and factor >= 0.0):
            raise ValueError(f"factor must be a finite number >= 0, got {factor}")
        index = self.index_of(agent)
        if index is None:
            logger.warning("cannot boost %r: it is no member of the ensemble", agent)
        else:
            self.members[index].weight *= factor

    def set_regime(self, regime: str) -> None:
        """Note what `RegimeDetector.detect` said, for `status` and the report."""
        self._regime = regime

    def status(self) -> dict[str, Any]:
        """Return the state of the population as JSON can hold it."""
        return {
            "ensemble_size": self.ensemble_size,
            "agents": [{"index": i} | one.describe() for i, one in enumerate(self.members)],
            "regime": self._regime,
            "spawn_count": self.spawn_count,
            "prune_count": self._prune_count,
            "max_spawns": self._max_spawns,
            "max_ensemble_size": self._max_size,
            "spawns_remaining": self.spawns_remaining,
            "budget_exhausted": self.budget_exhausted,
        }

    def training_report(self) -> dict[str, Any]:
        """Return `status` with the best policy's scores, which are None where there are none."""
        best = self.registry.best
        metrics = None if best is None else best.eval_metrics
        return self.status() | {
            "best_score": None if metrics is None else metrics.primary_score,
            "best_val_score": None if metrics is None else metrics.val_score,
            "best_generalization_gap": None if metrics is None else metrics.generalization_gap,
        }

    def evolve(self, agent: AgentLike, current_score: float) -> bool:
        """Load the best policy into the agent if that scored more; return whether it did."""
        best = self.registry.best
        if best is None or not current_score < best.eval_metrics.primary_score:
            return False
        return self.registry.load_best(agent) is not None

    def spawn_variant(
        self,
        agent_shell: Shell,
        noise_scale: float = 0.01,
        mutation_fn: Callable[[Shell], object] | None = None,
    ) -> Shell:
        """Make an agent a variant of the best policy, and count it; without a policy nothing happens.

        Its weights and hyperparameters vary as `variants.vary` says.

        Args:
            agent_shell: Takes on the policy.
            noise_scale: Relative standard deviation of the noise.
            mutation_fn: Changes the variant further, in place.

        Returns:
            `agent_shell`.
        """
        best = self.registry.load_best(agent_shell)
        if best is None:
            return agent_shell
        variants.vary(
            as_agent(agent_shell), noise_scale, (best.eval_metrics.primary_score, self.spawn_count)
        )
        if mutation_fn is not None:
            mutation_fn(agent_shell)
        self.spawn_count += 1
        return agent_shell

    def state_dict(self) -> dict[str, Any]:
        """Return the population as plain values, without its agents."""
        return {
            "members": [
                {"number": one.number, "weight": one.weight, "scores": list(one.scores)}
                for one in self.members
            ],
            "joined": self._joined,
            "spawn_count": self.spawn_count,
            "prune_count": self._prune_count,
            "regime": self._regime,
        }

    def load_state_dict(self, state: Mapping[str, Any], agents: Sequence[AgentLike]) -> None:
        """Become the population that `state_dict` returned.

        Args:
            state: That.
            agents: The agent of each member, in order.
        """
        self._members = []
        for agent, one in zip(agents, state["members"], strict=True):
            scores = self.record_of_scores(one["scores"])
            member = Member(as_agent(agent), float(one["weight"]), int(one["number"]), scores)
            self._members.append(member)
        self._joined = int(state["joined"])
        self.spawn_count = int(state["spawn_count"])
        self._prune_count = int(state["prune_count"])
        self._regime = state["regime"]

    def as_callback(
        self,
        agent: AgentLike,
        agent_factory: Callable[[], AgentLike] | None = None,
        meta_controller: DecidesOnMetaActions | None = None,
    ) -> PolicyManagerCallback:
        """Return the callback that evolves the population while a loop runs."""
        return PolicyManagerCallback(self, agent, agent_factory, meta_controller)

    def record_of_scores(self, scores: Iterable[float] = ()) -> deque[float]:
        """Return a member's record of scores, oldest first: as many of the latest as are remembered."""
        return deque(scores, maxlen=self._score_window)

    def _drop(self, indices: Sequence[int]) -> list[Any]:
        gone = [self._members[index] for index in indices]
        self._members = [member for member in self._members if member not in gone]
        self._prune_count += len(gone)
        return [own_object(member.agent) for member in gone]

    def _require(self, index: int) -> None:
        if not 0 <= index < self.ensemble_size:
            raise ValueError(
                f"agents are numbered from 0, and there are {self.ensemble_size}, got index {index}"
            )


def _lowest_first(members: Sequence[Member]) -> list[int]:
    """Return the places of the members, the lowest weight first; of equals the one that joined last."""
    return sorted(range(len(members)), key=lambda i: (members[i].weight, -members[i].number))


class PolicyManagerCallback(LoopCallback):
    """Rebalances, spawns, prunes and stops, on DORMANT and as a meta controller decides.

    Args:
        policy_manager: The population.
        agent: What the loop trains: an agent, or an `EnsembleAgent` of this population.
        agent_factory: `fn() -> agent` makes a fresh agent for a variant. None: nothing is spawned.
        meta_controller: Asked after each evaluation, except while a variant is under training: a
            `MetaController`, or another object with its `decide(metrics_history, pm_status)`.

    Raises:
        TypeError: If one of them is of another kind.

    Examples:
        >>> from tensor_optix import CheckpointRegistry, PolicyManager, RLOptimizer, VectorBatchPipeline
        >>> from tensor_optix import make_agent
        >>> agent = make_agent("CartPole-v1", framework="native")
        >>> evolution = PolicyManager(CheckpointRegistry("kept"), max_spawns=2).as_callback(
        ...     agent, agent_factory=lambda: make_agent("CartPole-v1", framework="native"))
        >>> pipeline = VectorBatchPipeline(env_id="CartPole-v1", num_envs=8)
        >>> optimizer = RLOptimizer(agent, pipeline, callbacks=[evolution])
    """

    def __init__(
        self,
        policy_manager: PolicyManager,
        agent: AgentLike,
        agent_factory: Callable[[], AgentLike] | None = None,
        meta_controller: DecidesOnMetaActions | None = None,
    ) -> None:
        learner = as_agent(agent)
        if agent_factory is not None and not callable(agent_factory):
            got = type(agent_factory).__name__
            raise TypeError(f"agent_factory must be a function that makes an agent, got {got}")
        if meta_controller is not None:
            with_method("meta_controller", meta_controller, "decide")
        self._manager = policy_manager
        kind = _Together if isinstance(learner, BaseEnsemble) else _InTurn
        self._training: _VariantTraining = kind(policy_manager, learner)
        self._agent = learner
        self._factory = agent_factory
        self._meta = meta_controller
        self._stop_fn: Callable[[], object] | None = None
        self._begin_run()

    def _begin_run(self) -> None:
        self._training.restart()
        self._since_decision: list[EvalMetrics] = []
        self._failures = 0
        self._is_barren = self._is_over = self._is_handing_over = False
        self._joined_before = {str(one.number): one.agent for one in self._manager.members}

    def set_stop_fn(self, fn: Callable[[], object]) -> None:
        """Name a function to call when evolution is over; a loop that the callback is added to needs none."""
        self._stop_fn = fn

    def on_attach(self, control: LoopControl) -> None:
        """Take on the loop's registry; an agent that is no member joins the population."""
        self._manager.registry = control.registry
        self._training.attach(control)

    def on_loop_start(self) -> None:
        """Begin anew."""
        self._begin_run()

    def on_episode_end(self, episode_id: int, eval_metrics: EvalMetrics | None) -> None:
        """Record the score of the agent under training, and ask the meta controller."""
        is_predecessors, self._is_handing_over = self._is_handing_over, False
        if eval_metrics is None or is_predecessors:
            return
        _remember(self._since_decision, eval_metrics)
        self._training.record(eval_metrics)
        if self._meta is not None and self._training.trial is None and not self._is_over:
            self._follow(self._meta)

    def on_event(self, event: LoopEvent) -> None:
        """Forget scores that are not to be compared with those to come."""
        if isinstance(event, Rescored):
            self._since_decision.clear()
            self._training.forget_scores()

    def on_dormant(self, episode_id: int) -> bool | None:
        """Judge the variant under training, rebalance, prune, and spawn the next one.

        Returns:
            True if a variant begins; None when evolution is over, or there is nothing to spawn.
        """
        if self._is_over:
            return None
        # The score of the window under way is still to come: it is not a new trainee's.
        self._is_handing_over = self._training.control is not None
        if self._training.trial is not None:
            self._judge(self._training.trial)
        else:
            for latest in self._training.history[-1:]:
                self._manager.evolve(self._agent, latest.primary_score)
        self._training.score_members()
        self._manager.auto_update_weights()
        logger.info("ensemble weights: %s", [round(weight, 4) for weight in self._manager.weights])
        if not self._reason_to_end():
            self._spawn()
        if self._training.trial is not None:
            return True
        reason = self._reason_to_end()
        if reason:
            self._end(reason)
        return None

    def on_loop_stop(self) -> None:
        """Judge a variant whose training was cut short by the scores that it has."""
        trial, self._training.trial = self._training.trial, None
        if trial is None:
            return
        verdict = compare_records(trial.scores, trial.rival_scores)
        logger.info("the run ended while a variant was under training: %s", verdict)
        if not verdict.is_won:
            self._training.remove(trial)

    def agents(self) -> dict[str, BaseAgent]:
        """Return the agents that are not the one given, nor kept by it: "3" is the member of number 3."""
        return self._training.agents()

    def state_dict(self) -> dict[str, Any]:
        """Return the population, and the variant under training; agents by their names, "" the one given."""
        named = self._training.named()
        members = [_name_of(member.agent, named) for member in self._manager.members]
        return {
            "agents": list(named),
            "members": members,
            "manager": self._manager.state_dict(),
            "training": self._training.state_dict(),
            "since_decision": _plain(self._since_decision),
            "failures": self._failures,
            "is_barren": self._is_barren,
            "is_over": self._is_over,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned.

        Members that joined before the run began are known by their numbers. The others are made anew by the
        factory; what they had learned is put into them afterwards.

        Raises:
            ValueError: If there is a member that is not known, and no factory.
        """
        known = self._joined_before
        missing = [name for name in state["agents"] if name and name not in known]
        made = dict(zip(missing, self._make_anew(missing), strict=True))
        agents = known | made | {"": self._agent}
        self._manager.load_state_dict(state["manager"], [agents[name] for name in state["members"]])
        self._training.load_state_dict(state["training"], agents)
        self._since_decision = _from_plain(state["since_decision"])
        self._failures = int(state["failures"])
        self._is_barren, self._is_over = bool(state["is_barren"]), bool(state["is_over"])

    def _make_anew(self, names: Sequence[str]) -> list[BaseAgent]:
        if names and self._factory is None:
            raise ValueError(
                f"the run had the agents {', '.join(names)} in its population, which are not known here: "
                "give as_callback an agent_factory, or add the agents in the order in which they joined"
            )
        return [as_agent(self._factory()) for _ in names if self._factory is not None]

    def _follow(self, meta: DecidesOnMetaActions) -> None:
        """Do what the meta controller decides; it decides anew on what comes after."""
        action = MetaAction(meta.decide(self._since_decision, self._manager.status()))
        if action is MetaAction.NO_OP:
            return
        logger.info("meta controller: %s after %d scores", action.name, len(self._since_decision))
        self._since_decision.clear()
        if action is MetaAction.STOP:
            self._end(META_DECISION)
        elif action is MetaAction.PRUNE:
            self._manager.prune()
        elif not self._manager.budget_exhausted:
            self._spawn()

    def _judge(self, trial: VariantTrial) -> None:
        """Keep a variant that is better; undo what a worse one left behind."""
        verdict = self._training.verdict(trial)
        self._training.trial = None
        number = self._manager.spawn_count
        outcome = "stays" if verdict.is_won else "is pruned"
        logger.info("variant %d %s: %s", number, outcome, verdict)
        control = self._training.control
        if control is not None:
            control.record(Variant(number=number, stays=verdict.is_won, **asdict(verdict)))
        self._failures = 0 if verdict.is_won else self._failures + 1
        if verdict.is_won:
            self._training.keep(trial, verdict)
        else:
            self._training.remove(trial)
            self._training.undo(trial)

    def _spawn(self) -> None:
        """Make a variant of the best policy, and let it be trained."""
        if self._factory is None or self._is_barren:
            return
        shell = self._factory()
        self._is_barren = not variants.can_vary(as_agent(shell))
        if self._is_barren:
            logger.warning(
                "no variants are spawned: %s has neither numeric hyperparameters nor perturb_weights, "
                "and a variant of it would be a clone",
                type(shell).__name__,
            )
            return
        manager, count = self._manager, self._manager.spawn_count
        noise = spawn_noise(self._training.history, count)
        variant = as_agent(manager.spawn_variant(shell, noise))
        if manager.spawn_count == count:
            logger.warning("no policy was kept yet: there is nothing to spawn a variant of")
            return
        logger.info("variant %d was spawned with noise %.4g", manager.spawn_count, noise)
        manager.add_agent(variant)
        if self._training.control is not None:
            self._since_decision.clear()
            self._training.begin(variant, self._training.control)

    def _reason_to_end(self) -> str | None:
        if self._manager.budget_exhausted:
            return BUDGET_SPENT
        is_hopeless = self._manager.spawns_remaining is None and self._failures >= PATIENCE
        return PLATEAU if is_hopeless or self._is_barren else None

    def _end(self, reason: str) -> None:
        self._is_over = True
        self._training.finish()
        print(training_report_text(self._manager.training_report(), reason), flush=True)
        if self._stop_fn is not None:
            self._stop_fn()
        if self._training.control is not None:
            self._training.control.stop(reason.lower())


class _VariantTraining(ABC):
    """How variants are trained and judged, in a loop (`control`) that at first trains `agent`."""

    def __init__(self, manager: PolicyManager, agent: BaseAgent) -> None:
        self._manager = manager
        self._agent = agent
        self.control: LoopControl | None = None

    def restart(self) -> None:
        """Begin, for the first time or anew, with the agent that the loop trains at first."""
        self.history: list[EvalMetrics] = []
        """The evaluations of what is under training, oldest first."""
        self.trial: VariantTrial | None = None
        """The variant under training."""
        self._scores = recent_scores()

    def forget_scores(self) -> None:
        """Begin anew with scores of another kind."""
        self.history.clear()
        self._scores.clear()
        if self.trial is not None:
            self.trial.scores.clear()
        for member in self._manager.members:
            member.scores.clear()

    def attach(self, control: LoopControl) -> None:
        """Take part in a loop."""
        self.control = control

    def record(self, metrics: EvalMetrics) -> None:
        """Take in an evaluation of what is under training."""
        _remember(self.history, metrics)
        (self._scores if self.trial is None else self.trial.scores).append(metrics.primary_score)

    def begin(self, variant: BaseAgent, control: LoopControl) -> None:
        """Let a member that has just joined be trained."""
        self.trial = VariantTrial.begin(self._manager.registry, variant, self._scores)

    def named(self) -> dict[str, BaseAgent]:
        """Return every agent by its name: "" the one given, members by number, others by what they are."""
        members = {str(one.number): one.agent for one in self._manager.members}
        named = {"": self._agent}
        for name, agent in (members | self._roles()).items():
            if _name_of(agent, named) is None:
                named[name] = agent
        return named

    def _roles(self) -> dict[str, BaseAgent]:
        """Return the agents that matter whether or not they are members."""
        return {} if self.trial is None else {"variant": self.trial.variant}

    @abstractmethod
    def agents(self) -> dict[str, BaseAgent]:
        """Return those of the named agents that the one given does not keep."""

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes as plain values, with agents by name."""
        named = self.named()
        return {
            "roles": {role: _name_of(agent, named) for role, agent in self._roles().items()},
            "history": _plain(self.history),
            "trial": None if self.trial is None else self.trial.state_dict(),
            "scores": list(self._scores),
        }

    def load_state_dict(self, state: Mapping[str, Any], agents: Mapping[str, BaseAgent]) -> None:
        """Go on from what `state_dict` returned, with agents of the same names."""
        self.history = _from_plain(state["history"])
        self._scores = recent_scores(state["scores"])
        self.trial = None
        if state["trial"] is not None:
            variant = agents[state["roles"]["variant"]]
            self.trial = VariantTrial.of_state(
                state["trial"], self._manager.registry, variant, self._scores
            )

    @abstractmethod
    def sides(self, trial: VariantTrial) -> list[BaseAgent]:
        """Return who is compared: what there is with the variant, and what there would be without it."""

    def verdict(self, trial: VariantTrial) -> Verdict:
        """Return whether the variant makes a difference: in the same episodes, or by the scores on record."""
        returns = self._play(self.sides(trial))
        if returns is None:
            return compare_records(trial.scores, trial.rival_scores)
        return compare_pairs(returns[0], returns[1])

    def keep(self, trial: VariantTrial, verdict: Verdict) -> None:
        """Make a variant that is better what the next one has to beat."""
        self._scores = trial.scores

    def remove(self, trial: VariantTrial) -> None:
        """Take a variant out of the population, which is never left empty."""
        _, without = self.sides(trial)
        self._manager.remove(trial.variant)
        if not self._manager.members:
            self._manager.add_agent(without)

    @abstractmethod
    def undo(self, trial: VariantTrial) -> None:
        """Undo what a variant that is no better left in the registry."""

    def score_members(self) -> None:
        """Score every member, where windows do not."""

    def finish(self) -> None:
        """Keep what became of the population as the best policy, if it is."""

    def _play(self, agents: list[BaseAgent]) -> Array | None:
        """Let agents play the same episodes; return their returns `[len(agents), EPISODES]`, or None."""
        if self.control is None:
            return None
        try:
            return self.control.play(agents, EPISODES)
        except EpisodesWithoutEnd as error:
            logger.warning("%s; the scores on record decide", error)
            return None
        except RuntimeError as error:
            logger.info("the scores on record decide: %s", error)
            return None


class _InTurn(_VariantTraining):
    """Variants are trained in place of the agent before them, and have to beat the best agent so far."""

    def restart(self) -> None:
        super().restart()
        self._trainee = self._champion = self._agent

    def attach(self, control: LoopControl) -> None:
        super().attach(control)
        if self._manager.index_of(self._agent) is None:
            self._manager.add_agent(self._agent)

    def record(self, metrics: EvalMetrics) -> None:
        super().record(metrics)
        index = self._manager.index_of(self._trainee)
        if index is not None:
            self._manager.record_agent_score(index, metrics.primary_score)

    def begin(self, variant: BaseAgent, control: LoopControl) -> None:
        super().begin(variant, control)
        # The policy that the variant has to beat is the best one, not the latest one.
        self._manager.registry.load_best(self._champion)
        self.history.clear()
        self._trainee = variant
        control.train(variant)

    def _roles(self) -> dict[str, BaseAgent]:
        return super()._roles() | {"trainee": self._trainee, "champion": self._champion}

    def agents(self) -> dict[str, BaseAgent]:
        return {name: agent for name, agent in self.named().items() if name}

    def load_state_dict(self, state: Mapping[str, Any], agents: Mapping[str, BaseAgent]) -> None:
        super().load_state_dict(state, agents)
        roles = state["roles"]
        self._trainee, self._champion = agents[roles["trainee"]], agents[roles["champion"]]

    def sides(self, trial: VariantTrial) -> list[BaseAgent]:
        return [trial.variant, self._champion]

    def verdict(self, trial: VariantTrial) -> Verdict:
        for best in trial.own_snapshots()[:1]:
            self._manager.registry.load(best, trial.variant)
        return super().verdict(trial)

    def keep(self, trial: VariantTrial, verdict: Verdict) -> None:
        super().keep(trial, verdict)
        self._champion = trial.variant
        trial.rank_first(verdict)

    def undo(self, trial: VariantTrial) -> None:
        trial.undo(self._champion)


class _Together(_VariantTraining):
    """Variants join the ensemble under training, and have to make it better."""

    _agent: BaseEnsemble

    def _roles(self) -> dict[str, BaseAgent]:
        return super()._roles() | {str(number): one.agent for number, one in self._past().items()}

    def _past(self) -> dict[int, Member]:
        """Return the members that left, and come back with a policy that was stored before."""
        present = {member.number for member in self._manager.members}
        stored = self._agent.stored_members.items()
        return {number: member for number, member in stored if number not in present}

    def agents(self) -> dict[str, BaseAgent]:
        """Return none: the ensemble keeps its members, and past ones are in the files of their policies."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"past": list(self._past())}

    def load_state_dict(self, state: Mapping[str, Any], agents: Mapping[str, BaseAgent]) -> None:
        super().load_state_dict(state, agents)
        for number in state["past"]:
            agent = agents[state["roles"][str(number)]]
            scores = self._manager.record_of_scores()
            self._agent.stored_members[number] = Member(agent, 1.0, number, scores)

    def sides(self, trial: VariantTrial) -> list[BaseAgent]:
        return [self._agent, self._agent.without(trial.variant)]

    def undo(self, trial: VariantTrial) -> None:
        # All its members went on learning: nobody holds the best policy before the variant.
        trial.undo(None)

    def score_members(self) -> None:
        if self._manager.ensemble_size < 2:
            return
        returns = self._play(self._manager.agents)
        for index, own in enumerate([] if returns is None else returns):
            for block in np.split(own, SCORES_PER_CONTEST):
                self._manager.record_agent_score(index, float(block.mean()))

    def finish(self) -> None:
        """Let the ensemble as it is, which no window may have scored, play against the best one on record."""
        registry, agent = self._manager.registry, self._agent
        best, present = registry.best, self._play([agent])
        if best is None or present is None:
            return
        staged, hyperparams = registry.stage(agent), agent.get_hyperparams()
        registry.load_best(agent)
        former = self._play([agent])
        verdict = None if former is None else compare_pairs(present[0], former[0])
        logger.info("the present ensemble against the best on record: %s", verdict)
        if verdict is None or not verdict.is_won:
            registry.discard(staged)
            return
        above = math.nextafter(registry.score_of(best), math.inf)
        registry.commit(staged, verdict.as_metrics(), hyperparams, score=above)
        registry.load_best(agent)


def _name_of(agent: BaseAgent, named: Mapping[str, BaseAgent]) -> str | None:
    """Return by which name an agent is known; None: by none."""
    sought = own_object(agent)
    return next((name for name, known in named.items() if own_object(known) is sought), None)


def _remember(history: list[EvalMetrics], metrics: EvalMetrics) -> None:
    """Append an evaluation; of too many, the older half is forgotten."""
    if len(history) == MOST_HISTORY:
        del history[: MOST_HISTORY // 2]
    history.append(metrics)


def _plain(history: Sequence[EvalMetrics]) -> list[dict[str, Any]]:
    return [vars(metrics).copy() for metrics in history]


def _from_plain(history: Sequence[Mapping[str, Any]]) -> list[EvalMetrics]:
    return [EvalMetrics(**metrics) for metrics in history]


RULE = "━" * 54


def training_report_text(report: Mapping[str, Any], reason: str) -> str:
    """Return the report that ends a run. Lines without data are left out.

    Args:
        report: What `PolicyManager.training_report` returns.
        reason: Why the run ended.
    """
    used, most = report["spawn_count"], report["max_spawns"]
    gap = _four_digits(report["best_generalization_gap"])
    entries = {
        "Best score": _four_digits(report["best_score"]),
        "Val score": _four_digits(report["best_val_score"]),
        "Generalization": None if gap is None else f"{gap}  (train − val)",  # noqa: RUF001
        "Spawns used": used if most is None else f"{used} / {most}",
        "Pruned agents": report["prune_count"],
        "Ensemble size": report["ensemble_size"],
        "Regime": report["regime"],
        "Agents": "" if report["agents"] else None,
    }
    lines = [RULE, "  Training Complete", f"  {'Reason':<17}: {reason}", RULE]
    lines += [
        f"  {label:<17}: {entry}".rstrip() for label, entry in entries.items() if entry is not None
    ]
    for agent in report["agents"]:
        mean = agent["mean_score"]
        score = "" if mean is None else f"  mean_score={mean:.4f}"
        lines.append(f"    [{agent['index']}] weight={agent['weight']:.4f}{score}")
    return "\n".join([*lines, RULE])


def _four_digits(number: float | None) -> str | None:
    return None if number is None else f"{number:.4f}"
