"""What an orchestrator would see of a server process."""

from urllib.error import HTTPError
from urllib.request import urlopen


def status(server, path):
    """The HTTP status of a probe."""
    [line] = server.logged("probes_are_answered")
    try:
        with urlopen(f"http://{line['address']}{path}", timeout=10) as response:
            return response.status
    except HTTPError as error:
        with error:
            return error.code
