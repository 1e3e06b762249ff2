"""What goes wrong before anything was done: one line for the user, exit code 2."""

from __future__ import annotations


class CommandError(Exception):
    """The command cannot be carried out as given. The message says what to do instead."""
