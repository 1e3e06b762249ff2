"""Hyperparameter optimizers: scores come in, the hyperparameters of the next window come out."""

from tensor_optix.public_names import lazy

__all__, __getattr__, __dir__ = lazy(__name__)
