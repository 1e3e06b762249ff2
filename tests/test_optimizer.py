"""RLOptimizer: its arguments and its promises."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tensor_optix import (
    BackoffOptimizer,
    FixedHyperparams,
    MomentumOptimizer,
    PBTOptimizer,
    RLOptimizer,
    SPSAOptimizer,
)
from tensor_optix.core.base_evaluator import BaseEvaluator, MeanReturnEvaluator
from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.types import LoopState
from tests.pipeline.counting_env import Counter
from tests.scripted import CountingAgent, Diary, ScriptedPipeline


def flat(updates: int, window: int) -> float:
    return 1.0


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("max_episode", "max_episodes"),
        ("calbacks", "callbacks"),
        ("run_directory", "run_dir"),
        ("agent_factry", "agent_factory"),
        ("diag_target_k", "diag_target_kl"),
    ],
)
def test_a_misspelt_argument_is_refused_with_the_closest_match(name, close):
    with pytest.raises(TypeError, match=f"no argument '{name}'; did you mean '{close}'"):
        RLOptimizer(CountingAgent(), ScriptedPipeline(flat), **{name: 1})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"agent": None}, "agent must be a BaseAgent, got NoneType"),
        ({"pipeline": object()}, "pipeline must be a BasePipeline, got object"),
        ({"val_pipeline": "no"}, "val_pipeline must be a BasePipeline, got str"),
        ({"evaluator": max}, "evaluator must be a BaseEvaluator"),
        ({"callbacks": Diary()}, "callbacks must be a list, got one Diary"),
        ({"callbacks": [print]}, "a callback must be a LoopCallback"),
        ({"agent": CountingAgent}, "agent must be an agent, got the class CountingAgent; give an"),
        ({"pipeline": ScriptedPipeline}, "a BasePipeline, got the class ScriptedPipeline; give an"),
        ({"val_pipeline": ScriptedPipeline}, "val_pipeline must be a BasePipeline, got the class"),
        (
            {"evaluator": MeanReturnEvaluator},
            "evaluator must be a BaseEvaluator, got the class Mean",
        ),
        ({"optimizer": FixedHyperparams}, "optimizer must be a BaseOptimizer, got the class Fixed"),
        ({"callbacks": [Diary]}, "a LoopCallback, got the class Diary; give an instance"),
        ({"callbacks": Diary}, "callbacks must be a list, got the class Diary"),
        (
            {"pipeline": Counter()},
            r"got the environment Counter: wrap it, as BatchPipeline\(env=\.\.\.\)",
        ),
        (
            {"pipeline": Counter},
            "pipeline must be a BasePipeline, got the environment class Counter: wrap",
        ),
        (
            {"val_pipeline": Counter()},
            "val_pipeline must be a BasePipeline, got the environment Counter",
        ),
    ],
)
def test_parts_of_the_wrong_kind_are_refused_by_name(arguments, message):
    parts = {"agent": CountingAgent(), "pipeline": ScriptedPipeline(flat)} | arguments
    with pytest.raises(TypeError, match=message):
        RLOptimizer(**parts)


class Scored(BaseEvaluator):
    """Scores by a number, where metrics are wanted."""

    def __init__(self, score: object) -> None:
        self.given = score

    def score(self, episode_data, train_diagnostics):
        return self.given


@pytest.mark.parametrize(("score", "got"), [(3.5, "the float 3.5"), (None, "None")])
@pytest.mark.parametrize("validates", [False, True])
def test_a_score_that_is_a_bare_number_ends_the_run_with_what_to_return(
    tmp_path, score, got, validates
):
    held_out = ScriptedPipeline(flat) if validates else None
    parts = CountingAgent(), ScriptedPipeline(flat), Scored(score)
    optimizer = RLOptimizer(*parts, val_pipeline=held_out, checkpoint_dir=tmp_path)
    message = (
        rf"Scored\.score\w* must return EvalMetrics, got {got}: return EvalMetrics\(primary_score"
    )
    with pytest.raises(TypeError, match=message):
        optimizer.run()


def test_every_path_may_begin_with_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    parts = CountingAgent(), ScriptedPipeline(flat)
    options = {"max_episodes": 1, "verbose": True}
    RLOptimizer(*parts, run_dir="~/run", verbose_log_file="~/logs/lines.txt", **options).run()
    RLOptimizer(*parts, checkpoint_dir="~/best", **options).run()
    files = ("run/metrics.jsonl", "run/checkpoints/manifest.json", "logs/lines.txt")
    assert all((tmp_path / name).exists() for name in (*files, "best/manifest.json"))
    assert CheckpointRegistry("~/best").best is not None
    assert not (tmp_path / "~").exists()


def test_one_seed_reaches_agent_and_both_pipelines_and_each_gets_its_own(tmp_path):
    class Seeded(ScriptedPipeline):
        received: int | None = None

        def seed(self, seed: int) -> None:
            self.received = seed

    class SeededAgent(CountingAgent):
        received: int | None = None

        def seed(self, seed: int) -> None:
            self.received = seed

    def seeds(seed: int) -> list[int | None]:
        agent, pipeline, held_out = parts = SeededAgent(), Seeded(flat), Seeded(flat)
        options = {"checkpoint_dir": tmp_path, "seed": seed}
        RLOptimizer(agent, pipeline, val_pipeline=held_out, **options)
        return [part.received for part in parts]

    assert seeds(1) == seeds(1)
    assert len(set(seeds(1))) == 3
    assert not set(seeds(1)) & set(seeds(2))


def test_a_custom_agent_of_six_methods_trains_and_a_flat_score_stops_by_itself(tmp_path):
    optimizer = RLOptimizer(
        agent=CountingAgent(), pipeline=ScriptedPipeline(flat), checkpoint_dir=tmp_path
    )
    optimizer.run()
    assert optimizer.state is LoopState.DORMANT
    assert optimizer.best_snapshot is not None


def test_explicit_thresholds_are_obeyed_to_the_window(tmp_path):
    diary = Diary()
    pipeline = ScriptedPipeline(flat)
    RLOptimizer(
        agent=CountingAgent(),
        pipeline=pipeline,
        checkpoint_dir=tmp_path,
        max_interval_episodes=99,
        dormant_threshold=19,
        callbacks=[diary],
    ).run()
    # Evaluations after windows 1, 2, 4, ..., 64, and 12 more, 99 windows apart.
    assert diary.named("on_dormant") == [99 * 12]


FULL_CONFIGURATION = {
    "max_snapshots": 10,
    "rollback_on_degradation": False,
    "improvement_margin": 0.0,
    "max_episodes": None,
    "base_interval": 1,
    "backoff_factor": 2.0,
    "max_interval_episodes": 100,
    "plateau_threshold": 5,
    "dormant_threshold": 20,
    "degradation_threshold": 0.95,
    "min_degradation_drop": 1e-4,
    "noise_k": 2.0,
    "score_window": 20,
    "trend_window": 8,
    "min_episodes_before_dormant": 0,
    "min_episodes_before_degradation": 5,
    "score_smoothing": 2,
    "callbacks": [],
}


def windows_of(directory, agent, **options) -> int:
    pipeline = ScriptedPipeline(flat)
    RLOptimizer(agent, pipeline, checkpoint_dir=directory, **options).run()
    return pipeline.collected


def test_the_documented_full_configuration_is_the_bare_call(tmp_path):
    bare = windows_of(tmp_path / "bare", CountingAgent())
    assert windows_of(tmp_path / "full", CountingAgent(), **FULL_CONFIGURATION) == bare < 400


@pytest.mark.parametrize("options", [{}, FULL_CONFIGURATION], ids=["bare", "full"])
def test_the_agents_own_guard_holds_against_the_documented_default(tmp_path, options):
    class Guarded(CountingAgent):
        default_min_episodes_before_dormant = 1000

    options = options | {"max_episodes": 900}
    assert windows_of(tmp_path / "guarded", Guarded(), **options) == 900
    assert windows_of(tmp_path / "free", CountingAgent(), **options) < 900


def test_the_run_directory_holds_checkpoints_metrics_and_events(tmp_path):
    RLOptimizer(
        agent=CountingAgent(), pipeline=ScriptedPipeline(flat), run_dir=tmp_path, max_episodes=3
    ).run()
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3
    assert "baseline" in (tmp_path / "events.jsonl").read_text()
    assert (tmp_path / "checkpoints" / "manifest.json").exists()
    with pytest.raises(ValueError, match="holds another run"):
        RLOptimizer(agent=CountingAgent(), pipeline=ScriptedPipeline(flat), run_dir=tmp_path)


def test_verbose_lines_may_go_to_a_file(tmp_path, capsys):
    log = tmp_path / "logs" / "verbose.txt"
    RLOptimizer(
        agent=CountingAgent(),
        pipeline=ScriptedPipeline(flat),
        checkpoint_dir=tmp_path / "checkpoints",
        max_episodes=2,
        verbose=True,
        verbose_log_file=log,
    ).run()
    assert capsys.readouterr().out == ""
    assert log.read_text().startswith("  [loop] ep=   0")


def test_the_default_checkpoint_directory_is_the_documented_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    RLOptimizer(agent=CountingAgent(), pipeline=ScriptedPipeline(flat), max_episodes=1).run()
    assert (tmp_path / "checkpoints" / "manifest.json").exists()


def digest_of_weights(backend: str) -> str:
    """Return a digest of an agent's weights after 20 windows."""
    import torch

    from tensor_optix import TorchPPOAgent, VectorBatchPipeline

    def layers(outputs: int) -> torch.nn.Module:
        hidden = torch.nn.Linear(4, 16)
        return torch.nn.Sequential(hidden, torch.nn.Tanh(), torch.nn.Linear(16, outputs))

    torch.manual_seed(1)
    actor, critic = layers(2), layers(1)
    parameters = [*actor.parameters(), *critic.parameters()]
    agent = TorchPPOAgent(actor, critic, torch.optim.Adam(parameters, lr=3e-4), device="cpu")
    pipeline = VectorBatchPipeline(
        env_id="CartPole-v1", num_envs=4, window_size=32, backend=backend
    )
    with tempfile.TemporaryDirectory() as directory:
        RLOptimizer(agent, pipeline, checkpoint_dir=directory, seed=7, max_episodes=20).run()
    arrays = [parameter.detach().numpy() for parameter in parameters]
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def test_the_same_seed_gives_identical_weights_after_20_windows():
    """Here, after whatever other tests did, and in a process of its own."""
    pytest.importorskip("torch")
    backends = ["sync", *(["envpool"] if importlib.util.find_spec("envpool") else [])]
    script = (
        "import sys; from tests.test_optimizer import digest_of_weights\n"
        "print(*map(digest_of_weights, sys.argv[1:]))"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", script, *backends],
        cwd=Path(__file__).parents[1],
        check=True,
        capture_output=True,
        text=True,
    )
    assert elsewhere.stdout.split() == [digest_of_weights(backend) for backend in backends]


class Tunable(CountingAgent):
    default_param_bounds = {"learning_rate": (1e-4, 1e-2)}  # noqa: RUF012
    default_log_params = ("learning_rate",)


def tuned_params(directory, agent, **options) -> list[dict]:
    diary = Diary()
    RLOptimizer(
        agent, ScriptedPipeline(flat), checkpoint_dir=directory, callbacks=[diary], **options
    ).run()
    return [event.numbers["effective"] for event in diary.events if event.kind == "tuned"]


def test_by_default_hyperparameters_are_tuned_within_the_agents_own_bounds(tmp_path):
    tried = {params["learning_rate"] for params in tuned_params(tmp_path, Tunable(), seed=1)}
    assert len(tried) > 2
    assert all(1e-4 <= rate <= 1e-2 for rate in tried)


@pytest.mark.parametrize("make", [BackoffOptimizer, MomentumOptimizer, PBTOptimizer, SPSAOptimizer])
def test_a_tuner_without_bounds_of_its_own_tunes_within_the_agents(tmp_path, make):
    tuned = tuned_params(tmp_path, Tunable(), optimizer=make(seed=0))
    rates = [one["learning_rate"] for one in tuned]
    assert len(set(rates)) > 1
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)


def test_without_bounds_or_with_fixed_hyperparameters_nothing_is_tuned(tmp_path):
    assert tuned_params(tmp_path, CountingAgent()) == []
    assert tuned_params(tmp_path, Tunable(), optimizer=FixedHyperparams()) == []


def test_one_seed_makes_the_tuner_reproducible(tmp_path):
    runs = [tuned_params(tmp_path, Tunable(), seed=seed) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_a_target_score_ends_the_run(tmp_path):
    pipeline = ScriptedPipeline(lambda updates, window: float(updates))
    RLOptimizer(CountingAgent(), pipeline, checkpoint_dir=tmp_path, target_score=10.0).run()
    assert pipeline.collected < 20


def test_the_agent_that_is_trained_can_be_asked_for(tmp_path):
    agent = CountingAgent()
    assert RLOptimizer(agent, ScriptedPipeline(flat), checkpoint_dir=tmp_path).agent is agent


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"agent": CountingAgent(), "agent_factory": CountingAgent},
            "either agent or agent_factory",
        ),
        ({"agent_factory": CountingAgent}, "pipeline_factory must be a function"),
        ({"pipeline_factory": ScriptedPipeline}, "agent_factory must be a function"),
        ({"agent": CountingAgent()}, "pipeline must be a BasePipeline"),
        ({"param_space": {"x": ("int", 1, 2)}}, "param_space needs agent_factory"),
    ],
)
def test_parts_and_factories_are_not_mixed_up(arguments, message):
    with pytest.raises(TypeError, match=message):
        RLOptimizer(**arguments)


def test_factories_make_what_is_trained_and_can_be_stopped_before_that(tmp_path):
    made = []

    def agent_factory(params):
        made.append(CountingAgent())
        return made[-1]

    options = {"checkpoint_dir": tmp_path, "max_episodes": 3}
    optimizer = RLOptimizer(
        agent_factory=agent_factory, pipeline_factory=lambda: ScriptedPipeline(flat), **options
    )
    assert optimizer.state is LoopState.ACTIVE
    assert optimizer.agent is None
    optimizer.stop()
    optimizer.run()
    assert made == []
    optimizer.run()
    assert optimizer.agent is made[0]
    assert len(made[0].learned) == 3


def test_rules_for_diagnostics_are_off_unless_one_is_given(tmp_path):
    class Spiking(Tunable):
        """Its loss jumps in window 12."""

        def learn(self, episode_data):
            super().learn(episode_data)
            return {"loss": 100.0 if self.updates == 13 else 1.0}

    def lowest(**rules) -> float:
        agent = Spiking()
        agent.params["learning_rate"] = 1e-3
        tried = tuned_params(tmp_path, agent, max_episodes=20, max_interval_episodes=1, **rules)
        return min((params["learning_rate"] for params in tried), default=1e-3)

    fixed = {"optimizer": FixedHyperparams()}
    assert lowest(**fixed) == 1e-3
    assert lowest(**fixed, diag_loss_spike_factor=5.0) == pytest.approx(5e-4)
    with pytest.raises(TypeError, match="diag_target_kl"):
        RLOptimizer(Tunable(), ScriptedPipeline(flat), diag_target_lk=0.1)
