"""What every environment backend gives to a pipeline: one row format, one small contract.

In comes nothing but spaces and sizes; out go `VectorEnv`, the contract that the backends beside
this module fulfil, and `VectorStep`, the value that travels from a backend to a pipeline.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from tensor_optix.core.argument_checks import whole_number
from tensor_optix.core.observation_layout import AnySpace, ObservationLayout, layout_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tensor_optix.core.environment_recipe import EnvironmentRecipe
    from tensor_optix.core.types import Array
    from tensor_optix.pipeline.game import Game
    from tensor_optix.pipeline.info_keys import InfoKeys

NO_REWARD = np.float32(0)
SEEDS = 2**31
"""EnvPool takes no more."""
GOLDEN_STEP = 0x4F1BBCDD
"""An odd number, so that no two seeds meet, next to `SEEDS` times the golden ratio."""
ARRAY_SPACES = (Box, Discrete, MultiBinary, MultiDiscrete)
"""Their elements are arrays of one shape and dtype. Those of any other space are kept as objects."""


class VectorStep(NamedTuple):
    """What came back for B environments.

    A row is the transition that began at the observation delivered before for that environment
    and took the action sent for it. The arrays belong to the environment: they stay as they are
    until the next `send()` or `reset()`, are not to be written to, and are copied by a consumer
    that keeps them.
    """

    env_ids: Array
    """`[B]` int64, the environment of each row."""
    observations: Array
    """`[B, ...]`, what to act on next, in the environment's own dtype."""
    rewards: Array
    """`[B]` float32, 0 where the row is not valid."""
    terminated: Array
    """`[B]` bool, the episode ended by its own rules. May be set together with `truncated`."""
    truncated: Array
    """`[B]` bool, the episode was cut."""
    valid: Array
    """`[B]` bool. False where the row is no transition but a first observation."""
    end_observations: Array
    """`[K, ...]`, the true last observation of each episode that ended here: one for each row with
    `terminated | truncated`, in row order."""
    infos: Sequence[dict[str, Any]] = ()
    """What is kept of the environment's own remarks, one dict per row, or nothing at all."""
    action_masks: Array | None = None
    """`[B, A]` bool, which actions are allowed at `observations`; None where masks are not told or not
    needed."""
    end_masks: Array | None = None
    """`[K, A]` bool, which are at `end_observations`; all where nothing is told of these."""
    game: Game | None = None
    """What is scored, where that is neither the rewards nor the episodes. None: each episode is a game."""

    @property
    def scored(self) -> tuple[Array, Array]:
        """The rewards `[B]` that count for a score, and the ends `[B]` of what is scored."""
        return self.game or (self.rewards, self.terminated | self.truncated)


class VectorEnv(ABC):
    """N copies of an environment, stepped together, whatever runs them.

    `reset()` comes first; from then on `recv()` and `send()` alternate; where rows come in batches,
    `send()` may also answer several of them at once. The first rows after a
    reset carry the first observations and are not valid. An episode that ends is followed by a new
    one on its own: its first observation comes either with the ending row already or with the next
    row of that environment, which then is not valid and whose action is ignored. An exception of
    an environment passes through `send()` or `recv()` as it is.

    Attributes:
        name: The backend, for instance `"sync"` or `"envpool-async"`.
        num_envs: N, how many environments there are.
        batch_size: B, how many rows each `recv()` delivers. N means all of them, in order; less
            means those that finished first, in any order, and `send()` answers exactly these.
        observation_space: The space of one environment's observation.
        action_space: The space of one environment's action.
        max_episode_steps: The time limit of an episode in steps, None where unknown.
        label: What messages call the environments.
        recipe: From which the same environments can be made again; None where there is none.
        info_keys: Which of the environment's infos come with the rows. None: all of a plain
            environment's, none of a vector's.
        mask_size: A, the length of the masks by which rows tell which actions are allowed, 0 where they tell
            none; known after the first reset. A mask that observations hold is a part of these.
        needs_masks: Whether whoever sees the rows acts by the masks.
    """

    takes_any_space: ClassVar[bool] = False
    """Whether spaces may be other than `ARRAY_SPACES`."""
    recipe: EnvironmentRecipe | None = None
    info_keys: InfoKeys | None = None
    mask_size: int = 0
    needs_masks: bool = False

    def __init__(
        self,
        name: str,
        spaces: tuple[AnySpace, AnySpace],
        num_envs: int,
        batch_size: int | None = None,
        max_episode_steps: int | None = None,
    ) -> None:
        """Check and keep what describes the environments.

        Args:
            name: The backend's name.
            spaces: The observation space and the action space of one environment.
            num_envs: N, at least 1.
            batch_size: B, a divisor of N. None: N.
            max_episode_steps: The time limit, None where unknown.

        Raises:
            ValueError: If a space is not supported or N is no multiple of B.
        """
        self.name = name
        self.label = f"{name} environment"
        self.num_envs = num_envs
        self.batch_size = num_envs if batch_size is None else batch_size
        check_batch_size(num_envs, self.batch_size)
        self.observation_space, self.action_space = spaces
        if not self.takes_any_space:
            _require_arrays("observation", self.observation_space)
            _require_arrays("action", self.action_space)
        self.max_episode_steps = max_episode_steps
        self._is_held = True

    @property
    def title(self) -> str:
        """The environments in words: what they can be made from, else what messages call them."""
        return self.label if self.recipe is None else self.recipe.title

    @property
    def observation_layout(self) -> ObservationLayout:
        """In which columns of a row ready-made agents see the parts of an observation."""
        return layout_of(self.observation_space)

    @abstractmethod
    def reset(self, seed: int | None = None) -> None:
        """Begin afresh: every environment starts a new episode, unanswered rows are dropped.

        Args:
            seed: The same seed followed by the same actions gives the same rows. None: go on with
                the random state that the environments have.
        """

    def need_masks(self, is_needed: bool) -> None:
        """Note whether whoever sees the rows, from now on, acts by masks; the environments were reset.

        Raises:
            TypeError: If what they told is no mask.
            ValueError: If only some told a mask, or masks differ in length.
        """
        self.needs_masks = is_needed

    @abstractmethod
    def recv(self) -> VectorStep:
        """Wait for B rows and return them.

        Raises:
            RuntimeError: If nothing was sent since the last `recv()`.
        """

    @abstractmethod
    def send(self, actions: Array, env_ids: Array) -> None:
        """Send one action to each environment whose row was received and is not answered yet.

        Args:
            actions: `[B]` or `[B, ...]`, in the order of the rows. It may be reused on return.
            env_ids: `[B]`, the `env_ids` of these rows.

        Raises:
            RuntimeError: If there are no received rows to answer.
        """

    def episode_states(self) -> list[dict[str, Any]] | None:
        """Return of each environment what its episode under way can be rebuilt from, all rows received.

        None: of one at least it cannot.
        """
        return None

    def rebuild(self, states: Sequence[dict[str, Any]]) -> bool:
        """Go on with the episodes of `episode_states`, after a `reset` whose rows were received.

        Returns:
            Whether all of them are as they were, as far as can be told. Then `recv()` follows, and returns
            what is to be acted on next; else only `reset()` may follow.

        Raises:
            KeyError, TypeError, ValueError: If they are none.
        """
        return False

    @abstractmethod
    def close(self) -> None:
        """Release what the library made itself; an environment that the user made stays open.

        A second call does nothing.
        """

    def _take_over(self, environments: Iterable[object]) -> None:
        """Be the only one that steps these from now on: whoever did so before may not go on."""
        for environment in environments:
            before = _HOLDERS.get(id(environment), self)
            if before is not self:
                before.let_go()
            _HOLDERS[id(environment)] = self
        self._is_held = True

    def let_go(self) -> None:
        """Step the environments no more: another has reset them."""
        self._is_held = False

    def _require_held(self) -> None:
        """Refuse to go on with environments that another pipeline has reset meanwhile.

        Raises:
            RuntimeError: If one has.
        """
        if not self._is_held:
            raise RuntimeError(
                "another pipeline has reset this one's environment, and its rows would no longer follow "
                "each other: give each pipeline an environment object of its own"
            )


_HOLDERS: WeakValueDictionary[int, VectorEnv] = WeakValueDictionary()
"""Who steps an environment at present, by its `id`: the holder keeps it alive, and so the id its own."""


def check_batch_size(num_envs: int, batch_size: int) -> None:
    """Check that N environments split into batches of B.

    Raises:
        ValueError: If N is below 1 or no multiple of B.
    """
    if num_envs < 1:
        raise ValueError(f"num_envs must be at least 1, got {num_envs}")
    if batch_size < 1 or num_envs % batch_size:
        raise ValueError(
            f"num_envs must be a multiple of batch_size, got num_envs={num_envs} and "
            f"batch_size={batch_size}"
        )


def spread_seed(seed: int) -> int:
    """Return the first of the seeds of a pipeline's environments, which count up from there.

    People choose neighbours, 0 and 1, and environments counted up from these would be the same. Steps of the
    golden ratio round a circle stay apart for as long as one likes: Knuth, The Art of Computer Programming,
    vol. 3, 6.4. Seeds up to a hundred thousand leave 9,000 environments to each.

    Raises:
        ValueError: If the seed is no whole number of at least 0.
    """
    return whole_number("seed", seed, least=0) * GOLDEN_STEP % SEEDS


def has_arrays(space: AnySpace) -> bool:
    """Whether a space's elements are arrays, and not objects of which nothing is known."""
    return isinstance(space, ARRAY_SPACES)


def space_shape(space: AnySpace) -> tuple[int, ...]:
    """Return the shape of one element in a row; one of no array is one object."""
    return (space.shape or ()) if has_arrays(space) else ()


def space_dtype(space: AnySpace) -> np.dtype[Any]:
    """Return the dtype in which a space's elements are kept; those that are no arrays as objects."""
    if not has_arrays(space):
        return np.dtype(object)
    if space.dtype is None:
        raise ValueError(f"the space {space} has no dtype; give it one")
    return np.dtype(space.dtype)


def constant(values: Array) -> Array:
    """Return `values`, from now on read-only, so that it can be handed out again and again."""
    values.flags.writeable = False
    return values


def objects(values: Sequence[Any]) -> Array:
    """Return an array `[len(values)]` of the very objects, which may be arrays or sequences themselves."""
    kept = np.empty(len(values), object)
    for row, value in enumerate(values):
        kept[row] = value
    return kept


def _require_arrays(role: str, space: AnySpace) -> None:
    if has_arrays(space):
        return
    remedy = (
        "gymnasium.wrappers.TransformObservation"
        if role == "observation"
        else "gymnasium.wrappers.TransformAction"
    )
    also = ", or a Dict or a Tuple with one of them in it" if role == "observation" else ""
    raise ValueError(
        f"unsupported {role} space {space} of a vector environment: expected Box, Discrete, MultiDiscrete or "
        f"MultiBinary{also}; {remedy} can translate it, or let BatchPipeline(env=...) step one plain "
        "environment, with an agent of your own"
    )
