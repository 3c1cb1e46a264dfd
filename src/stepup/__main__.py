"""The command `stepup`, also as `python -m stepup`."""

import signal
import sys


def main() -> None:
    """Run the command that the arguments name."""
    if sys.argv[1:2] == ["serve"]:
        # To a server a hangup says "reload". While everything is imported it would end it: it is
        # held back until it can be heeded.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    from stepup.cli.main import app  # noqa: PLC0415  # takes the better part of a second

    app()


if __name__ == "__main__":
    main()
