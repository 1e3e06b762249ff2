"""The native engine: networks, optimizers and batches come in, whole updates are made in the caller's memory.

It is part of the extension; numba does not have it, so that `has_engine` is to be asked first. Its classes
and functions refuse with a TypeError what does not fit, and say no more: who calls them has checked it.

The environment's `TENSOR_OPTIX_ENGINE=avx512|avx2|baseline` forces one of its instruction sets; the extension
is not imported, and the ImportError says which there are, where the machine does not run that one.
"""

from typing import Any

from tensor_optix.kernels._backend import BACKEND, raw_functions

has_engine: bool = BACKEND == "native" and bool(raw_functions("_native").HAS_ENGINE)
"""Whether the engine can be used."""


def _raw(name: str) -> Any:
    return getattr(raw_functions("_native"), name) if has_engine else None


instructions = _raw("engine_instructions")
"""`() -> "avx512", "avx2" or "baseline"`: the instruction set that the engine works with: the best that the
machine runs, or the one that is forced."""

Workspace = _raw("EngineWorkspace")
"""`(threads=1)`: memory for intermediate results, that grows to what the largest call needs.

With 2 threads, updates of two networks share their work; results are the same to the bit. Calls at once, from
several threads of Python, take turns in it.
"""

Perceptron = _raw("EnginePerceptron")
"""`([(weight, bias, activation, is_by_outputs), ...])`, layers in order.

`weight` is float32 `[outputs, inputs]` if `is_by_outputs`, else `[inputs, outputs]`; `bias` is `[outputs]`
or None; `activation` is 0 to 4: none, tanh, ReLU, ELU, SiLU.
"""

Optimizer = _raw("EngineOptimizer")
"""`(rule, is_decoupled, is_nesterov, [(values, first, second, step), ...], step)`.

The leaves are the weight and the bias of each layer of the networks in order, with their moments and the
float32 `[1]` count of steps, each or None. `rule` is 0 (Adam), 1 (Keras's Adam) or 2 (SGD); `step` is an
int64 `[1]` count for all leaves, or None. `set(rate, beta1, beta2, epsilon, decay)` sets the numbers.
"""

product = _raw("engine_product")
"""`(left, left_transposed, right, right_transposed, bias, result, workspace)`.

Writes `left @ right + bias`, of float32 matrices, either of which may be given transposed. No bias: None.
"""

forward = _raw("engine_forward")
"""`(perceptron, inputs [B, D], outputs [B, F], workspace)`: writes what the perceptron makes of rows."""

log_probs = _raw("engine_log_probs")
"""`(actor, workspace, counts, observations, actions, masks, found [B])`: writes log-probabilities."""

ppo = _raw("engine_ppo")
"""`(actor, critic, optimizer, workspace, fields, counts, settings) -> sums`: updates of one pass.

`fields` are observations `[R, D]`, actions `[R, K]` int64 (or `[R, A]` float32 before the tanh, where there
are no `counts`), masks `[R, L]` or None, log_probs, advantages, returns `[R]`; `settings` the minibatch's
size, clip_ratio, vf_coef, entropy_coef, max_grad_norm. `sums` of policy_loss, value_loss, entropy, approx_kl
and grad_norm are over the updates made; the numbers of updates and of those that were left out follow.
"""

dqn = _raw("engine_dqn")
"""`(network, target, optimizer, workspace, fields, batch, max_grad_norm) -> sums`.

`fields` are observations `[R, D]`, actions `[R, 1]` int64, rewards, next observations, discounts, weights,
masks of the next actions or None, None, None, and the temporal-difference errors `[R]`, written. `sums` are
of loss, td_error_mean, grad_norm; updates and skipped ones follow.
"""

sac = _raw("engine_sac")
"""`(networks, optimizers, log_alpha [1], workspace, fields, batch, tau) -> sums`.

`networks` are actor, two critics and their targets; `optimizers` those of the actor, of both critics and of
log_alpha. `fields` are as for `dqn`, but actions `[R, A]` float32, and in place of None, None the noise of
the policy's actions and of those at the next observations, `[R, A]`. `sums` are of actor_loss, critic_loss,
grad_norm, alpha, entropy; updates, skipped ones, and the same of the actor (for `td3`) follow.
"""

td3 = _raw("engine_td3")
"""`(networks, optimizers, target_actor, workspace, fields, batch, settings) -> sums`, as for `sac`.

`settings` are tau, until_actor, delay.
The first noise is None, the second that of the target's actions, limited. `until_actor` says which of
the updates is the first that moves the actor, from 1 on; then each `delay`-th does.
"""

policy_gradient = _raw("engine_policy_gradient")
"""`(network, optimizer, workspace, observations, actions [R, 1], targets) -> sums`.

They are loss, grad_norm, one update, and 1 if it was left out.
"""

blend = _raw("engine_blend")
"""`(target, source, rate)`: moves weights, `target += rate * (source - target)`; 1 copies."""
