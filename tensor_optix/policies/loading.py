"""`tensor_optix.load`: the directory of a run comes in, its best policy goes out. Nothing is written."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tensor_optix.algorithms.acting import POLICY_FILE, read_description
from tensor_optix.algorithms.agent_factory import has_images, make_agent
from tensor_optix.algorithms.frameworks import CPU, FRAMEWORKS, find_framework
from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.checkpoints.saved_state import reading
from tensor_optix.core.environment_ids import spaces_of_id
from tensor_optix.core.foreign_agent import as_agent, own_object
from tensor_optix.core.observation_layout import has_parts, seen_space
from tensor_optix.core.recorded_spaces import space_from_json
from tensor_optix.pipeline.action_scaling import OneByOne
from tensor_optix.pipeline.vector_contract import has_arrays
from tensor_optix.policies.acting import quick_way, stored_actor, with_masks
from tensor_optix.policies.policy import Policy
from tensor_optix.runs.run_directory import RunDirectory, RunDirectoryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tensor_optix.algorithms.acting import PolicyDescription
    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.foreign_agent import Actor
    from tensor_optix.core.observation_layout import AnySpace
    from tensor_optix.core.types import Array, PathLike, PolicySnapshot
    from tensor_optix.policies.policy import PolicyActor
    from tensor_optix.runs.run_directory import RunConfig

SNAPSHOT = "snapshot_"
METADATA = "metadata.json"
ENSEMBLE = "ensemble.json"
LOADING = ("act", "load_weights")
"""What an agent of the user's is loaded by, and acts."""


class Spaces(NamedTuple):
    """The spaces of one environment, without the environment."""

    observation_space: Any
    action_space: Any


class Found(NamedTuple):
    """A sound snapshot, and what else is known of it."""

    snapshot: PolicySnapshot
    registry: CheckpointRegistry
    config: RunConfig | None
    """Of its run; None where it lies without it."""

    @property
    def weights(self) -> Path:
        """Where the agent wrote."""
        return Path(self.snapshot.weights_path)

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"the policy in {self.weights.parent}"

    @property
    def rescales(self) -> bool:
        """Whether actions in [-1, 1] are stretched."""
        return self.config is None or self.config.rescale_actions


def load(path: PathLike, *, agent: Actor | None = None) -> Policy:
    """Return the best policy of a run, ready to act.

    Nothing but the network that acts and what normalises its observations is read, after the files were
    checked against their hashes; where they are damaged, the next best policy is taken, with a warning.
    Nothing is written, so that a run may go on meanwhile. Neither the environment's package nor the framework
    of the training is needed.

    Args:
        path: A run directory, its `checkpoints`, or one `snapshot_...` in these, wherever they were moved.
        agent: Loads the policy and acts; needed where the agent, or its networks, were of the user's own
            making, and for ensembles.

    Raises:
        RunDirectoryError: A ValueError, if there is no policy, none is sound, or `agent` is needed.
        CheckpointError: A RuntimeError, if its files do not fit each other.
        ImportError: If a framework is needed that is not installed; the message says how to install it.
        TypeError: If `agent` is none.

    Examples:
        >>> import tensor_optix
        >>> from tensor_optix import BatchPipeline, RLOptimizer, make_agent
        >>> pipeline = BatchPipeline(env_id="CartPole-v1", window_size=128)
        >>> agent = make_agent("CartPole-v1", framework="native")
        >>> RLOptimizer(agent, pipeline, max_episodes=1, run_dir="run").run()
        >>> policy = tensor_optix.load("run")
        >>> int(policy.predict([0.0, 0.1, 0.0, -0.1])) in (0, 1)
        True
    """
    directory = Path(path).expanduser()
    learner = None if agent is None else as_agent(agent, needs=LOADING)
    for found in _sound(directory):
        return _by_itself(found) if learner is None else _by_agent(found, learner)
    raise RunDirectoryError(
        f"{directory} holds no policy that is sound: the run ended before its first score, or files are "
        "damaged; restore them, or train anew"
    )


def _sound(path: Path) -> Iterator[Found]:
    """Yield the sound snapshots at a path, the best first."""
    chosen = None
    if (path / METADATA).is_file() and path.absolute().name.startswith(SNAPSHOT):
        chosen, checkpoints = path.absolute().name, path.absolute().parent
    elif any(path.glob(f"{SNAPSHOT}*")):
        checkpoints = path
    elif (path / "checkpoints").is_dir() or (path / "run.json").is_file():
        checkpoints = path / "checkpoints"
    else:
        raise RunDirectoryError(
            f"{path} holds no run: give a run directory, its checkpoints, or one {SNAPSHOT}... in these, by "
            "the name that it was given"
        )
    registry = CheckpointRegistry(checkpoints, read_only=True)
    run = RunDirectory(checkpoints.absolute().parent)
    config = run.read_config() if run.config.is_file() else None
    for snapshot in registry.sound_snapshots(chosen and chosen.removeprefix(SNAPSHOT)):
        yield Found(snapshot, registry, config)


def _by_itself(found: Found) -> Policy:
    """Return a policy for which no agent is needed."""
    description = _loadable(found)
    whole_agent = partial(_whole_agent, found, description)
    actions = description.action_space
    assert actions is not None
    params = found.snapshot.hyperparams.params
    with reading(found.name):
        exploration = float(params.get(description.exploration, 0.0))
        actor = stored_actor(description, found.weights, exploration)
    quick = quick_way(actor, description, found.rescales)
    return _policy(found, actor, (actor.observation_space, actions), whole_agent, quick)


def _loadable(found: Found) -> PolicyDescription:
    """Return what is said of a policy that acts without its agent, with spaces as the agent saw them.

    Raises:
        RunDirectoryError: If it cannot.
    """
    if (found.weights / ENSEMBLE).is_file():
        raise _needs_agent(found, "it is that of an ensemble")
    if not (found.weights / POLICY_FILE).is_file():
        raise _needs_agent(found, "its agent is of your own making, or of an earlier version")
    description = _described(found)
    if description.kind is None:
        raise _needs_agent(found, "its agent acts in a way of its own")
    if description.recipe is None and description.activations is None:
        raise _needs_agent(found, "its network is neither make_agent's nor a plain perceptron")
    space, actions = _spaces(found, description)
    with reading(found.name):
        return replace(description, observation_space=seen_space(space), action_space=actions)


def _by_agent(found: Found, agent: BaseAgent) -> Policy:
    """Return the policy as an agent of the user's acts by it, which is loaded."""
    has_file = (found.weights / POLICY_FILE).is_file()
    seen, actions = _spaces(found, _described(found) if has_file else None)
    if agent.sees_rows and has_parts(seen):
        seen = seen_space(seen)
    if agent.takes_action_masks:
        seen = with_masks(seen, actions)
    agent.check_spaces(seen, actions)
    found.registry.load(found.snapshot, agent)
    actor = agent if has_arrays(actions) else ObjectActor(agent)
    return _policy(found, actor, (seen, actions), lambda: own_object(agent))


class ObjectActor(OneByOne):
    """Acts where actions are no arrays: each is the object that the agent chooses."""

    has_unit_actions = counts_from_zero = False

    def __init__(self, agent: BaseAgent) -> None:
        super().__init__(agent)
        self.seed = agent.seed

    def act_greedy(self, observations: Array) -> Array:
        """Return the actions `[N]` of the agent, which knows no better ones."""
        return self.act_batch(observations)


def _policy(
    found: Found,
    actor: PolicyActor,
    spaces: tuple[AnySpace, AnySpace],
    whole_agent: Callable[[], Any],
    quick: Callable[[Array], Any] | None = None,
) -> Policy:
    return Policy(
        actor, spaces, found.snapshot, whole_agent, rescale_actions=found.rescales, quick=quick
    )


def _described(found: Found) -> PolicyDescription:
    with reading(found.name):
        return read_description(found.weights / POLICY_FILE)


def _spaces(found: Found, description: PolicyDescription | None) -> tuple[AnySpace, AnySpace]:
    """Return the spaces of the observations and the actions as they were recorded."""
    if description is not None and description.action_space is not None:
        assert description.observation_space is not None
        return description.observation_space, description.action_space
    config = found.config
    if config is not None and config.observation_space and config.action_space:
        with reading("run.json"):
            return (space_from_json(config.observation_space), space_from_json(config.action_space))
    if config is not None and config.env_id:
        return spaces_of_id(config.environment)
    raise RunDirectoryError(
        f"the spaces of {found.name} are recorded neither there nor in a run.json: "
        "load it where that is, or play it through a pipeline, where "
        f"CheckpointRegistry({str(found.registry.directory)!r}).load_best(agent) gives it"
    )


def _whole_agent(found: Found, description: PolicyDescription) -> BaseAgent:
    """Return an agent made as that of the training was, with all that was stored of it."""
    agent = _made_again(found, description)
    found.registry.load(found.snapshot, agent)
    return agent


def _made_again(found: Found, description: PolicyDescription) -> BaseAgent:
    """Return an agent as `make_agent` made it, with weights of its own; of another framework if need be."""
    recipe, seen = description.recipe, description.observation_space
    if recipe is None:
        raise _needs_agent(found, "make_agent did not make its agent")
    assert seen is not None
    framework = FRAMEWORKS[recipe.framework]
    if not framework.is_installed and not has_images(seen):
        framework = find_framework(None)
    agent = make_agent(
        Spaces(seen, description.action_space),
        recipe.algorithm,
        framework.name,
        hyperparams=found.snapshot.hyperparams.copy(),
        hidden_sizes=recipe.hidden_sizes,
        device=recipe.device if recipe.device in CPU else "auto",
        normalize_observations=recipe.normalize_observations,
        normalize_rewards=recipe.normalize_rewards,
        channels=recipe.channels,
        engine=recipe.engine if framework.name == recipe.framework else "auto",
    )
    agent.check_spaces(seen, description.action_space)
    return agent


def _needs_agent(found: Found, reason: str) -> RunDirectoryError:
    return RunDirectoryError(
        f"{found.name} cannot be loaded by itself, as {reason}: make its agent as "
        "for the training, and call tensor_optix.load(path, agent=my_agent)"
    )
