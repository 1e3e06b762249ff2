"""The loop, its contracts and its state; NumPy and the kernels only."""

from tensor_optix.public_names import lazy

__all__, __getattr__, __dir__ = lazy(__name__)
