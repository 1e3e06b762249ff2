"""What every agent made of networks has in common: its engine, normalizers, files, random streams.

An algorithm names its networks and optimizers; saving, loading, averaging and tuning follow from the names.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import tempfile
from abc import abstractmethod
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    Literal,
    NamedTuple,
    ParamSpec,
    Self,
    TypeAlias,
    TypeVar,
    get_args,
)

import numpy as np
from safetensors import numpy as safetensors

from tensor_optix.adapters.backend import ByteDivisors
from tensor_optix.adapters.native.updates import NativeParts, native_title
from tensor_optix.adapters.native.views import NotNative
from tensor_optix.algorithms.acting import (
    LAYERS_FILE,
    POLICY_FILE,
    PolicyDescription,
    write_description,
)
from tensor_optix.algorithms.hyperparams import Hyperparams, schedules_in
from tensor_optix.core.argument_checks import in_unit_interval
from tensor_optix.core.base_agent import BaseAgent, older_than_act, overrides
from tensor_optix.core.checkpoints.saved_state import MOST_SMALL_JSON, read_json, read_npz, reading
from tensor_optix.core.observation_layout import FlatSpace, MaskedSpace
from tensor_optix.core.recorded_spaces import space_to_json
from tensor_optix.core.types import Array, EpisodeData, HyperparamSet, PathLike
from tensor_optix.pipeline.prediction import Predictor
from tensor_optix.pipeline.vector_contract import has_arrays

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tensor_optix.adapters.backend import Backend, Network, Optimizer
    from tensor_optix.adapters.native.views import DenseView
    from tensor_optix.algorithms.acting import Acting
    from tensor_optix.core.normalizers import ObsNormalizer, RewardNormalizer

logger = logging.getLogger(__name__)

OBS_NORMALIZER = "obs_normalizer.npz"
REWARD_NORMALIZER = "reward_normalizer.npz"
PROGRESS = "agent.json"
ACTING_METHODS = (
    *("act", "act_batch", "act_greedy", "_sample", "_greedy"),
    *("_seen", "_split", "_normalized", "_finite_actions"),
)
"""By which every agent acts."""
PROBE_ROWS = 2
"""Observations that networks are tried on: more than one, so that a lost batch axis shows."""
LEAST_STEP = 1e-3
"""Where `reduce_step` ends: at this share of the learning rate that the agent was made with."""
LEAST_REMAINING = 1e-6
"""What a schedule is asked with at the very end of a run: one that comes down to 0 is still above it."""

Engine: TypeAlias = Literal["auto", "native", "framework"]
ENGINES = get_args(Engine)
N = TypeVar("N")
P = ParamSpec("P")
R = TypeVar("R")


class EngineChoice(NamedTuple):
    """What makes an agent's updates, and why."""

    name: Literal["native", "framework"]
    title: str
    """As it is called."""
    reason: str

    def __str__(self) -> str:
        """Return it in words, such as "PyTorch, as the actor has a Conv2d layer ..."."""
        return self.title if self.name == "native" else f"{self.title}, as {self.reason}"


H = TypeVar("H", bound=Hyperparams)


class NetworkAgent(BaseAgent, Generic[H]):
    """An agent made of networks: an algorithm over the `backend` of a framework, which a public class names.

    Networks receive float32 whatever the environment's dtype (the indices of a Discrete observation
    space: int64) and compute as in inference, so that the policy that learns is the one that acted. Any
    Keras 3 model will do; one without an input shape gets its variables from the first observations.

    Args:
        networks: What `save_weights` keeps, by name; the policy first.
        optimizers: Of these networks, by name. Those of PyTorch hold exactly the parameters of their
            networks, those of Keras are fresh ones; a learning rate that follows a schedule is scaled
            where hyperparameters change it. The learning rate is that of the first; the others keep
            their ratio to it.
        hyperparams: Those that differ from the defaults of `hyperparams_type`, and any others of the
            user's own, in values that JSON can hold; a subclass finds all in `self._hyperparams.params`.
            A function is a schedule: see `HyperparamSet`. `set_progress` moves what follows one;
            tuners, variants and searches leave it alone. A number set in its place (when the best
            policy comes back, say) holds until then, another function takes the schedule's.
        reward_normalizer: Scales the rewards that are learned from; scores stay raw.
        obs_normalizer: Normalises what the networks see; saved with them. It learns while the agent
            learns, never while the agent merely acts.
        device: "auto", "cpu", "cuda", "cuda:1", ... Networks of PyTorch are moved there, with "auto" to a
            GPU where there is one. Those of Keras must be there, with "auto" wherever they are:
            TensorFlow makes them on a GPU if there is one.
        compile: Whether updates on PyTorch are compiled, by TorchInductor, which needs a C++ compiler. The
            first then takes 5 to 40 seconds, and those of small networks on a CPU a third of their time.
            The results are the same up to rounding. What cannot be compiled runs as it is, with a
            warning. TensorFlow's updates are compiled in any case.
        engine: What makes the updates: `"native"`, compiled kernels that work in the memory of networks and
            optimizers; `"framework"`; or `"auto"`, the native engine where it can, unless `compile` is
            set. It can where all networks are perceptrons in float32 on the CPU, the optimizers Adam, AdamW
            or SGD, and neither hooks nor a subclass change what is computed. `engine_choice` says which it
            is, and why. What is changed later is seen, too: from then on the framework makes the updates.
            TensorFlow's variables are read before the updates of a call and written after them; `"auto"`
            leaves networks of more than 300,000 weights, and optimizers that follow a schedule, to
            TensorFlow.

    Raises:
        ImportError: If Keras runs on another framework than TensorFlow.
        TypeError: If `hyperparams` is no `HyperparamSet`, or a network or an optimizer none of the framework.
        ValueError: On a misspelt hyperparameter, a value out of range, also one of a schedule at its
            beginning or its end, an optimizer of other weights than those of its networks, or a device
            that cannot be used, or is not the one of Keras's networks.
    """

    backend: Backend
    hyperparams_type: ClassVar[type[Hyperparams]]
    acting: ClassVar[Acting | None] = None
    """How the algorithm acts; None: in a way that only it knows."""

    def __init__(
        self,
        networks: Mapping[str, Network],
        optimizers: Mapping[str, Optimizer],
        hyperparams: HyperparamSet | None = None,
        *,
        reward_normalizer: RewardNormalizer | None = None,
        obs_normalizer: ObsNormalizer | None = None,
        device: str = "auto",
        compile: bool = False,
        engine: Engine = "auto",
    ) -> None:
        if engine not in ENGINES:
            names = ", ".join(map(repr, ENGINES))
            raise ValueError(f"engine must be one of {names}, got {engine!r}")
        if hyperparams is not None and not isinstance(hyperparams, HyperparamSet):
            raise TypeError(
                f"hyperparams must be a HyperparamSet, got {type(hyperparams).__name__}; "
                "wrap it: HyperparamSet(params=...)"
            )
        self.ops = self.backend.prepare(networks, device, compile)
        self._networks = dict(networks)
        self._given = tuple(networks)
        self._targets: dict[str, tuple[Network, Network]] = {}
        self._optimizers = dict(optimizers)
        self._obs_normalizer = obs_normalizer
        self._reward_normalizer = reward_normalizer
        self._carried: frozenset[str] = frozenset()
        self._schedules: dict[str, Callable[[float], Any]] = {}
        self._reductions: list[tuple[float, float]] = []
        self._remaining = 1.0
        self._hyperparams: H = self._read({} if hyperparams is None else hyperparams.params)
        self._has_warned_of_actions = False
        self._masked: MaskedSpace | None = None
        self._spaces: tuple[Any, Any] | None = None
        self._recorded_spaces: dict[str, Any] = dict.fromkeys(("observation_space", "action_space"))
        self._predictor: Predictor | None = None
        is_compiled = compile and self.ops.makes_gradients()
        self._wanted_engine: Engine = "framework" if engine == "auto" and is_compiled else engine
        self._is_compiled = compile
        self._older_than_act = older_than_act(type(self))
        self._acts_itself = overrides(type(self), "act", "_sample")
        self._learns_itself = overrides(type(self), "learn", "_sample")
        before = set(vars(self))
        self._bind()
        logger.info("updates are made by %s", self.updates_by)
        self._bytes = self._new_byte_divisors()
        self._bound = frozenset(vars(self)) - before
        self._hyperparams = replace(self._hyperparams, learning_rate=self._learning_rate())
        self.seed(int(np.random.SeedSequence().generate_state(1)[0]))
        if hyperparams is not None:
            self.set_hyperparams(hyperparams)
        self._initial_rate = self._learning_rate()

    @abstractmethod
    def _bind(self) -> None:
        """Make the functions of tensors, now that the networks are where they stay, and what follows these.

        Targets, slow copies of networks, are entered in `_targets` by name: the copy, and what it follows.
        """

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return an agent of its own, that goes on as this one does and shares nothing with it.

        Raises:
            TypeError: If a network or an optimizer cannot be copied.
        """
        copied = object.__new__(type(self))
        memo[id(self)] = copied
        # Functions of tensors are made anew, of the copies.
        left_out = self._bound | {"ops", "_networks", "_targets", "_optimizers", "_bound"}
        copied.ops = self.ops
        copied._networks, copied._optimizers = self._copied_parts(memo)
        copied._targets = {}
        for name, value in vars(self).items():
            if name not in left_out:
                setattr(copied, name, copy.deepcopy(value, memo))
        copied._bound = self._bound
        copied._bind()
        copied._bytes = copied._new_byte_divisors()
        with tempfile.TemporaryDirectory(prefix="tensor-optix-copy-") as directory:
            self.save_state(directory)
            copied.load_state(directory)
        return copied

    def _copied_parts(
        self, memo: dict[int, Any]
    ) -> tuple[dict[str, Network], dict[str, Optimizer]]:
        """Return copies of the networks that were given and of the optimizers; `memo` knows them then."""
        networks = {name: self._networks[name] for name in self._given}
        try:
            parts = self.ops.copied(networks, self._optimizers)
        except Exception as error:
            raise TypeError(
                f"a {type(self).__name__} can be copied only if its networks and optimizers can "
                f"({type(error).__name__}: {error}); make another one, and let it read what save_state wrote"
            ) from error
        for before, after in zip((networks, self._optimizers), parts, strict=True):
            memo |= {id(part): after[name] for name, part in before.items()}
        return parts

    @property
    def updates_by(self) -> str:
        """What makes its updates, and why, in words."""
        return str(self.engine_choice)

    @cached_property
    def default_params(self) -> Mapping[str, Any]:
        """The documented values of the hyperparameters that can be changed while the agent trains."""
        return dict(self.hyperparams_type().params)

    @cached_property
    def sees_rows(self) -> bool:
        """Whether the networks act or learn; a subclass that overrides both methods sees what there is."""
        return not (self._acts_itself and self._learns_itself)

    @cached_property
    def counts_from_zero(self) -> bool:
        """Whether actions are the networks'; a subclass that overrides both methods has its own."""
        return self.sees_rows

    def check_spaces(self, observation_space: Any, action_space: Any) -> None:
        """Try the networks on zeros; those of a subclass that overrides `act` and `learn` are its own.

        Rows of a `MaskedSpace` are split from now on: networks and normalizer see the observations alone.

        Raises:
            ValueError: If a network cannot take them, or returns what does not fit.
        """
        self._spaces, self._predictor = (observation_space, action_space), None
        recorded = map(space_to_json, self._spaces)
        self._recorded_spaces = dict(zip(self._recorded_spaces, recorded, strict=True))
        if isinstance(observation_space, MaskedSpace):
            self._masked, observation_space = observation_space, observation_space.plain
        if not (self._acts_itself and self._learns_itself):
            self._try_networks(observation_space, action_space)

    def _native(self, make: Callable[[NativeParts], N]) -> N | None:
        """Return what the native engine computes of an algorithm; None where the framework does.

        Args:
            make: `(parts) -> the algorithm's updates and passes`; raises NotNative if that is impossible.

        Raises:
            ValueError: If the native engine cannot do it, and was asked for or is all that there is.
        """
        try:
            if self._wanted_engine == "framework":
                asked = "compile=True" if self._is_compiled else "engine='framework'"
                raise NotNative(f"{asked} was asked for")
            parts = NativeParts(self.ops)
            made = make(parts)
            if self._wanted_engine == "auto":
                parts.require_gain()
        except NotNative as error:
            self._refuse_engine(error)
            return None
        reason = "all networks are perceptrons in float32 on the CPU"
        self.engine_choice = EngineChoice("native", native_title(), reason)
        return made

    def _by_engine(self, native: Callable[P, R], framework: Callable[P, R]) -> Callable[P, R]:
        """Return a function that the native engine computes; the framework, once it has to."""

        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            if self.engine_choice.name == "native":
                try:
                    return native(*args, **kwargs)
                except NotNative as error:
                    # Nothing has changed: the engine looks at all it needs first.
                    self._refuse_engine(error)
                    logger.info("from now on, updates are made by %s", self.engine_choice)
            return framework(*args, **kwargs)

        return run

    def _refuse_engine(self, error: NotNative) -> None:
        """Take the framework's engine.

        Raises:
            ValueError: If that was not asked for, or there is none.
        """
        if not self.ops.makes_gradients():
            raise ValueError(
                f"{self.backend.title} cannot train this, as {error}; PyTorch and TensorFlow train "
                "any networks and losses"
            ) from None
        if self._wanted_engine == "native":
            raise ValueError(
                f"engine='native' is not possible, as {error}; engine='auto' takes the framework's then"
            ) from None
        self.engine_choice = self._framework_choice(str(error))

    def _framework_choice(self, reason: str) -> EngineChoice:
        return EngineChoice("framework", self.backend.title, reason)

    def _require_own(self, algorithm: type, names: Sequence[str]) -> None:
        """Check that methods of an algorithm, whose maths the engine knows, are its own.

        Raises:
            NotNative: If a subclass has others.
        """
        if any(getattr(type(self), name) is not getattr(algorithm, name) for name in names):
            raise NotNative("the loss is a subclass's own")

    @abstractmethod
    def _try_networks(self, observation_space: Any, action_space: Any) -> None:
        """Refuse spaces of other actions, and networks that cannot take observations of zeros.

        Raises:
            ValueError: If a network cannot take them, or returns what does not fit.
        """

    def seed(self, seed: int) -> None:
        """Make every random choice of the agent follow from `seed`."""
        self._rng = np.random.default_rng(seed)

    def act(self, observation: Any) -> Any:
        """Choose an action for one observation: an int where it is one choice, else `[A]` float32.

        Of several choices it is a row of them, `[K]` int64.

        A subclass may override it alone: batches, evaluations and ensembles then go by it.
        """
        is_overridden = type(self).act is not NetworkAgent.act
        choose = self._sample if is_overridden else self.act_batch
        action = choose(np.asarray(observation)[None])[0]
        if np.ndim(action) == 0:
            return int(action)
        is_choice = np.issubdtype(np.asarray(action).dtype, np.integer)
        return np.asarray(action, np.int64 if is_choice else np.float32)

    def act_batch(self, observations: Array) -> Array:
        """Choose actions for `[N, ...]` observations, with exploration."""
        if "act_batch" in self._older_than_act:
            return super().act_batch(observations)
        return self._sample(observations)

    def act_greedy(self, observations: Array) -> Array:
        """Choose the policy's best actions for `[N, ...]` observations."""
        if "act_greedy" in self._older_than_act:
            return super().act_greedy(observations)
        return self._greedy(observations)

    def predict(
        self, observation: Any, deterministic: bool = True, *, action_masks: Any = None
    ) -> Any:
        """Return what an environment's `step` takes, for one observation as that gives it, or a batch.

        The spaces are those that `check_spaces` was told last, as pipelines do.

        Args:
            observation: An element of the observation space; or a batch of them, `[N, ...]`, of a Dict or
                a Tuple nested as that, with arrays `[N, ...]` as leaves.
            deterministic: Whether to take the best action, and not to explore.
            action_masks: `[A]` or `[N, A]`, 1 where an action is allowed, if infos tell it.

        Returns:
            An element of the action space, an int of a Discrete; or a batch of them, `[N, ...]`.

        Raises:
            RuntimeError: If `check_spaces` was not called yet.
            TypeError, ValueError: If an observation is none of the space, or not finite, or a mask does
                not fit.
        """
        if self._predictor is None:
            if self._spaces is None:
                raise RuntimeError(
                    "predict needs to know the spaces: call check_spaces(env.observation_space, "
                    "env.action_space) first, as pipelines do"
                )
            self._predictor = Predictor(self, *self._spaces)
        choose = self.act_greedy if deterministic else self.act_batch
        return self._predictor(choose, observation, action_masks)

    def action_probs(self, observations: Array) -> Array:
        """Return the probabilities `[N, A]` float64 of the actions for `[N, ...]` observations.

        Those of several choices stand side by side.

        Raises:
            NotImplementedError: If actions are continuous, or a subclass overrides `act`.
        """
        probs = None if "action_probs" in self._older_than_act else self._probs(observations)
        return super().action_probs(observations) if probs is None else probs

    @abstractmethod
    def _sample(self, observations: Array) -> Array:
        """Choose actions for `[N, ...]` observations as the policy does: `[N]`, or `[N, A]`."""

    @abstractmethod
    def _greedy(self, observations: Array) -> Array:
        """Choose the best actions for `[N, ...]` observations."""

    def _probs(self, observations: Array) -> Array | None:
        """Return the probabilities `[N, A]` float64 of the actions; None where they are continuous."""
        return None

    def get_hyperparams(self) -> HyperparamSet:
        """Return the numbers in force, the learning rate as the optimizer has it."""
        params = dict(self._hyperparams.params)
        return HyperparamSet(params | {"learning_rate": self._learning_rate()})

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        """Put hyperparameters in force; those that are not named stay as they are.

        Names that the algorithm does not know are the user's own, and carried along. A function is a
        schedule from now on; a number in the place of one holds until `set_progress`.

        Raises:
            ValueError: On a misspelt name or a value out of range; nothing has changed then.
        """
        schedules = schedules_in(hyperparams.params)
        params = self._settable() | hyperparams.params
        after = self._read(params)
        if schedules:
            self.hyperparams_type.from_params(params, LEAST_REMAINING)
        self._hyperparams = after
        self._schedules |= schedules
        if "learning_rate" in schedules:
            self._reductions = []
        before, rate = self._learning_rate(), after.learning_rate
        if "learning_rate" not in hyperparams.params or rate == before:
            return
        for optimizer in self._optimizers.values():
            # Where a schedule has come down to 0 there is no ratio to keep.
            ratio = self.ops.learning_rate(optimizer) / before if before else 1.0
            self.ops.set_learning_rate(optimizer, rate * ratio)

    @property
    def scheduled_params(self) -> frozenset[str]:
        """Names of the hyperparameters that follow a schedule."""
        return frozenset(self._schedules)

    def set_progress(self, remaining: float) -> None:
        """Move what follows a schedule to where that is with the share `remaining` of the run left.

        Schedules never see 0: at the very end they are called with a millionth.

        Raises:
            ValueError: If `remaining` is not in [0, 1], or a schedule fails or returns a value out of range;
                nothing has changed then.
        """
        remaining = max(in_unit_interval("remaining", remaining), LEAST_REMAINING)
        if self._schedules:
            params = self._settable() | self._schedules
            if "learning_rate" in self._schedules:
                params["learning_rate"] = self._scheduled_rate
            read = self.hyperparams_type.from_params(params, remaining).params
            self.set_hyperparams(HyperparamSet({name: read[name] for name in self._schedules}))
        self._remaining = remaining

    def has_finite_weights(self) -> bool:
        """Whether every weight and buffer of the networks, and of their targets, is a finite number."""
        targets = (target for target, _ in self._targets.values())
        return all(self.ops.all_finite(network) for network in (*self._networks.values(), *targets))

    @property
    def num_weights(self) -> dict[str, int]:
        """How many numbers of each network are learned, by the networks' names."""
        return {name: self.ops.num_weights(network) for name, network in self._networks.items()}

    def reduce_step(self) -> None:
        """Halve the learning rate, down to a thousandth of what the agent was made with.

        Where it follows a schedule, that is lowered from here to its end.
        """
        before = self._learning_rate()
        # Never up, where a tuner or a schedule has gone below.
        after = min(before, max(before / 2.0, LEAST_STEP * self._initial_rate))
        if after == before:
            logger.warning(
                "the learning rate stays at %g: it has come down as far as it may", before
            )
            return
        try:
            self.set_hyperparams(HyperparamSet({"learning_rate": after}))
        except ValueError as error:
            logger.warning("the learning rate stays at %g: %s", before, error)
            return
        if "learning_rate" in self._schedules:
            self._reductions.append((after, before))
        logger.warning("the learning rate was lowered from %g to %g", before, after)

    def _scheduled_rate(self, remaining: float) -> Any:
        """Return the learning rate of the schedule, as far as `reduce_step` has lowered it."""
        rate = self._schedules["learning_rate"](remaining)
        for after, before in self._reductions:
            rate = rate * after / before
        return rate

    def begin_episodes(self) -> None:
        """Start the running returns that the rewards are scaled by at 0."""
        if self._reward_normalizer is not None:
            self._reward_normalizer.reset()

    def save_weights(self, path: PathLike) -> None:
        """Write the networks, and what normalises their observations, into the directory `path`.

        What a policy is made of is said there, too, for `tensor_optix.load`.
        """
        directory = Path(path).expanduser()
        directory.mkdir(parents=True, exist_ok=True)
        for name, network in self._networks.items():
            self.ops.save_network(network, directory / name)
        if self._obs_normalizer is not None:
            _save_arrays(directory / OBS_NORMALIZER, self._obs_normalizer.state_dict())
        self._describe_policy(directory)

    def _describe_policy(self, directory: Path) -> None:
        """Write how the saved policy acts, as far as that is known; and layers that no recipe makes."""
        acting = self.acting
        names = () if acting is None else (*ACTING_METHODS, *acting.methods)
        if any(overrides(type(self), name, "acting") for name in names):
            acting = None
        network = next(iter(self._networks)) if acting is None else acting.network
        is_unknown = acting is not None and self.recipe is None
        layers = self._exported_layers(network) if is_unknown else None
        if layers is not None:
            (directory / LAYERS_FILE).write_bytes(safetensors.save(_by_place(layers)))
        normalizer = self._obs_normalizer
        description = PolicyDescription(
            kind=None if acting is None else acting.kind,
            network=network,
            dtype="float64" if acting is None else acting.dtype,
            exploration="" if acting is None else acting.exploration,
            recipe=self.recipe,
            activations=None if layers is None else tuple(one.activation.name for one in layers),
            normalizer_clip=None if normalizer is None else normalizer.clip,
        )
        write_description(directory / POLICY_FILE, description, self._recorded_spaces)

    def _exported_layers(self, name: str) -> Sequence[DenseView] | None:
        """Return the layers of a network of the user's; None where it is no plain perceptron."""
        views = self.ops.engine_views()
        try:
            source = views.perceptron(name, self._networks[name])
            views.read()
            return None if source.encoding else source.layers()
        except NotNative:
            return None

    def load_weights(self, path: PathLike) -> None:
        """Read what `save_weights` wrote.

        Raises:
            ValueError: If those networks saw normalised observations and this agent's do not, or the other
                way round, or if these share weights and those did not; nothing has changed then.
        """
        directory = Path(path).expanduser()
        self._require_same_sight(directory)
        self.ops.require_same_shared(self._networks, directory)
        puts = [
            self.ops.read_network(one, directory / name) for name, one in self._networks.items()
        ]
        if self._obs_normalizer is not None:
            stored = read_npz(directory / OBS_NORMALIZER)
            self._obs_normalizer.load_state_dict(stored)
        for put in puts:
            put()
        self._weights_changed()

    def save_state(self, path: PathLike) -> None:
        """Write the whole learner: weights, optimizers, random generators, normalizers."""
        directory = Path(path).expanduser()
        self.save_weights(directory)
        for name, optimizer in self._optimizers.items():
            self.ops.save_optimizer(optimizer, directory / name)
        for name, (target, _) in self._targets.items():
            self.ops.save_network(target, directory / name)
        (directory / PROGRESS).write_text(json.dumps(self._progress()))
        if self._reward_normalizer is not None:
            _save_arrays(directory / REWARD_NORMALIZER, self._reward_normalizer.state_dict())

    def load_state(self, path: PathLike) -> None:
        """Read a learner; a directory that holds weights only gives weights only.

        What optimizers of another framework held is left out, with a warning.

        Raises:
            CheckpointError: If a file is missing or damaged. Nothing has changed then, unless it is one of
                optimizers or of targets.
            ValueError: As `load_weights`.
        """
        directory = Path(path).expanduser()
        progress = self._stored_progress(directory)
        stored = directory / REWARD_NORMALIZER
        has_rewards = self._reward_normalizer is not None and stored.exists()
        rewards = read_npz(stored) if has_rewards else None
        self.load_weights(directory)
        optimizers = self._optimizers.items()
        fresh = [
            name for name, one in optimizers if not self.ops.load_optimizer(one, directory / name)
        ]
        if fresh and progress is not None:
            logger.warning(
                "%s: fresh moments for %s, as another framework wrote those in %s",
                type(self).__name__,
                ", ".join(fresh),
                directory,
            )
        if progress is not None:
            for name, (target, _) in self._targets.items():
                self.ops.load_network(target, directory / name)
            with reading(PROGRESS):
                self._resume(progress)
        if self._reward_normalizer is not None and rewards is not None:
            self._reward_normalizer.load_state_dict(rewards)

    def run_state(self) -> dict[str, Any]:
        """Return what a checkpoint of the run holds beside `save_state`; schedules are their owner's."""
        return {
            "initial_rate": self._initial_rate,
            "reductions": list(self._reductions),
            "remaining": self._remaining,
            "random": self.ops.random_state(),
        }

    def load_run_state(self, state: dict[str, Any]) -> None:
        """Take on what `run_state` returned.

        Raises:
            ValueError: If it does not fit; also KeyError and TypeError are understood as that.
        """
        initial_rate, remaining = float(state["initial_rate"]), float(state["remaining"])
        reductions = [(float(after), float(before)) for after, before in state["reductions"]]
        # What another framework's generators were is of no use here.
        if state["random"].keys() == self.ops.random_state().keys():
            self.ops.set_random_state(state["random"])
        self._initial_rate, self._remaining, self._reductions = initial_rate, remaining, reductions

    @contextmanager
    def keeping_progress(self) -> Iterator[None]:
        """Return a context at whose end counters, schedules and random generators are as at its beginning."""
        progress = self._progress()
        places = [(one, self.ops.schedule_step(one)) for one in self._optimizers.values()]
        try:
            yield
        finally:
            self._resume(progress)
            for optimizer, step in places:
                if step is not None:
                    self.ops.set_schedule_step(optimizer, step)

    def average_weights(self, paths: Sequence[PathLike]) -> bool:
        """Take on the mean of stored networks, and of what normalised their observations.

        Raises:
            ValueError: As `load_weights`.
        """
        directories = [Path(path).expanduser() for path in paths]
        for directory in directories:
            self._require_same_sight(directory)
            self.ops.require_same_shared(self._networks, directory)
        for name, network in self._networks.items():
            self.ops.average_networks(network, [directory / name for directory in directories])
        if self._obs_normalizer is not None:
            stored = [read_npz(directory / OBS_NORMALIZER) for directory in directories]
            means = {name: np.mean([one[name] for one in stored], axis=0) for name in stored[0]}
            self._obs_normalizer.load_state_dict(means)
        self._weights_changed()
        return True

    def perturb_weights(self, noise_scale: float) -> None:
        """Multiply every weight of every network by `1 + noise_scale * N(0, 1)`, what they share once."""
        networks = list(self._networks.values())
        for place, network in enumerate(networks):
            seed = int(self._rng.integers(2**63))
            self.ops.perturb_network(network, noise_scale, seed, networks[:place])
        self._weights_changed()

    def _require_same_sight(self, directory: Path) -> None:
        had, has = (directory / OBS_NORMALIZER).exists(), self._obs_normalizer is not None
        if had != has:
            raise ValueError(
                f"the networks in {directory} learned from {'normalised' if had else 'raw'} "
                f"observations: make the agent {'with' if had else 'without'} obs_normalizer to load them"
            )

    def _weights_changed(self) -> None:
        """Follow a change of weights that no update made: target networks take it on."""
        self._has_warned_of_actions = False
        self._copy_into_targets()
        self._bytes.look()

    def _copy_into_targets(self) -> None:
        for target, network in self._targets.values():
            self.ops.blend(target, network, 1.0)

    _passing_progress: ClassVar[tuple[str, ...]] = ("largest_bytes",)
    """What of `_progress` is not always there."""

    def _progress(self) -> dict[str, Any]:
        """Return what a learner must remember beside weights and optimizers, as JSON takes it."""
        progress: dict[str, Any] = {"rng": self._rng.bit_generator.state}
        if self._bytes.largest is not None:
            progress["largest_bytes"] = self._bytes.largest.tolist()
        return progress

    def _resume(self, progress: Mapping[str, Any]) -> None:
        """Take on what `_progress` returned."""
        self._rng.bit_generator.state = progress["rng"]
        if "largest_bytes" in progress:
            self._bytes.largest = np.array(progress["largest_bytes"], np.int64)

    def _stored_progress(self, directory: Path) -> dict[str, Any] | None:
        """Return what `_resume` is to take on; None where there are weights only."""
        if not (directory / PROGRESS).exists():
            return None
        with reading(PROGRESS):
            stored = read_json(directory / PROGRESS, MOST_SMALL_JSON)
            lasting = {
                name: value
                for name, value in self._progress().items()
                if name not in self._passing_progress
            }
            _require_alike(stored, lasting, PROGRESS)
            self._try_progress(stored)
            return dict(stored)

    def _try_progress(self, stored: Mapping[str, Any]) -> None:
        """Raise what `_resume` would raise, and change nothing."""
        type(self._rng.bit_generator)().state = stored["rng"]
        np.array(stored.get("largest_bytes", ()), np.int64)

    def _new_byte_divisors(self) -> ByteDivisors:
        found = map(self.ops.byte_scale, self._networks.values())
        return ByteDivisors([scale for scale in found if scale is not None])

    def _settle_bytes(self) -> None:
        """Decide, if it is open, what the networks divide bytes by, given those that were seen."""
        if self._bytes.settle():
            self._copy_into_targets()

    def _split(self, rows: Array) -> tuple[Array, Array | None]:
        """Return observations `[B, ...]`, and which actions are allowed, `[B, A]` bool; None: all.

        Rows without masks may come, too: where the same agent plays in other environments, say.
        """
        if self._masked is None or rows.shape[1:] != self._masked.shape:
            return rows, None
        return self._masked.split(rows)

    def _seen(self, rows: Array) -> tuple[Array, Array | None]:
        """Return observations as the networks are to see them, and the masks, as `_split` does."""
        observations, masks = self._split(rows)
        return self._normalized(observations), masks

    def _normalized(self, observations: Array) -> Array:
        """Return observations as the networks are to see them."""
        if self._obs_normalizer is None:
            return np.ascontiguousarray(observations)
        return self._obs_normalizer.normalize(observations)

    def _finite_actions(self, actions: Array) -> Array:
        """Return actions as an environment may get them: 0 in place of what is not finite."""
        is_finite = np.isfinite(actions)
        if is_finite.all():
            return actions
        if not self._has_warned_of_actions:
            self._has_warned_of_actions = True
            logger.warning(
                "the policy gave actions that are not finite, and 0 is taken in their place; look for NaN "
                "in observations, or lower the learning rate"
            )
        return np.where(is_finite, actions, np.zeros((), actions.dtype))

    def _learn_observations(self, observations: Array, valid: Array | None = None) -> None:
        """Let the normalizer take in the observations of rows, of which `valid` `[R]` marks the real ones."""
        if self._obs_normalizer is not None:
            observations, _ = self._split(observations)
            self._obs_normalizer.update(observations if valid is None else observations[valid])

    def _rewards(self, episode: EpisodeData) -> Array:
        """Return the rewards that are learned from, `[R]`; the normalizer takes in the window before."""
        rewards = np.asarray(episode.rewards, np.float32)
        if self._reward_normalizer is None:
            return rewards
        valid = np.ones(len(rewards), bool) if episode.valid is None else episode.valid
        self._reward_normalizer.update(
            episode.grid(rewards), episode.grid(episode.dones), episode.grid(valid)
        )
        return self._reward_normalizer.normalize(rewards)

    def _learning_rate(self) -> float:
        return self.ops.learning_rate(next(iter(self._optimizers.values())))

    def _settable(self) -> dict[str, Any]:
        """Return those in force; where the optimizer's own schedule came down to 0, the rate set last."""
        params = self.get_hyperparams().params
        return params if params["learning_rate"] else dict(self._hyperparams.params)

    def _read(self, params: Mapping[str, Any]) -> Any:
        """Return hyperparameters, and say once which of them are carried along only."""
        read = self.hyperparams_type.from_params(params, self._remaining)
        new = [name for name in read.own if name not in self._carried]
        if new:
            self._carried |= frozenset(new)
            logger.info(
                "hyperparameters that %s does not know are carried along for your own code: %s",
                type(self).__name__,
                ", ".join(new),
            )
        return read


def try_network(name: str, network: Callable[[Array], Array], observation_space: Any) -> Array:
    """Return what a network makes of observations of zeros, `[PROBE_ROWS, ...]`.

    Raises:
        ValueError: If it cannot take them.
    """
    if not has_arrays(observation_space):
        raise ValueError(
            f"the {name} takes arrays of numbers, got the observation space {observation_space}: "
            "gymnasium.wrappers.TransformObservation can make numbers of it, or bring an agent of your own"
        )
    shape, dtype = observation_space.shape, observation_space.dtype
    try:
        return network(np.zeros((PROBE_ROWS, *shape), dtype))
    except Exception as error:
        parts = ""
        if isinstance(observation_space, FlatSpace):
            parts = f", a row of {', '.join(one.name for one in observation_space.layout.fields)}"
        raise ValueError(
            f"the {name} cannot take observations of shape {shape} and dtype {dtype}{parts}: {error}"
        ) from error


def _by_place(layers: Sequence[DenseView]) -> dict[str, Array]:
    """Return weights `[outputs, inputs]` and biases by names."""
    found = {}
    for place, layer in enumerate(layers):
        weight = layer.weight if layer.is_by_outputs else layer.weight.T
        found[f"{place}.weight"] = np.ascontiguousarray(weight)
        if layer.bias is not None:
            found[f"{place}.bias"] = np.ascontiguousarray(layer.bias)
    return found


def _require_alike(stored: Any, own: Any, name: str) -> None:
    """Refuse what was read where it is of another type than what it is to replace."""
    kind = (int, float) if type(own) in (int, float) else type(own)
    if not isinstance(stored, kind) or isinstance(stored, bool) is not isinstance(own, bool):
        raise ValueError(f"{name} must be of type {type(own).__name__}, got {stored!r:.100}")
    if isinstance(stored, float) and not math.isfinite(stored):
        raise ValueError(f"{name} must be finite, got {stored}")
    if isinstance(own, dict) and isinstance(stored, dict):
        for key, value in own.items():
            _require_alike(stored[key], value, f"{name}: {key}")


def _save_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    named: dict[str, Any] = dict(arrays)
    # NumPy 2.0 does not know `allow_pickle` here, and would write an array of this name.
    np.savez(path, **named)
