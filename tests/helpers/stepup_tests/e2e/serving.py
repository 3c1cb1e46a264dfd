"""A server for as long as a block lasts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stepup_tests.e2e.leaks import leaks
from stepup_tests.e2e.processes import ServerProcess, temporary_directory
from stepup_tests.e2e.topologies import Session


@contextmanager
def serving(directory: Path, *arguments: str, insecure: bool = True) -> Iterator[ServerProcess]:
    """A server that ends with the block; no secret of its calls may be in what it wrote (S11)."""
    with temporary_directory() as temporary, Session.current.site(directory) as site:
        server = ServerProcess(directory, temporary, *arguments, site=site, insecure=insecure)
        try:
            server.start()
            yield server
        finally:
            server.close()
        written = {
            "stdout": server.stdout.read_bytes(),
            "stderr": server.stderr.read_bytes(),
            "errors": "\n".join(server.errors).encode(),
        }
        leaked = list(leaks(server.secrets, server.data_dir, written, site.files()))
        assert not leaked, leaked
