"""Policies that only act: a run directory comes in, what chooses actions goes out."""
