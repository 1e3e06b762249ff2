"""A population of policies: agents, scores and snapshots come in, weights, variants and a report go out."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

from tensor_optix.core.evolution import variants
from tensor_optix.core.evolution.action_mixing import common_action
from tensor_optix.core.evolution.policy_manager_callback import (
    PolicyManagerCallback as PolicyManagerCallback,
)
from tensor_optix.core.evolution.roster import Member, Roster, lowest_first, weights_of_scores

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.checkpoint_registry import CheckpointRegistry
    from tensor_optix.core.meta_controller import MetaController
    from tensor_optix.core.types import EvalMetrics, PolicySnapshot

logger = logging.getLogger(__name__)


class PolicyManager:
    """Keeps an ensemble of agents, weighs them by their scores, and spawns variants of the best policy.

    Args:
        registry: Where the best policies are. In a loop it is replaced by the loop's own.
        score_window: How many scores of each agent are remembered.
        max_spawns: The budget of variants. None: no limit.
        max_ensemble_size: Never more agents than this: who joins displaces the lowest weight. None: no limit.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        registry: CheckpointRegistry,
        score_window: int = 10,
        max_spawns: int | None = None,
        max_ensemble_size: int | None = None,
    ) -> None:
        if score_window < 1:
            raise ValueError(f"score_window must be at least 1, got {score_window}")
        if max_spawns is not None and max_spawns < 0:
            raise ValueError(f"max_spawns must be at least 0 or None, got {max_spawns}")
        if max_ensemble_size is not None and max_ensemble_size < 1:
            raise ValueError(f"max_ensemble_size must be at least 1, got {max_ensemble_size}")
        self.registry = registry
        """Where the best policies are."""
        self._roster = Roster(score_window)
        self._score_window = score_window
        self._max_spawns = max_spawns
        self._max_size = max_ensemble_size
        self._spawn_count = 0
        self._prune_count = 0
        self._regime: str | None = None

    @property
    def members(self) -> tuple[Member, ...]:
        """The members of the ensemble, in the order in which they joined."""
        return self._roster.members

    @property
    def agents(self) -> list[BaseAgent]:
        """Their agents."""
        return [member.agent for member in self.members]

    @property
    def weights(self) -> list[float]:
        """Their weights, which need not sum to 1."""
        return [member.weight for member in self.members]

    @property
    def ensemble_size(self) -> int:
        """How many agents there are."""
        return len(self.members)

    @property
    def spawn_count(self) -> int:
        """How many variants were spawned."""
        return self._spawn_count

    @property
    def spawns_remaining(self) -> int | None:
        """What is left of the budget; None without one."""
        return None if self._max_spawns is None else max(self._max_spawns - self._spawn_count, 0)

    @property
    def budget_exhausted(self) -> bool:
        """Whether there is a budget, and nothing is left of it."""
        return self.spawns_remaining == 0

    @property
    def ranked_snapshots(self) -> list[PolicySnapshot]:
        """The registry's snapshots, best first."""
        return self.registry.snapshots

    def add_agent(self, agent: BaseAgent, weight: float = 1.0) -> None:
        """Let an agent join; where that is one too many, the lowest weight of the others goes.

        Raises:
            ValueError: If the weight is negative or not finite.
        """
        self._roster.add(agent, weight)
        if self._max_size is None or self.ensemble_size <= self._max_size:
            return
        excess = self.ensemble_size - self._max_size
        gone = self._drop(lowest_first(self.members[:-1])[:excess])
        logger.info(
            "the ensemble is limited to %d: %d displaced by the newest", self._max_size, len(gone)
        )

    def index_of(self, agent: BaseAgent) -> int | None:
        """Return the place of an agent in the ensemble; None if it is no member."""
        return self._roster.index_of(agent)

    def remove(self, agent: BaseAgent) -> None:
        """Prune one agent; nothing happens if it is no member."""
        index = self.index_of(agent)
        if index is not None:
            self._drop([index])

    def reset_members(self, members: Sequence[Member]) -> None:
        """Make members, present or past, the ensemble: how a stored one comes back."""
        self._roster.reset(members)

    def without(self, agent: BaseAgent) -> PolicyManager:
        """Return another manager of the same agents and weights, but for one agent."""
        others = PolicyManager(self.registry, self._score_window)
        for member in self.members:
            if member.agent is not agent:
                others.add_agent(member.agent, member.weight)
        return others

    def ensemble_action(self, observation: Any) -> Any:
        """Return the agents' common action for one observation.

        `sum_i w_i a_i / sum_i w_i` where actions are continuous; where each is one whole number the most
        probable of the mixed probabilities (`EnsembleAgent` samples). A single agent acts by itself.

        Raises:
            RuntimeError: Without agents.
        """
        if not self.members:
            raise RuntimeError("the ensemble has no agents; add_agent(...) first")
        return common_action(self.agents, self.weights, observation)

    def update_weights(self, scores: Mapping[int, float]) -> None:
        """Weigh agents by their scores; those that are not listed keep their weight.

        See `weights_of_scores`: positive, higher for a higher score, whatever the scores' scale and zero,
        and 1 on average. A single score says nothing of rank: its agent gets 1. Scores that are not finite
        are no evidence.

        Raises:
            ValueError: If there is no such agent.
        """
        for index in scores:
            self._require(index)
        known = {index: score for index, score in scores.items() if math.isfinite(score)}
        for index, weight in zip(known, weights_of_scores(list(known.values())), strict=True):
            self.members[index].weight = float(weight)

    def record_agent_score(self, idx: int, score: float) -> None:
        """Remember a score of an agent; one that is not finite is no evidence.

        Raises:
            ValueError: If there is no such agent.
        """
        self._require(idx)
        if math.isfinite(score):
            self.members[idx].scores.append(float(score))

    def auto_update_weights(self) -> None:
        """Weigh the agents by the means of their latest scores; those without scores keep their weight."""
        means = {i: member.mean_score for i, member in enumerate(self.members)}
        self.update_weights({i: mean for i, mean in means.items() if mean is not None})

    def prune(self, bottom_k: int = 1) -> list[BaseAgent]:
        """Remove and return the `bottom_k` agents of the lowest weight; none if no more would be left.

        Raises:
            ValueError: If `bottom_k` is negative.
        """
        if bottom_k < 0:
            raise ValueError(f"bottom_k must be at least 0, got {bottom_k}")
        if self.ensemble_size <= bottom_k:
            return []
        return self._drop(lowest_first(self.members)[:bottom_k])

    def boost(self, agent: BaseAgent, factor: float = 2.0) -> None:
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

    def set_regime(self, label: str) -> None:
        """Note what `RegimeDetector.detect` said, for `status` and the report."""
        self._regime = label

    def status(self) -> dict[str, Any]:
        """Return the state of the population as JSON can hold it."""
        return {
            "ensemble_size": self.ensemble_size,
            "agents": [{"index": i} | one.describe() for i, one in enumerate(self.members)],
            "regime": self._regime,
            "spawn_count": self._spawn_count,
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

    def adaptive_noise_scale(
        self,
        history: Sequence[EvalMetrics],
        min_scale: float = 0.001,
        max_scale: float = 0.1,
        window: int = 10,
    ) -> float:
        """Return how far variants stray; see `variants.adaptive_noise_scale`."""
        return variants.adaptive_noise_scale(history, min_scale, max_scale, window)

    def evolve(self, agent: BaseAgent, current_score: float) -> bool:
        """Load the best policy into the agent if that scored more; return whether it did."""
        best = self.registry.best
        if best is None or not current_score < best.eval_metrics.primary_score:
            return False
        return self.registry.load_best(agent) is not None

    def spawn_variant(
        self,
        agent_shell: BaseAgent,
        noise_scale: float = 0.01,
        mutation_fn: Callable[[BaseAgent], object] | None = None,
    ) -> BaseAgent:
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
            agent_shell, noise_scale, (best.eval_metrics.primary_score, self._spawn_count)
        )
        if mutation_fn is not None:
            mutation_fn(agent_shell)
        self._spawn_count += 1
        return agent_shell

    def as_callback(
        self,
        agent: BaseAgent,
        agent_factory: Callable[[], BaseAgent] | None = None,
        meta_controller: MetaController | None = None,
    ) -> PolicyManagerCallback:
        """Return the callback that evolves the population while a loop runs."""
        return PolicyManagerCallback(self, agent, agent_factory, meta_controller)

    def _drop(self, indices: Sequence[int]) -> list[BaseAgent]:
        self._prune_count += len(indices)
        return self._roster.remove(indices)

    def _require(self, index: int) -> None:
        if not 0 <= index < self.ensemble_size:
            raise ValueError(
                f"agents are numbered from 0, and there are {self.ensemble_size}, got index {index}"
            )
