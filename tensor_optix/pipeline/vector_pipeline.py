"""Windows from many environments that step together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tensor_optix.core.plain_warnings import quiet_making
from tensor_optix.pipeline.checked_env import CheckedEnv, core
from tensor_optix.pipeline.info_keys import InfoKeys
from tensor_optix.pipeline.rollout_pipeline import RolloutPipeline
from tensor_optix.pipeline.vector_env import (
    VectorEnv,
    check_env,
    from_env_fns,
    given_environments,
    make_vector_env,
    require_id,
    wrap_env,
)
from tensor_optix.pipeline.worker_processes import Timeouts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tensor_optix.core.base_pipeline import BasePipeline
    from tensor_optix.core.environment_recipe import Wrapper
    from tensor_optix.core.foreign_agent import Actor

DEFAULT_NUM_ENVS = 8


class VectorBatchPipeline(RolloutPipeline):
    """Steps N environments at once and lets the agent act on all of them in one call.

    Where an observation has several parts, a Dict or a Tuple, every agent sees them in one row, whose columns
    `pipeline.env.observation_layout` names; a mask of the actions, under the key `action_mask`, comes last.

    Environments may tell which actions are allowed, 1 for each that is and 0 for the others: in every info,
    under "action_mask"; in a part of that name of a Dict observation; as EnvPool does; or by a method
    `action_masks()`. PPO of discrete actions and DQN never take another then, nor learn of one; their windows
    have the mask behind each observation.

    Args:
        env_fns: Functions that each make an environment of its own: Gymnasium's, or any object with
            `reset`, `step` and both spaces. Or None, with `env` or `env_id`.
        agent: Chooses the actions: any object with `act`; `RLOptimizer` sets its own.
        window_size: Steps per environment; a window holds `window_size * num_envs` rows.
        async_envs: Run the `env_fns` in a process each.
        env: A vector environment of Gymnasium's or an EnvPool; it stays yours and is not closed.
        env_id: The id of an environment that EnvPool or Gymnasium knows.
        num_envs: How many of it, 8 if not given.
        backend: Who steps them: "envpool", "envpool-async", "sync", "async", "vector", or "auto": EnvPool
            where it has the environment, else the fastest of the others by a short measurement.
        seed: Makes the environments reproducible.
        rescale_actions: Whether an agent whose actions are in [-1, 1] has them stretched to the bounds of
            the action space; windows keep them as they were chosen.
        info_keys: Which of the environments' infos windows keep. `window.infos` is then a list of R
            dicts, one per flat row, each with those of the keys that its row has; `{}` where the row is
            no transition. The last row of an episode has what its last step said, whatever way the
            environments reset. A key that no row of the first window has is warned of, once. None:
            `window.infos` is empty, but for one plain environment, whose whole infos are kept.
        env_kwargs: With `env_id`: arguments of the environment's constructor.
        wrappers: With `env_id`: put around each environment, in this order, as `make_vector_env` has it.
        step_timeout: Seconds that a step may take in a process of its own. None: as many as it likes, which
            for a robot may be minutes.
        reset_timeout: Seconds that a reset may take there, also one that follows on an episode's end. None:
            as many as it likes. Environments in this process are never timed: nothing here could end them.
        restart_environments: With `env_fns` or `env_id`: make an environment that raises anew, and go on. Its
            episode is cut at the observation before, with one warning each time; where the new one raises
            at once, and again, the run ends. Without it an exception ends the run.

    Raises:
        TypeError: If `env` is no environment, `env_fns` are no functions, or `info_keys` no list of names.
        ValueError: Unless exactly one of `env_fns`, `env` and `env_id` is given, or if another argument
            does not go with it.

    Examples:
        >>> from tensor_optix import VectorBatchPipeline, make_agent
        >>> agent = make_agent("CartPole-v1", framework="native")
        >>> pipeline = VectorBatchPipeline(
        ...     agent=agent, env_id="CartPole-v1", num_envs=4, window_size=16, backend="sync")
        >>> pipeline.setup()
        >>> window = next(pipeline.episodes())
        >>> window.grid(window.rewards).shape
        (16, 4)
        >>> pipeline.teardown()
    """

    def __init__(
        self,
        env_fns: Sequence[Callable[[], Any]] | None = None,
        agent: Actor | None = None,
        window_size: int = 256,
        async_envs: bool = False,
        *,
        env: Any = None,
        env_id: str | None = None,
        num_envs: int | None = None,
        backend: str = "auto",
        seed: int | None = None,
        rescale_actions: bool = True,
        info_keys: Sequence[str] | None = None,
        env_kwargs: Mapping[str, Any] | None = None,
        wrappers: Sequence[Wrapper] = (),
        step_timeout: float | None = None,
        reset_timeout: float | None = 60.0,
        restart_environments: bool = False,
    ) -> None:
        if sum(source is not None for source in (env_fns, env, env_id)) != 1:
            raise ValueError("VectorBatchPipeline takes one of env_fns=, env= and env_id=")
        require_id(env_id, env_kwargs, wrappers)
        if env_id is None and backend != "auto":
            raise ValueError(
                f"backend needs env_id=, got {backend!r} with environments of your own: those of env_fns= "
                "run in this process, or with async_envs=True in one each"
            )
        if env_fns is not None:
            _check_functions(env_fns, num_envs)
        if env is not None:
            check_env(env)
            if restart_environments:
                raise ValueError(
                    "restart_environments needs env_fns= or env_id=: an environment that is given as env= "
                    "cannot be made anew"
                )
        timeouts = Timeouts(step_timeout, reset_timeout).checked()
        self._given = env
        self._factories = [_Factory(function) for function in env_fns or ()]

        def make_env(seed: int | None, most_envs: int | None = None) -> VectorEnv:
            if self._factories:
                # All of them, as they may make environments that differ.
                return from_env_fns(self._factories, async_envs, timeouts, restart_environments)
            if env_id is None:
                return wrap_env(env)
            number = DEFAULT_NUM_ENVS if num_envs is None else num_envs
            number = min(number, most_envs or number)
            made: dict[str, Any] = {
                "env_kwargs": env_kwargs,
                "wrappers": wrappers,
                "timeouts": timeouts,
                "restart_environments": restart_environments,
            }
            return make_vector_env(env_id, number, backend, seed, **made)

        kept = None if info_keys is None else InfoKeys(info_keys)
        shared = (make_env, agent, window_size, seed, rescale_actions)
        super().__init__(*shared, makes_new=env is None, info_keys=kept)

    @property
    def n_envs(self) -> int:
        """The number of environments."""
        return self.env.num_envs

    @property
    def environments(self) -> Sequence[object]:
        """The environments given by `env`, without wrappers; none where they were made here."""
        return given_environments(self._given)

    def twin(
        self, most_envs: int | None = None, most_rows: int | None = None
    ) -> BasePipeline | None:
        """Return a pipeline over further environments of the same kind; None where there are none."""
        shares = any(factory.gives_one_and_the_same() for factory in self._factories[:1])
        return None if shares else super().twin(most_envs, most_rows)


class _Factory:
    """A function of the user's, which makes an environment, and what it made last in this process."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._made: Any = None

    def __getstate__(self) -> dict[str, Any]:
        # What was made here has no business in another process, and may not be fit to travel.
        return {"_function": self._function, "_made": None}

    def __call__(self) -> Any:
        self._made = self._function()
        return self._made

    def gives_one_and_the_same(self) -> bool:
        """Whether it gives the environment that it gave before: to step this one would disturb that one."""
        if self._made is None:
            return False
        with quiet_making():
            another = self._function()
        if core(another) is core(self._made):
            return True
        CheckedEnv(another).close()
        return False


def _check_functions(env_fns: Any, num_envs: int | None) -> None:
    if isinstance(env_fns, str):
        raise TypeError(f"env_fns must be functions; for an id use env_id={env_fns!r}")
    if not isinstance(env_fns, list | tuple) or not all(callable(function) for function in env_fns):
        raise TypeError(
            "env_fns must be a list of functions that each make one environment, such as "
            "[lambda: gymnasium.make('CartPole-v1')] * 8"
        )
    if num_envs not in (None, len(env_fns)):
        raise ValueError(f"num_envs is {num_envs}, but there are {len(env_fns)} env_fns")
