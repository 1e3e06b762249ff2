"""Spawn, train, judge, prune, stop: the life of a population in a loop."""

import json
import logging
from typing import Any, ClassVar

import numpy as np
import pytest

from tensor_optix.core.callbacks import Rescored
from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.ensemble_agent import EnsembleAgent
from tensor_optix.core.meta_controller import MetaAction, MetaController
from tensor_optix.core.policy_manager import PolicyManager, PolicyManagerCallback
from tensor_optix.core.types import EvalMetrics
from tests.core.array_agent import ArrayAgent, save
from tests.core.population import START, Evolution, Talent
from tests.scripted import CountingAgent


class Script(MetaController):
    """Decides as told, and remembers what it was asked with."""

    def __init__(self, *actions):
        super().__init__()
        self.actions = list(actions)
        self.asked = []

    def decide(self, history, pm_status):
        self.asked.append((len(history), pm_status["ensemble_size"]))
        return self.actions.pop(0) if self.actions else MetaAction.NO_OP


def metrics(score):
    return EvalMetrics(float(score), {}, 0)


def test_the_whole_spawn_budget_is_spent_and_reported_once(tmp_path, capsys):
    """Three of three variants are trained, one after the other, and the run ends by itself."""
    evolution = Evolution(tmp_path, talents=[3, 3, 3]).run()
    assert evolution.manager.status()["spawn_count"] == 3
    assert evolution.arena.trained == [evolution.first, *evolution.made]
    assert evolution.stop_reason == "spawn budget exhausted"
    printed = capsys.readouterr().out
    assert printed.count("Training Complete") == 1
    assert "Spawns used      : 3 / 3" in printed
    assert "Reason           : Spawn budget exhausted" in printed


def test_a_variant_that_is_no_better_is_pruned(tmp_path):
    evolution = Evolution(tmp_path, talents=[3, 2]).run()
    assert evolution.manager.agents == [evolution.first]
    assert evolution.manager.status()["prune_count"] == 2


def test_a_better_variant_stays_with_its_scores_and_is_what_the_run_returns(tmp_path):
    evolution = Evolution(tmp_path, talents=[20]).run()
    manager, [variant] = evolution.manager, evolution.made
    assert manager.agents == [evolution.first, variant]
    assert evolution.first.updates == variant.updates >= 20
    assert variant.skill == START + 20
    first, second = manager.status()["agents"]
    assert second["mean_score"] > first["mean_score"]
    assert second["weight"] > first["weight"]


def test_a_variant_begins_with_the_best_policy(tmp_path):
    begun = []

    class Watched(Talent):
        def load_state(self, path):
            super().load_state(path)
            begun.append(self.skill)

    Evolution(tmp_path, talents=[1]).run(factory=lambda: Watched(9))
    assert begun[0] == START + 3


@pytest.mark.parametrize("max_snapshots", [1, 10])
def test_a_lucky_variant_does_not_displace_the_best_policy(tmp_path, max_snapshots):
    """Its windows scored 50 too much: it loses the contest, and its snapshots go with it."""
    evolution = Evolution(
        tmp_path, talents=[3], luck={0: 50.0}, max_snapshots=max_snapshots, first=8
    )
    evolution.run()
    best = evolution.setup.registry.best
    assert best.eval_metrics.primary_score == START + 8
    assert evolution.first.skill == START + 8
    assert evolution.manager.agents == [evolution.first]
    assert evolution.setup.controller.best_snapshot.snapshot_id == best.snapshot_id
    on_disk = json.loads((tmp_path / "manifest.json").read_text())
    assert all(entry["primary_score"] < 50.0 for entry in on_disk)


def test_a_winner_whose_windows_scored_too_little_is_crowned(tmp_path):
    evolution = Evolution(tmp_path, talents=[20], luck={0: -50.0}).run()
    [variant] = evolution.made
    assert evolution.first.updates == variant.updates > 3
    assert evolution.setup.registry.best.eval_metrics.primary_score == variant.skill


def test_a_later_variant_has_to_beat_the_winner_before_it(tmp_path):
    evolution = Evolution(tmp_path, talents=[20, 15, 30]).run()
    better, worse, best = evolution.made
    assert evolution.manager.agents == [evolution.first, better, best]
    assert worse not in evolution.manager.agents
    assert evolution.first.updates >= 30


def test_on_live_data_the_scores_on_record_decide(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        evolution = Evolution(tmp_path, talents=[20, 3], is_live=True).run()
    assert evolution.manager.agents == [evolution.first, evolution.made[0]]
    assert "mann-whitney" in caplog.text


def test_every_verdict_is_logged_with_its_numbers(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="tensor_optix"):
        Evolution(tmp_path, talents=[3, 20]).run()
    assert "variant 1 is pruned: mean 13 against 13 (wilcoxon, 20 scores, p = 1)" in caplog.text
    assert "variant 2 stays: mean 30 against 13 (wilcoxon, 20 scores, p = " in caplog.text


def test_without_a_budget_evolution_ends_after_three_variants_in_vain(tmp_path, capsys):
    evolution = Evolution(tmp_path, talents=[20, 3, 3, 3, 3], manager={}).run()
    assert len(evolution.made) == 4
    assert evolution.stop_reason == "plateau — model converged"
    assert "Spawns used      : 4\n" in capsys.readouterr().out


def test_without_a_factory_dormant_ends_the_run(tmp_path):
    evolution = Evolution(tmp_path, talents=[])
    callback = PolicyManagerCallback(PolicyManager(evolution.setup.registry), evolution.first)
    evolution.setup.controller.add_callback(callback)
    evolution.setup.run()
    assert evolution.stop_reason == "nothing left to gain"


def test_the_manager_adopts_the_registry_of_the_loop(tmp_path):
    evolution = Evolution(tmp_path / "loop", talents=[20])
    evolution.manager.registry = CheckpointRegistry(tmp_path / "elsewhere")
    evolution.run()
    assert evolution.manager.registry is evolution.setup.registry
    assert evolution.manager.training_report()["best_score"] == START + 20
    assert not (tmp_path / "elsewhere").exists()


def test_the_ensemble_never_grows_beyond_its_limit(tmp_path):
    sizes = []

    class Watching(Script):
        def decide(self, history, pm_status):
            sizes.append(pm_status["ensemble_size"])
            return MetaAction.NO_OP

    evolution = Evolution(
        tmp_path, talents=[10, 20, 30, 40], manager={"max_spawns": 4, "max_ensemble_size": 2}
    ).run(meta=Watching())
    assert max(sizes) <= 2
    assert evolution.manager.ensemble_size == 2
    assert evolution.made[-1] in evolution.manager.agents


def test_an_ensemble_of_one_gets_its_member_back_when_the_variant_loses(tmp_path):
    evolution = Evolution(
        tmp_path, talents=[3], manager={"max_spawns": 1, "max_ensemble_size": 1}
    ).run()
    assert evolution.manager.agents == [evolution.first]


def test_a_run_cut_short_keeps_only_a_variant_whose_scores_are_better(tmp_path):
    for talent, stays in ((60, True), (3, False)):
        evolution = Evolution(tmp_path / str(talent), talents=[talent], max_episodes=14).run()
        assert evolution.stop_reason.startswith("the cap")
        assert (evolution.made[0] in evolution.manager.agents) is stays


def test_the_score_of_the_window_under_way_is_not_the_variants(tmp_path):
    """DORMANT is told before the end of the window that led to it."""
    evolution = Evolution(tmp_path, talents=[0])
    recorded = []

    class Recording(PolicyManager):
        def record_agent_score(self, idx, score):
            recorded.append((self.agents[idx], score))

    evolution.manager = Recording(evolution.setup.registry, max_spawns=1)
    evolution.run()
    [variant] = evolution.made
    assert {score for agent, score in recorded if agent is variant} == {float(START)}


def test_the_meta_controller_stops_the_run_with_a_report(tmp_path, capsys):
    script = Script(MetaAction.NO_OP, MetaAction.STOP)
    evolution = Evolution(tmp_path, talents=[3]).run(meta=script)
    assert evolution.setup.diary.windows[-1].episode_id == 1
    assert "Reason           : MetaController decision" in capsys.readouterr().out


def test_the_meta_controller_is_not_asked_while_a_variant_is_under_training(tmp_path):
    script = Script(MetaAction.SPAWN)
    evolution = Evolution(tmp_path, talents=[3, 3]).run(meta=script)
    assert len(evolution.made) == 2
    assert len(script.asked) == 1


def test_the_meta_controller_decides_anew_after_each_decision(tmp_path):
    script = Script(MetaAction.NO_OP, MetaAction.PRUNE)
    evolution = Evolution(tmp_path, talents=[], manager={"max_spawns": None})
    evolution.manager.add_agent(evolution.first)
    evolution.manager.add_agent(Talent(1), weight=0.5)
    evolution.run(meta=script, factory=lambda: None)
    assert script.asked[:3] == [(1, 2), (2, 2), (1, 1)]


def test_what_a_variant_has_to_beat_is_the_best_policy_and_not_the_latest_weights(tmp_path):
    """Windows 0, 1 and 2 scored 0, 1 and 2 updates; the third one has no score yet."""
    champions = []

    class Watching(Talent):
        def learn(self, episode_data):
            champions.append(evolution.first.updates)
            return super().learn(episode_data)

    evolution = Evolution(tmp_path, talents=[0])
    script = Script(MetaAction.NO_OP, MetaAction.NO_OP, MetaAction.SPAWN)
    evolution.run(factory=lambda: Watching(0), meta=script)
    assert champions[0] == 2


def test_an_ensemble_under_training_is_judged_with_the_variant_and_without(tmp_path):
    """Its action is the mean of its members': a better member raises it, a worse one does not."""

    class Continuous(Talent):
        def act(self, observation):
            return np.float64(self.skill)

    made = []

    def make():
        made.append(Continuous([20, 1][len(made)]))
        return made[-1]

    first = Continuous(3)
    manager = PolicyManager(CheckpointRegistry(tmp_path), max_spawns=2)
    manager.add_agent(first)
    evolution = Evolution(tmp_path, talents=[], agent=EnsembleAgent(manager, first))
    evolution.manager = manager
    evolution.run(factory=make)
    better, worse = made
    assert evolution.manager.agents == [first, better]
    assert better.updates > 20
    assert evolution.manager.weights[1] > evolution.manager.weights[0]
    # From several scores of one contest the noise can be told.
    assert {len(member.scores) % 5 for member in evolution.manager.members} == {0}
    assert worse.updates > 0


def test_an_ensemble_of_one_goes_on_with_its_primary_agent_when_the_variant_loses(tmp_path, caplog):
    """It became a member of itself, and acted without end."""
    first = Talent(3)
    manager = PolicyManager(CheckpointRegistry(tmp_path), max_spawns=1, max_ensemble_size=1)
    manager.add_agent(first)
    evolution = Evolution(tmp_path, talents=[], agent=EnsembleAgent(manager, first))
    evolution.manager = manager
    with caplog.at_level(logging.INFO):
        evolution.run(factory=lambda: Talent(1))
    assert evolution.manager.agents == [first]
    assert "recursion" not in caplog.text
    assert "the present ensemble against the best on record: mean 13 against 13" in caplog.text


def test_by_hand_the_documented_sequence_runs_at_once(tmp_path, capsys):
    """Without a loop nobody trains the variant: rollback, spawn, limit, stop."""
    registry = CheckpointRegistry(tmp_path)
    save(registry, 9.0)
    manager = PolicyManager(registry, max_spawns=1, max_ensemble_size=2)
    agent, stops = ArrayAgent(1.0), []
    manager.add_agent(agent)
    callback = manager.as_callback(agent, agent_factory=ArrayAgent)
    callback.set_stop_fn(lambda: stops.append(True))
    callback.on_episode_end(0, metrics(2.0))
    callback.on_dormant(1)
    assert agent.weights[0] == 9.0
    assert manager.ensemble_size == 2
    assert stops == [True]
    assert capsys.readouterr().out.count("Training Complete") == 1


def test_an_agent_that_scores_more_than_the_best_policy_is_not_rolled_back(tmp_path):
    registry = CheckpointRegistry(tmp_path)
    save(registry, 9.0)
    manager = PolicyManager(registry)
    agent = ArrayAgent(1.0)
    callback = manager.as_callback(agent)
    callback.on_episode_end(0, metrics(10.0))
    callback.on_dormant(1)
    assert agent.weights[0] == 1.0


def test_without_a_score_the_agent_is_left_alone(tmp_path):
    registry = CheckpointRegistry(tmp_path)
    save(registry, 9.0)
    agent = ArrayAgent(1.0)
    PolicyManager(registry).as_callback(agent).on_dormant(0)
    assert agent.weights[0] == 1.0


def test_where_nothing_can_vary_the_run_says_so_and_spends_nothing(tmp_path, caplog, capsys):
    class Plain(Talent):
        default_param_bounds: ClassVar[Any] = {}
        default_log_params: ClassVar[Any] = ()

        def __init__(self, talent: int) -> None:
            super().__init__(talent)
            self.params = {"name": "adam", "flag": True}

    evolution = Evolution(tmp_path, [3, 3], agent=Plain(3), manager={"max_spawns": 5})
    evolution.run(factory=lambda: Plain(3))
    assert evolution.manager.spawn_count == 0
    assert evolution.manager.ensemble_size == 1
    assert caplog.text.count("no variants are spawned: Plain has neither numeric") == 1
    assert "Plateau — model converged" in capsys.readouterr().out
    assert evolution.setup.pipeline.collected < 400


def test_any_object_that_decides_is_a_meta_controller(tmp_path):
    class Stopper:
        def __init__(self):
            self.asked = []

        def decide(self, history, status):
            self.asked.append((len(history), status["ensemble_size"]))
            return MetaAction.STOP if len(history) == 3 else MetaAction.NO_OP

    meta = Stopper()
    evolution = Evolution(tmp_path, [3]).run(meta=meta)
    assert evolution.stop_reason == "metacontroller decision"
    assert meta.asked == [(1, 1), (2, 1), (3, 1)]


def test_what_is_no_meta_action_is_named_and_nothing_follows_from_it(tmp_path, caplog):
    class Talker:
        def decide(self, history, status):
            return "grow"

    evolution = Evolution(tmp_path, [3], max_episodes=4).run(meta=Talker())
    assert "'grow' is not a valid MetaAction" in caplog.text
    assert evolution.manager.spawn_count == 0


def test_nothing_is_spawned_while_no_policy_was_kept(tmp_path):
    manager = PolicyManager(CheckpointRegistry(tmp_path), max_spawns=1)
    assert manager.as_callback(ArrayAgent(), ArrayAgent).on_dormant(0) is None
    assert manager.spawns_remaining == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("x",), "agent must be a BaseAgent, got str"),
        (
            (CountingAgent(), CountingAgent()),
            "agent_factory must be a function that makes an agent",
        ),
        ((CountingAgent(), None, "x"), "meta_controller must be an object with the method decide"),
        (
            (CountingAgent(), None, MetaController),
            "meta_controller must be .* decide, got the class MetaController; give an instance",
        ),
    ],
)
def test_what_cannot_evolve_is_refused_at_once(tmp_path, arguments, message):
    with pytest.raises(TypeError, match=message):
        PolicyManager(CheckpointRegistry(tmp_path)).as_callback(*arguments)


def test_only_agents_join(tmp_path):
    with pytest.raises(TypeError, match="agent must be a BaseAgent, got str"):
        PolicyManager(CheckpointRegistry(tmp_path)).add_agent("x")


def test_scores_of_another_kind_are_not_held_against_each_other(tmp_path):
    agent, meta = ArrayAgent(), Script()
    manager = PolicyManager(CheckpointRegistry(tmp_path))
    manager.add_agent(agent)
    callback = manager.as_callback(agent, meta_controller=meta)
    for score in (0.1, 0.2):
        callback.on_episode_end(0, metrics(score))
    callback.on_event(Rescored(per_step=False, windows=9))
    callback.on_episode_end(0, metrics(300.0))
    assert [count for count, _ in meta.asked] == [1, 2, 1]
    assert manager.status()["agents"][0]["mean_score"] in (300.0, None)
