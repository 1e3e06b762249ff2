"""What is kept on disk: snapshots, and how they survive a crash."""
