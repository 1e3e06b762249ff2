"""Trials that search hyperparameters, and the runs that begin with them."""
