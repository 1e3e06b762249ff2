"""Evolution while a loop runs: its events come in; variants, weights and the end of the run go out.

A variant becomes the agent under training until the loop finds nothing left to gain. Then it plays the same
episodes as the best policy before it, and stays only if it is better. Where an `EnsembleAgent` is under
training, the variant joins it, and the ensemble with it plays against the ensemble without it.
"""

from __future__ import annotations

import logging
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tensor_optix.core.base_agent import BaseAgent
from tensor_optix.core.callbacks import LoopCallback
from tensor_optix.core.ensemble_agent import EnsembleAgent
from tensor_optix.core.events import Variant
from tensor_optix.core.evolution.variants import (
    EPISODES,
    Trial,
    Verdict,
    compare_pairs,
    compare_records,
    spawn_noise,
)
from tensor_optix.core.meta_controller import MetaAction, MetaController

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tensor_optix.core.callbacks import LoopControl
    from tensor_optix.core.checkpoint_registry import CheckpointRegistry
    from tensor_optix.core.policy_manager import PolicyManager
    from tensor_optix.core.types import Array, EvalMetrics

logger = logging.getLogger(__name__)

PATIENCE = 3
"""Without a spawn budget, evolution ends after so many variants in a row that were no better."""
BUDGET_SPENT = "Spawn budget exhausted"
PLATEAU = "Plateau — model converged"
META_DECISION = "MetaController decision"


class PolicyManagerCallback(LoopCallback):
    """Rebalances, spawns, prunes and stops, on DORMANT and as a `MetaController` decides.

    Args:
        policy_manager: The population.
        agent: What the loop trains: an agent, or an `EnsembleAgent` of this population.
        agent_factory: `fn() -> agent` makes a fresh agent for a variant. None: nothing is spawned.
        meta_controller: Asked after each evaluation, except while a variant is under training.

    Raises:
        TypeError: If one of them is of another kind.
    """

    def __init__(
        self,
        policy_manager: PolicyManager,
        agent: BaseAgent,
        agent_factory: Callable[[], BaseAgent] | None = None,
        meta_controller: MetaController | None = None,
    ) -> None:
        if not isinstance(agent, BaseAgent):
            raise TypeError(f"agent must be a BaseAgent, got {type(agent).__name__}")
        if agent_factory is not None and not callable(agent_factory):
            kind = type(agent_factory).__name__
            raise TypeError(f"agent_factory must be a function that makes an agent, got {kind}")
        if meta_controller is not None and not isinstance(meta_controller, MetaController):
            kind = type(meta_controller).__name__
            raise TypeError(f"meta_controller must be a MetaController, got {kind}")
        self._manager = policy_manager
        self._agent = agent
        self._is_ensemble = isinstance(agent, EnsembleAgent)
        self._factory = agent_factory
        self._meta = meta_controller
        self._control: LoopControl | None = None
        self._stop_fn: Callable[[], object] | None = None
        self._trial: Trial | None = None
        self._trainee = self._champion = agent
        self._champion_scores: list[float] = []
        self._history: list[EvalMetrics] = []
        self._since_decision: list[EvalMetrics] = []
        self._losses = 0
        self._is_over = self._is_handing_over = False

    def set_stop_fn(self, fn: Callable[[], object]) -> None:
        """Name a function to call when evolution is over; a loop that the callback is added to needs none."""
        self._stop_fn = fn

    def on_attach(self, control: LoopControl) -> None:
        """Take on the loop's registry; the agent joins the population if it has not."""
        self._control = control
        self._manager.registry = control.registry
        if not self._is_ensemble and self._manager.index_of(self._agent) is None:
            self._manager.add_agent(self._agent)

    def on_loop_start(self) -> None:
        """Begin anew."""
        self._begin_run()

    def on_episode_end(self, episode_id: int, eval_metrics: EvalMetrics | None) -> None:
        """Record the score of the agent under training, and ask the meta controller."""
        is_predecessors, self._is_handing_over = self._is_handing_over, False
        if eval_metrics is None or is_predecessors:
            return
        self._history.append(eval_metrics)
        self._since_decision.append(eval_metrics)
        score = eval_metrics.primary_score
        (self._champion_scores if self._trial is None else self._trial.scores).append(score)
        index = self._manager.index_of(self._trainee)
        if index is not None:
            self._manager.record_agent_score(index, score)
        if self._meta is not None and self._trial is None and not self._is_over:
            self._follow(self._meta)

    def on_dormant(self, episode_id: int) -> bool | None:
        """Judge the variant under training, rebalance, prune, and spawn the next one.

        Returns:
            True if a variant begins; None when evolution is over, or there is nothing to spawn.
        """
        if self._is_over:
            return None
        # The score of the window under way is still to come: it is not a new trainee's.
        self._is_handing_over = self._control is not None
        if self._trial is not None:
            self._settle(self._trial, self._verdict(self._trial))
        else:
            self._manager.evolve(self._agent, self._latest_score())
        self._rebalance()
        if not self._reason_to_end() and self._spawn() and self._control is not None:
            return True
        reason = self._reason_to_end()
        if reason:
            self._end(reason)
        return None

    def on_loop_stop(self) -> None:
        """Judge a variant whose training was cut short by the scores that it has."""
        trial, self._trial = self._trial, None
        if trial is None:
            return
        verdict = compare_records(trial.scores, trial.champion_scores)
        logger.info("the run ended while a variant was under training: %s", verdict)
        if not verdict.is_won:
            self._dismiss(trial)

    def _begin_run(self) -> None:
        self._trainee = self._champion = self._agent
        self._trial = None
        self._history.clear()
        self._since_decision.clear()
        self._champion_scores = []
        self._losses = 0
        self._is_over = self._is_handing_over = False

    def _follow(self, meta: MetaController) -> None:
        """Do what the meta controller decides; it decides anew on what comes after."""
        action = meta.decide(self._since_decision, self._manager.status())
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

    def _latest_score(self) -> float:
        return self._history[-1].primary_score if self._history else -math.inf

    def _reason_to_end(self) -> str | None:
        if self._manager.budget_exhausted:
            return BUDGET_SPENT
        is_hopeless = self._manager.spawns_remaining is None and self._losses >= PATIENCE
        return PLATEAU if is_hopeless else None

    def _rebalance(self) -> None:
        """Weigh the members by their scores; the members of an ensemble each play for theirs."""
        manager = self._manager
        if self._is_ensemble and manager.ensemble_size > 1:
            returns = self._play(manager.agents)
            for index, own in enumerate([] if returns is None else returns):
                manager.record_agent_score(index, float(own.mean()))
        manager.auto_update_weights()
        logger.info("ensemble weights: %s", [round(weight, 4) for weight in manager.weights])

    def _spawn(self) -> bool:
        """Make a variant of the best policy and let it be trained; return whether there is one."""
        if self._factory is None:
            return False
        manager, count = self._manager, self._manager.spawn_count
        noise = spawn_noise(self._history, count)
        variant = manager.spawn_variant(self._factory(), noise)
        if manager.spawn_count == count:
            logger.warning("no policy was kept yet: there is nothing to spawn a variant of")
            return False
        logger.info("variant %d was spawned with noise %.4g", manager.spawn_count, noise)
        manager.add_agent(variant)
        if self._control is not None:
            self._try_out(variant, self._control)
        return True

    def _try_out(self, variant: BaseAgent, control: LoopControl) -> None:
        """Begin a trial; the champion takes on the best policy, the one that the variant has to beat."""
        registry, best = self._manager.registry, self._manager.registry.best
        self._trial = Trial(
            variant=variant,
            champion=self._champion,
            snapshot=best,
            rank=-math.inf if best is None else registry.score_of(best),
            champion_scores=self._champion_scores,
            earlier=frozenset(one.snapshot_id for one in registry.snapshots),
        )
        self._since_decision.clear()
        if not self._is_ensemble:
            registry.load_best(self._champion)
            self._history.clear()
            self._trainee = variant
            control.train(variant)

    def _verdict(self, trial: Trial) -> Verdict:
        """Let the variant's best policy play against the champion, or the ensemble with it and without it."""
        if isinstance(self._agent, EnsembleAgent):
            rival: BaseAgent = self._agent.without(trial.variant)
            returns = self._play([self._agent, rival])
        else:
            registry = self._manager.registry
            for best in trial.own_snapshots(registry)[:1]:
                registry.load(best, trial.variant)
            returns = self._play([trial.variant, trial.champion])
        if returns is None:
            return compare_records(trial.scores, trial.champion_scores)
        return compare_pairs(returns[0], returns[1])

    def _play(self, agents: list[BaseAgent]) -> Array | None:
        """Let agents play the same episodes; return their returns `[len(agents), EPISODES]`, or None."""
        if self._control is None:
            return None
        try:
            return self._control.play(agents, EPISODES)
        except RuntimeError as error:
            logger.info("the scores on record decide: %s", error)
            return None

    def _settle(self, trial: Trial, verdict: Verdict) -> None:
        """Keep a variant that is better; undo what a worse one left behind."""
        self._trial = None
        outcome = "stays" if verdict.is_won else "is pruned"
        logger.info("variant %d %s: %s", self._manager.spawn_count, outcome, verdict)
        if self._control is not None:
            number = self._manager.spawn_count
            settled = Variant(number=number, stays=verdict.is_won, **asdict(verdict))
            self._control.record(settled)
        if not verdict.is_won:
            self._losses += 1
            self._dismiss(trial)
            trial.reinstate(self._manager.registry, champion_is_intact=not self._is_ensemble)
            return
        self._losses = 0
        self._champion_scores = trial.scores
        if not self._is_ensemble:
            self._champion = trial.variant
            trial.crown(self._manager.registry, verdict)

    def _dismiss(self, trial: Trial) -> None:
        self._manager.remove(trial.variant)
        if not self._manager.members:
            self._manager.add_agent(trial.champion)

    def _crown_ensemble(self, registry: CheckpointRegistry) -> None:
        """Let the settled ensemble, which no window may have scored, play against the best one on record."""
        best, settled = registry.best, self._play([self._agent])
        if best is None or settled is None:
            return
        staged, hyperparams = registry.stage(self._agent), self._agent.get_hyperparams()
        registry.load_best(self._agent)
        former = self._play([self._agent])
        verdict = None if former is None else compare_pairs(settled[0], former[0])
        logger.info("the settled ensemble against the best on record: %s", verdict)
        if verdict is None or not verdict.is_won:
            registry.discard(staged)
            return
        above = math.nextafter(registry.score_of(best), math.inf)
        registry.commit(staged, verdict.as_metrics(), hyperparams, score=above)
        registry.load_best(self._agent)

    def _end(self, reason: str) -> None:
        self._is_over = True
        if self._is_ensemble and self._control is not None:
            self._crown_ensemble(self._manager.registry)
        print(training_report_text(self._manager.training_report(), reason), flush=True)
        if self._stop_fn is not None:
            self._stop_fn()
        if self._control is not None:
            self._control.stop(reason.lower())


RULE = "━" * 54
LABEL_WIDTH = 17


def training_report_text(report: Mapping[str, Any], reason: str) -> str:
    """Return the report that ends a run. Lines without data are left out.

    Args:
        report: What `PolicyManager.training_report` returns.
        reason: Why the run ended.
    """
    lines = [RULE, "Training Complete", _line("Reason", reason), RULE]
    for label, key, form in (
        ("Best score", "best_score", "{:.4f}"),
        ("Val score", "best_val_score", "{:.4f}"),
        ("Generalization", "best_generalization_gap", "{:.4f}  (train − val)"),  # noqa: RUF001
    ):
        if report[key] is not None:
            lines.append(_line(label, form.format(report[key])))
    used, most = report["spawn_count"], report["max_spawns"]
    lines += [
        _line("Spawns used", f"{used}" if most is None else f"{used} / {most}"),
        _line("Pruned agents", report["prune_count"]),
        _line("Ensemble size", report["ensemble_size"]),
    ]
    if report["regime"] is not None:
        lines.append(_line("Regime", report["regime"]))
    if report["agents"]:
        lines.append(f"{'Agents':<{LABEL_WIDTH}}:")
        lines += [_agent_line(agent) for agent in report["agents"]]
    return "\n".join([*lines, RULE])


def _line(label: str, value: Any) -> str:
    return f"{label:<{LABEL_WIDTH}}: {value}"


def _agent_line(agent: Mapping[str, Any]) -> str:
    line = f"[{agent['index']}] weight={agent['weight']:.4f}"
    mean = agent["mean_score"]
    return line if mean is None else f"{line}  mean_score={mean:.4f}"
