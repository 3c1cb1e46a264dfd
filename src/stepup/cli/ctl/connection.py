"""The options of commands that call a server: where it is, and who calls."""

from pathlib import Path
from typing import Annotated

import typer

Address = Annotated[
    str,
    typer.Option(envvar="STEPUP_CLIENT_TARGET", help="HOST:PORT of the server, or unix:/PATH."),
]
Authorities = Annotated[
    Path | None,
    typer.Option(
        "--tls-ca",
        envvar="STEPUP_CLIENT_AUTHORITIES",
        help="A PEM file with the authorities of the server's certificate.",
    ),
]
Certificate = Annotated[
    Path | None,
    typer.Option(envvar="STEPUP_CLIENT_CERTIFICATE", help="A PEM file with your certificate."),
]
Key = Annotated[
    Path | None,
    typer.Option(
        envvar="STEPUP_CLIENT_PRIVATE_KEY",
        help="A PEM file with the private key of your certificate.",
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(envvar="STEPUP_CLIENT_TOKEN_FILE", help="A file with a bearer token."),
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Send no credentials, to a trial server on this machine.")
]
Tenant = Annotated[str, typer.Option(help="The business in which you act.")]
OperatorName = Annotated[
    str, typer.Option("--operator", help="Your name, for the record: 1 to 128 characters.")
]
Reason = Annotated[str, typer.Option(help="Why you act, for the record: 1 to 500 characters.")]
