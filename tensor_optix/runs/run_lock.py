from contextlib import contextmanager
from pathlib import Path


@contextmanager
def RunLock(directory: Path):
    yield
