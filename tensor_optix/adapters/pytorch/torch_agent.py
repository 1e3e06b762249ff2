"""The documented path of `TorchAgent`, which is an algorithm and lives among them."""

from tensor_optix.algorithms.torch_agent import TorchAgent as TorchAgent
