"""What may happen to a run from outside: killed processes, damaged and hostile files, other runs."""
