"""Where the project is, and where tests put directories of short paths."""

import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[3]
SHORT = tempfile.gettempdir() if len(tempfile.gettempdir()) < 16 else "/tmp"  # noqa: S108  # for mkdtemp
"""For sockets, whose paths have 107 bytes at most; pytest's own directories are too deep."""
