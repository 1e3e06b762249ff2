from __future__ import annotations

from pathlib import Path

from tensor_optix.core.checkpoints.saved_state import read_state, write_state


class ReplayDraft:
    def __init__(self, name, state):
        self.name, self.state = name, state


class ReplayFiles:
    def __init__(self, directory: Path):
        self.directory = directory
        self.n = 0

    def draft(self, name, buffer):
        return ReplayDraft(name, buffer.state_dict())

    def write(self, draft):
        self.directory.mkdir(parents=True, exist_ok=True)
        import uuid

        n = f"seg_{uuid.uuid4().hex[:8]}"
        write_state(self.directory / n, draft.state)
        return {"file": n}

    def read(self, entry):
        return read_state(self.directory / entry["file"])

    def remove_unused(self, entries):
        pass
