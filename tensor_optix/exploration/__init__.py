"""Rewards for seeing something new, for tasks with few rewards of their own."""

from tensor_optix.public_names import lazy

__all__, __getattr__, __dir__ = lazy(__name__)
