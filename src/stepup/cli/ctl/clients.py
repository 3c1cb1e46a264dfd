"""How commands call a server. They import this module when they run: a server needs no client."""

from typing import Final

from stepup.cli.ctl.connection import DEFAULT_ADDRESS
from stepup.cli.ctl.profiles import Profile
from stepup.cli.options import failure
from stepup.client import CallerCredentials, StepUpClient
from stepup.system.loopback import is_local_target

CALL_SECONDS: Final = 60
"""The longest time for one call. An import of 100 authenticators commits 100 times."""


def client_of(connection: Profile) -> StepUpClient:
    """Make the client of a command. It connects with its first call.

    Raises:
        typer.Exit: the options do not fit together, or a file cannot be used.
    """
    address = connection.address or DEFAULT_ADDRESS
    certificate, token_file = connection.certificate, connection.token_file
    files = [connection.tls_ca, certificate, connection.key, token_file]
    if connection.insecure and (any(files) or not is_local_target(address)):
        raise failure("--insecure is for a server on this machine, and sends no credentials")
    if not connection.insecure and certificate is None and token_file is None:
        raise failure(
            "give --certificate with --key, or --token-file, or a --profile that has them; or"
            " --insecure for a trial server on this machine"
        )
    try:
        credentials = None
        if not connection.insecure:
            credentials = CallerCredentials(
                certificate=certificate,
                private_key=connection.key,
                authorities=connection.tls_ca,
                token=token_file,
            )
        return StepUpClient(address, credentials, timeout=CALL_SECONDS)
    except ValueError as error:
        raise failure(error) from error
