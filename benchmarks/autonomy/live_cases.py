"""What the autonomy is tried on: settings that are the defaults, good ones, and spoilt ones.

The score to reach is that of LEARNING.md. A case is a `Case` of the learning table, of which only the
environment, the agent's settings, the budget and the goal are used: held-out episodes are left out, because
no default has them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.learning_cases import CASES as TUNED
from benchmarks.learning_cases import Case, by_default
from tensor_optix.algorithms.catalogue import find_algorithm

GROUPS = ("defaults", "good", "bad")
TUNERS = ("forks", "on", "off")
"""What changes hyperparameters: the command's forks, the library's SPSA ("on"), or nothing."""


@dataclass(frozen=True)
class LiveCase:
    """A setting, and what it is tried for."""

    group: str
    """One of `GROUPS`."""
    setting: Case


def spoilt(case: Case) -> dict[str, Case]:
    """Return the case with one hyperparameter far off, by the name of what is wrong."""
    params = find_algorithm(case.algorithm).default_params() | case.hyperparams
    rate, entropy = params["learning_rate"], params["entropy_coef"]
    wrong = {
        "learning-rate-x30": {"learning_rate": rate * 30},
        "learning-rate-by-30": {"learning_rate": rate / 30},
        "clip-ratio-0.9": {"clip_ratio": 0.9},
        "entropy-coef-0.3": {"entropy_coef": 0.3},
        "entropy-coef-swapped": {"entropy_coef": 0.0 if entropy else 0.05},
        "gamma-0.9": {"gamma": 0.9},
        "one-epoch": {"n_epochs": 1},
        "minibatch-2048": {"minibatch_size": 2048},
    }
    return {
        name: replace(case, hyperparams=dict(case.hyperparams) | params)
        for name, params in wrong.items()
    }


# Far above what runs take that stop by themselves.
DEFAULTS = {
    "cartpole-ppo": by_default("CartPole-v1", "ppo", 1_000_000, 475),
    "acrobot-ppo": by_default("Acrobot-v1", "ppo", 1_000_000, -100),
    "lunarlander-ppo": by_default("LunarLander-v3", "ppo", 8_000_000, 200),
    "pendulum-sac": by_default("Pendulum-v1", "sac", 200_000, -200),
}

GOOD = {
    "cartpole-ppo": replace(DEFAULTS["cartpole-ppo"], steps=150_000),
    "acrobot-ppo": replace(DEFAULTS["acrobot-ppo"], steps=150_000),
    "lunarlander-ppo-tuned": TUNED["lunarlander-ppo"],
    "pendulum-sac-tuned": TUNED["pendulum-sac"],
    "pendulum-ppo-tuned": TUNED["pendulum-ppo"],
}

# Acrobot-v1 is not among them: with seed 0, all four first ones reached the greedy goal within 150,000 steps.
TO_SPOIL = {
    name: replace(GOOD[name], steps=2 * GOOD[name].steps)
    for name in ("cartpole-ppo", "pendulum-ppo-tuned", "lunarlander-ppo-tuned")
}
"""Within twice the budget of good settings."""

LIVE_CASES = (
    {f"defaults-{name}": LiveCase("defaults", case) for name, case in DEFAULTS.items()}
    | {f"good-{name}": LiveCase("good", case) for name, case in GOOD.items()}
    | {
        f"bad-{name}-{wrong}": LiveCase("bad", case)
        for name, good in TO_SPOIL.items()
        for wrong, case in spoilt(good).items()
    }
)
