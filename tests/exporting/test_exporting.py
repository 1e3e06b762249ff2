"""`export`: what is written does what `predict` does, and was tried before it was put in its place."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import tensor_optix
from tensor_optix.adapters.inference_graph import DenseLayer, Normalize
from tensor_optix.core.environment_ids import spaces_of_id
from tensor_optix.exporting import exporting, safetensors_files, verification
from tensor_optix.exporting.c_trial import compiler_found
from tensor_optix.exporting.formats import find_format
from tensor_optix.exporting.numpy_reading import evaluate
from tensor_optix.exporting.policy_graph import NotExportable, graph_of
from tensor_optix.exporting.verification import Disagreement
from tests.exporting.policies import CASES, NAMES, shown, stored_policy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tensor_optix import Policy
    from tests.frameworks import Framework

ENDINGS = {"onnx": ".onnx", "torchscript": ".pt", "savedmodel": ".savedmodel", "c": ".h"}
VECTORS = [name for name in CASES if name not in ("parts", "names", "masks", "image", "images")]
NEEDS = {"onnx": "onnxruntime", "torchscript": "torch", "savedmodel": "tensorflow"}


def need(to: str, case: str) -> None:
    pytest.importorskip(NEEDS[to])
    if case.startswith("image"):
        pytest.importorskip("torch")


def in_onnx(path: Path, inputs: dict[str, Any]) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(path).run(["action"], inputs)[0]


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def in_torch(path: Path, inputs: dict[str, Any]) -> Any:
    import torch

    module = torch.jit.load(path)  # type: ignore[no-untyped-call]
    tensors = {name: torch.from_numpy(one) for name, one in inputs.items()}
    return module(tensors if len(tensors) > 1 else tensors["observation"]).numpy()


def in_tensorflow(path: Path, inputs: dict[str, Any]) -> Any:
    import tensorflow as tf

    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    given = {name.replace("/", "_"): tf.constant(one) for name, one in inputs.items()}
    return serve(**given)["action"].numpy()


RUNS: dict[str, Callable[[Path, dict[str, Any]], Any]] = {
    "onnx": in_onnx,
    "torchscript": in_torch,
    "savedmodel": in_tensorflow,
}


def require_alike(path: Path, to: str, policy: Policy, case: str) -> None:
    batch, masks, inputs = shown(case)
    found, expected = RUNS[to](path, inputs), policy.predict(batch, action_masks=masks)
    assert found.dtype == expected.dtype
    # To 1e-5 of the range of actions; those of discrete ones are the same.
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=3e-5)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("to", RUNS)
@pytest.mark.parametrize("case", [name for name in CASES if name not in ("image", "names")])
def test_a_file_does_what_predict_does(case: str, to: str, tmp_path: Path) -> None:
    need(to, case)
    policy = stored_policy(case, tmp_path)
    exported = tensor_optix.export(policy, tmp_path / f"policy{ENDINGS[to]}")
    assert exported.to == to
    require_alike(exported.path, to, policy, case)
    agreement = exported.agreement
    assert agreement.observations == 1000
    assert agreement.ties < 5
    assert agreement.actions is None or agreement.actions < 1e-5
    # Of Q-values of some hundreds, float32 knows no more.
    assert agreement.scores is not None
    assert agreement.scores < 1e-4
    assert exported.size > 1000
    assert not list(tmp_path.glob(".staging*"))


@pytest.mark.parametrize("case", ["ppo", "sac", "parts"])
def test_policies_of_every_framework_become_onnx(
    case: str, framework: Framework, tmp_path: Path
) -> None:
    need("onnx", case)
    policy = stored_policy(case, tmp_path, framework.name)
    exported = tensor_optix.export(policy, tmp_path / "policy", to="onnx")
    require_alike(exported.path, "onnx", policy, case)


@pytest.mark.needs_a_framework
def test_images_of_every_framework_become_onnx(framework: Framework, tmp_path: Path) -> None:
    need("onnx", "image")
    policy = stored_policy("images", tmp_path, framework.name)
    exported = tensor_optix.export(policy, tmp_path / "policy.onnx")
    require_alike(exported.path, "onnx", policy, "images")


def test_inputs_and_outputs_have_names_and_shapes(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    policy = stored_policy("parts", tmp_path)
    interface = tensor_optix.export(policy, tmp_path / "policy.onnx").interface
    assert [(one.name, one.shape, one.dtype) for one in interface.inputs] == [
        ("observation/action", (2,), "float64"),
        ("inner/0", (), "int64"),
        ("inner/1", (2,), "int8"),
        ("speed", (3,), "float32"),
    ]
    assert [(one.name, one.shape) for one in interface.outputs] == [
        ("action", ()),
        ("logits", (4,)),
    ]
    model = onnx.load(tmp_path / "policy.onnx")
    assert [one.name for one in model.graph.input] == [one.name for one in interface.inputs]
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    assert batch.dim_param == "batch"
    facts = {one.key: one.value for one in model.metadata_props}
    assert facts["algorithm"] == "ppo"
    assert json.loads(facts["action_space"])["n"] == 4


@pytest.mark.parametrize("to", RUNS)
def test_parts_may_be_called_anything(to: str, tmp_path: Path) -> None:
    need(to, "names")
    exported = tensor_optix.export(stored_policy("names", tmp_path), tmp_path / "policy", to=to)
    assert exported.agreement.observations == 1000
    assert len({one.name for one in exported.interface.inputs}) == len(NAMES)


@pytest.mark.parametrize("case", VECTORS)
def test_c_does_what_predict_does(case: str, tmp_path: Path) -> None:
    policy = stored_policy(case, tmp_path)
    exported = tensor_optix.export(policy, tmp_path / "policy.h")
    if compiler_found() is None:
        pytest.skip("no C compiler")
    assert exported.tried_by in ("cc", "gcc", "clang")
    assert exported.agreement.actions is None or exported.agreement.actions < 1e-5


PROGRAM = """
#include <stdio.h>
#include "policy.h"
int main(void)
{
    const float observation[4] = {5.0f, -1.0f, 0.25f, 3.0f};
    float action[2];
    policy_act(observation, action);
    printf("%.9g %.9g", action[0], action[1]);
    return 0;
}
"""
UNUSED = '#include "policy.h"\nint main(void) { return 0; }\n'


@pytest.mark.parametrize("program", [PROGRAM, UNUSED])
def test_a_program_of_the_users_compiles_without_a_warning(program: str, tmp_path: Path) -> None:
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("no gcc")
    policy = stored_policy("ppo-gaussian", tmp_path)
    tensor_optix.export(policy, tmp_path / "policy.h")
    (tmp_path / "main.c").write_text(program)
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    subprocess.run([gcc, *flags, "main.c", "-o", "main", "-lm"], cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout
    if program is PROGRAM:
        expected = policy.predict(np.array([5.0, -1.0, 0.25, 3.0], np.float32))
        np.testing.assert_allclose(list(map(float, said.split())), expected, atol=1e-5)


def test_without_a_compiler_it_is_said_who_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    exported = tensor_optix.export(stored_policy("dqn", tmp_path), tmp_path / "policy.h")
    assert exported.tried_by == "NumPy, as no C compiler was found"


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (
            "parts",
            r"one vector, and this policy sees observation/action \[2\], .* side by side: export it to onnx",
        ),
        ("image", r"sees observation \[8, 8, 2\] by convolutions: export it to onnx"),
    ],
)
def test_c_is_for_one_vector(case: str, why: str, tmp_path: Path) -> None:
    need("torchscript", case)
    policy = stored_policy(case, tmp_path)
    with pytest.raises(NotExportable, match=why):
        tensor_optix.export(policy, tmp_path / "policy.h")
    assert not (tmp_path / "policy.h").exists()
    assert not list(tmp_path.glob(".staging*"))


@pytest.mark.parametrize("case", ["ppo", "parts", "masks", "td3", "image"])
def test_safetensors_hold_the_whole_policy(case: str, tmp_path: Path) -> None:
    need("torchscript", case)
    policy = stored_policy(case, tmp_path)
    tensor_optix.export(policy, tmp_path / "policy.safetensors")
    graph = safetensors_files.read(tmp_path / "policy.safetensors")
    batch, masks, inputs = shown(case)
    found = evaluate(graph, inputs).action
    np.testing.assert_allclose(found, policy.predict(batch, action_masks=masks), atol=1e-5)


def test_safetensors_have_the_documented_names(tmp_path: Path) -> None:
    from safetensors import safe_open

    policy = stored_policy("sac", tmp_path)
    tensor_optix.export(policy, tmp_path / "policy.safetensors")
    with safe_open(tmp_path / "policy.safetensors", "numpy") as stored:
        names, header = set(stored.keys()), json.loads(stored.metadata()["policy"])
        weight = stored.get_tensor("dense.0.weight")
    assert names == {
        *("normalizer.mean", "normalizer.deviation"),
        *(f"dense.{place}.{name}" for place in (0, 1) for name in ("weight", "bias")),
        *(f"action.{name}" for name in ("middle", "half", "low", "high")),
    }
    assert weight.shape == (8, 3)
    assert header["algorithm"] == "sac"
    activations = [one.get("activation") for one in header["graph"]["steps"]]
    assert activations[-2:] == ["relu", "identity"]


def test_a_file_that_is_there_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    tensor_optix.export(stored_policy("dqn", tmp_path / "a"), path)
    first = path.read_bytes()
    tensor_optix.export(stored_policy("td3", tmp_path / "b"), path)
    assert path.read_bytes() != first


def test_only_a_saved_model_is_replaced_by_one(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    policy = stored_policy("dqn", tmp_path / "run")
    path = tmp_path / "policy.savedmodel"
    tensor_optix.export(policy, path)
    (path / "left").touch()
    tensor_optix.export(policy, path)
    assert not (path / "left").exists()
    with pytest.raises(ValueError, match="is there already and is no SavedModel"):
        tensor_optix.export(policy, tmp_path / "run", to="savedmodel")
    assert (tmp_path / "run" / "manifest.json").exists()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["policy.savedmodel", "run"]


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    policy = stored_policy("dqn", tmp_path)
    with pytest.raises(ValueError, match=r"is a directory: give a file, such as .*policy\.h"):
        tensor_optix.export(policy, tmp_path, to="c")


def test_a_format_that_is_none_is_named(tmp_path: Path) -> None:
    policy = stored_policy("dqn", tmp_path)
    with pytest.raises(ValueError, match="got 'onxx'; did you mean 'onnx'"):
        tensor_optix.export(policy, tmp_path / "policy", to="onxx")
    assert find_format("PyTorch").name == "torchscript"
    assert find_format("tf").name == "savedmodel"
    with pytest.raises(ValueError, match="policy says no format"):
        tensor_optix.export(policy, tmp_path / "policy")
    with pytest.raises(TypeError, match=r"must be what tensor_optix\.load returns, got str"):
        tensor_optix.export("runs/cart", tmp_path / "policy.onnx")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("package", "ending", "extra"),
    [
        ("onnx", ".onnx", "onnx"),
        ("onnxruntime", ".onnx", "onnx"),
        ("torch", ".pt", "torch"),
        ("tensorflow", ".savedmodel", "tensorflow"),
    ],
)
def test_a_missing_package_is_named_with_its_remedy(
    package: str, ending: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = stored_policy("dqn", tmp_path)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *_: None if name == package else find(name, *_)
    )
    if package == "onnxruntime" and find("onnx") is None:
        pytest.skip("onnx is missing, too")
    message = rf"{package} is not installed: pip install 'tensor-optix\[{extra}\]'"
    with pytest.raises(ImportError, match=message):
        tensor_optix.export(policy, tmp_path / f"policy{ending}")
    assert not (tmp_path / f"policy{ending}").exists()


def without_normalizer(step: Any) -> Any:
    return (
        Normalize(step.mean * 0.0, step.deviation, step.clip) if type(step) is Normalize else step
    )


def with_another_bias(step: Any) -> Any:
    return DenseLayer(step.weight, step.bias + 0.01, step.activation)


@pytest.mark.parametrize("case", ["ppo", "ppo-gaussian", "sac", "td3", "dqn"])
@pytest.mark.parametrize("to", ["safetensors", "c"])
def test_what_does_not_act_alike_is_not_written(
    case: str, to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    def wrong(policy: Policy) -> Any:
        graph = graph_of(policy)
        steps = (*map(without_normalizer, graph.steps[:-1]), with_another_bias(graph.steps[-1]))
        return replace(graph, steps=steps)

    policy = stored_policy(case, tmp_path)
    monkeypatch.setattr(exporting, "graph_of", wrong)
    path = tmp_path / "policy.out"
    path.write_text("before")
    with pytest.raises(Disagreement, match=r"differ|otherwise"):
        tensor_optix.export(policy, path, to=to)
    assert path.read_text() == "before"
    assert not list(tmp_path.glob(".staging*"))


@pytest.mark.parametrize("case", ["masks", "masks-told", "masks-choices"])
def test_an_export_that_passes_over_masks_is_noticed(case: str, tmp_path: Path) -> None:
    policy = stored_policy(case, tmp_path)
    graph = graph_of(policy)

    def heedless(inputs: Any) -> Any:
        return evaluate(graph, inputs | {"action_mask": np.ones_like(inputs["action_mask"])})

    with pytest.raises(Disagreement, match="chooses otherwise than predict for"):
        verification.verify(policy, graph, heedless)


def test_large_observations_are_shown_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "NUMBERS_AT_ONCE", 333 * 4)
    policy = stored_policy("ppo-gaussian", tmp_path)
    exported = tensor_optix.export(policy, tmp_path / "policy.safetensors")
    assert exported.agreement.observations == 1000


def test_a_policy_that_an_agent_plays_is_refused(tmp_path: Path) -> None:
    stored_policy("dqn", tmp_path)
    case = CASES["dqn"]
    from tests.policies.stored import Spaces, ready_made

    spaces = Spaces(case.observations, case.actions)
    agent = ready_made(spaces, "dqn", "native", normalize_observations=True)
    policy = tensor_optix.load(tmp_path, agent=agent)
    with pytest.raises(
        NotExportable, match=r"acts by the NativeDQNAgent .* load it without agent="
    ):
        tensor_optix.export(policy, tmp_path / "policy.onnx")


def test_a_perceptron_of_the_users_is_exported(tmp_path: Path) -> None:
    from tensor_optix import HyperparamSet, NativeAdam, NativePPOAgent, Perceptron
    from tests.policies.stored import store

    actor, critic = Perceptron(4, 2, (8,), "silu", 0), Perceptron(4, 1, (8,), "elu", 1)
    agent = NativePPOAgent(actor, critic, NativeAdam(1e-3), HyperparamSet({}))
    agent.check_spaces(*spaces_of_id("CartPole-v1"))
    store(agent, tmp_path)
    for to in ("safetensors", "c"):
        tensor_optix.export(tensor_optix.load(tmp_path), tmp_path / "policy", to=to)
