"""TensorFlow on a GPU: the contract."""

from __future__ import annotations

from typing import Any

import pytest

tf = pytest.importorskip("tensorflow")
GPUS = tf.config.list_physical_devices("GPU")
if not GPUS:
    pytest.skip("TensorFlow sees no GPU", allow_module_level=True)

from tests.gpu.gpu_contract import GpuContract

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True, scope="module")
def full_precision():
    """Products in float32 as the CPU makes them; memory as it is needed, because PyTorch needs some, too."""
    for gpu in GPUS:
        tf.config.experimental.set_memory_growth(gpu, True)
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    yield
    tf.config.experimental.enable_tensor_float_32_execution(before)


class TestTensorFlowGpu(GpuContract):
    framework = "tensorflow"

    def place(self, variable: Any) -> str:
        return str(variable.value.device).lower()
