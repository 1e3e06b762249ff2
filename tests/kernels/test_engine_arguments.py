"""What does not fit is a TypeError of the engine, and never the end of the process."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix.kernels import engine
from tests.kernels.engine_parts import (
    ADAM,
    IDENTITY,
    KERAS_ADAM,
    SGD,
    TANH,
    UNLIMITED,
    Descent,
    Net,
    descent,
    net,
    normal,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[Any]

Arguments = dict[str, Any]
ROWS, DIMS, SIZE, COUNTS = 6, 4, 2, (3, 2)
workspace = engine.Workspace()


def floats(*shape: int) -> Array:
    return normal(np.random.default_rng(0), *shape)


def perceptron(*sizes: int) -> Net:
    return net(np.random.default_rng(1), *sizes)


def choices(*counts: int) -> Array:
    return np.zeros((ROWS, len(counts)), np.int64)


def masks(width: int) -> Array:
    return np.ones((ROWS, width), np.uint8)


def product() -> Arguments:
    left, right = floats(ROWS, DIMS), floats(DIMS, SIZE)
    return {"left": left, "left_transposed": False, "right": right, "right_transposed": False} | {
        "bias": floats(SIZE),
        "result": floats(ROWS, SIZE),
    }


def forward() -> Arguments:
    return {
        "network": perceptron(DIMS, 3, SIZE).engine,
        "inputs": floats(ROWS, DIMS),
        "outputs": floats(ROWS, SIZE),
    }


def log_probs() -> Arguments:
    return {
        "actor": perceptron(DIMS, 3, sum(COUNTS)).engine,
        "counts": COUNTS,
        "observations": floats(ROWS, DIMS),
        "actions": choices(*COUNTS),
        "masks": masks(sum(COUNTS)),
        "found": floats(ROWS),
    }


def squashed_log_probs() -> Arguments:
    actor = perceptron(DIMS, 3, 2 * SIZE).engine
    return log_probs() | {
        "actor": actor,
        "counts": (),
        "actions": floats(ROWS, SIZE),
        "masks": None,
    }


def ppo() -> Arguments:
    actor, critic = perceptron(DIMS, 3, sum(COUNTS)), perceptron(DIMS, 3, 1)
    return {
        "actor": actor.engine,
        "critic": critic.engine,
        "optimizer": descent(actor, critic).engine,
        "observations": floats(ROWS, DIMS),
        "actions": choices(*COUNTS),
        "masks": masks(sum(COUNTS)),
        "log_probs": floats(ROWS),
        "advantages": floats(ROWS),
        "returns": floats(ROWS),
        "counts": COUNTS,
        "minibatch": 4,
        "clip_ratio": 0.2,
        "vf_coef": 0.5,
        "entropy_coef": 0.0,
        "max_grad_norm": 0.5,
    }


def squashed_ppo() -> Arguments:
    actor, critic = perceptron(DIMS, 3, 2 * SIZE), perceptron(DIMS, 3, 1)
    return ppo() | {
        "actor": actor.engine,
        "critic": critic.engine,
        "optimizer": descent(actor, critic).engine,
        "actions": floats(ROWS, SIZE),
        "masks": None,
        "counts": (),
    }


REPLAY = ["observations", "actions", "rewards", "next_observations", "discounts", "weights"]
REPLAY += ["next_masks", "noise", "next_noise", "td_errors"]


def replay() -> Arguments:
    fields: list[Any] = [floats(ROWS, DIMS), None, floats(ROWS), floats(ROWS, DIMS)]
    fields += [floats(ROWS), floats(ROWS), None, None, None, floats(ROWS)]
    return dict(zip(REPLAY, fields, strict=True))


def dqn() -> Arguments:
    network = perceptron(DIMS, 3, SIZE)
    return {
        "network": network.engine,
        "target": perceptron(DIMS, 3, SIZE).engine,
        "optimizer": descent(network).engine,
        **replay(),
        "actions": choices(SIZE),
        "next_masks": masks(SIZE),
        "batch": 3,
        "max_grad_norm": UNLIMITED,
    }


def twins(outputs: int) -> Arguments:
    actor, critics = perceptron(DIMS, 3, outputs), [perceptron(DIMS + SIZE, 3, 1) for _ in range(4)]
    names = ["critic1", "critic2", "target1", "target2"]
    return {
        "actor": actor.engine,
        **{name: critic.engine for name, critic in zip(names, critics, strict=True)},
        "actor_optimizer": descent(actor).engine,
        "critic_optimizer": descent(*critics[:2]).engine,
        **replay(),
        "actions": floats(ROWS, SIZE),
        "next_noise": floats(ROWS, SIZE),
        "batch": 3,
        "tau": 0.1,
    }


def sac() -> Arguments:
    log_alpha = floats(1)
    of_alpha = Descent([log_alpha]).engine
    noise = floats(ROWS, SIZE)
    return twins(2 * SIZE) | {"log_alpha": log_alpha, "alpha_optimizer": of_alpha, "noise": noise}


def td3() -> Arguments:
    target = perceptron(DIMS, 3, SIZE).engine
    return twins(SIZE) | {"target_actor": target, "until_actor": 1, "delay": 2}


def policy_gradient() -> Arguments:
    network = perceptron(DIMS, 3, SIZE)
    return {
        "network": network.engine,
        "optimizer": descent(network).engine,
        "observations": floats(ROWS, DIMS),
        "actions": choices(SIZE),
        "targets": floats(ROWS),
    }


def blend() -> Arguments:
    return {
        "target": perceptron(DIMS, SIZE).engine,
        "source": perceptron(DIMS, SIZE).engine,
        "rate": 0.5,
    }


def layer() -> Arguments:
    weight, bias = floats(SIZE, DIMS), floats(SIZE)
    return {"weight": weight, "bias": bias, "activation": TANH, "is_by_outputs": True}


def optimizer() -> Arguments:
    return {
        "rule": ADAM,
        "is_decoupled": False,
        "is_nesterov": False,
        "values": floats(SIZE, DIMS),
        "first": floats(SIZE, DIMS),
        "second": floats(SIZE, DIMS),
        "leaf_step": np.zeros(1, np.float32),
        "step": np.zeros(1, np.int64),
    }


def call_log_probs(a: Arguments) -> Any:
    batch = [a[name] for name in ("counts", "observations", "actions", "masks", "found")]
    return engine.log_probs(a["actor"], workspace, *batch)


def call_ppo(a: Arguments) -> Any:
    fields = ("observations", "actions", "masks", "log_probs", "advantages", "returns")
    settings = ("minibatch", "clip_ratio", "vf_coef", "entropy_coef", "max_grad_norm")
    parts = tuple(a[name] for name in fields), a["counts"], tuple(a[name] for name in settings)
    return engine.ppo(a["actor"], a["critic"], a["optimizer"], workspace, *parts)


def replay_of(a: Arguments) -> tuple[Any, ...]:
    return tuple(a[name] for name in REPLAY)


def call_dqn(a: Arguments) -> Any:
    rest = replay_of(a), a["batch"], a["max_grad_norm"]
    return engine.dqn(a["network"], a["target"], a["optimizer"], workspace, *rest)


def networks_of(a: Arguments) -> tuple[Any, ...]:
    return tuple(a[name] for name in ("actor", "critic1", "critic2", "target1", "target2"))


def call_sac(a: Arguments) -> Any:
    optimizers = a["actor_optimizer"], a["critic_optimizer"], a["alpha_optimizer"]
    rest = a["log_alpha"], workspace, replay_of(a), a["batch"], a["tau"]
    return engine.sac(networks_of(a), optimizers, *rest)


def call_td3(a: Arguments) -> Any:
    optimizers = a["actor_optimizer"], a["critic_optimizer"]
    settings = a["tau"], a["until_actor"], a["delay"]
    rest = a["target_actor"], workspace, replay_of(a), a["batch"], settings
    return engine.td3(networks_of(a), optimizers, *rest)


def call_policy_gradient(a: Arguments) -> Any:
    rest = a["observations"], a["actions"], a["targets"]
    return engine.policy_gradient(a["network"], a["optimizer"], workspace, *rest)


def call_layer(a: Arguments) -> Any:
    return engine.Perceptron([tuple(a.values())])


def call_optimizer(a: Arguments) -> Any:
    leaf = a["values"], a["first"], a["second"], a["leaf_step"]
    return engine.Optimizer(a["rule"], a["is_decoupled"], a["is_nesterov"], [leaf], a["step"])


CALLS: dict[str, tuple[Callable[[], Arguments], Callable[[Arguments], Any]]] = {
    "product": (product, lambda a: engine.product(*a.values(), workspace)),
    "forward": (forward, lambda a: engine.forward(*a.values(), workspace)),
    "log_probs": (log_probs, call_log_probs),
    "log_probs, squashed": (squashed_log_probs, call_log_probs),
    "ppo": (ppo, call_ppo),
    "ppo, squashed": (squashed_ppo, call_ppo),
    "dqn": (dqn, call_dqn),
    "sac": (sac, call_sac),
    "td3": (td3, call_td3),
    "policy_gradient": (policy_gradient, call_policy_gradient),
    "blend": (blend, lambda a: engine.blend(*a.values())),
    "Perceptron": (layer, call_layer),
    "Optimizer": (optimizer, call_optimizer),
}
ALL = [(call, name) for call, (make, _) in CALLS.items() for name in make()]
ARRAYS = [pair for pair in ALL if isinstance(CALLS[pair[0]][0]()[pair[1]], np.ndarray)]
# A leaf of an optimizer may be of any shape.
SHAPED = [pair for pair in ARRAYS if pair[1] not in ("values", "first", "second")]
LONG = [pair for pair in ARRAYS if CALLS[pair[0]][0]()[pair[1]].size > 1]
MATRICES = [pair for pair in LONG if CALLS[pair[0]][0]()[pair[1]].ndim == 2]
MATRICES = [pair for pair in MATRICES if CALLS[pair[0]][0]()[pair[1]].shape[1] > 1]
WIDE = [pair for pair in ARRAYS if CALLS[pair[0]][0]()[pair[1]].itemsize > 1]
WRITTEN = [("product", "result"), ("forward", "outputs"), ("log_probs", "found")]
WRITTEN += [("log_probs, squashed", "found")]
WRITTEN += [(call, "td_errors") for call in ("dqn", "sac", "td3")] + [("sac", "log_alpha")]
WRITTEN += [pair for pair in ARRAYS if pair[0] in ("Perceptron", "Optimizer")]
OBJECTS = [pair for pair in ALL if type(CALLS[pair[0]][0]()[pair[1]]).__name__.startswith("Engine")]
NUMBERS = [pair for pair in ALL if type(CALLS[pair[0]][0]()[pair[1]]) in (int, float, bool)]
each = pytest.mark.parametrize


def original(call: str, name: str) -> Any:
    return CALLS[call][0]()[name]


def refused(call: str, **replaced: Any) -> None:
    """Assert that a call is legal as it is, and refused with other arguments."""
    make, run = CALLS[call]
    run(make())
    with pytest.raises(TypeError):
        run(make() | replaced)


@each("call", CALLS)
def test_the_calls_are_legal(call: str) -> None:
    make, run = CALLS[call]
    run(make())


@each(("call", "name"), ARRAYS)
@each("dtype", ["f2", "f8", "i2", ">f4", ">i8", "i1", "c8", "O", "S4"])
def test_a_wrong_dtype(call: str, name: str, dtype: str) -> None:
    refused(call, **{name: original(call, name).astype(dtype)})


@each(("call", "name"), ARRAYS)
@each("value", [[[0.0, 1.0]], 3.0, b"bytes", memoryview(b"1234"), "text", object(), (1, 2)])
def test_what_is_no_array(call: str, name: str, value: Any) -> None:
    refused(call, **{name: value})


OPTIONAL = ("bias", "masks", "next_masks", "leaf_step", "step")


@each(("call", "name"), [pair for pair in ARRAYS if pair[1] not in OPTIONAL])
def test_none_in_place_of_an_array(call: str, name: str) -> None:
    refused(call, **{name: None})


@each(("call", "name"), [pair for pair in ARRAYS if pair[1] in OPTIONAL])
def test_none_where_there_may_be_none(call: str, name: str) -> None:
    make, run = CALLS[call]
    run(make() | {name: None})


@each(("call", "name"), SHAPED)
def test_a_wrong_shape(call: str, name: str) -> None:
    array = original(call, name)
    refused(call, **{name: array[..., None]})
    refused(call, **{name: array[None]})
    refused(call, **{name: array.reshape(-1)[:0]})
    refused(call, **{name: np.zeros((), array.dtype)})
    if call == "Perceptron" and name == "weight":  # of which the sizes come
        return
    for axis in range(array.ndim):
        refused(call, **{name: np.concatenate([array, array.take([0], axis)], axis)})


@each("name", ["first", "second"])
def test_moments_of_another_size(name: str) -> None:
    refused("Optimizer", **{name: floats(SIZE, DIMS + 1)})
    refused("Optimizer", **{name: floats(0)})


@each(("call", "name"), LONG)
def test_a_strided_view(call: str, name: str) -> None:
    array = original(call, name)
    wide = np.repeat(array, 2, axis=0)[::2]
    assert not wide.flags.c_contiguous
    refused(call, **{name: wide})


@each(("call", "name"), MATRICES)
def test_a_column_major_array(call: str, name: str) -> None:
    refused(call, **{name: np.asfortranarray(original(call, name))})


@each(("call", "name"), WIDE)
def test_an_unaligned_array(call: str, name: str) -> None:
    array = original(call, name)
    raw = np.zeros(array.nbytes + 1, np.uint8)[1:]
    refused(call, **{name: raw.view(array.dtype).reshape(array.shape)})


@each(("call", "name"), WRITTEN)
def test_read_only_memory(call: str, name: str) -> None:
    array = original(call, name)
    array.flags.writeable = False
    refused(call, **{name: array})


@each(("call", "name"), [pair for pair in ARRAYS if pair not in WRITTEN])
def test_what_is_only_read_may_be_read_only(call: str, name: str) -> None:
    make, run = CALLS[call]
    arguments = make()
    arguments[name].flags.writeable = False
    run(arguments)


@each(
    ("call", "name", "other"),
    [
        ("product", "result", "left"),
        ("product", "result", "right"),
        ("product", "result", "bias"),
        ("forward", "outputs", "inputs"),
        ("log_probs", "found", "observations"),
        ("dqn", "td_errors", "rewards"),
        ("dqn", "td_errors", "weights"),
        ("sac", "td_errors", "discounts"),
        ("sac", "td_errors", "noise"),
        ("td3", "td_errors", "observations"),
        ("Optimizer", "first", "values"),
        ("Optimizer", "second", "first"),
        ("Optimizer", "leaf_step", "values"),
    ],
)
def test_what_is_written_shares_no_memory(call: str, name: str, other: str) -> None:
    """Not even the last number with the first."""
    one, two = original(call, name), original(call, other)
    memory = np.zeros(one.size + two.size, np.float32)
    for begin in (0, two.size - 1):
        replaced = {other: memory[: two.size].reshape(two.shape)}
        refused(call, **replaced, **{name: memory[begin : begin + one.size].reshape(one.shape)})
    CALLS[call][1](
        CALLS[call][0]()
        | {
            other: memory[: two.size].reshape(two.shape),
            name: memory[two.size :].reshape(one.shape),
        }
    )


@each(("call", "name"), OBJECTS)
@each("value", [None, 3, "text", (), object(), engine.Workspace()])
def test_what_is_no_object_of_the_engine(call: str, name: str, value: Any) -> None:
    refused(call, **{name: value})


@each(("call", "name"), OBJECTS)
def test_an_object_of_the_other_class(call: str, name: str) -> None:
    network = perceptron(DIMS, SIZE)
    optimizer = descent(network).engine
    refused(call, **{name: network.engine if "optimizer" in name else optimizer})


@each(("call", "name"), OBJECTS)
def test_a_network_or_an_optimizer_that_does_not_fit(call: str, name: str) -> None:
    other = perceptron(DIMS + 7, 3, 5)
    refused(call, **{name: descent(other).engine if "optimizer" in name else other.engine})


@each(("call", "name"), OBJECTS)
@pytest.mark.filterwarnings("ignore:.*uninitialized:RuntimeWarning")
def test_an_object_that_was_never_made(call: str, name: str) -> None:
    kind = type(original(call, name))
    refused(call, **{name: kind.__new__(kind)})


@each(("call", "name"), NUMBERS)
@each("value", [None, "0.5", [0.5], b"1", object()])
def test_what_is_no_number(call: str, name: str, value: Any) -> None:
    refused(call, **{name: value})


@each(
    ("call", "name", "value"),
    [
        ("ppo", "minibatch", 0),
        ("ppo", "minibatch", -1),
        ("ppo", "minibatch", 2.0),
        ("dqn", "batch", 0),
        ("dqn", "batch", 4),
        ("dqn", "batch", 2**70),
        ("sac", "batch", 5),
        ("sac", "tau", 1.5),
        ("sac", "tau", -0.1),
        ("sac", "tau", np.nan),
        ("td3", "tau", 2.0),
        ("td3", "until_actor", 0),
        ("td3", "delay", 0),
        ("td3", "delay", -(2**70)),
        ("blend", "rate", 1.01),
        ("Perceptron", "activation", 5),
        ("Perceptron", "activation", -1),
        ("Optimizer", "rule", 3),
        ("Optimizer", "rule", -1),
    ],
)
def test_a_number_out_of_range(call: str, name: str, value: Any) -> None:
    refused(call, **{name: value})


@each("call", ["log_probs", "ppo", "dqn", "policy_gradient"])
@each("value", [-1, 3, 2**31, 2**63 - 1, -(2**63)])
def test_an_action_that_there_is_not(call: str, value: int) -> None:
    for column in range(original(call, "actions").shape[1]):
        actions = original(call, "actions")
        actions[ROWS - 1, column] = value
        refused(call, actions=actions)


@each("call", ["log_probs", "ppo"])
@each(
    "counts",
    [
        *[(), (4,), (3, 3), (3, 1), (3, 2, 1), (3, 0), (6, -1)],
        *[(2**63 - 1, 2**63 - 1, 7), (2**70, 1), None, 5, "ab", (3.0, 2.0), (None, 5)],
    ],
    ids=str,
)
def test_counts_that_do_not_fit(call: str, counts: Any) -> None:
    """Of which the sum, of numbers of 64 bits, may even be right."""
    refused(call, counts=counts)
    if isinstance(counts, tuple):
        refused(call, counts=counts, actions=np.zeros((ROWS, len(counts)), np.int64))


@each("call", ["log_probs, squashed", "ppo, squashed"])
def test_continuous_actions_have_no_masks(call: str) -> None:
    refused(call, masks=masks(2 * SIZE))


def test_a_squashed_actor_of_an_odd_number_of_outputs() -> None:
    actor = perceptron(DIMS, 3, 5).engine
    refused("log_probs, squashed", actor=actor, actions=floats(ROWS, 2))


@each("name", ["noise", "next_noise"])
def test_sac_needs_noise(name: str) -> None:
    refused("sac", **{name: None})
    if name == "next_noise":
        refused("td3", **{name: None})


def test_observations_and_critics_of_different_sizes() -> None:
    refused("ppo", observations=floats(ROWS, DIMS + 1))
    critic = perceptron(DIMS, 3, 2)
    refused("ppo", critic=critic.engine)


def test_targets_that_are_no_twins_of_their_networks() -> None:
    rng = np.random.default_rng(2)
    others = [
        net(rng, DIMS, 3, SIZE, activation=IDENTITY),
        net(rng, DIMS, 3, SIZE, has_bias=False),
        net(rng, DIMS, 3, SIZE, is_by_outputs=False),
        net(rng, DIMS, 3, 3, SIZE),
        net(rng, DIMS, 4, SIZE),
    ]
    for other in others:
        refused("dqn", target=other.engine)
        refused("td3", target_actor=other.engine)
        refused("blend", target=other.engine)


def optimizer_of(network: Net, order: list[int]) -> Any:
    return Descent([network.arrays[i] for i in order]).engine


def test_an_optimizers_leaves_are_the_networks_in_order() -> None:
    network = perceptron(DIMS, 3, SIZE)
    arguments = {"network": network.engine}
    for order in itertools.chain(
        (list(order) for order in itertools.permutations(range(4)) if order != (0, 1, 2, 3)),
        ([0], [0, 1, 2], []),
    ):
        refused("policy_gradient", **arguments, optimizer=optimizer_of(network, order))
    extra = Descent([*network.arrays, floats(3)]).engine
    refused("policy_gradient", **arguments, optimizer=extra)
    part = Descent([*network.arrays[:3], network.arrays[3][:1]]).engine
    refused("policy_gradient", **arguments, optimizer=part)
    copied = descent(network.clone()).engine
    refused("policy_gradient", **arguments, optimizer=copied)
    critics = perceptron(DIMS + SIZE, 3, 1), perceptron(DIMS + SIZE, 3, 1)
    names = {"critic1": critics[0].engine, "critic2": critics[1].engine}
    refused("sac", **names, critic_optimizer=descent(*critics[::-1]).engine)
    refused("sac", **names, critic_optimizer=descent(critics[0]).engine)
    refused("sac", alpha_optimizer=Descent([floats(1)]).engine)
    refused("sac", alpha_optimizer=Descent([floats(2)]).engine)
    refused("sac", alpha_optimizer=Descent([floats(1), floats(1)]).engine)


@each("rule", [ADAM, KERAS_ADAM])
def test_adam_needs_moments_and_a_count_of_steps(rule: int) -> None:
    refused("Optimizer", rule=rule, first=None)
    refused("Optimizer", rule=rule, second=None)
    refused("Optimizer", rule=rule, leaf_step=None, step=None)
    engine.Optimizer(SGD, False, False, [(floats(3), None, None, None)], None)


def test_two_networks_do_not_share_a_weight_in_one_optimizer() -> None:
    """Their gradients would be applied one after the other."""
    weights = floats(SIZE, DIMS)
    with pytest.raises(TypeError):
        Descent([weights, weights])


LAYER = (floats(SIZE, DIMS), None, TANH, True)


@each(
    "layers",
    [
        [],
        [LAYER] * 17,
        (LAYER,),
        None,
        5,
        [None],
        [5],
        ["abcd"],
        [b"abcd"],
        [list(LAYER)],
        [LAYER[:3]],
        [(*LAYER, 0)],
        [LAYER, LAYER],
        [(floats(SIZE), None, TANH, True)],
        [(floats(0, DIMS), None, TANH, True)],
        [(floats(SIZE, 0), None, TANH, True)],
        [(floats(SIZE, DIMS), floats(DIMS), TANH, True)],
        [(floats(SIZE, DIMS), floats(SIZE), TANH, False)],
        [(*LAYER[:3], "yes")],
        [(*LAYER[:3], 2)],
        [(*LAYER[:3], None)],
    ],
    ids=lambda layers: None,
)
def test_what_are_no_layers(layers: Any) -> None:
    with pytest.raises(TypeError):
        engine.Perceptron(layers)


def test_16_layers_are_legal() -> None:
    square = (floats(SIZE, SIZE), None, TANH, True)
    engine.forward(
        engine.Perceptron([square] * 16), floats(ROWS, SIZE), floats(ROWS, SIZE), workspace
    )


@each(
    "leaves",
    [
        *[None, 5, (), [None], ["abcd"], [b"abcd"], [[floats(2), None, None, None]]],
        *[[(floats(2),)], [(floats(2), None, None, None, None)], [(None, None, None, None)]],
    ],
    ids=lambda leaves: None,
)
def test_what_are_no_leaves(leaves: Any) -> None:
    with pytest.raises(TypeError):
        engine.Optimizer(SGD, False, False, leaves, None)


@each("count", [0, 1, 5, 9, 11])
def test_too_many_and_too_few_fields(count: int) -> None:
    arguments = dqn()
    fields = (*replay_of(arguments), None)[:count]
    objects = arguments["network"], arguments["target"], arguments["optimizer"], workspace
    with pytest.raises(TypeError):
        engine.dqn(*objects, fields, 3, UNLIMITED)


@each("wrong", [None, 5, "abcdefghij", [None] * 10, (None,) * 10])
def test_fields_that_are_none(wrong: Any) -> None:
    arguments = dqn()
    objects = arguments["network"], arguments["target"], arguments["optimizer"], workspace
    with pytest.raises(TypeError):
        engine.dqn(*objects, wrong, 3, UNLIMITED)


@each("networks", [(), (None,) * 5, (3,) * 5, ("abc",) * 5, [None] * 5, None])
@each("optimizers", [(), (None,) * 3, (3,) * 3, [None] * 3, None])
def test_networks_and_optimizers_that_are_none(networks: Any, optimizers: Any) -> None:
    arguments = sac()
    rest = arguments["log_alpha"], workspace, replay_of(arguments), 3, 0.1
    for first, second in [
        (networks, optimizers),
        (networks_of(arguments), optimizers),
        (networks, tuple(arguments[f"{of}_optimizer"] for of in ("actor", "critic", "alpha"))),
    ]:
        with pytest.raises(TypeError):
            engine.sac(first, second, *rest)


def test_no_rows() -> None:
    """Nothing is made of nothing but by the policy gradient, which has a mean."""
    empty = {"observations": floats(0, DIMS), "actions": np.zeros((0, 1), np.int64)}
    refused("policy_gradient", **empty, targets=floats(0))
    fields = {"log_probs": floats(0), "advantages": floats(0), "returns": floats(0), "masks": None}
    actions = np.zeros((0, 2), np.int64)
    assert call_ppo(ppo() | empty | fields | {"actions": actions})[-2:] == (0, 0)
    names = ["rewards", "discounts", "weights", "td_errors"]
    rows = {name: floats(0) for name in names} | {"next_observations": floats(0, DIMS)}
    assert call_dqn(dqn() | empty | rows | {"next_masks": None})[-2:] == (0, 0)


def test_arrays_are_held_for_as_long_as_they_are_needed() -> None:
    """What the engine was made of may go: its memory stays."""
    network, inputs = perceptron(DIMS, 300, SIZE), floats(ROWS, DIMS)
    kept, first, again = network.engine, floats(ROWS, SIZE), floats(ROWS, SIZE)
    engine.forward(kept, inputs, first, workspace)
    network.layers.clear()
    network.arrays.clear()
    rest = [np.full((300, 300), np.nan, np.float32) for _ in range(50)]
    engine.forward(kept, inputs, again, workspace)
    assert first.tobytes() == again.tobytes()
    assert len(rest) == 50
