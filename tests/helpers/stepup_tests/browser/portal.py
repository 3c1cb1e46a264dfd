"""A core and the web process, both real, as a deployment has them: callers with certificates."""

import hashlib
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from stepup_tests.e2e.authenticator_app import AuthenticatorApp
from stepup_tests.e2e.enrolled import enrolled
from stepup_tests.e2e.guarded import CLIENTS, SERVERS, configured, tls
from stepup_tests.e2e.processes import PROGRAMS, ServerProcess, environment, eventually
from stepup_tests.e2e.serving import serving
from stepup_tests.e2e.topologies import Session
from stepup_tests.enrolled import RESET_CODE

from stepup.client import ActorContext, CallerCredentials, StepUpClient
from stepup.client.messages import actor as people
from stepup.client.messages import portal as pages
from stepup.domain.totp import TotpSecret

_BACKEND = "spiffe://acme/ns/prod/sa/console"
_WEB = "spiffe://acme/ns/prod/sa/portal"
_RULES = """
[[callers]]
name = "console"
title = "Acme Console"
identities = ["{backend}"]
return_origins = ["{console}"]
[[callers.rules]]
methods = ["*"]
tenants = ["*"]
operations = ["*"]
claims = ["master_administrator", "saml_account"]

[[callers]]
name = "portal"
identities = ["{web}"]
portal = true
[[callers.rules]]
methods = ["*"]
tenants = ["*"]
operations = ["*"]
claims = ["master_administrator", "saml_account"]
"""


class _Console(BaseHTTPRequestHandler):
    """The page of the console where people come back to."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><html lang=en><title>Console</title><h1>Console</h1>")

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@contextmanager
def _serving_console() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Console) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class WebProcess:
    """`stepup web`, whose core may have gone."""

    def __init__(self, directory: Path, origin: str, core: str) -> None:
        self.origin = origin
        self.output = directory / "web.log"
        self._directory = directory
        CLIENTS.client(_WEB).write(directory, "web")
        (directory / "servers.pem").write_bytes(SERVERS.chain)
        self._configuration = directory / "web.toml"
        self._configuration.write_text(
            f'listen = "{origin.removeprefix("http://")}"\npublic_url = "{origin}"\n'
            f'[core]\ntarget = "{core}"\nauthorities = "{directory}/servers.pem"\n'
            f'certificate = "{directory}/web.crt"\nprivate_key = "{directory}/web.key"\n'
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it can reach the core."""
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                [PROGRAMS / "stepup", "web", "--config", self._configuration],
                cwd=self._directory,
                env=environment(self._directory, self._directory),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        eventually(self._is_ready, "the web process is ready")

    def close(self) -> None:
        """End it as a service manager does, and demand that it ends well."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            assert self._process.wait(60) == 0, self.output.read_text()

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.output.read_text()
        try:
            with urllib.request.urlopen(f"{self.origin}/readyz", timeout=10) as answer:  # noqa: S310  # http
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError):
            return False


@dataclass
class Portal:
    """The pages, and the backend of a console that opens them for people it has signed in."""

    origin: str
    console: str
    core: ServerProcess
    stepup: StepUpClient
    web: WebProcess

    reset_code = RESET_CODE.text

    @property
    def return_url(self) -> str:
        """Where the pages send people back to."""
        return f"{self.console}/settings?tab=mfa"

    def link(self, page: str, actor: ActorContext, **fields: Any) -> str:
        """The address that opens a page, once: the console redirects the person there.

        Args:
            page: the name of a `PortalPage` without its prefix.
            actor: the person.
            fields: further fields of CreatePortalSessionRequest.
        """
        value = pages.PortalPage.Value(f"PORTAL_PAGE_{page.upper()}")
        created = self.stepup.portal.create(actor, page=value, return_url=self.return_url, **fields)
        self.core.secrets.others.add(created.url.rpartition("/")[2].encode())
        return created.url

    def enrolled(self, actor: ActorContext) -> AuthenticatorApp:
        """Give a person an authenticator, and `reset_code`; returns their app. No code is used."""
        secret = _secret_of(actor)
        # The thread of a test has the event loop of the browser.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(enrolled, self.core, actor.tenant_id, {actor.user_id: secret}).result()
        return self.app_of(actor)

    def app_of(self, actor: ActorContext) -> AuthenticatorApp:
        """The app of a person who is enrolled."""
        return AuthenticatorApp(_secret_of(actor).base32)


def _secret_of(actor: ActorContext) -> TotpSecret:
    return TotpSecret(hashlib.sha1(f"{actor.tenant_id} {actor.user_id}".encode()).digest())  # noqa: S324  # 20 bytes


def person(tenant: str, user: str = "bob", session: str = "monday", **fields: Any) -> ActorContext:
    """A person in a sign-in session of theirs."""
    fields = {"account_type": people.ACCOUNT_TYPE_LOCAL, **fields}
    return ActorContext(tenant_id=tenant, user_id=user, session_id=f"{user}-{session}", **fields)


def administrator(tenant: str, user: str = "ada", session: str = "monday") -> ActorContext:
    """A Master Administrator."""
    return person(tenant, user, session, role=people.ROLE_MASTER_ADMINISTRATOR)


@contextmanager
def serving_portal(directory: Path) -> Iterator[Portal]:
    """A core and the web process, until the block ends; neither may write down a secret (S11)."""
    origin = f"http://127.0.0.1:{_free_port()}"
    with ExitStack() as stack:
        console = stack.enter_context(_serving_console())
        rules = _RULES.format(console=console, backend=_BACKEND, web=_WEB)
        parts = (f'[portal]\npublic_url = "{origin}"', tls(directory), rules)
        stack.enter_context(nullcontext() if Session.current else Session(directory))
        # The web process finds the core again after a restart.
        listen = ("--listen", f"127.0.0.1:{_free_port()}")
        arguments = (*configured(directory, *parts), *listen)
        core = stack.enter_context(serving(directory, *arguments, insecure=False))
        CLIENTS.client(_BACKEND).write(directory, "backend")
        web = WebProcess(directory, origin, core.address)
        stack.callback(web.close)
        web.start()
        credentials = CallerCredentials(
            certificate=directory / "backend.crt",
            private_key=directory / "backend.key",
            authorities=directory / "servers.pem",
        )
        stepup = stack.enter_context(
            StepUpClient(core.address, credentials, timeout=30, wait_for_ready=True)
        )
        yield Portal(origin, console, core, stepup, web)
        leaked = core.secrets.found_in_text(web.output.read_bytes())
        assert not leaked, leaked


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]
