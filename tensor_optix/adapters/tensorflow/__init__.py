"""TensorFlow."""

from tensor_optix.public_names import lazy

__all__, __getattr__, __dir__ = lazy(__name__)
