"""What a measurement stands on: a store, a caller with credentials, and a person who is elevated.

The elevation lies in the store, and is found by every server that is started on the stage.
"""

import sys
import time
from pathlib import Path

from stepup_tests.e2e.processes import PROGRAMS

from stepup.client import connect
from tools.bench.answers import FRAME
from tools.bench.callers import Console
from tools.bench.h2load import Target
from tools.bench.person import Person
from tools.bench.servers import serving
from tools.bench.variants import Access, Variant

_METHOD = "/stepup.v1.StepUpService/CheckStepUp"
_STALE_SECONDS = 8 * 60  # of the 15 minutes of an elevation; no variant is measured for the rest
_SETUP = Variant("setup", ("{stepup}", "serve", "--config", "{config}", "--listen", "127.0.0.1:0"))


class Stage:
    """Where servers are started, and what they are asked.

    Args:
        directory: for everything; it is thrown away by whoever made it.
        store: host and port of the store.
        go: the yardstick in Go, where there is one.
    """

    def __init__(self, directory, store, go=None) -> None:
        self.directory = Path(directory)
        self.console = Console(self.directory, store)
        self.person = Person()
        self._places = {"python": sys.executable, "stepup": PROGRAMS / "stepup", "redis": store}
        if go is not None:
            self._places["go"] = go
        self._elevated_at = float("-inf")
        message = self.person.question.SerializeToString()
        self._payload.write_bytes(FRAME.pack(0, len(message)) + message)

    @property
    def record(self):
        """The decision log."""
        return self.directory / "data" / "decisions.jsonl"

    def can_run(self, variant):
        """Whether everything is there that the command needs."""
        return "go" in self._places or not any("{go}" in word for word in variant.command)

    def command(self, variant):
        """How the variant is started."""
        places = self._places | {"config": self.console.config(variant.access)}
        return tuple(word.format(**places) for word in variant.command)

    def target(self, variant, address):
        """What h2load sends where."""
        scheme = "http" if variant.access is Access.TOKEN else "https"
        url = f"{scheme}://{address}{_METHOD}"
        return Target(url, str(self._payload), self.console.metadata(variant.access))

    def elevate(self):
        """See to it that the person is elevated for some minutes; it may take a code's 30 s."""
        if time.monotonic() - self._elevated_at < _STALE_SECONDS:
            return
        with (
            serving(self.command(_SETUP), self.directory) as server,
            connect(server.address) as client,
        ):
            self.person.elevate(client, self.console.metadata(Access.TOKEN))
        self._elevated_at = time.monotonic()

    @property
    def _payload(self):
        return self.directory / "request"
