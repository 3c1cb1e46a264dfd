"""The place of a key ring: a file, or an environment variable that has the text of a file."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from stepup.keys.file import KeyFile, KeyRingError
from stepup.keys.ring import KeyRing
from stepup.system import private_files
from stepup.system.file_watch import FileWatch


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where a key ring is stored. Every reader and writer of a key ring uses this class.

    The messages of errors begin with the path of the file, or the name of the variable.

    Args:
        file: the path of the file, which may be a link. Ignored when a variable is given.
        variable: the name of the variable. Its ring stays the same until the process ends.
        group_readable: whether the file's group may read it too, as in a mounted Kubernetes secret.
    """

    file: Path
    variable: str | None = None
    group_readable: bool = False

    def __str__(self) -> str:
        return self.variable or str(self.file)

    def watch(self) -> FileWatch:
        """A watch on the file; a variable never changes."""
        return FileWatch() if self.variable else FileWatch(self.file)

    def read(self) -> KeyFile:
        """Read what is stored there now.

        Raises:
            KeyRingError: it is missing, malformed, not readable, or other users may read it.
        """
        try:
            if self.variable is None:
                octets = private_files.read(self.file, group_readable=self.group_readable)
                return KeyFile.parse(octets)
            return KeyFile.parse(os.environ[self.variable])
        except KeyError:
            raise KeyRingError(f"{self}: this environment variable is not set") from None
        except FileNotFoundError:
            raise KeyRingError(f"{self}: the file does not exist") from None
        except OSError as error:
            raise KeyRingError(f"{self}: cannot be read: {error.strerror}") from None
        except (private_files.NotPrivateError, KeyRingError) as error:
            raise KeyRingError(f"{self}: {error}") from None

    def ring(self) -> KeyRing:
        """Read the ring. It may wait for the service that unwraps the keys.

        Raises:
            KeyRingError: as `read`; or the keys make no ring, or cannot be unwrapped.
        """
        content = self.read()
        try:
            return KeyRing.of(content)
        except KeyRingError as error:
            raise KeyRingError(f"{self}: {error}") from None

    def create(self, content: KeyFile) -> None:
        """Store a ring in a new file of mode 0600, atomically and durably.

        Raises:
            FileExistsError: the file exists already.
            KeyRingError: the file cannot be written.
        """
        try:
            private_files.create(self.file, content.text.encode())
        except FileExistsError:
            raise
        except OSError as error:
            raise KeyRingError(f"{self}: cannot be written: {error.strerror}") from None

    def create_if_missing(self, now: datetime) -> None:
        """Store a ring of one random key, unless the file exists. Of several processes, one does.

        Raises:
            KeyRingError: the file cannot be written.
        """
        if not os.path.exists(self.file):  # noqa: PTH110  # unlike Path.exists, it never raises
            with suppress(FileExistsError):
                self.create(KeyFile.generated(now))

    def edit(self, change: Callable[[KeyFile], KeyFile]) -> KeyFile:
        """Change the file, atomically and durably. It waits for an edit of another process.

        Returns:
            The new content.

        Raises:
            KeyRingError: the ring is in a variable, the file cannot be read or written, or `change`
                raised the error.
        """
        if self.variable is not None:
            raise KeyRingError(
                f"the key ring is in {self.variable}, which this command cannot change: change a"
                " file, and set the variable to its text"
            )
        try:
            with private_files.locked(self.file):
                before = self.read()
                after = change(before)
                if after != before:
                    private_files.replace(self.file, after.text.encode())
                return after
        except OSError as error:
            raise KeyRingError(f"{self}: cannot be changed: {error.strerror}") from None
