"""The algorithms, once each over a backend, and a thin public class per framework."""

from tensor_optix.public_names import lazy

__all__, __getattr__, __dir__ = lazy(__name__)
