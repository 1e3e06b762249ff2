"""Hyperparameter optimizers: scores come in, the hyperparameters of the next window come out."""
