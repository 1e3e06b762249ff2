"""PyTorch in a single file, as one writes an algorithm down from its paper: settings in, a learner out.

No library but PyTorch, Gymnasium and NumPy, and Stable-Baselines3's wrappers of Atari games; a loop for each
algorithm, nothing compiled, nothing clever.
"""

from __future__ import annotations

import copy
import math
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor, nn
from torch.distributions import Categorical, Normal

from benchmarks.peers.contenders.environments import make_env

if TYPE_CHECKING:
    from benchmarks.peers.settings import DQN, PPO, SAC, Settings

EVALUATION_ENVS = 10
EVALUATION_SEED = 987_654
LOG_STD = (-5.0, 2.0)


def make_envs(settings: Settings, count: int, seed: int) -> Any:
    """Return environments that reset in the step that ends an episode, and their first observations."""
    envs = SyncVectorEnv(
        [partial(make_env, settings)] * count, autoreset_mode=AutoresetMode.SAME_STEP
    )
    return envs, envs.reset(seed=seed)[0]


def perceptron(
    sizes: list[int], activation: type[nn.Module], last_gain: float = 1.0
) -> nn.Sequential:
    linears = [nn.Linear(*pair) for pair in pairwise(sizes)]
    for linear in linears:
        nn.init.orthogonal_(linear.weight, last_gain if linear is linears[-1] else math.sqrt(2.0))
        nn.init.zeros_(linear.bias)
    hidden = [part for linear in linears[:-1] for part in (linear, activation())]
    return nn.Sequential(*hidden, linears[-1])


def mean_return(settings: Settings, act: Any, episodes: int) -> float:
    """Return the mean return of greedy episodes, one in each environment."""
    envs, seen = make_envs(settings, episodes, EVALUATION_SEED)
    totals, playing = np.zeros(episodes), np.ones(episodes, bool)
    while playing.any():
        seen, rewards, terminated, truncated, _ = envs.step(act(seen))
        totals += rewards * playing
        playing &= ~(terminated | truncated)
    envs.close()
    return float(totals.mean())


def last_observations(following: Any, infos: dict[str, Any]) -> Any:
    """Return what the actions led to, where an episode ended what it ended with."""
    if "final_obs" not in infos:
        return following
    following = following.copy()
    for number in np.flatnonzero(infos["_final_obs"]):
        following[number] = infos["final_obs"][number]
    return following


class Policy(nn.Module):
    """Actor and critic of PPO."""

    def __init__(self, settings: PPO, envs: Any) -> None:
        super().__init__()
        space = envs.single_action_space
        self.is_discrete = isinstance(space, gymnasium.spaces.Discrete)
        actions = int(space.n) if self.is_discrete else int(np.prod(space.shape))
        self.trunk: nn.Module = nn.Identity()
        hidden = [math.prod(envs.single_observation_space.shape), *settings.hidden_sizes]
        if settings.is_atari:
            # Mnih et al. 2015.
            strides = [nn.Conv2d(4, 32, 8, 4), nn.Conv2d(32, 64, 4, 2), nn.Conv2d(64, 64, 3, 1)]
            convolutions = [part for layer in strides for part in (layer, nn.ReLU())]
            self.trunk = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(3136, 512), nn.ReLU())
            hidden = [512]
        self.divisor = 255.0 if settings.is_atari else 1.0
        self.actor = perceptron([*hidden, actions], nn.Tanh, 0.01)
        self.critic = perceptron([*hidden, 1], nn.Tanh)
        self.log_std = nn.Parameter(torch.zeros(actions))

    def forward(self, seen: Tensor) -> tuple[Any, Tensor]:
        features = self.trunk(seen.float() / self.divisor)
        outputs, values = self.actor(features), self.critic(features)[:, 0]
        if self.is_discrete:
            return Categorical(logits=outputs), values
        return Normal(outputs, self.log_std.exp()), values

    def log_prob(self, policy: Any, actions: Tensor) -> Tensor:
        return policy.log_prob(actions) if self.is_discrete else policy.log_prob(actions).sum(-1)


class PPOLearner:
    """Proximal policy optimization."""

    def __init__(self, settings: PPO, seed: int) -> None:
        torch.manual_seed(seed)
        self.settings, self.steps = settings, 0
        self.length = settings.rows // settings.num_envs
        self.envs, self.seen = make_envs(settings, settings.num_envs, seed)
        self.net = Policy(settings, self.envs)
        self.adam = torch.optim.Adam(self.net.parameters(), settings.learning_rate, eps=1e-5)

    def train(self, steps: int) -> int:
        settings, taken = self.settings, 0
        while taken < steps:
            if settings.anneal_steps is not None:
                left = max(0.0, 1.0 - self.steps / settings.anneal_steps)
                self.adam.param_groups[0]["lr"] = settings.learning_rate * left
            self.update(*self.collect())
            taken += settings.rows
            self.steps += settings.rows
        return taken

    def bounded(self, actions: Tensor) -> Any:
        if self.net.is_discrete:
            return actions.numpy()
        space = self.envs.single_action_space
        return np.clip(actions.numpy(), space.low, space.high)

    @torch.no_grad()
    def collect(self) -> tuple[Tensor, ...]:
        rows: list[tuple[Tensor, ...]] = []
        for _ in range(self.length):
            seen = torch.as_tensor(self.seen)
            policy, values = self.net(seen)
            actions = policy.sample()
            self.seen, rewards, terminated, truncated, infos = self.envs.step(self.bounded(actions))
            rewards = torch.as_tensor(rewards, dtype=torch.float32)
            if truncated.any():
                # A time limit is no end of the problem: what would have followed counts.
                last = last_observations(self.seen, infos)[truncated]
                _, following = self.net(torch.as_tensor(last))
                rewards[torch.as_tensor(truncated)] += self.settings.gamma * following
            ended = torch.as_tensor(terminated | truncated, dtype=torch.float32)
            rows.append((seen, actions, self.net.log_prob(policy, actions), values, rewards, ended))
        seen, actions, log_probs, values, rewards, ended = map(torch.stack, zip(*rows, strict=True))
        _, following = self.net(torch.as_tensor(self.seen))
        advantages, advantage = torch.zeros_like(rewards), torch.zeros(self.settings.num_envs)
        for step in reversed(range(self.length)):
            goes_on = self.settings.gamma * (1.0 - ended[step])
            error = rewards[step] + goes_on * following - values[step]
            advantage = error + goes_on * self.settings.gae_lambda * advantage
            advantages[step], following = advantage, values[step]
        fields = (seen, actions, log_probs, advantages, advantages + values)
        return tuple(field.flatten(0, 1) for field in fields)

    def update(self, *fields: Tensor) -> None:
        settings = self.settings
        for _ in range(settings.epochs):
            for rows in torch.randperm(settings.rows).split(settings.minibatch):
                self.adam.zero_grad()
                self.loss(*(field[rows] for field in fields)).backward()
                nn.utils.clip_grad_norm_(self.net.parameters(), settings.max_grad_norm)
                self.adam.step()

    def loss(
        self, seen: Tensor, actions: Tensor, before: Tensor, advantages: Tensor, returns: Tensor
    ) -> Tensor:
        settings = self.settings
        policy, values = self.net(seen)
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        ratio = (self.net.log_prob(policy, actions) - before).exp()
        clipped = ratio.clamp(1.0 - settings.clip, 1.0 + settings.clip)
        gain = torch.min(ratio * advantages, clipped * advantages).mean()
        entropy = policy.entropy().mean() * (1 if self.net.is_discrete else actions.shape[-1])
        error = (values - returns).square().mean()
        return settings.vf_coef * error - gain - settings.entropy_coef * entropy

    @torch.no_grad()
    def greedy(self, seen: Any) -> Any:
        policy, _ = self.net(torch.as_tensor(seen))
        return self.bounded(policy.probs.argmax(-1) if self.net.is_discrete else policy.mean)

    def play(self, episodes: int) -> float:
        return mean_return(self.settings, self.greedy, episodes)


class Replay:
    """Rows of one environment, the oldest written over."""

    def __init__(self, capacity: int, seed: int) -> None:
        self.capacity, self.count = capacity, 0
        self.rng = np.random.default_rng(seed)

    def add(self, *row: Any) -> None:
        if not self.count:
            self.fields = [
                np.zeros((self.capacity, *np.shape(one)), np.asarray(one).dtype) for one in row
            ]
        for field, one in zip(self.fields, row, strict=True):
            field[self.count % self.capacity] = one
        self.count += 1

    def sample(self, batch: int) -> list[Tensor]:
        rows = self.rng.integers(min(self.count, self.capacity), size=batch)
        return [torch.from_numpy(field[rows]) for field in self.fields]


class OffPolicyLearner:
    """What DQN and SAC have in common: one environment, a replay, updates every so many steps."""

    def __init__(self, settings: DQN | SAC, seed: int) -> None:
        if settings.num_envs != 1:
            raise ValueError(f"num_envs must be 1 with a replay, got {settings.num_envs}")
        torch.manual_seed(seed)
        self.settings, self.seed, self.steps = settings, seed, 0
        self.env = make_env(settings)
        self.env.action_space.seed(seed)
        self.rng = np.random.default_rng(seed)
        self.seen, _ = self.env.reset(seed=seed)
        self.replay = Replay(settings.capacity, seed)

    def act(self, seen: Tensor) -> Any:
        raise NotImplementedError

    def stored(self, action: Any) -> Any:
        """Return the action as the networks take it."""
        return action

    def update(self) -> None:
        raise NotImplementedError

    def train(self, steps: int) -> int:
        settings = self.settings
        for _ in range(steps):
            is_random = self.steps < settings.learning_starts
            seen = torch.as_tensor(self.seen, dtype=torch.float32)
            action = self.env.action_space.sample() if is_random else self.act(seen)
            following, reward, terminated, truncated, _ = self.env.step(action)
            row = (self.seen, self.stored(action), reward, following, terminated)
            self.replay.add(*(np.asarray(one, np.float32) for one in row))
            self.seen = self.env.reset()[0] if terminated or truncated else following
            self.steps += 1
            if self.steps >= settings.learning_starts and self.steps % settings.train_every == 0:
                for _ in range(settings.updates):
                    self.update()
        return steps


class DQNLearner(OffPolicyLearner):
    """Deep Q-learning."""

    def __init__(self, settings: DQN, seed: int) -> None:
        super().__init__(settings, seed)
        inputs, actions = self.env.observation_space.shape[0], int(self.env.action_space.n)
        self.net = perceptron([inputs, *settings.hidden_sizes, actions], nn.ReLU)
        self.target = copy.deepcopy(self.net)
        self.adam = torch.optim.Adam(self.net.parameters(), settings.learning_rate)
        self.updates = 0

    @torch.no_grad()
    def act(self, seen: Tensor) -> Any:
        settings = self.settings
        slope = (settings.epsilon - settings.epsilon_min) / settings.epsilon_steps
        if self.rng.random() < max(settings.epsilon_min, settings.epsilon - slope * self.steps):
            return self.env.action_space.sample()
        return int(self.net(seen).argmax())

    def update(self) -> None:
        seen, actions, rewards, following, ended = self.replay.sample(self.settings.batch)
        with torch.no_grad():
            best = self.target(following).max(-1).values
            targets = rewards + self.settings.gamma * (1.0 - ended) * best
        values = self.net(seen).gather(1, actions.long()[:, None])[:, 0]
        self.adam.zero_grad()
        nn.functional.mse_loss(values, targets).backward()
        self.adam.step()
        self.updates += 1
        if self.updates % self.settings.target_every == 0:
            self.target.load_state_dict(self.net.state_dict())

    @torch.no_grad()
    def greedy(self, seen: Any) -> Any:
        return self.net(torch.as_tensor(seen, dtype=torch.float32)).argmax(-1).numpy()

    def play(self, episodes: int) -> float:
        return mean_return(self.settings, self.greedy, episodes)


class SACLearner(OffPolicyLearner):
    """Soft actor-critic, the temperature learned."""

    def __init__(self, settings: SAC, seed: int) -> None:
        super().__init__(settings, seed)
        space = self.env.action_space
        inputs, self.actions = self.env.observation_space.shape[0], space.shape[0]
        sizes, critic_rate = settings.hidden_sizes, settings.critic_rate or settings.learning_rate
        self.half = torch.as_tensor((space.high - space.low) / 2.0)
        self.middle = torch.as_tensor((space.high + space.low) / 2.0)
        self.actor = perceptron([inputs, *sizes, 2 * self.actions], nn.ReLU, 0.01)
        critics = [perceptron([inputs + self.actions, *sizes, 1], nn.ReLU) for _ in range(2)]
        self.critics = nn.ModuleList(critics)
        self.targets = copy.deepcopy(self.critics)
        self.log_alpha = torch.zeros(1, requires_grad=True)
        self.actor_adam = torch.optim.Adam(self.actor.parameters(), settings.learning_rate)
        self.critic_adam = torch.optim.Adam(self.critics.parameters(), critic_rate)
        self.alpha_adam = torch.optim.Adam([self.log_alpha], critic_rate)
        self.updates = 0

    def draw(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return actions in (-1, 1) and their log-probabilities, appendix C of the paper."""
        mean, log_std = self.actor(seen).chunk(2, -1)
        normal = Normal(mean, log_std.clamp(*LOG_STD).exp())
        raw = normal.rsample()
        log_det = 2.0 * (math.log(2.0) - raw - nn.functional.softplus(-2.0 * raw))
        return raw.tanh(), (normal.log_prob(raw) - log_det).sum(-1)

    def scaled(self, actions: Tensor) -> Any:
        return (actions * self.half + self.middle).numpy()

    def stored(self, action: Any) -> Any:
        return (action - self.middle.numpy()) / self.half.numpy()

    @torch.no_grad()
    def act(self, seen: Tensor) -> Any:
        return self.scaled(self.draw(seen)[0])

    def least(self, critics: Any, seen: Tensor, actions: Tensor) -> Tensor:
        both = torch.cat([seen, actions], -1)
        return torch.min(critics[0](both), critics[1](both))[:, 0]

    def update(self) -> None:
        settings = self.settings
        seen, actions, rewards, following, ended = self.replay.sample(settings.batch)
        alpha = self.log_alpha.detach().exp()
        with torch.no_grad():
            drawn, log_probs = self.draw(following)
            soft = self.least(self.targets, following, drawn) - alpha * log_probs
            goals = rewards + settings.gamma * (1.0 - ended) * soft
        both = torch.cat([seen, actions], -1)
        errors = [nn.functional.mse_loss(critic(both)[:, 0], goals) for critic in self.critics]
        self.descend(self.critic_adam, errors[0] + errors[1])
        self.updates += 1
        if self.updates % settings.policy_every == 0:
            for _ in range(settings.policy_every):
                self.update_policy(seen)
        with torch.no_grad():
            for target, weight in zip(
                self.targets.parameters(), self.critics.parameters(), strict=True
            ):
                target.lerp_(weight, settings.tau)

    def update_policy(self, seen: Tensor) -> None:
        drawn, log_probs = self.draw(seen)
        alpha = self.log_alpha.detach().exp()
        loss = (alpha * log_probs - self.least(self.critics, seen, drawn)).mean()
        self.descend(self.actor_adam, loss)
        surplus = log_probs.detach() - self.actions
        self.descend(self.alpha_adam, -(self.log_alpha.exp() * surplus).mean())

    def descend(self, adam: Any, loss: Tensor) -> None:
        adam.zero_grad()
        loss.backward()
        adam.step()

    @torch.no_grad()
    def greedy(self, seen: Any) -> Any:
        mean, _ = self.actor(torch.as_tensor(seen, dtype=torch.float32)).chunk(2, -1)
        return self.scaled(mean.tanh())

    def play(self, episodes: int) -> float:
        return mean_return(self.settings, self.greedy, episodes)


ppo, dqn, sac = PPOLearner, DQNLearner, SACLearner
