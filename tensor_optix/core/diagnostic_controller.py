"""`DiagnosticController` under its documented path."""

from tensor_optix.optimizers.diagnostic_controller import (
    DiagnosticController as DiagnosticController,
)
