"""Modules that the user has compiled are saved and loaded as if they were not."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tensor_optix.adapters.pytorch import backend

pytestmark = pytest.mark.filterwarnings("ignore:.*script:DeprecationWarning")


def network() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))


def compiled() -> torch.nn.Module:
    # Never called, so that nothing has to be built: the names are what counts.
    return torch.compile(network())


@pytest.mark.parametrize("saved", [network, compiled])
@pytest.mark.parametrize("loaded", [network, compiled])
def test_a_snapshot_of_the_one_is_one_of_the_other(saved, loaded, tmp_path):
    source, target = saved(), loaded()
    backend.save_network(source, tmp_path / "network")
    backend.load_network(target, tmp_path / "network")
    for mine, other in zip(source.parameters(), target.parameters(), strict=True):
        np.testing.assert_array_equal(mine.detach(), other.detach())
    backend.average_networks(target, [tmp_path / "network"] * 2)


def test_a_snapshot_of_another_architecture_is_still_refused(tmp_path):
    backend.save_network(torch.nn.Linear(3, 4), tmp_path / "network")
    with pytest.raises(RuntimeError, match=r"size mismatch|Missing key"):
        backend.load_network(compiled(), tmp_path / "network")
