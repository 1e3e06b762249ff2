"""Off-policy algorithms: a replay buffer that is filled, and learned from, while collecting.

What they share, twin critics (Fujimoto et al. 2018) in particular, stands here once for every framework.

Vector steps come in through `observe`; a window that was not observed is taken in by `learn`, in the same
way. Diagnostics of the updates made since the last window go out of `learn`.
"""

from __future__ import annotations

import copy
import logging
import tempfile
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

import numpy as np
from scipy.special import ndtr

from tensor_optix.adapters.backend import UpdateTally
from tensor_optix.adapters.native.updates_from_replay import TwinParts
from tensor_optix.algorithms.exploration_noise import HeldActions, PinkNoise
from tensor_optix.algorithms.hyperparams import Hyperparams, schedules_in
from tensor_optix.algorithms.network_agent import PROBE_ROWS, NetworkAgent
from tensor_optix.core.argument_checks import in_unit_interval, not_negative, positive, whole_number
from tensor_optix.core.replay_buffer import PrioritizedReplayBuffer, ReplayBatch, ReplayBuffer
from tensor_optix.core.trajectory_buffer import ObservedRows, transitions_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tensor_optix.adapters.backend import Backend, Network, Optimizer, Tensor
    from tensor_optix.adapters.native.updates import NativeParts
    from tensor_optix.core.types import Array, EpisodeData, HyperparamSet, PathLike, Transitions

logger = logging.getLogger(__name__)

MOST_BATCHES = 64
"""Batches that are drawn at once; bounds what they take in memory."""
FIXED = ("replay_capacity", "n_step")
"""Hyperparameters that the rows in the replay buffer depend on."""
TWIN_MATHS = (
    *("_bind", "_update_tensors", "_update_critics", "_td_targets_tensor", "_policy_tensor"),
    *("_critics_tensor", "_actor_loss", "_critic_loss"),
)
"""The methods whose maths the native engine knows by itself."""
REPLAY = "replay"
"""The directory that holds the replay buffer, within that of `save_replay`."""


@dataclass(frozen=True)
class ReplayHyperparams(Hyperparams):
    """The hyperparameters of every algorithm that learns from a replay buffer."""

    batch_size: int = 64
    """Rows per update."""
    replay_capacity: int = 100_000
    """Rows that the replay buffer keeps. Fixed once it holds rows."""
    learning_starts: int = 0
    """Steps before the first update; never less than a batch."""
    updates_per_step: float = 1.0
    """Updates per environment step; 0.25 is one every four steps."""
    train_freq: int = 1
    """Environment steps from one round of updates to the next, in which all are made that are due by then."""
    n_step: int = 1
    """Rewards summed before the bootstrap. Fixed once the replay buffer holds rows."""
    per_alpha: float = 0.0
    """How much priorities matter in sampling (Schaul et al. 2016); 0 samples uniformly."""
    per_beta: float = 0.4
    """How much of the bias of prioritised sampling is corrected; 1 is all of it."""
    noise_memory: int = 0
    """Steps over which exploration lasts, which gets things that are heavy or far away to move: pink noise on
    continuous actions (Eberhard et al. 2023), random discrete ones are held (Dabney et al. 2021). 0: each
    step's is drawn apart."""

    def __post_init__(self) -> None:
        super().__post_init__()
        memory = whole_number("noise_memory", self.noise_memory, least=0)
        object.__setattr__(self, "noise_memory", memory)
        self._require_counts("batch_size", "replay_capacity", "n_step", "train_freq")
        self._require(in_unit_interval, "per_alpha", "per_beta")
        self._require(not_negative, "learning_starts")
        self._require(positive, "updates_per_step")
        if self.replay_capacity < self.batch_size:
            raise ValueError(
                f"replay_capacity must be at least batch_size, {self.batch_size}, got "
                f"{self.replay_capacity}"
            )


@dataclass(frozen=True)
class TwinCriticHyperparams(ReplayHyperparams):
    """The hyperparameters of every algorithm with two critics of continuous actions."""

    batch_size: int = 256
    replay_capacity: int = 1_000_000
    tau: float = 0.005
    """How far the targets follow their networks, with each update; TD3's with each one of the actor."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(in_unit_interval, "tau")


LASTING = ("replay_capacity", "n_step", "learning_starts", "per_alpha", "per_beta", "epsilon")
"""Hyperparameters that a replay buffer was made with, or that tell how far the training has come."""
H = TypeVar("H", bound=ReplayHyperparams)
L = TypeVar("L", PinkNoise, HeldActions)
T = TypeVar("T", bound=TwinCriticHyperparams)


class OffPolicyAgent(NetworkAgent[H], Generic[H]):
    """An agent that learns from a replay buffer. The arguments are those of `NetworkAgent`.

    Schedules of hyperparameters move between two windows, while updates are made all along them.

    The buffer is made when the first row comes. With an observation normalizer it holds raw observations, and
    they are normalised as they are drawn, by what is known then; rewards likewise.
    """

    action_dtype: ClassVar[type[np.generic]]
    """Of the actions in the replay buffer, as the networks take them."""
    noise_type: ClassVar[type[PinkNoise] | type[HeldActions]] = PinkNoise
    """What explores with a `noise_memory`."""

    @abstractmethod
    def _bind(self) -> None:
        self._replay: PrioritizedReplayBuffer | None = None
        self._drawn: ReplayBatch | None = None
        self._steps = 0
        self._gathered = 0
        self._observed = ObservedRows()
        self._owed = 0.0
        self._tally = UpdateTally()
        self._lasting: PinkNoise | HeldActions | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return an agent of its own, with rows of its own."""
        copied = super().__deepcopy__(memo)
        # By files, as parts of a replay are views of others, which copies of the parts would not be.
        with tempfile.TemporaryDirectory(prefix="tensor-optix-copy-") as directory:
            self.save_replay(directory)
            copied.load_replay(directory)
        under_way = {name: vars(self)[name] for name in ("_gathered", "_observed", "_tally")}
        vars(copied).update(copy.deepcopy(under_way, memo))
        return copied

    @cached_property
    def default_params(self) -> Mapping[str, Any]:
        """The documented values of the hyperparameters that can be changed while the agent trains."""
        return {
            name: value for name, value in super().default_params.items() if name not in LASTING
        }

    @property
    def is_on_policy(self) -> bool:
        """False: any policy's rows can be learned from."""
        return False

    def seed(self, seed: int) -> None:
        """Make acting, replay and updates follow from `seed`."""
        acting, replay = np.random.SeedSequence(seed).generate_state(2, np.uint64)
        super().seed(int(acting))
        self._replay_seed = int(replay)
        if self._replay is not None:
            self._replay.seed(self._replay_seed)

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        """Put hyperparameters in force; those that are not named stay as they are.

        Raises:
            ValueError: On a misspelt name, a value out of range, or another `replay_capacity` or `n_step`
                than that of the rows which the replay buffer holds, or a schedule of one of them; nothing
                has changed then.
        """
        for name in schedules_in(hyperparams.params):
            if name in FIXED:
                raise ValueError(
                    f"{name} cannot follow a schedule, as the rows in the replay buffer depend on it: "
                    "give a number"
                )
        before = self._hyperparams
        after = self._read(self._settable() | hyperparams.params)
        for name in FIXED:
            if self._replay is not None and getattr(after, name) != getattr(before, name):
                raise ValueError(
                    f"{name} cannot change while the replay buffer holds rows: it is "
                    f"{getattr(before, name)}, got {getattr(after, name)}"
                )
        super().set_hyperparams(hyperparams)
        if self._replay is not None:
            self._replay.set_params(alpha=after.per_alpha, beta=after.per_beta, gamma=after.gamma)

    def observe(self, transitions: Transitions) -> None:
        """Store the rows of one vector step, and make the updates that are due."""
        self._observed.add(transitions)
        self._take_in(transitions)

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        """Return the diagnostics of the updates made while the window was collected.

        They are means over the updates made, NaN if each was left out as its loss or gradient was not
        finite; `n_updates`, and `n_skipped_updates`, say how many these were.
        A window that was not observed is taken in now, step by step, with the updates that are due.
        """
        if not self._observed.covers(episode_data):
            for transitions in transitions_of(episode_data):
                self._take_in(transitions)
        self._observed = ObservedRows()
        diagnostics = self._tally.take()
        skipped = diagnostics["n_skipped_updates"]
        if skipped:
            logger.warning(
                "%d updates had a gradient that is not finite and were left out; look for NaN in "
                "observations and rewards, or lower the learning rate",
                skipped,
            )
        return diagnostics | {"buffer_size": 0 if self._replay is None else len(self._replay)}

    @property
    def replays(self) -> Mapping[str, ReplayBuffer]:
        """The replay buffer, if there is one yet."""
        return {} if self._replay is None else {REPLAY: self._replay}

    def load_replays(self, states: Mapping[str, Mapping[str, Array]]) -> None:
        """Take on the replay buffer's state; with none, the buffer is empty.

        Raises:
            ValueError: If it is damaged, or its `replay_capacity` or `n_step` is another than the agent's;
                nothing has changed then.
        """
        state = states.get(REPLAY)
        self._take_on_replay(
            None if state is None else lambda replay: replay.load_state_dict(state)
        )

    _passing_progress = ("largest_bytes", "lasting")

    def _try_progress(self, stored: Mapping[str, Any]) -> None:
        super()._try_progress(stored)
        self._stored_noise(stored)

    def _stored_noise(self, stored: Mapping[str, Any]) -> PinkNoise | HeldActions | None:
        lasting = stored.get("lasting")
        return None if lasting is None else self.noise_type.of_state(self._rng, lasting)

    def _lasting_noise(self, kind: type[L]) -> L | None:
        """Return what exploration that lasts is drawn from; None where each step's is drawn apart."""
        memory, noise = self._hyperparams.noise_memory, self._lasting
        if not memory:
            return None
        if not isinstance(noise, kind) or (noise.memory, noise.rng) != (memory, self._rng):
            self._lasting = noise = kind(self._rng, memory)
        return noise

    def run_state(self) -> dict[str, Any]:
        """Return what a checkpoint of the whole run holds beside `save_state` and `replays`."""
        return super().run_state() | {"gathered": self._gathered}

    def load_run_state(self, state: dict[str, Any]) -> None:
        """Take on what `run_state` returned.

        Raises:
            ValueError: If it does not fit; also KeyError and TypeError are understood as that.
        """
        gathered = int(state["gathered"])
        super().load_run_state(state)
        self._gathered = gathered

    def save_replay(self, path: PathLike) -> None:
        """Write the replay buffer into the directory `path`: what `save_state` leaves out for its size.

        Raises:
            FileExistsError: If one is there already.
        """
        directory = Path(path).expanduser()
        directory.mkdir(parents=True, exist_ok=True)
        if self._replay is not None:
            self._replay.save(directory / REPLAY)

    def load_replay(self, path: PathLike) -> None:
        """Read a replay buffer that `save_replay` wrote; with none there, the buffer is empty.

        Raises:
            ValueError: If its `replay_capacity` or `n_step` is another than the agent's.
        """
        stored = Path(path).expanduser() / REPLAY
        self._take_on_replay((lambda replay: replay.load(stored)) if stored.exists() else None)

    def _take_on_replay(self, fill: Callable[[ReplayBuffer], None] | None) -> None:
        """Put a buffer that is filled so in the place of the present one; None for no rows."""
        replay = None
        if fill is not None:
            params = self._hyperparams
            replay = self._make_replay(None)
            fill(replay)
            replay.set_params(alpha=params.per_alpha, beta=params.per_beta, gamma=params.gamma)
        self._replay, self._drawn = replay, None
        self._gathered = 0 if replay is None else self._steps

    @abstractmethod
    def _make_updates(self, fields: dict[str, Array], batches: int) -> tuple[Any, Array]:
        """Make `batches` updates with consecutive batches.

        Args:
            fields: `observations`, `actions`, `rewards`, `next_observations`, `discounts` (0 where nothing
                follows), `weights`, and `next_masks` (the actions allowed at `next_observations`) where
                there are masks; `[batches * batch_size, ...]`.
            batches: How many.

        Returns:
            The means of the diagnostics, and the temporal-difference errors `[batches * batch_size]`; not
            finite for the rows of an update that was left out.
        """

    def _progress(self) -> dict[str, Any]:
        counts = {"steps": self._steps, "owed": self._owed, "replay_seed": self._replay_seed}
        lasting = {} if self._lasting is None else {"lasting": self._lasting.state_dict()}
        return super()._progress() | counts | lasting

    def _resume(self, progress: Mapping[str, Any]) -> None:
        super()._resume(progress)
        self._steps, self._owed = progress["steps"], progress["owed"]
        self._lasting = self._stored_noise(progress)
        # An empty buffer has to be filled first, however long the learner has learned.
        self._gathered = 0 if self._replay is None else self._steps
        self._replay_seed = progress["replay_seed"]

    def _take_in(self, transitions: Transitions) -> None:
        if self._replay is None or self._replay.num_envs != transitions.num_envs:
            self._begin_replay(transitions.num_envs)
        assert self._replay is not None
        observations, actions, *rest = transitions[:7]
        self._replay.extend(observations, actions.astype(self.action_dtype, copy=False), *rest)
        self._learn_observations(transitions.observations)
        self._bytes.see(transitions.observations)
        if self._reward_normalizer is not None:
            self._learn_rewards(transitions)
        self._steps += len(transitions.rewards)
        self._gathered += len(transitions.rewards)
        self._explored(len(transitions.rewards))
        params = self._hyperparams
        if len(self._replay) < params.batch_size or self._gathered < params.learning_starts:
            return
        self._owed += len(transitions.rewards) * params.updates_per_step
        # Whether as many steps have come since the last round, whatever a vector step has of them.
        if self._steps % params.train_freq >= len(transitions.rewards):
            return
        while self._owed >= 1.0:
            batches = min(int(self._owed), MOST_BATCHES)
            self._owed -= batches
            self._update(self._replay, batches)

    def _begin_replay(self, num_envs: int) -> None:
        """Begin an empty buffer; rows of another number of environments cannot go on in it."""
        if self._replay is not None:
            logger.warning(
                "the replay buffer holds rows of %d environments, now there are %d: an empty one is begun; "
                "save_replay keeps the rows of a buffer",
                self._replay.num_envs,
                num_envs,
            )
        self._replay, self._drawn = self._make_replay(num_envs), None
        self._gathered = 0

    def _explored(self, steps: int) -> None:
        """Follow the schedule of exploration over environment steps."""

    def _update(self, replay: PrioritizedReplayBuffer, batches: int) -> None:
        params = self._hyperparams
        if self._drawn is not None and len(self._drawn.rewards) != batches * params.batch_size:
            self._drawn = None
        drawn = self._drawn = replay.sample(params.batch_size, batches, out=self._drawn)
        self._bytes.see(drawn.observations)
        self._settle_bytes()
        discounts = params.gamma**drawn.n_steps * ~drawn.dones
        observations, _ = self._seen(drawn.observations)
        next_observations, next_masks = self._seen(drawn.next_observations)
        fields = {
            "observations": observations,
            "actions": drawn.actions,
            "rewards": self._scaled(drawn.rewards),
            "next_observations": next_observations,
            "discounts": discounts.astype(np.float32),
            "weights": drawn.weights,
        }
        if next_masks is not None:
            fields["next_masks"] = next_masks
        diagnostics, td_errors = self._make_updates(fields, batches)
        self._tally.add(diagnostics, batches)
        if params.per_alpha > 0.0:
            replay.update_priorities(drawn.indices, td_errors)

    def _scaled(self, rewards: Array) -> Array:
        if self._reward_normalizer is None:
            return rewards
        return self._reward_normalizer.normalize(rewards)

    def _learn_rewards(self, transitions: Transitions) -> None:
        """Let the normalizer take in a vector step; environments that are not in it are passed over."""
        assert self._reward_normalizer is not None
        shape, ids = (1, transitions.num_envs), transitions.env_ids
        rewards, dones, valid = np.zeros(shape), np.zeros(shape, bool), np.zeros(shape, bool)
        rewards[0, ids] = transitions.rewards
        dones[0, ids] = transitions.terminated | transitions.truncated
        valid[0, ids] = True
        self._reward_normalizer.update(rewards, dones, valid)

    def _make_replay(self, num_envs: int | None) -> PrioritizedReplayBuffer:
        params = self._hyperparams
        share = params.replay_capacity // (num_envs or 1)
        if share * (num_envs or 1) < params.batch_size:
            raise ValueError(
                f"replay_capacity must hold a batch of {params.batch_size} in equal shares of "
                f"{num_envs} environments, got {params.replay_capacity}"
            )
        return PrioritizedReplayBuffer(
            params.replay_capacity,
            params.per_alpha,
            params.per_beta,
            params.n_step,
            params.gamma,
            num_envs=num_envs,
            seed=self._replay_seed,
        )


class TwinCriticAgent(OffPolicyAgent[T], Generic[T]):
    """An agent with an actor of continuous actions and two critics, whose slow copies make the targets.

    Actions are in (-1, 1); pipelines stretch them to the bounds of the action space.

    Args:
        networks: `actor`, whose outputs an algorithm makes actions of; `critic1` and `critic2`, of
            observations and actions.
        optimizers: `actor_optimizer`; `critic_optimizer`, which is that of both; and any others.
        action_dim: A, the number of components of an action.
        hyperparams, shared: As for every `NetworkAgent`.

    Raises:
        ValueError: Also if the two critics are one and the same network.
    """

    has_unit_actions = True
    action_dtype = np.float32

    default_param_bounds: ClassVar[Mapping[str, tuple[float, float]]] = {
        "learning_rate": (1e-4, 3e-3),
        "gamma": (0.9, 0.9999),
        "tau": (1e-3, 1e-1),
    }
    default_log_params: ClassVar[Sequence[str]] = ("learning_rate", "tau")
    default_min_episodes_before_dormant: ClassVar[int] = 30

    def __init__(
        self,
        networks: Mapping[str, Network],
        optimizers: Mapping[str, Optimizer],
        hyperparams: HyperparamSet | None = None,
        *,
        action_dim: int,
        **shared: Any,
    ) -> None:
        self._action_dim = whole_number("action_dim", action_dim)
        self._actor = networks["actor"]
        self._critic1, self._critic2 = networks["critic1"], networks["critic2"]
        if self._critic1 is self._critic2:
            raise ValueError("critic1 and critic2 must be two networks, got one and the same")
        super().__init__(networks, optimizers, hyperparams, **shared)

    def _bind(self) -> None:
        super()._bind()
        ops = self.ops
        self._critics = ops.twin_critics(self._critic1, self._critic2)
        self._target_critics = ops.clone(self._critics)
        self._targets["target_critics"] = (self._target_critics, self._critics)
        self._actor_descent = ops.gradient_descent(
            self._actor_loss, {"actor": self._actor}, self._optimizers["actor_optimizer"]
        )
        self._critic_descent = ops.gradient_descent(
            self._critic_loss, {"critics": self._critics}, self._optimizers["critic_optimizer"]
        )
        self._policy = ops.inference(self._policy_tensor, [self._actor])
        self._values = ops.inference(self._critics_tensor, [self._critics])
        self._td_targets = ops.without_gradient(self._td_targets_tensor)
        self._loop = ops.update_loop(self._update_tensors, [self._actor, self._critics])

    def _native_twins(self, parts: NativeParts) -> TwinParts:
        """Return the networks and their optimizers as the native engine takes them.

        Raises:
            NotNative: If it does not know them.
        """
        actor, critics = (
            {"actor": self._actor},
            {"critic1": self._critic1, "critic2": self._critic2},
        )
        targets = self._target_critics
        optimizers = self._optimizers
        return TwinParts(
            parts.network("actor", self._actor),
            parts.network("critic1", self._critic1),
            parts.network("critic2", self._critic2),
            parts.network("target of critic1", targets.first),
            parts.network("target of critic2", targets.second),
            parts.optimizer("actor_optimizer", optimizers["actor_optimizer"], actor),
            parts.optimizer("critic_optimizer", optimizers["critic_optimizer"], critics),
        )

    def seed(self, seed: int) -> None:
        """Make acting, replay and updates follow from `seed`."""
        super().seed(seed)
        # Of its own, so that acting (in validation, say) changes nothing in what is learned.
        self._noise_rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])

    def _progress(self) -> dict[str, Any]:
        return super()._progress() | {"noise_rng": self._noise_rng.bit_generator.state}

    def _resume(self, progress: Mapping[str, Any]) -> None:
        super()._resume(progress)
        self._noise_rng.bit_generator.state = progress["noise_rng"]

    def _uniform(self, count: int) -> Array:
        """Draw actions `[count, A]` float32, each component uniform in [-1, 1]."""
        shape, noise = (count, self._action_dim), self._lasting_noise(PinkNoise)
        if noise is not None:
            return np.asarray(2.0 * ndtr(noise.standard_normal(shape)) - 1.0, np.float32)
        return self._rng.uniform(-1.0, 1.0, shape).astype(np.float32)

    @abstractmethod
    def _update_tensors(
        self, batch: Mapping[str, Tensor], scalars: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Make one update of everything that learns: an `adapters.backend.Update`."""

    @abstractmethod
    def _td_targets_tensor(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Compute what the critics are to come to, `[B]`."""

    @abstractmethod
    def _actor_loss(
        self, batch: Mapping[str, Tensor], scalars: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the actor's loss: an `adapters.backend.LossFn`."""

    def _policy_tensor(self, observations: Tensor) -> Tensor:
        return self.ops.forward(self._actor, observations)

    def _critics_tensor(self, observations: Tensor, actions: Tensor) -> Tensor:
        return self.ops.forward(self._critics, observations, actions)

    def _critic_loss(
        self, batch: Mapping[str, Tensor], scalars: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        values = self._critics_tensor(batch["observations"], batch["actions"])
        first, second = batch["targets"] - values[0], batch["targets"] - values[1]
        loss = weighted_squares(self.ops, first, batch["weights"])
        loss = loss + weighted_squares(self.ops, second, batch["weights"])
        absolute = self.ops.absolute
        td_errors = 0.5 * (absolute(first) + absolute(second))
        return loss, {"critic_loss": loss, "td_errors": td_errors}

    def _update_critics(
        self, batch: Mapping[str, Tensor], scalars: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Make one update of the critics; diagnostics and temporal-difference errors `[B]` go out."""
        targets = self._td_targets(batch)
        diagnostics = self._critic_descent.step({**batch, "targets": targets}, scalars)
        # Not finite where the update was left out: its rows keep their priorities.
        return diagnostics, diagnostics.pop("td_errors") / (1.0 - diagnostics["skipped"])

    def _try_critics(self, observation_space: Any) -> None:
        """Try the critics on observations and actions of zeros.

        Raises:
            ValueError: If they cannot take them, or return anything but one value per row.
        """
        shape, action_dim = observation_space.shape, self._action_dim
        takes = f"[B, {shape[0] + action_dim}]" if len(shape) == 1 else "observation and action"
        observations = np.zeros((PROBE_ROWS, *shape), observation_space.dtype)
        try:
            values = self._values(observations, np.zeros((PROBE_ROWS, action_dim), np.float32))
        except Exception as error:
            raise ValueError(
                f"the critics cannot take {takes} of observations of shape {shape} and {action_dim} "
                f"action components: {error}"
            ) from error
        if values.shape != (2, PROBE_ROWS):
            raise ValueError(
                f"each critic must return one value per row, [B, 1] or [B], got {list(values.shape)} for "
                f"two critics and B = {PROBE_ROWS}"
            )


def weighted_squares(ops: Backend, errors: Tensor, weights: Tensor) -> Tensor:
    """Compute the mean of squared errors with importance weights (Schaul et al. 2016, algorithm 1)."""
    return ops.mean(weights * ops.square(errors))
