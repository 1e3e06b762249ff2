"""What goes wrong before anything was done: one line for the user, exit code 2."""

from __future__ import annotations

import importlib.util


class CommandError(Exception):
    """The command cannot be carried out as given. The message says what to do instead."""


def require_packages(*others: str) -> None:
    """Check that the packages of the command, and others, are installed.

    Raises:
        CommandError: If one is not.
    """
    for name in ("tyro", "rich", "yaml", "tomli_w", *others):
        if importlib.util.find_spec(name) is None:
            raise CommandError(f"{name} is not installed: pip install 'tensor-optix[cli]'")
