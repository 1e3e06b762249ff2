import json

import pytest

from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tests.core.array_agent import FileAgent, evaluation
from tests.core.ensemble_members import Voter, ensemble_of, window


def test_all_members_and_their_weights_are_saved_in_plain_files(tmp_path):
    saved = ensemble_of(
        tmp_path, Voter(0, 1.0), Voter(1, 2.0), Voter(2, 3.0), weights=[0.1, 0.2, 0.3]
    )
    saved.save_state(tmp_path / "state")
    assert json.loads((tmp_path / "state" / "ensemble.json").read_text()) == {
        "weights": {"0": 0.1, "1": 0.2, "2": 0.3}
    }
    loaded = ensemble_of(tmp_path, Voter(0), Voter(1), Voter(2))
    loaded.load_state(tmp_path / "state")
    manager = loaded.policy_manager
    assert [agent.weights[0] for agent in manager.agents] == [1.0, 2.0, 3.0]
    assert manager.weights == [0.1, 0.2, 0.3]


def test_an_ensemble_and_a_single_agent_read_each_others_files(tmp_path):
    single = Voter(0, 5.0)
    single.save_weights(tmp_path / "single")
    ensemble = ensemble_of(tmp_path, Voter(0, 1.0), Voter(1, 2.0))
    ensemble.save_weights(tmp_path / "ensemble")
    ensemble.load_weights(tmp_path / "single")
    assert [agent.weights[0] for agent in ensemble.policy_manager.agents] == [5.0, 2.0]
    single.load_weights(tmp_path / "ensemble")
    assert single.weights[0] == 1.0


def test_a_stored_ensemble_brings_back_who_has_left_and_dismisses_who_has_joined(tmp_path):
    agents = [Voter(0, 1.0), Voter(1, 2.0), Voter(2, 3.0)]
    ensemble = ensemble_of(tmp_path, *agents[:2], weights=[1.0, 0.5])
    manager = ensemble.policy_manager
    ensemble.save_state(tmp_path / "two")
    manager.prune()
    manager.add_agent(agents[2])
    assert manager.agents == [agents[0], agents[2]]
    ensemble.load_state(tmp_path / "two")
    assert manager.agents == agents[:2]
    assert manager.weights == [1.0, 0.5]


def test_an_ensemble_with_unknown_members_is_refused_untouched(tmp_path):
    ensemble_of(tmp_path, Voter(0, 1.0), Voter(1, 2.0)).save_weights(tmp_path / "two")
    one = ensemble_of(tmp_path, Voter(0, 9.0))
    with pytest.raises(ValueError, match=r"has the members \[0, 1\], this one knows \[0\]"):
        one.load_weights(tmp_path / "two")
    assert one.primary_agent.weights[0] == 9.0


def test_averaging_averages_every_member_or_nobody_can(tmp_path):
    agents = Voter(0), Voter(1)
    ensemble = ensemble_of(tmp_path, *agents)
    paths = [tmp_path / "a", tmp_path / "b"]
    for path, (first, second) in zip(paths, ((1.0, 10.0), (3.0, 30.0)), strict=True):
        agents[0].weights[:], agents[1].weights[:] = first, second
        ensemble.policy_manager.members[1].weight = second
        ensemble.save_weights(path)
    assert ensemble.average_weights(paths) is False
    for agent in agents:
        agent.can_average = True
    assert ensemble.average_weights(paths) is True
    assert [agent.weights[0] for agent in agents] == [2.0, 20.0]
    assert ensemble.policy_manager.weights == [1.0, 20.0]
    ensemble.policy_manager.prune()
    assert ensemble.average_weights(paths) is False


def test_the_registry_restores_a_whole_ensemble(tmp_path):
    agents = Voter(0, 1.0), Voter(1, 2.0)
    ensemble = ensemble_of(tmp_path, *agents)
    registry = CheckpointRegistry(tmp_path / "checkpoints")
    registry.save(ensemble, evaluation(5.0), ensemble.get_hyperparams())
    ensemble.learn(window([0]))
    assert registry.load_best(ensemble) is not None
    assert [agent.weights[0] for agent in agents] == [1.0, 2.0]


def test_members_may_write_files(tmp_path):
    ensemble = ensemble_of(tmp_path, FileAgent(1.0), FileAgent(2.0), weights=[0.1, 0.2])
    registry = CheckpointRegistry(tmp_path / "checkpoints")
    registry.save(ensemble, evaluation(1.0), ensemble.get_hyperparams())
    agents, manager = ensemble.policy_manager.agents, ensemble.policy_manager
    for agent in agents:
        agent.weights += 1.0
    registry.save(ensemble, evaluation(1.0), ensemble.get_hyperparams())
    assert registry.load_best(ensemble)
    assert [agent.weights[0] for agent in agents] == [1.0, 2.0]
    assert manager.weights == [0.1, 0.2]
    registry.load_ensemble(ensemble)
    assert [agent.weights[0] for agent in agents] == [1.5, 2.5]
    FileAgent(7.0).save_weights(tmp_path / "single")
    ensemble.load_weights(tmp_path / "single")
    assert [agent.weights[0] for agent in agents] == [7.0, 2.5]


def test_an_ensemble_may_be_kept_in_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    ensemble = ensemble_of(tmp_path, Voter(0, 1.0), Voter(1, 2.0))
    ensemble.save_weights("~/ensemble")
    ensemble.load_weights("~/ensemble")
    assert (tmp_path / "ensemble" / "ensemble.json").exists()
    assert not (tmp_path / "~").exists()
