"""How to begin in an environment that nobody said anything about: a first look comes in, choices go out.

Only what the look gives a reason for is chosen; the rest starts as the catalogue has it. What cannot be seen
before anything learns, the learning rate above all, is left to the tuning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box

from tensor_optix.algorithms.agent_factory import has_images
from tensor_optix.core.observation_layout import layout_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from tensor_optix.algorithms.catalogue import Algorithm
    from tensor_optix.core.observation_layout import AnySpace
    from tensor_optix.core.types import Array
    from tensor_optix.pipeline.first_look import FirstLook

DEAR_STEP = 0.01
"""Seconds; an update of any algorithm takes less."""
SLOW_STEP = 1e-3
"""Seconds from which on environments are worth a processor each."""
UNEVEN_SPREADS = 20.0
"""Numbers whose spreads differ by more than this are not seen alike by a network."""
ORDINARY = (0.1, 5.0)
"""Spreads and distances from 0 between which a network sees numbers as they are."""
WIDTHS = ((6, 64, 1e-3), (16, 128, 7e-4))
"""For so many numbers in observation and action, at most, so many units in the hidden layers of actor and
critic, and the learning rate that such networks bear."""
STANDS_OUT = 10.0
"""The last reward of an episode tells more than all others if it is so many times as large."""
FEW_EPISODES = 3
HORIZONS = (100, 10_000)
"""Of the discount, in steps."""
ALL_ALIKE = 10
"""Time limits that it looks ahead where the whole of an episode is to count alike. Swimmer-v5 after 100,000
steps of SAC: 336, 311 and 219 so, 176 with one time limit, 46 with 100 steps."""
MOST_MEMORY = 64
"""Of the noise of exploration, in steps. Random actions on MountainCarContinuous-v0 reach the flag in two of
three episodes with this or more, in one of twenty where each is drawn apart."""
MEMORIES = 4
"""So many fit into an episode."""
WARM_UP = (10, 10_000)
"""Episodes of random play, and steps at most, before critics of continuous actions learn: from a few hundred
rows they learn what later ones hardly correct (Nikishin et al. 2022).
LunarLanderContinuous-v3 after 60,000 steps: 166 with 10,000 random ones, -80 with 1,000, and -32 after
100,000."""
MANY_EPISODES = 100
"""Random ones, at most: where they end at once, further ones show nothing new. Walker2d-v5 after 100,000
steps: 1026 with so many, 620 with 10,000 steps of them."""
LONG_EPISODE = 500
"""Steps; where they are shorter nothing is gained by it. Pendulum-v1, of 200, after 20,000 steps: -205, -144
and -150 with 2,000 random ones, -160, -146 and -151 with 1,000."""
WARM_UP_SHARE = 0.1
"""Of a run's steps, at most."""
LONGER_SEARCH = 3
"""Times longer random actions are mixed in where hardly any of them pays. In the documented 10,000 steps 8 of
35 runs on MountainCar-v0, of several settings, found nothing, in 30,000 and 60,000 none of 12."""
DILIGENT = 1.0
"""Updates a step there, in place of fewer. Medians on MountainCar-v0 after 120,000 steps: -108 (6 runs), and
-127 (5) with half as many."""
BLIND = "hardly anything that random play met pays"


@dataclass(frozen=True)
class Choice:
    """Something that was chosen, and why."""

    option: str
    """The field of `RunConfig`; that of a hyperparameter is `hyperparams.NAME`."""
    value: Any
    reason: str


def best_suited(
    observation_space: AnySpace,
    action_space: AnySpace,
    step_seconds: float,
    among: Sequence[Algorithm],
    is_blind: bool = False,
) -> Choice:
    """Choose an algorithm.

    Args:
        observation_space: Of one environment.
        action_space: Of one environment.
        step_seconds: What a step of one takes.
        among: Those that come into question, at least one. If none acts in the space, the first is taken, and
            `make_agent` says what is wrong.
        is_blind: Whether random play met hardly anything that pays.
    """
    fitting = [one for one in among if isinstance(action_space, one.action_spaces)]
    if not fitting:
        return Choice("algorithm", among[0].name, "no other was left")
    if len(fitting) == 1:
        reason = "it is the one that takes these actions and options"
        return Choice("algorithm", fitting[0].name, reason)
    sees_images, is_dear = has_images(observation_space), step_seconds > DEAR_STEP
    if is_dear or (isinstance(action_space, Box) and not sees_images):
        thrifty = max(fitting, key=lambda one: one.thrift)
        why = f"a step takes {_duration(step_seconds)}" if is_dear else "continuous actions"
        return Choice("algorithm", thrifty.name, f"{why}: it needs the fewest steps")
    reaching = [one for one in fitting if "noise_memory" in one.default_params()]
    if is_blind and reaching and not sees_images:
        reason = f"{BLIND}: it can hold random actions, and so reaches farther"
        return Choice("algorithm", reaching[0].name, reason)
    quick = min(fitting, key=lambda one: one.thrift)
    reason = (
        "a replay of images takes much memory"
        if sees_images
        else f"a step takes {_duration(step_seconds)}: it learns the most in the same time"
    )
    return Choice("algorithm", quick.name, reason)


def starting_point(
    algorithm: Algorithm,
    observation_space: AnySpace,
    action_space: AnySpace,
    look: FirstLook,
    *,
    processors: int,
    most_steps: int | None = None,
    given: Collection[str] = (),
) -> list[Choice]:
    """Choose what an algorithm is to begin with otherwise than the catalogue has it.

    Args:
        algorithm: Acts in the space.
        observation_space: Of one environment.
        action_space: Of one environment.
        look: At a few of them.
        processors: How many there are.
        most_steps: Of the run; None: nobody said.
        given: The options, as a `Choice` names them, that somebody else chose.
    """
    usual = algorithm.default_params(has_images(observation_space))
    choices = [*_environments(algorithm, look, processors), *_normalization(look)]
    if "hidden_sizes" not in given:
        choices += _networks(algorithm, observation_space, action_space)
    choices += [
        *_horizon(algorithm, look),
        *_exploration(algorithm, look),
        *_search(usual, look),
        *_warm_up(algorithm, usual, look, most_steps),
    ]
    return [one for one in choices if one.option not in given]


def _environments(algorithm: Algorithm, look: FirstLook, processors: int) -> list[Choice]:
    if look.step_seconds < SLOW_STEP or processors <= algorithm.num_envs:
        return []
    reason = f"a step takes {_duration(look.step_seconds)}, and there are {processors} processors"
    return [Choice("num_envs", processors, reason)]


def _networks(
    algorithm: Algorithm, observation_space: AnySpace, action_space: AnySpace
) -> list[Choice]:
    """Choose networks for continuous actions, whose actors and critics see few numbers or many."""
    is_twin = set(algorithm.action_spaces) == {Box}
    if not is_twin or has_images(observation_space):
        return []
    count = layout_of(observation_space).size + math.prod(action_space.shape or ())
    for most, width, learning_rate in WIDTHS:
        if count <= most:
            reason = f"{count} numbers in observation and action"
            rate = f"networks of {width} units bear more than those of {algorithm.hidden_sizes[0]}"
            return [
                Choice("hidden_sizes", (width, width), reason),
                Choice("hyperparams.learning_rate", learning_rate, rate),
            ]
    return []


def _normalization(look: FirstLook) -> list[Choice]:
    if look.spreads is None or look.centers is None:
        return []
    varies = look.spreads > 0.0
    spreads, centers = look.spreads[varies], np.abs(look.centers[varies])
    if not len(spreads):
        return []
    reason = _why_uneven(spreads, centers)
    return [Choice("normalize_observations", True, reason)] if reason else []


def _why_uneven(spreads: Array, centers: Array) -> str:
    """Say why numbers of such spreads and means are to be normalized; nothing where they need not."""
    low, high = float(spreads.min()), float(spreads.max())
    least, most = ORDINARY
    if high / low > UNEVEN_SPREADS:
        return f"the numbers of an observation vary by {low:.2g} to {high:.2g}"
    if high < least:
        return f"no number of an observation varies by more than {high:.2g}"
    if high > most:
        return f"numbers of an observation vary by {high:.2g}"
    if float(centers.max()) > most:
        return f"numbers of an observation lie about {float(centers.max()):.2g}"
    return ""


def _horizon(algorithm: Algorithm, look: FirstLook) -> list[Choice]:
    if look.time_limit is None:
        return []
    reach = look.time_limit
    if look.is_blind:
        why = BLIND
    elif not algorithm.thrift and _ends_stand_out(look):
        why = "what counts comes at the end of an episode"
    elif look.takes_back:
        why, reach = "later rewards take back what some give", ALL_ALIKE * reach
    else:
        return []
    horizon = int(np.clip(reach, *HORIZONS))
    gamma = 1.0 - 1.0 / horizon
    if gamma <= algorithm.default_params()["gamma"]:
        return []
    reason = f"{why}, and one may last {look.time_limit:,} steps"
    return [Choice("hyperparams.gamma", round(gamma, 5), reason)]


def _exploration(algorithm: Algorithm, look: FirstLook) -> list[Choice]:
    """Choose noise that lasts where what pays is rare, for algorithms that know it: it reaches farther."""
    limit = MOST_MEMORY * MEMORIES if look.time_limit is None else look.time_limit
    memory = min(MOST_MEMORY, limit // MEMORIES)
    if "noise_memory" not in algorithm.default_params() or memory < 1:
        return []
    if not look.is_blind:
        # What must answer at once is hurt by an action that is held. With pink noise SAC reached 1,609 on
        # HalfCheetah-v5 in 40,000 steps, with white noise 3,669.
        return []
    reason = "what is drawn anew in each step cancels out, and gets nothing heavy to move"
    return [Choice("hyperparams.noise_memory", memory, reason)]


def _search(params: Mapping[str, Any], look: FirstLook) -> list[Choice]:
    """Choose a longer search where what pays is rare, and to learn more from each step."""
    if not look.is_blind:
        return []
    choices = []
    if params.get("epsilon_decay_steps"):
        steps = LONGER_SEARCH * params["epsilon_decay_steps"]
        choices.append(
            Choice("hyperparams.epsilon_decay_steps", steps, f"{BLIND}: it takes long to find")
        )
    if params.get("updates_per_step", DILIGENT) < DILIGENT:
        reason = f"{BLIND}: what does is to be learned from all the more"
        choices.append(Choice("hyperparams.updates_per_step", DILIGENT, reason))
    return choices


def _warm_up(
    algorithm: Algorithm, params: Mapping[str, Any], look: FirstLook, most_steps: int | None
) -> list[Choice]:
    """Choose how much random play critics of continuous actions begin with."""
    usual = params.get("learning_starts")
    is_twin = set(algorithm.action_spaces) == {Box}
    limit = look.time_limit
    if not is_twin or usual is None or look.is_blind or limit is None or limit < LONG_EPISODE:
        return []
    episodes, steps = WARM_UP
    of_many = MANY_EPISODES * look.steps // max(1, len(look.lengths))
    steps = min(steps, episodes * limit, of_many)
    if most_steps is not None:
        steps = min(steps, int(WARM_UP_SHARE * most_steps))
    if steps <= usual:
        return []
    reason = f"an episode may last {limit:,} steps: critics are to know a few of them first"
    return [Choice("hyperparams.learning_starts", steps, reason)]


def _ends_stand_out(look: FirstLook) -> bool:
    """Whether the rewards that end episodes are of another size than those on the way."""
    if len(look.last_rewards) < FEW_EPISODES:
        return False
    ordinary = float(np.median(np.abs(look.rewards)))
    return float(np.median(np.abs(look.last_rewards))) > STANDS_OUT * ordinary > 0.0


def _duration(seconds: float) -> str:
    unit, size = ("ms", 1e3) if seconds >= SLOW_STEP else ("us", 1e6)
    return f"{float(f'{size * seconds:.2g}'):g} {unit}"
