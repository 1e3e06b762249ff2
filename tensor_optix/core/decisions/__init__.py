"""What the loop decides, and from what: statistics, validation, the best policy, tuning."""
