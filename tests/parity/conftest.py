"""In TensorFlow the agents of these tests are compiled by XLA, as their losses and updates allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _xla_refuses_nothing(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert not [told for told in caplog.get_records("call") if "without XLA" in told.message]
