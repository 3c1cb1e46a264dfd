"""Where a key ring is: in a file, or in an environment variable that holds a file's text."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stepup.keys import file as key_file
from stepup.keys.file import KeyFile, KeyRingError
from stepup.keys.following import ReloadingKeys
from stepup.keys.ring import KeyRing
from stepup.service.ports import Clock


@dataclass(frozen=True, slots=True)
class KeySource:
    """One of the two; a variable wins.

    Args:
        file: the path of the file.
        variable: the name of the variable. Its ring stays the same until a restart.
        group_readable: whether the file's group may read it, too: a mounted Kubernetes secret.
    """

    file: Path
    variable: str | None = None
    group_readable: bool = False

    def keys(
        self, clock: Clock, on_failure: Callable[[], None] = lambda: None
    ) -> KeyRing | ReloadingKeys:
        """The ring; that of a file follows it.

        Args:
            clock: for the time between two looks at the file.
            on_failure: called whenever a changed file cannot be used.

        Raises:
            KeyRingError: it cannot be used now.
        """
        if self.variable is None:
            return ReloadingKeys(
                self.file, clock, group_readable=self.group_readable, on_failure=on_failure
            )
        try:
            return KeyRing.of(self._in(self.variable))
        except KeyRingError as error:
            raise KeyRingError(f"{self.variable}: {error}") from None

    def content(self) -> KeyFile:
        """What it says.

        Raises:
            KeyRingError: it is missing or malformed.
        """
        if self.variable is not None:
            return self._in(self.variable)
        try:
            return KeyFile.read(self.file, group_readable=self.group_readable)
        except FileNotFoundError:
            raise KeyRingError(f"{self.file}: there is no such file") from None

    def edit(self, change: Callable[[KeyFile], KeyFile]) -> KeyFile:
        """Change the file; returns what it says now.

        Raises:
            KeyRingError: it is no file, cannot be read or written, or `change` does not go.
        """
        if self.variable is not None:
            raise KeyRingError(
                f"the key ring is in {self.variable}, which cannot be changed from here: change a"
                " file, and set the variable to its text"
            )
        return key_file.edit(self.file, change, group_readable=self.group_readable)

    @staticmethod
    def _in(variable: str) -> KeyFile:
        text = os.environ.get(variable)
        if text is None:
            raise KeyRingError(f"{variable}: there is no such environment variable")
        return KeyFile.parse(text)
