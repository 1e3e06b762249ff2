"""Loggers: what the loop reports comes in, figures on a board or in a table come out."""

from tensor_optix.public_names import lazy

__all__, __getattr__, __dir__ = lazy(__name__)
