"""`tensor_optix.train`: what `tensor-optix train` does, from Python; the best policy comes back."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from tensor_optix.cli.errors import CommandError, require_packages
from tensor_optix.core.argument_checks import instance_of
from tensor_optix.core.callbacks import LoopCallback
from tensor_optix.policies.loading import load
from tensor_optix.runs.interruption import Interruption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.cli.options import TrainOptions
    from tensor_optix.core.types import PathLike
    from tensor_optix.policies.policy import Policy


def train(
    env_id: str,
    algo: str | None = None,
    *,
    max_steps: int | None = None,
    target_score: float | None = None,
    seed: int | None = None,
    run_dir: PathLike | None = None,
    callbacks: Sequence[LoopCallback] = (),
    progress: bool = True,
    **options: Any,
) -> Policy:
    """Train as `tensor-optix train` does, and return the best policy.

    Args:
        env_id: A Gymnasium or EnvPool id, such as `"CartPole-v1"`; `"module:id"` imports the module first.
        algo: `"ppo"`, `"dqn"`, `"sac"` or `"td3"`. None: chosen by a first look at the environment, with what
            it starts with.
        max_steps: The most environment steps. None: until nothing is left to gain.
        target_score: Stop once a cautious estimate of the best policy's score reaches this.
        seed: Makes the run reproducible. None: one is drawn, and recorded.
        run_dir: Where everything is kept. None: `runs/ENV_ID/TIME`.
        callbacks: Listeners.
        progress: Show a panel that is redrawn in place, and a report at the end, in a terminal or a
            notebook; piped, nothing.
        **options: Every other option of the command, with `_` for `-`, and hyperparameters by their names:
            `num_envs=16, env_kwargs={"size": 8}, learning_rate=1e-3, tensorboard=True`.

    Returns:
        The best policy of the run: `predict` acts by it, `agent` gives the whole learner.

    Raises:
        ValueError: If there is no such option, or the run cannot be made as asked. Nothing was written.
        TypeError: If `env_id` is no text, or a callback is none.
        ImportError: If a package of the command is not installed.
        Exception: That by which the environment, or a step of the learning, failed. What was learned before
            is kept in the run's directory.
        KeyboardInterrupt: On Ctrl-C, when the window under way has ended; the best is kept there, too.

    Examples:
        >>> import numpy as np
        >>> import tensor_optix
        >>> policy = tensor_optix.train("CartPole-v1", max_steps=4096, seed=0, progress=False)
        >>> policy.predict(np.zeros(4, np.float32)) in (0, 1)
        True
    """
    try:
        require_packages("matplotlib")
    except CommandError as error:
        raise ImportError(str(error)) from error
    from tensor_optix.cli.training import begin
    from tensor_optix.runs.display import make_python_display

    if not isinstance(env_id, str):
        raise TypeError(
            f"env_id must be an id, such as 'CartPole-v1', got {type(env_id).__name__}: register an "
            "environment of your own by gymnasium.register, or train it by "
            "RLOptimizer(agent, BatchPipeline(env=...))"
        )
    for callback in callbacks:
        instance_of("a callback", callback, LoopCallback)
    named = {"algo": algo, "max_steps": max_steps, "target_score": target_score, "seed": seed}
    asked = _asked({"env_id": env_id, "run_dir": run_dir, **named}, options)
    shown = partial(make_python_display, progress=progress)
    with Interruption() as interruption:
        try:
            trained = begin(asked, shown, interruption, callbacks)
        except CommandError as error:
            raise ValueError(str(error)) from error
    assert trained is not None
    interruption.end_process()
    if trained.error is not None:
        trained.error.add_note(f"what was learned before is kept in {trained.directory.path}")
        raise trained.error
    return load(trained.directory.path)


def _asked(named: dict[str, Any], options: dict[str, Any]) -> TrainOptions:
    """Return the options of the command that arguments stand for, in full."""
    from tensor_optix.cli.configuration import OF_ONE_CALL, options_of, own_name
    from tensor_optix.cli.options import TrainOptions

    for name in options:
        if own_name(name) in OF_ONE_CALL:
            raise ValueError(
                f"train has no argument {name!r}: it is an option of the command alone"
            )
        if own_name(name) in named:
            raise ValueError(f"train was given {own_name(name)} twice, as {name!r} too")
    asked = options_of(TrainOptions, {**named, **options}, "train")
    asked.check()
    return asked.in_full()
