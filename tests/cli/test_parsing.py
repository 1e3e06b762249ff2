"""What is typed, and what is understood: names of other libraries, numbers in other forms."""

from __future__ import annotations

import pytest

from tensor_optix.algorithms.catalogue import ALGORITHMS
from tensor_optix.cli.options import TrainOptions, TuneOptions, whole_number
from tensor_optix.cli.parsing import parse, translated


def trained_with(*arguments: str) -> TrainOptions:
    options = parse(["train", "CartPole-v1", *arguments])
    assert isinstance(options, TrainOptions)
    return options


@pytest.mark.parametrize("text", ["100000", "100_000", "1e5", "1E5", "0.1e6"])
def test_a_whole_number_may_be_written_in_several_ways(text: str) -> None:
    assert whole_number(text) == 100_000
    assert trained_with("--max-steps", text).max_steps == 100_000
    assert trained_with(f"--max-steps={text}").max_steps == 100_000


@pytest.mark.parametrize("text", ["8.5", "1e-3", "inf", "nan", "many", ""])
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    with pytest.raises((ValueError, OverflowError)):
        whole_number(text)
    with pytest.raises(SystemExit):
        trained_with("--num-envs", text)


@pytest.mark.parametrize("sizes", [["64", "32"], ["64,32"], ["64,", "32"]])
def test_sizes_may_be_separated_by_commas(sizes: list[str]) -> None:
    assert trained_with("--hidden-sizes", *sizes, "--num-envs", "2").hidden_sizes == (64, 32)


@pytest.mark.parametrize("name", ["--max-steps", "--max_steps", "--timesteps", "--total-timesteps"])
def test_the_budget_is_understood_by_the_names_of_others(name: str) -> None:
    assert trained_with(name, "5000").max_steps == 5000


def test_hyperparameters_need_no_name_of_the_algorithm() -> None:
    options = trained_with("--lr", "0.01", "--gamma=0.9")
    assert options.hyperparams == {"learning_rate": 0.01, "gamma": 0.9}
    options = trained_with("--batch-size", "32", "--algo", "dqn", "--learning_rate", "1e-3")
    assert options.hyperparams == {"batch_size": 32, "learning_rate": 1e-3}
    assert trained_with("--algo=sac", "--tau", "0.1").hyperparams == {"tau": 0.1}


def test_a_hyperparameter_is_meant_for_every_algorithm_that_comes_into_question() -> None:
    options = trained_with("--gamma", "0.9", "--tau=0.1")
    assert [one.name for one in options.candidates] == ["sac", "td3"]
    assert all(
        options.hyperparams_of(one) == {"gamma": 0.9, "tau": 0.1} for one in options.candidates
    )
    assert [one.name for one in trained_with("--td3.policy-delay", "3").candidates] == ["td3"]
    assert len(trained_with("--algo", "auto").candidates) == len(ALGORITHMS)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], None),
        (["--normalize-observations"], True),
        (["--normalize_observations", "True"], True),
        (["--normalize-observations=False"], False),
        (["--no-normalize-observations"], False),
        (["--normalize-observations", "--num-envs", "2"], True),
    ],
)
def test_whether_observations_are_normalized_may_be_left_open(
    words: list[str], expected: bool | None
) -> None:
    assert trained_with(*words).normalize_observations is expected


def test_what_another_algorithm_knows_is_left_as_it_was_typed() -> None:
    asked = ["train", "X-v0", "--algo", "ppo", "--tau", "0.1"]
    assert translated(asked, "ppo") == asked
    assert translated(["evaluate", "runs", "--lr"], None) == ["evaluate", "runs", "--lr"]


def test_tune_answers_what_is_an_option_of_train() -> None:
    with pytest.raises(ValueError, match=r"--timesteps is an option of train; .* --trial-steps"):
        parse(["tune", "CartPole-v1", "--timesteps", "1e5"])
    options = parse(["tune", "CartPole-v1", "--trial-steps", "1e5", "--lr", "0.01"])
    assert isinstance(options, TuneOptions)
    assert options.trial_steps == 100_000
    assert options.hyperparams == {"learning_rate": 0.01}
