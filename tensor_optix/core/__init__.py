"""The loop, its contracts and its state; NumPy and the kernels only."""
