"""`TrialOrchestrator` under its documented path."""

from tensor_optix.trials.orchestrator import TrialOrchestrator as TrialOrchestrator
