"""The door for one environment: any object with `reset` and `step` comes in, Gymnasium's form goes out.

What an environment returns is brought into that form where its meaning is certain, and is refused
otherwise, in one line that names the environment, what it returned, and what to do.
"""

from __future__ import annotations

import copy
import inspect
import logging
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, NoReturn

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete, Space
from gymnasium.vector import SyncVectorEnv

from tensor_optix.core.discrete_spaces import DiscreteSpace
from tensor_optix.core.observation_layout import ACTION_MASK, has_parts, laid_out, seen_space
from tensor_optix.core.observation_values import ObservationDoor, as_array, described
from tensor_optix.pipeline.vector_contract import has_arrays, objects, space_dtype, space_shape

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensor_optix.core.observation_layout import AnySpace
    from tensor_optix.core.types import Array

logger = logging.getLogger(__name__)

MASK_METHODS = ("action_masks", "action_mask")
"""By which environments tell what is allowed, where their infos do not."""

MOST_STEPS = 100_000
"""Of an episode that can be rebuilt."""
MOST_SECONDS = 30.0
"""Which that may take."""

ONE_REWARD = (
    "make one number of them, with mo_gymnasium.wrappers.LinearReward(env, weight=...) for instance"
)


class CheckedEnv(gymnasium.Env[Any, Any]):
    """An environment of anybody's, whose every answer is checked.

    Observations come out as arrays of the space's shape and dtype, rewards as floats, flags as bools. An
    observation of a space without arrays (a Dict, a Graph, one of the user's) comes out unchecked, as a copy
    that the environment does not write into, in an array of objects of the shape `()`. What a method
    `action_masks` or `action_mask` tells is put into the infos as "action_mask", where they have none.

    Args:
        env: A `gymnasium.Env`, or an object with `reset`, `step` and both spaces.
        name: What messages call it. None: its class.
        in_rows: Whether a Dict or a Tuple comes out as one row of numbers.

    Attributes:
        name: What messages call it.
        on_error: Told of whatever the environment raises, before that is raised.
        is_rebuilt: Whether the episode under way is one of before, and as it was as far as can be told.
        owes_reset: Whether that episode is over, so that the next `step` begins another one in its place.

    Raises:
        TypeError: If it is no environment, says nothing of its spaces, or has rewards of several numbers.
        ValueError: If a row is wanted, and no part can be laid out in numbers.
    """

    def __init__(self, env: Any, name: str | None = None, in_rows: bool = False) -> None:
        require_environment(env)
        require_one_reward(env)
        self._env = env
        self.name = name or f"environment {type(core(env)).__name__}"
        self.observation_space, self.action_space = env.observation_space, env.action_space
        if isinstance(env, gymnasium.Env):
            self.spec, self.metadata, self.render_mode = env.spec, env.metadata, env.render_mode
        self._reset = _Resetting(env)
        self._record = _EpisodeRecord(env)
        self._note = self._record.note
        self._total = 0.0
        self._episodes = self._steps_before = 0
        self._to_rebuild: dict[str, Any] | None = None
        self.on_error: Callable[[Exception], None] = _let_pass
        self.is_rebuilt = self.owes_reset = False
        self._masks: Callable[[], Any] | None = None
        self._looked_at: Any = None
        self._step_name = f"{self.name}: step"
        self._taken_in = _taking_in(self.observation_space, in_rows)
        if in_rows:
            self.observation_space = seen_space(self.observation_space)

    @property
    def unwrapped(self) -> Any:
        """The environment without its wrappers."""
        return core(self._env)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode, or go on with the one that `episode_state` was set to."""
        state, self._to_rebuild = self._to_rebuild, None
        self.is_rebuilt = self.owes_reset = False
        if state is not None and (answer := self._rebuilt(state)) is not None:
            return answer
        return self._begin(seed, options)

    def _begin(
        self, seed: int | None, options: dict[str, Any] | None
    ) -> tuple[Any, dict[str, Any]]:
        self._steps_before += self._record.count
        self._episodes += 1
        self._record.begin(seed, options)
        self._total = 0.0
        try:
            observation, info = reset_answer(self._reset(seed, options), self.name)
            info = {} if info is None else info
            if self.unwrapped is not self._looked_at:
                # The first one, or one that a wrapper has made anew.
                self._looked_at = self.unwrapped
                self._masks = None if ACTION_MASK in info else _mask_method(self._env)
            return self._taken_in(observation, f"{self.name}: reset"), self._with_mask(info)
        except Exception as error:
            self._explain(error, f"the reset of its episode {self._episodes}")
            raise

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step."""
        if self.owes_reset:
            observation, info = self.reset()
            return observation, 0.0, False, False, info
        self._note(action)
        try:
            observation, reward, terminated, truncated, info = step_answer(
                self._stepped(action), self.name
            )
            if not isinstance(reward, float):
                reward = self._reward(reward)
            self._total += reward
            return (
                self._taken_in(observation, self._step_name),
                reward,
                terminated
                if terminated.__class__ is bool
                else self._flag("terminated", terminated),
                truncated if truncated.__class__ is bool else self._flag("truncated", truncated),
                self._with_mask({} if info is None else info),
            )
        except Exception as error:
            self._explain(error, f"step {self._record.count} of its episode {self._episodes}")
            raise

    def _stepped(self, action: Any) -> Any:
        try:
            return self._env.step(action)
        except ValueError as error:
            # Gymnasium's wrappers unpack what the environment in them returned, and say no more than this.
            if "expected 5, got 4" in str(error):
                _refuse_step(self.name, "a tuple of 4", error)
            raise

    def _explain(self, error: Exception, where: str) -> None:
        """Note on an error, which stays what it is, in which environment it was raised, and when."""
        error.add_note(
            f"{self.name}: this was raised in {where}, after {self._steps_before + self._record.count} "
            "steps in all since it was made"
        )
        self.on_error(error)

    @property
    def episode_state(self) -> dict[str, Any] | None:
        """All from which the episode under way can be rebuilt; None where it cannot be.

        Set, with the "seconds" that it may take, it is what the next `reset` goes on with. The episode is
        played once more: with the random state from which it began, and its actions. It is as it was if
        rewards and random state come out the same; whoever sets it compares the observation, too. Where they
        do not, or the environment raises, an episode begins, and `is_rebuilt` is False.
        """
        return self._record.state(self._total)

    @episode_state.setter
    def episode_state(self, state: dict[str, Any] | None) -> None:
        self._to_rebuild = state

    def _rebuilt(self, state: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        """Play the episode of a state once more; None where that fails."""
        try:
            answer = self._replayed(state)
        except Exception as error:
            # The environment's own: it is not in the state that it was in.
            logger.info("%s: its episode cannot be rebuilt: %r", self.name, error)
            self.owes_reset = False
            return None
        now = self.episode_state
        self.is_rebuilt = now is not None and all(
            _are_same(now[key], state[key]) for key in ("total", "random")
        )
        return answer

    def _replayed(self, state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        actions, end = self._record.actions_of(state), time.monotonic() + state["seconds"]
        observation, info = self._begin(self._record.prepare(state), None)
        done = False
        for action in actions:
            if time.monotonic() > end:
                raise TimeoutError(f"it takes longer than {state['seconds']} seconds")
            observation, _, terminated, truncated, info = self.step(action)
            done = terminated or truncated
        self.owes_reset = done
        return observation, info

    def close(self) -> None:
        """Close the environment, where it can be."""
        close = getattr(self._env, "close", None)
        if close is not None:
            close()

    def _with_mask(self, info: dict[str, Any]) -> dict[str, Any]:
        return info if self._masks is None else {**info, ACTION_MASK: self._masks()}

    def _reward(self, value: Any) -> float:
        number = value if isinstance(value, Real) else _only_number(value, "fiub")
        if number is None:
            remedy = f": {ONE_REWARD}" if np.ndim(value) else ""
            raise TypeError(
                f"{self.name}: step must return one number as reward, got {described(value)}{remedy}"
            )
        return float(number)

    def _flag(self, name: str, value: Any) -> bool:
        number = _only_number(value, "biuf")
        if number not in (0, 1):
            raise TypeError(
                f"{self.name}: step must return {name} as a bool, got {described(value)}"
            )
        return bool(number)


def _taking_in(space: AnySpace, in_rows: bool) -> Callable[[Any, str], Any]:
    """Return what makes an observation of what an environment shows, and of the name of its method."""
    if in_rows and has_parts(space):
        return laid_out(space).flattened
    return ObservationDoor(space) if has_arrays(space) else _copied


def _copied(value: Any, _: str) -> Array:
    return objects([copy.deepcopy(value)]).reshape(())


def _mask_method(env: Any) -> Callable[[], Any] | None:
    """Return the method without arguments by which an environment tells which actions are allowed."""
    if not isinstance(env.action_space, DiscreteSpace):
        return None
    for name in MASK_METHODS:
        is_wrapped = isinstance(env, gymnasium.Env) and env.has_wrapper_attr(name)
        method = env.get_wrapper_attr(name) if is_wrapped else getattr(env, name, None)
        if inspect.isroutine(method) and not _required(method):
            return method
    return None


def _required(method: Callable[..., Any]) -> list[str]:
    """Return the arguments that a method cannot be called without."""
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        name
        for name, one in inspect.signature(method).parameters.items()
        if one.default is inspect.Parameter.empty and one.kind not in optional
    ]


class _EpisodeRecord:
    """From what an episode began and what was done in it: enough to play it once more.

    Of actions that are no numbers, of environments without a NumPy generator `np_random`, and of episodes of
    more than `MOST_STEPS` steps it is not.

    Attributes:
        note: Takes each action, before the environment, which may change it, does.
    """

    def __init__(self, env: Any) -> None:
        self._env, self._space = env, env.action_space
        # One more than can be rebuilt, which tells that there were too many.
        self._actions: deque[Any] = deque(maxlen=MOST_STEPS + 1)
        self._is_whole = isinstance(self._space, Discrete)
        self.note: Callable[[Any], None] = self._actions.append
        if not self._is_whole:
            self.note = self._note_array if has_arrays(self._space) else self._count
        self._start: dict[str, Any] | None = None

    def begin(self, seed: int | None, options: dict[str, Any] | None) -> None:
        """Note from what an episode is about to begin."""
        self._actions.clear()
        generator = self._generator
        if options or generator is None or not has_arrays(self._space):
            self._start = None
        elif seed is None:
            self._start = {"seed": None, "began": generator.bit_generator.state}
        else:
            self._start = {"seed": int(seed), "began": None}

    @property
    def count(self) -> int:
        """Steps of the episode under way, as far as they are kept."""
        return len(self._actions)

    def state(self, total: float) -> dict[str, Any] | None:
        """Return the episode under way, with its rewards in all; None where it cannot be played once more."""
        generator, count = self._generator, self.count
        if self._start is None or generator is None or count > MOST_STEPS:
            return None
        dtype, shape = space_dtype(self._space), space_shape(self._space)
        if self._is_whole:
            actions = np.fromiter(self._actions, dtype, count)
        else:
            actions = np.frombuffer(b"".join(self._actions), dtype).reshape(count, *shape)
        return {
            **self._start,
            "actions": actions,
            "are_python": bool(self._actions) and isinstance(self._actions[0], int),
            "total": total,
            "random": generator.bit_generator.state,
        }

    def actions_of(self, state: dict[str, Any]) -> list[Any]:
        """Return the actions of a state as the environment got them.

        Raises:
            ValueError: If they are none of this action space.
        """
        actions = state["actions"]
        wanted = (len(actions), *space_shape(self._space)), space_dtype(self._space)
        if (actions.shape, actions.dtype) != wanted:
            raise ValueError(f"actions must be of {self._space}, got {described(actions)}")
        if state["are_python"]:
            numbers: list[Any] = actions.tolist()
            return numbers
        return [action.copy() for action in actions]

    def prepare(self, state: dict[str, Any]) -> int | None:
        """Give the environment the random state from which an episode began; return the seed of its reset."""
        if state["seed"] is not None:
            return int(state["seed"])
        generator = self._generator
        if generator is None:
            raise TypeError("the environment has no np_random")
        # Where it is: parts of the environment may hold the generator, too.
        generator.bit_generator.state = state["began"]
        return None

    @property
    def _generator(self) -> np.random.Generator | None:
        # Asked each time: a wrapper may have made the environment anew.
        generator = getattr(core(self._env), "np_random", None)
        return generator if isinstance(generator, np.random.Generator) else None

    def _note_array(self, action: Any) -> None:
        self._actions.append(action.tobytes())

    def _count(self, _: Any) -> None:
        self._actions.append(None)


def _let_pass(_: Any) -> None:
    return None


def _are_same(one: Any, other: Any) -> bool:
    """Whether two states of generators are the same to the bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_are_same(one[key], other[key]) for key in one)
    return bool(np.array_equal(one, other))


class _Resetting:
    """Resets an environment in the way that it understands, which is found out once.

    Gymnasium's take a seed and options; gym's before 0.26 took none, and had a method `seed`.
    """

    def __init__(self, env: Any) -> None:
        self._env = env
        accepted = _keywords(env.reset)
        self._takes_seed, self._takes_options = "seed" in accepted, "options" in accepted
        by_method: Any = getattr(env, "seed", None)
        self._seed = by_method if callable(by_method) else self._ignore

    def __call__(self, seed: int | None, options: dict[str, Any] | None) -> Any:
        given: dict[str, Any] = {}
        if self._takes_seed:
            given["seed"] = seed
        elif seed is not None and self._seed is not None:
            self._seed(seed)
        if options is not None and self._takes_options:
            given["options"] = options
        return self._env.reset(**given)

    def _ignore(self, seed: int) -> None:
        logger.warning(
            "seed %d is ignored: %s.reset takes none. Let it be reset(self, *, seed=None, options=None)",
            seed,
            type(self._env).__name__,
        )
        self._seed = None  # said once


def require_environment(env: Any) -> None:
    """Check that `env` is one environment, with both its spaces.

    Raises:
        TypeError: If it is none, saying what to do.
    """
    if isinstance(env, type):
        raise TypeError(
            f"env must be an environment, got the class {env.__name__}: make one, {env.__name__}()"
        )
    if not isinstance(env, gymnasium.Env) and not _can_be_stepped(env):
        raise TypeError(
            "env must be a gymnasium.Env, a gymnasium.vector.VectorEnv, an EnvPool made with "
            f'env_type="gymnasium" or an object with reset and step, got {type(env).__name__}'
        )
    for attribute in ("observation_space", "action_space"):
        space = getattr(env, attribute, None)
        if not isinstance(space, Space):
            got = "none" if space is None else f"{type(space).__module__}.{type(space).__name__}"
            raise TypeError(
                f"{type(env).__name__}.{attribute} must be a space of gymnasium.spaces, got {got}: set the "
                f"attribute {attribute}, to gymnasium.spaces.Box(-1, 1, (4,)) for instance"
            )


def require_one_reward(env: Any) -> None:
    """Refuse an environment that says that its rewards are vectors: a number for each of several objectives.

    Wrappers that may make one number of them are trusted; the first step tells.

    Raises:
        TypeError: If it does, saying what to do.
    """
    space = getattr(core(env), "reward_space", None)
    several = isinstance(space, Space) and math.prod(space.shape or ()) > 1
    if several and not _may_change_rewards(env):
        raise TypeError(
            f"environment {type(core(env)).__name__}: rewards must be one number, got vectors of the space "
            f"{space}: {ONE_REWARD}"
        )


def _may_change_rewards(env: Any) -> bool:
    """Whether there is a wrapper around `env` of which it is not known that it leaves rewards alone."""
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, gymnasium.RewardWrapper) or not _is_gymnasiums(env):
            return True
        env = env.env
    return env is not core(env)


def _is_gymnasiums(wrapper: Any) -> bool:
    return type(wrapper).__module__.startswith("gymnasium.")


def core(env: Any) -> Any:
    """Return an environment without its wrappers: what two of them have in common if they are one."""
    return getattr(env, "unwrapped", env)


def cores(env: Any) -> list[Any]:
    """Return the environments that `env` steps, without wrappers: itself, or those of a vector in here."""
    inner = core(env)
    return [core(each) for each in inner.envs] if isinstance(inner, SyncVectorEnv) else [inner]


def reset_answer(result: Any, who: str) -> tuple[Any, Any]:
    """Return observation and info, as `reset` is to return them; TypeError names `who` if it did not."""
    if isinstance(result, tuple | list) and len(result) == 2 and _is_info(result[1]):
        return result[0], result[1]
    raise TypeError(
        f"{who}: reset must return (observation, info), got {described(result)}: return observation, {{}}"
    )


def step_answer(result: Any, who: str) -> Sequence[Any]:
    """Return the five that `step` is to return; TypeError names `who` if it did not."""
    if not isinstance(result, tuple | list) or len(result) != 5 or not _is_info(result[4]):
        _refuse_step(who, described(result))
    return result


def _refuse_step(who: str, got: str, cause: Exception | None = None) -> NoReturn:
    remedy = "return these five, as Gymnasium has them"
    if got == "a tuple of 4":
        remedy = (
            "that is the API of gym before 0.26; return two flags in place of done, terminated where the "
            "episode ended by its own rules and truncated where a time limit cut it"
        )
    five = "(observation, reward, terminated, truncated, info)"
    raise TypeError(f"{who}: step must return {five}, got {got}: {remedy}") from cause


def _can_be_stepped(env: Any) -> bool:
    return callable(getattr(env, "reset", None)) and callable(getattr(env, "step", None))


def _is_info(info: Any) -> bool:
    return info.__class__ is dict or info is None or isinstance(info, Mapping)


def _keywords(function: Any) -> set[str]:
    """Return which of `seed` and `options` a `reset` takes; both where it cannot be read."""
    wanted = {"seed", "options"}
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return wanted
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
        return wanted
    return wanted & set(parameters)


def _only_number(value: Any, kinds: str) -> Any:
    """Return the number that an array holds alone; None where it holds none, or several."""
    given = as_array(value)
    if given is None or given.size != 1 or given.dtype.kind not in kinds:
        return None
    return given.item()
