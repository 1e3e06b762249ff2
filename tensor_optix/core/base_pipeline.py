"""The contract of a pipeline: an endless source of windows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.environment_recipe import EnvironmentRecipe
    from tensor_optix.core.observation_layout import AnySpace
    from tensor_optix.core.types import EpisodeData

EpisodeBoundaryFn: TypeAlias = Callable[[int, float, Any], bool]
"""`(step_count, elapsed_seconds, last_observation) -> whether the window ends here`."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where windows come from, as far as a pipeline can tell."""

    recipe: EnvironmentRecipe | None = None
    """From which the same environments can be made again; None where there is none."""
    backend: str = ""
    """What steps them."""
    num_envs: int = 1
    window_size: int | None = None
    """Steps of each environment in a window; None: as it comes."""
    observation_space: AnySpace | None = None
    """Of one environment; None where that is not known. So with the next."""
    action_space: AnySpace | None = None
    rescale_actions: bool = True
    """Whether an agent's actions in [-1, 1] are stretched to the bounds of the action space."""

    @property
    def rows_per_window(self) -> int | None:
        """The most environment steps in a window; None where that is not known."""
        return None if self.window_size is None else self.window_size * self.num_envs


class BasePipeline(ABC):
    """Steps an environment with an agent and yields what happened, window by window.

    Examples:
        >>> from tensor_optix import BatchPipeline, make_agent
        >>> pipeline = BatchPipeline(env_id="CartPole-v1", window_size=32)
        >>> pipeline.set_agent(make_agent("CartPole-v1", framework="native"))
        >>> pipeline.setup()
        >>> next(pipeline.episodes()).num_steps
        32
        >>> pipeline.teardown()
    """

    @abstractmethod
    def setup(self) -> None:
        """Begin afresh: make or reset the environments, with the pipeline's seed."""

    @abstractmethod
    def episodes(self) -> Iterator[EpisodeData]:
        """Yield windows without end. A window is collected when it is asked for, not before."""

    @abstractmethod
    def teardown(self) -> None:
        """Let go of what `setup` acquired. Called once after every `setup`, also after an error."""

    def restart(self) -> None:
        """Begin fresh episodes, where possible the same ones each time, between `setup` and `teardown`."""
        self.teardown()
        self.setup()

    def renew(self) -> None:
        """Begin fresh episodes, others than those of `restart` where the pipeline can; as `restart` does."""
        self.restart()

    def twin(
        self, most_envs: int | None = None, most_rows: int | None = None
    ) -> BasePipeline | None:
        """Return a pipeline over further environments of the same kind; None where it can make none.

        Args:
            most_envs: Environments, where there would be more and all are of one kind. None: as many as here.
            most_rows: Of each environment in a window, in the same way.
        """
        return None

    @property
    @abstractmethod
    def is_live(self) -> bool:
        """Whether the data come from a running system that cannot be reset."""

    @property
    def source(self) -> Source:
        """Where the windows come from."""
        return Source()

    @property
    def time_limit(self) -> int | None:
        """Steps after which an episode is cut; None where there is no limit, or it is not known."""
        return None

    @property
    def environments(self) -> Sequence[object]:
        """The environment objects that it was given, without wrappers. No other may step them meanwhile."""
        return ()

    def state_dict(self) -> dict[str, Any] | None:
        """Return what a resumed run needs to go on with the episodes under way, and to count its windows.

        Called between two windows. Plain values and NumPy arrays, as `core.checkpoints.saved_state` has
        them. None: nothing is kept, and a resumed run begins fresh episodes.
        """
        return None

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Take on what `state_dict` returned; called once after `setup`, before the first window.

        Returns:
            Whether the episodes under way go on. False: all environments have begun fresh episodes, others
            than those of `setup` where the pipeline can; windows are numbered on all the same.

        Raises:
            ValueError: If it does not fit; also KeyError and TypeError are understood as that.
        """
        return False

    def set_agent(self, agent: BaseAgent) -> None:
        """Let `agent` choose the actions from the next step on."""

    def seed(self, seed: int) -> None:
        """Make the environments follow from `seed`, from the next `setup` on."""
