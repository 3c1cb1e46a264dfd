"""`stepup console`, and the links that it prints."""

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stepup_tests.e2e.processes import PROGRAMS, environment


@dataclass
class DemoConsole:
    """The process; `links` are its addresses by the name of the page."""

    links: dict[str, str]
    process: subprocess.Popen[str]

    @property
    def address(self) -> str:
        """The page with all links."""
        return self.links["policy"].removesuffix("policy")

    def interrupt(self) -> int:
        """End it as Ctrl-C does; returns its exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


@contextmanager
def demo_console(home: Path, scratch: Path) -> Iterator[DemoConsole]:
    """The console on free ports, for as long as the block lasts."""
    with subprocess.Popen(
        [PROGRAMS / "stepup", "console", "--port", "0"],
        env=environment(home, scratch),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            links = {}
            assert process.stdout is not None
            for line in process.stdout:
                found = re.findall(r"(http://\S+/([a-z]+))$", line)
                links |= {name: address for address, name in found}
                if "Ctrl-C" in line:
                    break
            yield DemoConsole(links, process)
        finally:
            process.terminate()
