"""The environment variables of a client. The server leaves them alone.

| variable | means |
|---|---|
| `STEPUP_CLIENT_TARGET` | host and port of the server, such as `stepup.prod:50051`. Required |
| `STEPUP_CLIENT_CERTIFICATE` | a PEM file with the caller's certificate chain |
| `STEPUP_CLIENT_PRIVATE_KEY` | a PEM file with its key |
| `STEPUP_CLIENT_AUTHORITIES` | a PEM file with the authorities of the server's certificate |
| `STEPUP_CLIENT_TOKEN_FILE` | a file with a bearer token, which is read again when it changes |
| `STEPUP_CLIENT_TOKEN` | a bearer token |
| `STEPUP_CLIENT_INSECURE` | `true`: plain text to another machine, for trials |
| `STEPUP_CLIENT_TIMEOUT` | seconds for each call |
| `STEPUP_CLIENT_WAIT_FOR_READY` | `true`: calls wait for a connection until their deadline |
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from stepup.client.credentials import CallerCredentials

PREFIX: Final = "STEPUP_CLIENT_"
_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}


def arguments(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of a client.

    Raises:
        ValueError: a variable is missing or is not a value; the message names it.
    """
    given = {
        name.removeprefix(PREFIX): value
        for name, value in variables.items()
        if name.startswith(PREFIX) and value
    }
    if "TARGET" not in given:
        raise ValueError(f"{PREFIX}TARGET is not set: the host and port of the server")
    token = given.get("TOKEN")
    token_file = given.get("TOKEN_FILE")
    if token and token_file:
        raise ValueError(f"{PREFIX}TOKEN and {PREFIX}TOKEN_FILE are both set: remove one")
    files = {
        name.lower(): given[name]
        for name in ("CERTIFICATE", "PRIVATE_KEY", "AUTHORITIES")
        if name in given
    }
    found: dict[str, Any] = {"target": given["TARGET"]}
    if files or token or token_file:
        found["credentials"] = CallerCredentials(
            **files, token=Path(token_file) if token_file else token
        )
    for name in ("INSECURE", "WAIT_FOR_READY"):
        if name in given:
            found[name.lower()] = _boolean(name, given[name])
    if "TIMEOUT" in given:
        found["timeout"] = _seconds(given["TIMEOUT"])
    return found


def _boolean(name: str, text: str) -> bool:
    try:
        return _BOOLEANS[text.lower()]
    except KeyError:
        raise ValueError(f"{PREFIX}{name} must be true or false") from None


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{PREFIX}TIMEOUT must be a number of seconds") from None
