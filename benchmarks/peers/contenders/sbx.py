"""SBX, Stable-Baselines3 on JAX: settings in, a learner out."""

from __future__ import annotations

from functools import partial

import sbx

from benchmarks.peers.contenders import stable_baselines3

ppo = partial(stable_baselines3.ppo, library=sbx)
dqn = partial(stable_baselines3.dqn, library=sbx)
sac = partial(stable_baselines3.sac, library=sbx)
