"""Rewards for seeing something new, for tasks with few rewards of their own."""
