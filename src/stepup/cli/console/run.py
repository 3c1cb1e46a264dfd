"""`stepup console`: a core, the portal, and a pretend console whose links open its pages."""

import signal
import socket
import sys
import threading
from typing import Annotated, Final

import typer
from rich.console import Console

from stepup.cli.console.business import ISSUER, Business
from stepup.cli.console.site import HOST, serving_console
from stepup.cli.demo.stage import console_on, process_of, server_process
from stepup.client import StepUpClient, StepUpError

_PORTAL_PORT: Final = 8080


def console(
    *,
    port: Annotated[
        int, typer.Option(help="The port of the pretend console; 0 takes free ports.")
    ] = 8090,
) -> None:
    """Start the portal with a demo business, and print links to its pages; Ctrl-C ends it."""
    raise typer.Exit(_serve(port))


def _serve(port: int) -> int:
    """Serve until Ctrl-C or SIGTERM; returns the exit status.

    Args:
        port: that of the pretend console; the portal has 8080. If another program has one of
            them, a free port. 0 takes free ports for both.
    """
    console = console_on(sys.stdout)
    listen = f"{HOST}:{_free_port(_PORTAL_PORT if port else 0)}"
    stop = threading.Event()
    with (
        server_process(STEPUP_PORTAL__PUBLIC_URL=f"http://{listen}") as core,
        process_of("web", "--listen", listen, "--core", core, "--log-level", "error"),
        serving_console(port) as server,
        StepUpClient(core) as stepup,
    ):
        server.business = Business(stepup, server.address)
        try:
            server.business.prepare()
        except StepUpError as error:
            console.print(f"The demo business cannot be prepared: {error}", markup=False)
            return 1
        _show(console, f"http://{listen}", server.address)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        stop.wait()
    return 0


def _show(console: Console, portal: str, address: str) -> None:
    console.print(f"The portal is at {portal}.")
    console.print(f"A pretend console of the business {ISSUER} is at {address}:\n")
    for who, name in (
        ("Ada turns MFA on for the business:", "policy"),
        ("Bob sets up his authenticator app:", "wizard"),
        ("Carol approves what an agent asks:", "challenge"),
        ("Carol's authenticator app:", "phone"),
    ):
        console.print(f"  {who:<36}{address}/{name}")
    console.print("\nEach link signs its person in. Ctrl-C ends everything, and nothing is kept.")


def _free_port(wanted: int) -> int:
    """The wanted port on loopback, or any other one if a program has it."""
    for port in (wanted, 0):
        with socket.socket() as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listening.bind((HOST, port))
            except OSError:
                continue
            return int(listening.getsockname()[1])
    raise OSError("no port is free")
