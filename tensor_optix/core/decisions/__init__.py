"""What the loop decides, and from what: statistics, the plateau test, validation, the best policy."""
