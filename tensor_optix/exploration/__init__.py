"""Rewards for seeing something new, for tasks that hardly pay any."""
