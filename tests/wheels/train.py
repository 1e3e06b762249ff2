"""What an installed wheel must do: train CartPole with its compiled kernels."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import tensor_optix
from tensor_optix import kernels
from tensor_optix.kernels.engine import has_engine

LEAST = 60.0
"""A random policy reaches 23."""


def main() -> None:
    """Check the kernels, train and play."""
    assert kernels.BACKEND == "native", kernels.BACKEND
    if not has_engine:
        # What Windows' compiler lacks; agents need PyTorch or TensorFlow there.
        assert sys.platform == "win32"
        return
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory) / "run"
        policy = tensor_optix.train("CartPole-v1", max_steps=20_000, seed=0, run_dir=run)
        score = policy.snapshot.eval_metrics.primary_score
    assert score > LEAST, score
    version = ".".join(map(str, sys.version_info[:3]))
    print(f"Python {version}, tensor_optix {tensor_optix.__version__}: CartPole-v1 {score:.1f}")


if __name__ == "__main__":
    main()
