"""The evaluator of TensorFlow agents: the default one, which needs no framework."""

from tensor_optix.core.base_evaluator import MeanReturnEvaluator

TFEvaluator = MeanReturnEvaluator
