"""Policies as files of other formats: a loaded policy comes in, a file that was tried goes out."""
