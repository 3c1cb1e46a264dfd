"""The pretend console: each link signs one person in, and opens a page of the portal."""

from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Final
from urllib.parse import parse_qs, urlsplit

from stepup.cli.console.business import ISSUER, PAGES, Business
from stepup.client import StepUpError
from stepup.domain.errors import InvalidValueError

HOST: Final = "127.0.0.1"
_MAX_FORM_BYTES: Final = 1000
_LINKS: Final = (
    ("policy", "Ada, the administrator, turns MFA on for the business"),
    ("wizard", "Bob sets up his authenticator app"),
    ("challenge", "Carol approves what an agent wants to do"),
    ("code", "Bob gives a code before an action"),
    ("account", "Bob's account settings"),
    ("people", "Ada looks at the people of the business"),
    ("events", "Ada reads the audit events"),
)
_STYLE: Final = """
:root { color-scheme: light dark }
body { font: 1.0625rem/1.6 system-ui, sans-serif; max-width: 40rem; margin: 3rem auto }
body { padding: 0 1rem }
output { font-size: 1.5rem; font-variant-numeric: tabular-nums; letter-spacing: .1em }
"""


@contextmanager
def serving_console(port: int) -> Iterator["ConsoleServer"]:
    """Serve the console while the block lasts; assign its `business` before the first request.

    Args:
        port: on loopback. If another program has it, a free port.
    """
    try:
        server = ConsoleServer((HOST, port), _Handler)
    except OSError:
        server = ConsoleServer((HOST, 0), _Handler)
    with server:
        thread = Thread(target=server.serve_forever, args=(0.1,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class ConsoleServer(ThreadingHTTPServer):
    """The web server of the console."""

    daemon_threads = True
    business: Business

    @property
    def address(self) -> str:
        """The origin of the console."""
        return f"http://{HOST}:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: ConsoleServer

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        name = parts.path.removeprefix("/")
        if name in PAGES:
            self._open(name)
        elif name == "phone":
            self._show(_phone(self.server.business))
        elif not name:
            came_from = parse_qs(parts.query).get("from", [""])[0]
            self._show(_home(self.server.business, came_from))
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        fields = parse_qs(self.rfile.read(min(length, _MAX_FORM_BYTES)).decode(errors="replace"))
        try:
            self.server.business.phone.add(fields["name"][0], fields["key"][0])
        except (KeyError, InvalidValueError):
            self._show(_phone(self.server.business, "This is not a key."))
        else:
            self._redirect("/phone")

    def _open(self, name: str) -> None:
        language = self.headers.get("Accept-Language", "").partition(",")[0].partition(";")[0]
        try:
            self._redirect(self.server.business.open(name, language.strip()))
        except StepUpError as error:
            self._show(f"<h1>The service refuses this</h1><p>{escape(str(error))}</p>")

    def _redirect(self, address: str) -> None:
        self.send_response(HTTPStatus.SEE_OTHER)
        self.send_header("Location", address)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _show(self, content: str) -> None:
        page = (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{ISSUER}: console</title>'
            '<meta name="viewport" content="width=device-width">'
            f"<style>{_STYLE}</style><main>{content}</main></html>"
        ).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as it is overridden
        """Write nothing: the terminal has the addresses."""


def _home(business: Business, came_from: str) -> str:
    back = f"<p>You are back from “{escape(came_from)}”.</p>" if came_from in PAGES else ""
    links = "".join(f'<li><a href="/{name}">{text}</a></li>' for name, text in _LINKS)
    state = business.challenge_state()
    asked = f"<p>Carol's challenge is {state}.</p>" if state else ""
    return (
        f"<h1>The console of {ISSUER}</h1>{back}"
        "<p>A real console signs people in. Here each link does so, and opens a page.</p>"
        f"<ul>{links}</ul>{asked}"
        '<p>Carol\'s codes are on <a href="/phone" target="_blank">her phone</a>. For Bob and Ada'
        " use an authenticator app, or type their keys there too.</p>"
    )


def _phone(business: Business, problem: str = "") -> str:
    seconds = business.phone.seconds_left()
    codes = "".join(
        f"<p>{escape(name)}: <output>{code or '······'}</output></p>"
        for name, code in business.phone.codes().items()
    )
    return (
        f'<meta http-equiv="refresh" content="{seconds}"><h1>A phone</h1>{codes}'
        f"<p>The next codes come in {seconds} seconds. Each code counts once.</p>"
        f'<form method="post"><p>{problem}</p>'
        '<p><label>Name <input name="name" required maxlength="40"></label></p>'
        '<p><label>Key from the wizard <input name="key" required autocomplete="off"></label></p>'
        "<p><button>Add</button></p></form>"
    )
