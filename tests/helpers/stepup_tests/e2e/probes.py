"""What an orchestrator would see of a server process."""

from urllib.error import HTTPError
from urllib.request import Request, urlopen


def status(server, path, method="GET"):
    """The HTTP status of a probe."""
    [line] = server.logged("probes_are_answered")
    request = Request(f"http://{line['address']}{path}", method=method)  # our server
    try:
        with urlopen(request, timeout=10) as response:  # noqa: S310
            return response.status
    except HTTPError as error:
        with error:
            return error.code
