"""The command `stepup`, also as `python -m stepup`."""

import signal
import sys


def main() -> None:
    """Run the command that the arguments name."""
    if sys.argv[1:2] in (["serve"], ["worker"]):
        # To a server a hangup says "reload", and SIGUSR2 "restart". While everything is imported
        # they would end it: they are held back until they can be heeded.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGUSR2})
    from stepup.cli.main import app  # noqa: PLC0415  # takes the better part of a second

    app()


if __name__ == "__main__":
    main()
