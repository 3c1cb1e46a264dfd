"""The command `stepup`, also as `python -m stepup`."""

import os
import signal
import sys
from importlib.util import find_spec


def main() -> None:
    """Run the command that the arguments name."""
    if os.getpid() == 1:
        # The first process of a container gets only signals that it has a handler for. A server
        # installs its own handler later.
        signal.signal(signal.SIGTERM, _exit_at_once)
    if sys.argv[1:2] in (["serve"], ["worker"]):
        # A hangup reloads a server, and SIGUSR2 restarts workers. During the imports they would end
        # the process: they are blocked until the server handles them.
        _occupy_closed_streams()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGUSR2})
        _demand_server()
        from stepup.system.core_log import choose_core_log  # noqa: PLC0415  # it takes a while

        choose_core_log()
        _import_libraries_small()
    else:
        _demand_server()
    from stepup.system.core_dumps import forbid_core_dumps  # noqa: PLC0415  # as above

    # Only the owner may read what a command writes, and no core dump contains secrets (S11).
    os.umask(0o077)
    forbid_core_dumps()
    match sys.argv[1:]:
        case ["worker", order]:
            from stepup.process import worker_main  # noqa: PLC0415  # as above

            worker_main.main(order)
        case _:
            from stepup.cli.main import app  # noqa: PLC0415  # as above

            app()


def _demand_server() -> None:
    """End the program unless this is the server: the wheel without extras has only the client.

    Raises:
        SystemExit: with the sentence that says what is missing.
    """
    if sys.version_info < (3, 11):  # noqa: UP036  # the client, which has the same wheel, runs on 3.10
        found = ".".join(map(str, sys.version_info[:2]))
        sys.exit(f"stepup: the server needs Python 3.11 or newer, and this is Python {found}")
    if not all(map(find_spec, ("sqlalchemy", "typer"))):
        from stepup.system.distribution import missing_extra  # noqa: PLC0415  # it takes a while

        sys.exit(f"stepup: the server {missing_extra('server')}")


def _import_libraries_small() -> None:
    """Import libraries without the optional packages that a server does not use: 10 MB.

    structlog would colour tracebacks with rich, redis would count for OpenTelemetry.
    """
    from stepup.system.optional_imports import import_without  # noqa: PLC0415  # as above

    import_without(["rich", "opentelemetry"], ["structlog", "redis"])


def _exit_at_once(number: int, _frame: object) -> None:
    """End as a signal ends a process that is not the first process."""
    os._exit(128 + number)


def _occupy_closed_streams() -> None:
    """Open /dev/null in place of each standard stream that was closed.

    Otherwise the next file or socket would get its number. The descriptor is read-only, so that
    writing to the stream is an error.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)


if __name__ == "__main__":
    main()
