"""The documented path of `TFAgent`, which is an algorithm and lives among them."""

from tensor_optix.algorithms.tf_agent import TFAgent as TFAgent
