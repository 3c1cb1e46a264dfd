"""How commands call a server. They import this module when they run: a server needs no client."""

from pathlib import Path
from typing import Final

from stepup.cli.options import failure
from stepup.client import CallerCredentials, StepUpClient
from stepup.client.messages import actor
from stepup.system.loopback import is_local_target

CALL_SECONDS: Final = 60
"""The longest time for one call. An import of 100 authenticators commits 100 times."""


def client_of(
    address: str,
    authorities: Path | None,
    certificate: Path | None,
    key: Path | None,
    token_file: Path | None,
    *,
    insecure: bool,
) -> StepUpClient:
    """Make the client of a command. It connects with its first call.

    Raises:
        typer.Exit: the options do not fit together, or a file cannot be used.
    """
    given = [path for path in (authorities, certificate, key, token_file) if path is not None]
    if insecure and (given or not is_local_target(address)):
        raise failure("--insecure is for a server on this machine, and sends no credentials")
    if not insecure and certificate is None and token_file is None:
        raise failure(
            "give --certificate with --key, or --token-file; or --insecure for a trial server on"
            " this machine"
        )
    try:
        credentials = None
        if not insecure:
            credentials = CallerCredentials(
                certificate=certificate, private_key=key, authorities=authorities, token=token_file
            )
        return StepUpClient(address, credentials, timeout=CALL_SECONDS)
    except ValueError as error:
        raise failure(error) from error


def operator_in(tenant: str, name: str, reason: str) -> actor.ActorContext:
    """The actor of a command. The server checks the texts."""
    return actor.ActorContext(tenant_id=tenant, operator=actor.Operator(name=name, reason=reason))
