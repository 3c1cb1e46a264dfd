"""How commands call a server. They import this module when they run: a server needs no client."""

from typing import Final

from stepup.cli.ctl.file_modes import is_readable_by_others, refuse_if_others_write
from stepup.cli.ctl.profiles import Profile, profiles_file
from stepup.cli.output import failure, write_problem
from stepup.client import CallerCredentials, StepUpClient
from stepup.client.channels import Endpoint
from stepup.system.loopback import NO_GRPC_PROXY, is_local_target, is_near_target

CALL_SECONDS: Final = 60
"""The longest time for one call. An import of 100 authenticators commits 100 times."""


def client_of(connection: Profile) -> StepUpClient:
    """Make the client of a command. It connects with its first call.

    Standard error says if others on a network can alter what the command does.

    Raises:
        typer.Exit: the options do not fit together, or a file cannot be used.
    """
    try:
        endpoint = endpoint_of(connection)
    except ValueError as error:
        raise failure(error) from error
    if endpoint.insecure:
        write_problem(f"stepup: warning: {in_plain_text(endpoint)}")
    return client_at(endpoint, timeout=CALL_SECONDS)


def client_at(endpoint: Endpoint, timeout: float) -> StepUpClient:
    """Make a client; `timeout` is the seconds for each call."""
    return StepUpClient(
        endpoint.target,
        endpoint.credentials,
        insecure=endpoint.insecure,
        options=endpoint.options,
        timeout=timeout,
    )


def endpoint_of(connection: Profile) -> Endpoint:
    """Where a server is, and how commands speak to it.

    Without credentials (S15) the server is on this machine; or, if the profile trusts the network,
    at a loopback or private address.

    Raises:
        ValueError: the options do not fit together, or a file cannot be used.
    """
    address = connection.target
    certificate, token_file = connection.certificate, connection.token_file
    if connection.insecure:
        if any([connection.tls_ca, certificate, connection.key, token_file]):
            raise ValueError("--insecure sends no credentials: leave out their files")
        return _endpoint_without_credentials(
            address, is_network_trusted=bool(connection.insecure_network_is_trusted)
        )
    if certificate is None and token_file is None:
        file = profiles_file()
        raise ValueError(
            "give --certificate with --key, or --token-file, or a --profile that has them; or"
            " --insecure for a trial server on this machine"
            + ("" if file.exists() else f". The file of profiles, {file}, does not exist")
        )
    for secret in filter(None, (connection.key, token_file)):
        refuse_if_others_write(secret)
        if is_readable_by_others(secret):
            write_problem(
                f"stepup: warning: {secret}: every user of this machine may read it: run chmod o-r"
            )
    credentials = CallerCredentials(
        certificate=certificate,
        private_key=connection.key,
        authorities=connection.tls_ca,
        token=token_file,
    )
    return Endpoint(address, credentials)


def in_plain_text(endpoint: Endpoint) -> str:
    """Explain what others can do with the calls of a profile that trusts the network."""
    return f"everybody on the network can read and alter the calls to {endpoint.target}"


def _endpoint_without_credentials(address: str, *, is_network_trusted: bool) -> Endpoint:
    if is_local_target(address):
        return Endpoint(address)
    if not is_network_trusted:
        raise ValueError(
            "--insecure is for a server on this machine. If everybody on a private network may do"
            " everything, a profile may say `insecure_network_is_trusted = true`"
        )
    if not is_near_target(address):
        raise ValueError(
            f"insecure_network_is_trusted: refused, because {address} has an address that is"
            " neither loopback nor private, or no address"
        )
    # A proxy of the environment would be one more program that reads the calls.
    return Endpoint(address, insecure=True, options=NO_GRPC_PROXY)
