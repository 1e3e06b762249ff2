"""The native engine: perceptrons trained by the compiled kernels alone."""
