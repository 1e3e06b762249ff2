"""TensorFlow as a backend: the contract."""

from __future__ import annotations

import pytest

from tests.contracts.backend_contract import BackendContract


class TestTensorFlowBackend(BackendContract):
    @pytest.fixture
    def framework(self, tensorflow_framework):
        return tensorflow_framework
