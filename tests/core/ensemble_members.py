"""Members of an ensemble that say beforehand what they will do."""

import numpy as np
from gymnasium.spaces import Box

from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.ensemble_agent import EnsembleAgent
from tensor_optix.core.policy_manager import PolicyManager
from tensor_optix.core.types import EpisodeData
from tests.core.array_agent import ArrayAgent

OBSERVATION_SPACE = Box(-1.0, 1.0, (2,), np.float32)


class Voter(ArrayAgent):
    """Always chooses the same action, and does not tell probabilities."""

    def __init__(self, action=0, weights=0.0):
        super().__init__(weights)
        self.action = action
        self.batches = 0
        self.seeds = []
        self.log_probs = []
        self.observed = []
        self.finite = True
        self.reduced = False

    def act(self, observation):
        return self.action

    def act_batch(self, observations):
        self.batches += 1
        return np.full(len(observations), self.action)

    def act_greedy(self, observations):
        return np.full(len(observations), self.action)

    def learn(self, episode_data):
        self.log_probs.append(episode_data.log_probs)
        super().learn(episode_data)
        return {"by": self.action}

    def seed(self, seed):
        self.seeds.append(seed)

    def observe(self, transitions):
        self.observed.append(transitions)

    def has_finite_weights(self):
        return self.finite

    def reduce_step(self):
        self.reduced = True


class Prober(Voter):
    """Tells its probabilities."""

    def __init__(self, *probs):
        super().__init__(int(np.argmax(probs)))
        self.probs = np.array(probs)

    def action_probs(self, observations):
        return np.tile(self.probs, (len(observations), 1))


class Mover(Voter):
    has_unit_actions = True

    def act(self, observation):
        return np.array([self.action, 1.0])

    def act_batch(self, observations):
        return np.tile([self.action, 1.0], (len(observations), 1))

    act_greedy = act_batch


class OffPolicy(Voter):
    @property
    def is_on_policy(self):
        return False


def ensemble_of(tmp_path, *agents, weights=None, primary=None, space=None):
    manager = PolicyManager(CheckpointRegistry(tmp_path))
    for agent, weight in zip(agents, weights or [1.0] * len(agents), strict=True):
        manager.add_agent(agent, weight)
    ensemble = EnsembleAgent(manager, primary or agents[0])
    if space is not None:
        ensemble.check_spaces(OBSERVATION_SPACE, space)
    return ensemble


def window(actions, **fields):
    size = len(actions)
    return EpisodeData(
        observations=np.zeros((size, 2), np.float32),
        actions=np.asarray(actions),
        rewards=[1.0] * size,
        terminated=[False] * size,
        truncated=[False] * size,
        infos=[],
        episode_id=0,
        **fields,
    )
