"""What a run leaves in its directory: its description, its log, its report."""
