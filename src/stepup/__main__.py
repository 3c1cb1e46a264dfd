"""The command `stepup`, also as `python -m stepup`."""

import os
import signal
import sys


def main() -> None:
    """Run the command that the arguments name."""
    if os.getpid() == 1:
        # The first process of a container: to it the kernel passes no signal that it has no handler
        # for. A server has its own one later.
        signal.signal(signal.SIGTERM, _end_at_once)
    if sys.argv[1:2] in (["serve"], ["worker"]):
        # To a server a hangup says "reload", and SIGUSR2 "restart". While everything is imported
        # they would end it: they are held back until they can be heeded.
        _occupy_closed_streams()
        # What grpcio's core writes to standard error would wait for a reader that does not come.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGUSR2})
    from stepup.cli.main import app  # noqa: PLC0415  # takes the better part of a second

    app()


def _end_at_once(number: int, _frame: object) -> None:
    """Do what a signal does to a process that is not the first one."""
    os._exit(128 + number)


def _occupy_closed_streams() -> None:
    """Have no file or socket take the number of a standard stream that was closed.

    What is in its place can be read only, so that whoever writes gets an error.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)


if __name__ == "__main__":
    main()
