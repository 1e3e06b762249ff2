"""Tianshou: settings in, a learner out."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import torch
from tianshou import algorithm, data, env, trainer
from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
from tianshou.algorithm.modelfree.reinforce import DiscreteActorPolicy, ProbabilisticActorPolicy
from tianshou.algorithm.modelfree.sac import AutoAlpha, SACPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.env.atari.atari_network import DQNet, ScaledObsInputActionReprNet
from tianshou.utils.net.common import Net
from tianshou.utils.net.continuous import ContinuousActorProbabilistic, ContinuousCritic
from tianshou.utils.net.discrete import DiscreteActor, DiscreteCritic
from torch import nn
from torch.distributions import Categorical, Independent, Normal

from benchmarks.peers.contenders.environments import make_env

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.peers.settings import DQN, PPO, SAC, Settings

EVALUATION_ENVS = 10
EVALUATION_SEED = 987_654
SILENT = {"show_progress": False, "verbose": False}
logging.disable(logging.WARNING)


class Trained:
    """An algorithm of the library, trained epoch by epoch, where an epoch is as long as it is asked for.

    Args:
        settings: Say which environments.
        learner: Is trained.
        seed: Of the environments.
        params: Of the trainer, but for the collector and how much it tells.
    """

    def __init__(self, settings: Settings, learner: Any, seed: int, params: Any) -> None:
        self._learner, self._params, self._steps = learner, params, 0
        self._tests = data.Collector[data.CollectStats](
            learner, make_envs(settings, EVALUATION_ENVS, EVALUATION_SEED)
        )
        self._trainer = learner.create_trainer(params)
        self._trainer.reset(reset_collectors=False)
        self.before_training: Callable[[int], None] = lambda steps: None
        """Called with the steps so far whenever training goes on."""

    def train(self, steps: int) -> int:
        rows = self._params.collection_step_num_env_steps
        taken = -(-steps // rows) * rows
        self._params.epoch_num_steps = taken
        self.before_training(self._steps)
        self._trainer.execute_epoch()
        self._steps += taken
        return taken

    def play(self, episodes: int) -> float:
        stats = self._tests.collect(n_episode=episodes, reset_before_collect=True)
        return float(np.mean(stats.returns))


def on_policy(settings: PPO, learner: Any, seed: int) -> Trained:
    """Return a learner from rollouts."""
    envs = make_envs(settings, settings.num_envs, seed)
    buffer = data.VectorReplayBuffer(10 * settings.rows, settings.num_envs)
    collector = data.Collector[data.CollectStats](learner, envs, buffer)
    collector.reset()
    params = trainer.OnPolicyTrainerParams(
        training_collector=collector,
        batch_size=settings.minibatch,
        update_step_num_repetitions=settings.epochs,
        collection_step_num_env_steps=settings.rows,
        **SILENT,
    )
    return Trained(settings, learner, seed, params)


def off_policy(settings: DQN | SAC, learner: Any, seed: int) -> Trained:
    """Return a learner from a replay, which holds the first rows, taken at random, already."""
    envs = make_envs(settings, settings.num_envs, seed)
    buffer = data.VectorReplayBuffer(settings.capacity, settings.num_envs)
    collector = data.Collector[data.CollectStats](learner, envs, buffer, exploration_noise=True)
    collector.reset()
    collector.collect(n_step=settings.learning_starts, random=True)
    params = trainer.OffPolicyTrainerParams(
        training_collector=collector,
        batch_size=settings.batch,
        collection_step_num_env_steps=settings.train_every,
        update_step_num_gradient_steps_per_sample=settings.updates / settings.train_every,
        **SILENT,
    )
    return Trained(settings, learner, seed, params)


def make_envs(settings: Settings, count: int, seed: int) -> Any:
    np.random.seed(seed)  # noqa: NPY002 (the library draws from it)
    torch.manual_seed(seed)
    envs = env.DummyVectorEnv([partial(make_env, settings)] * count)
    envs.seed(seed)
    return envs


def spaces_of(settings: Settings) -> tuple[Any, tuple[int, ...], Any]:
    """Return the action space, the shape of observations, and that of actions, a number if discrete."""
    one = make_env(settings)
    action_space, shape = one.action_space, one.observation_space.shape
    one.close()
    is_discrete = isinstance(action_space, gymnasium.spaces.Discrete)
    return action_space, shape, int(action_space.n) if is_discrete else action_space.shape


def rollout_networks(settings: PPO, shape: tuple[int, ...]) -> list[Any]:
    """Return what actor and critic see by, for Atari one and the same."""
    if settings.is_atari:
        features = DQNet(*shape, action_shape=0, features_only=True, output_dim_added_layer=512)
        return [ScaledObsInputActionReprNet(features)] * 2
    return [
        Net(state_shape=shape, hidden_sizes=settings.hidden_sizes, activation=nn.Tanh)
        for _ in range(2)
    ]


def rollout_policy(net: Any, action_space: Any, actions: Any) -> Any:
    if isinstance(actions, int):
        return DiscreteActorPolicy(
            actor=DiscreteActor(preprocess_net=net, action_shape=actions, softmax_output=False),
            dist_fn=lambda logits: Categorical(logits=logits),
            deterministic_eval=True,
            action_space=action_space,
        )
    return ProbabilisticActorPolicy(
        actor=ContinuousActorProbabilistic(
            preprocess_net=net, action_shape=actions, unbounded=True
        ),
        dist_fn=lambda outputs: Independent(Normal(*outputs), 1),
        deterministic_eval=True,
        action_space=action_space,
    )


def ppo(settings: PPO, seed: int) -> Trained:
    action_space, shape, actions = spaces_of(settings)
    torch.manual_seed(seed)
    actor_net, critic_net = rollout_networks(settings, shape)
    critic_kind = DiscreteCritic if isinstance(actions, int) else ContinuousCritic
    learner = algorithm.PPO(
        policy=rollout_policy(actor_net, action_space, actions),
        critic=critic_kind(preprocess_net=critic_net),
        optim=AdamOptimizerFactory(lr=settings.learning_rate),
        eps_clip=settings.clip,
        advantage_normalization=settings.normalizes_advantages,
        vf_coef=settings.vf_coef,
        ent_coef=settings.entropy_coef,
        max_grad_norm=settings.max_grad_norm,
        gae_lambda=settings.gae_lambda,
        gamma=settings.gamma,
    )
    return on_policy(settings, learner, seed)


def dqn(settings: DQN, seed: int) -> Trained:
    action_space, shape, actions = spaces_of(settings)
    torch.manual_seed(seed)
    streams = {"hidden_sizes": settings.dueling_sizes}
    model = Net(
        state_shape=shape,
        action_shape=actions,
        hidden_sizes=settings.hidden_sizes,
        dueling_param=(streams, streams) if settings.dueling_sizes else None,
    )
    policy = DiscreteQLearningPolicy(
        model=model, action_space=action_space, eps_training=settings.epsilon
    )
    learner = algorithm.DQN(
        policy=policy,
        optim=AdamOptimizerFactory(lr=settings.learning_rate),
        gamma=settings.gamma,
        n_step_return_horizon=settings.n_step,
        target_update_freq=settings.target_every,
        is_double=settings.is_double,
    )
    slope = (settings.epsilon - settings.epsilon_min) / settings.epsilon_steps

    def explore(steps: int) -> None:
        policy.set_eps_training(max(settings.epsilon_min, settings.epsilon - slope * steps))

    trained = off_policy(settings, learner, seed)
    trained.before_training = explore
    return trained


def sac(settings: SAC, seed: int) -> Trained:
    action_space, shape, actions = spaces_of(settings)
    torch.manual_seed(seed)
    sizes, critic_rate = settings.hidden_sizes, settings.critic_rate or settings.learning_rate
    adam = AdamOptimizerFactory(lr=critic_rate)
    actor = ContinuousActorProbabilistic(
        preprocess_net=Net(state_shape=shape, hidden_sizes=sizes),
        action_shape=actions,
        unbounded=True,
        conditioned_sigma=True,
    )
    critics = [
        ContinuousCritic(
            preprocess_net=Net(
                state_shape=shape, action_shape=actions, hidden_sizes=sizes, concat=True
            )
        )
        for _ in range(2)
    ]
    learner = algorithm.SAC(
        policy=SACPolicy(actor=actor, action_space=action_space),
        policy_optim=AdamOptimizerFactory(lr=settings.learning_rate),
        critic=critics[0],
        critic_optim=adam,
        critic2=critics[1],
        critic2_optim=adam,
        tau=settings.tau,
        gamma=settings.gamma,
        alpha=AutoAlpha(-float(np.prod(actions)), 0.0, adam),
        n_step_return_horizon=settings.n_step,
    )
    return off_policy(settings, learner, seed)
