"""What the settings of everything that listens have in common."""

import re
from typing import Annotated

from pydantic import AfterValidator

from stepup.settings.section import Section

_ADDRESS = re.compile(r"(?:\[[0-9a-fA-F:]+\]|[^:\s]+):([0-9]{1,5})")
_MAX_PORT = 65535


def address(value: str) -> str:
    """Return an address HOST:PORT as it is.

    Raises:
        ValueError: the text is not HOST:PORT.
    """
    matched = _ADDRESS.fullmatch(value)
    if matched is None or int(matched[1]) > _MAX_PORT:
        raise ValueError(f"must be a host and a port, HOST:PORT, the port {_MAX_PORT} at most")
    return value


class Listener(Section):
    """A section of something that listens on a host and port."""

    listen: Annotated[str, AfterValidator(address)]
    """HOST:PORT. Port 0 takes a free port, and the log says which."""

    @property
    def host(self) -> str:
        """The host of `listen`, without brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port of `listen`."""
        return int(self.listen.rpartition(":")[2])

    def address(self, port: int) -> str:
        """HOST:PORT with the port that the operating system assigned."""
        return f"{self.listen.rpartition(':')[0]}:{port}"
