"""Where data come from: vector environments and the pipelines that collect windows from them."""

from tensor_optix.public_names import lazy

__all__, __getattr__, __dir__ = lazy(__name__)
