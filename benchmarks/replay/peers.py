"""The peers' replay buffers, each used in the fastest way that its documentation knows.

Comes in, goes out: see `contenders`. What a peer's user does around a call (a `Batch` for Tianshou,
the info dicts of Stable-Baselines3, priorities as float32 for cpprb) is prepared before the clock
starts, in the peer's favour.
"""

from __future__ import annotations

import types
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import cpprb
import numpy as np
import tianshou.data
from gymnasium.spaces import Box
from stable_baselines3.common.buffers import ReplayBuffer as StableReplayBuffer

from benchmarks.replay.contenders import ALPHA, BETA, Contender, Rows
from benchmarks.replay.stream import ACTION_SIZE, NUM_ENVS, OBSERVATION_SIZE, Array, Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.replay.contenders import Call


class Cpprb(Contender):
    """cpprb, both observations stored."""

    name = "cpprb"
    next_of: str | None = None

    def make_buffer(self) -> Any:
        fields: dict[str, Any] = {
            "obs": {"shape": OBSERVATION_SIZE},
            "act": {"shape": ACTION_SIZE},
            "rew": {},
            "done": {},
        }
        if self.next_of is None:
            fields["next_obs"] = {"shape": OBSERVATION_SIZE}
        kind = cpprb.PrioritizedReplayBuffer if self.prioritized else cpprb.ReplayBuffer
        options = {"alpha": ALPHA, "eps": 1e-6} if self.prioritized else {}
        return kind(self.stream.num_rows, fields, next_of=self.next_of, **options)

    def fill(self) -> None:
        self.prepare_add(self.stream.flat())()

    def prepare_add(self, step: Step) -> Call:
        return partial(
            self.buffer.add,
            obs=step.observations,
            act=step.actions,
            rew=step.rewards,
            next_obs=step.next_observations,
            done=step.terminated.astype(np.float32),
        )

    def __len__(self) -> int:
        return int(self.buffer.get_stored_size())

    def rows(self, sampled: Any) -> Rows:
        return Rows(
            sampled["obs"],
            sampled["act"],
            sampled["rew"][:, 0],
            sampled["next_obs"],
            sampled["done"][:, 0],
            sampled.get("weights"),
            sampled["indexes"].copy() if self.prioritized else None,
        )


class CpprbNextOf(Cpprb):
    """cpprb, each observation stored once: 64 rows of one environment in a row, not of 64."""

    name = "cpprb, next_of"
    next_of = "obs"

    def fill(self) -> None:
        self.segments = self.stream.segments()
        for segment in self.segments:
            self.prepare_add(segment)()
            self.buffer.on_episode_end()

    def prepare_adds(self, count: int) -> list[Call]:
        # Neighbours in the ring must be neighbours in time, so a block stays within one episode.
        long = [segment for segment in self.segments if len(segment.rewards) >= count * NUM_ENVS]
        segment = long[self.steps % len(long)]
        self.steps += 1
        self.buffer.on_episode_end()
        edges = [i * NUM_ENVS for i in range(count + 1)]
        return [
            self.prepare_add(Step(*(field[start:stop].copy() for field in segment)))
            for start, stop in pairwise(edges)
        ]


class Tianshou(Contender):
    """Tianshou's buffer for many environments: one ring each."""

    name = "Tianshou, vector"

    def make_buffer(self) -> Any:
        if self.prioritized:
            return tianshou.data.PrioritizedVectorReplayBuffer(
                self.stream.num_rows, NUM_ENVS, alpha=ALPHA, beta=BETA
            )
        return tianshou.data.VectorReplayBuffer(self.stream.num_rows, NUM_ENVS)

    def prepare_add(self, step: Step) -> Call:
        batch = tianshou.data.Batch(
            obs=step.observations,
            act=step.actions,
            rew=step.rewards,
            obs_next=step.next_observations,
            terminated=step.terminated,
            truncated=step.truncated,
        )
        return partial(self.buffer.add, batch)

    def prepare_update(self, indices: Array, td_errors: Array) -> Call:
        return partial(self.buffer.update_weight, indices, td_errors)

    def rows(self, sampled: Any) -> Rows:
        batch, indices = sampled
        return Rows(
            batch.obs,
            batch.act,
            batch.rew,
            batch.obs_next,
            batch.terminated,
            batch.weight if self.prioritized else None,
            indices if self.prioritized else None,
        )


class TianshouSingle(Tianshou):
    """Tianshou's buffer for one environment: it samples faster, but takes one row a call."""

    name = "Tianshou, one ring"
    adds = False

    def make_buffer(self) -> Any:
        size = self.stream.num_rows
        if self.prioritized:
            return tianshou.data.PrioritizedReplayBuffer(size, ALPHA, BETA)
        return tianshou.data.ReplayBuffer(size)

    def fill(self) -> None:
        rows = self.stream.flat()
        ended = rows.terminated | rows.truncated
        fields = (rows.observations, rows.actions, rows.rewards, rows.terminated, rows.truncated)
        source = tianshou.data.ReplayBuffer.from_data(*fields, ended, rows.next_observations)
        self.buffer.update(source)


class Stable(Contender):
    """Stable-Baselines3 at its defaults; a sample is PyTorch tensors."""

    name = "SB3"
    kind: type[StableReplayBuffer] = StableReplayBuffer
    options: Mapping[str, Any] = types.MappingProxyType({})

    def make_buffer(self) -> Any:
        spaces = (Box(-1, 1, (n,), np.float32) for n in (OBSERVATION_SIZE, ACTION_SIZE))
        size = self.stream.num_rows
        return self.kind(size, *spaces, device="cpu", n_envs=NUM_ENVS, **self.options)

    def prepare_add(self, step: Step) -> Call:
        ended = step.terminated | step.truncated
        infos = [{"TimeLimit.truncated": bool(cut)} for cut in step.truncated]
        observations = (step.observations, step.next_observations)
        return partial(self.buffer.add, *observations, step.actions, step.rewards, ended, infos)

    def __len__(self) -> int:
        return int(self.buffer.size()) * NUM_ENVS

    def rows(self, sampled: Any) -> Rows:
        return Rows(
            np.asarray(sampled.observations),
            np.asarray(sampled.actions),
            np.asarray(sampled.rewards)[:, 0],
            np.asarray(sampled.next_observations),
            np.asarray(sampled.dones)[:, 0],
            None,
            None,
        )


class _ArrayReplayBuffer(StableReplayBuffer):
    """Samples stay NumPy arrays: the copy into tensors is left out."""

    def to_torch(self, array: Array, copy: bool = True) -> Any:
        return array


class StableArrays(Stable):
    """The same, sampled as NumPy arrays, as the other contenders' are."""

    name = "SB3, NumPy"
    kind = _ArrayReplayBuffer


class StableTerminated(StableArrays):
    """The same, told of terminations only: nothing to read from the infos, as fast as it gets."""

    name = "SB3, NumPy, no infos"
    options = types.MappingProxyType({"handle_timeout_termination": False})

    def prepare_add(self, step: Step) -> Call:
        observations = (step.observations, step.next_observations)
        return partial(
            self.buffer.add, *observations, step.actions, step.rewards, step.terminated, []
        )


PEERS: tuple[type[Contender], ...] = (
    Cpprb,
    CpprbNextOf,
    Tianshou,
    TianshouSingle,
    Stable,
    StableArrays,
    StableTerminated,
)
