"""The stage of a measurement: a store, a caller with credentials, and an elevated person.

The elevation is in the store, where every server on the stage finds it.
"""

import sys
import time
from pathlib import Path
from string import Formatter

from stepup_tests.e2e.processes import PROGRAMS
from stepup_tests.stubs import connect

from tools.bench.answers import FRAME
from tools.bench.callers import Console
from tools.bench.h2load import Target
from tools.bench.person import Person
from tools.bench.questions import CerbosQuestion, CheckQuestion
from tools.bench.servers import serving
from tools.bench.variants import Access, Service, Variant

_STALE_SECONDS = 8 * 60  # of the 15 minutes of an elevation; no variant is measured for the rest
_SETUP = Variant("setup", ("{stepup}", "serve", "--config", "{config}", "--listen", "127.0.0.1:0"))


class Stage:
    """Where servers are started, and what they are asked.

    Args:
        directory: for everything; it is thrown away by whoever made it.
        store: host and port of the store.
        others: the programs `go`, `cerbos` and `before`, by name; None where there is none.
    """

    def __init__(self, directory, store, **others) -> None:
        self.directory = Path(directory)
        self.console = Console(self.directory, store)
        self.person = Person()
        self._places = {"python": sys.executable, "stepup": PROGRAMS / "stepup", "redis": store}
        self._places |= {name: program for name, program in others.items() if program}
        self._elevated_at = float("-inf")
        self._questions = {
            Service.STEP_UP: CheckQuestion(self.person.question.SerializeToString()),
            Service.CERBOS: CerbosQuestion(),
        }
        for service, question in self._questions.items():
            framed = FRAME.pack(0, len(question.payload)) + question.payload
            self._payload(service).write_bytes(framed)

    @property
    def record(self):
        """The decision log."""
        return self.directory / "data" / "decisions.jsonl"

    def can_run(self, variant):
        """Whether everything is there that the command needs."""
        needed = {name for word in variant.command for _, name, *_ in Formatter().parse(word)}
        return needed - {None, "config", "directory"} <= self._places.keys()

    def question(self, variant):
        """What the variant is asked."""
        return self._questions[variant.service]

    def command(self, variant):
        """How the variant is started."""
        places = self._places | {
            "config": self.console.config(variant.access),
            "directory": self.directory,
        }
        return tuple(word.format(**places) for word in variant.command)

    def target(self, variant, address):
        """What h2load sends where."""
        scheme = "http" if variant.access is Access.TOKEN else "https"
        url = f"{scheme}://{address}{self.question(variant).method}"
        return Target(
            url, str(self._payload(variant.service)), self.console.metadata(variant.access)
        )

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

    def _payload(self, service):
        return self.directory / f"request-{service.value}"
