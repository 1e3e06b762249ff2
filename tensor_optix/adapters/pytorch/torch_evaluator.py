"""The evaluator of PyTorch agents: the default one, which needs no framework."""

from tensor_optix.core.base_evaluator import MeanReturnEvaluator

TorchEvaluator = MeanReturnEvaluator
