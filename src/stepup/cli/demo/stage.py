"""The demo's server process, and calls that show their requests and answers."""

import codecs
import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TextIO

import grpc
import orjson
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from stepup.client import StepUpError, rpcs
from stepup.client.channels import Endpoint
from stepup.client.errors import error_of
from stepup.client.messages import actor as people
from stepup.client.messages import challenge, step_up
from stepup.client.rpc import Rpc
from stepup.domain.totp import STEP_SECONDS, OtpCode, TotpSecret, code_at, time_step
from stepup.system.children import ending_with_this_process

_CALL_SECONDS = 5
_STREAM_SECONDS = 300
_SAFETY_SECONDS = 2
_LONG = 120
_IN_ASCII = {"→": "->", "←": "<-", "…": "..."}


def _ascii_for(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_IN_ASCII.get(character, "?") for character in text), error.end


codecs.register_error("stepup.ascii", _ascii_for)


def console_on(stream: TextIO) -> Console:
    """A console that replaces characters that a terminal without UTF-8 cannot show."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="stepup.ascii")
    return Console(file=stream, highlight=False)


def is_shown(console: Console, text: str) -> bool:
    """Whether the console's terminal can show every character of a text."""
    try:
        text.encode(console.encoding)
    except UnicodeEncodeError:
        return False
    return True


class UnexpectedAnswerError(Exception):
    """The service gave another answer than the demo explains."""


def expect(held: bool, what: str) -> None:
    """Raise `UnexpectedAnswerError` unless the answer is the one that the demo explains."""
    if not held:
        raise UnexpectedAnswerError(f"expected {what}")


@contextmanager
def server_process(**settings: str) -> Iterator[str]:
    """Run a server on a free port, with a temporary data directory; yields its address.

    Args:
        settings: further settings, by their names in the environment.

    Raises:
        SystemExit: the server does not start; its message is on standard error.
    """
    with tempfile.TemporaryDirectory(prefix="stepup-demo-") as data_dir:
        arguments = ["serve", "--listen", "127.0.0.1:0", "--insecure", "--data-dir", data_dir]
        with process_of(*arguments, "--log-level", "error", **settings) as address:
            yield address


@contextmanager
def process_of(*arguments: str, **settings: str) -> Iterator[str]:
    """Run a command of ours that writes where it listens; yields the address.

    Raises:
        SystemExit: it does not start; its message is on standard error.
    """
    command = ending_with_this_process([sys.executable, "-m", "stepup", *arguments], signal.SIGTERM)
    environment = {**os.environ, **settings}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:  # noqa: S603  # our own command
        # A terminal that closes hangs up on both processes; the server continues.
        signal.signal(signal.SIGHUP, lambda *_: sys.exit(1))
        try:
            announcement = process.stdout.readline() if process.stdout else ""
            if not announcement:
                raise SystemExit(process.wait() or 1)
            yield announcement.split()[-1]
        finally:
            process.terminate()


def channel_to(address: str) -> grpc.Channel:
    """Open a channel to a server on this machine.

    The demo shows requests and responses as they are on the wire. Programs use `StepUpClient`.
    """
    return grpc.insecure_channel(address, Endpoint(address).channel_options())


class App:
    """Bob's authenticator app: it has the secret, and shows the current code."""

    def __init__(self, console: Console, typed_secret: str) -> None:
        self._console = console
        self._secret = TotpSecret.from_base32(typed_secret)
        self._step = 0

    def last_code(self) -> OtpCode:
        """Return the code that was read last."""
        return code_at(self._secret, self._step)

    def next_code(self) -> OtpCode:
        """Wait for a code that was not read before, with enough time left to type it."""
        with self._console.status("") as status:
            while time_step(datetime.now(UTC)) == self._step or _seconds_left() < _SAFETY_SECONDS:
                status.update(f"waiting for the app's next code: {_seconds_left():.0f} s")
                time.sleep(0.2)
        self._step = time_step(datetime.now(UTC))
        return self.last_code()


class Stage:
    """Makes calls, and shows each request and its answer."""

    def __init__(self, console: Console, channel: grpc.Channel) -> None:
        self.console = console
        self._channel = channel
        self._scenes = 0

    def scene(self, title: str, text: str) -> None:
        """Print the number, title and text of the next scene."""
        self._scenes += 1
        self.console.print(f"\n[bold]{self._scenes}. {title}[/]")
        self.console.print(Padding(text, (0, 0, 0, 3)))

    def say(self, text: str) -> None:
        """Print a line of text, with rich's markup."""
        self.console.print(f"   {text}", soft_wrap=True)

    def send(self, rpc: Rpc[Any, Any], request: Message) -> Any:
        """Make a call, and show nothing. Returns the response, or an iterator of the responses."""
        kind = self._channel.unary_stream if rpc.is_stream else self._channel.unary_unary
        method = kind(rpc.path, rpc.request.SerializeToString, rpc.response.FromString)
        try:
            return method(request, timeout=_STREAM_SECONDS if rpc.is_stream else _CALL_SECONDS)
        except grpc.RpcError as error:
            raise error_of(error) from error

    def call(self, rpc: Rpc[Any, Any], request: Message, hide: tuple[str, ...] = ()) -> Any:
        """Make a call; fields named in `hide` are not shown."""
        self._show_request(request)
        response = self.send(rpc, request)
        self.say(f"[green]←[/] {escape(_shown(response, hide))}")
        return response

    def call_refused(self, rpc: Rpc[Any, Any], request: Message, wanted: str) -> None:
        """Make a call, and demand an error with this reason."""
        self._show_request(request)
        try:
            self.send(rpc, request)
        except StepUpError as error:
            if error.reason != wanted:
                raise
            self.say(f"[yellow]← {wanted}[/], {error}")
        else:
            expect(False, wanted)

    def check(
        self,
        actor: people.ActorContext,
        operation: str,
        decision: str,
        why: str,
        *,
        target: str = "",
    ) -> step_up.CheckStepUpResponse:
        """Call `CheckStepUp`, and demand this decision for this reason."""
        request = step_up.CheckStepUpRequest(actor=actor, operation=operation, target=target)
        self._show_request(request)
        answer: step_up.CheckStepUpResponse = self.send(rpcs.CHECK_STEP_UP, request)
        got = step_up.Decision.Name(answer.decision).removeprefix("DECISION_")
        got_why = step_up.DecisionReason.Name(answer.reason).removeprefix("DECISION_REASON_")
        suffix = ""
        if answer.receipt_rejection:
            suffix = ", " + step_up.ReceiptRejection.Name(answer.receipt_rejection)
        elif answer.challenge_rejection:
            suffix = ", " + step_up.ChallengeRejection.Name(answer.challenge_rejection)
        elif answer.receipt:
            suffix = " [dim](with a receipt)[/]"
        colour = "green" if got == "ALLOWED" else "yellow"
        self.say(f"[{colour}]← {got}[/], {got_why}{suffix}")
        expect((got, got_why) == (decision, why), f"{decision}, {why}")
        return answer

    def challenge_state(self, received: challenge.Challenge, state: str) -> None:
        """Show the state of a challenge, and demand that the state is the expected one."""
        got = challenge.ChallengeState.Name(received.state).removeprefix("CHALLENGE_STATE_")
        self.say(f"[{'green' if got == 'APPROVED' else 'yellow'}]← {got}[/]")
        expect(got == state, state)

    def verify(self, actor: people.ActorContext, code: OtpCode, outcome: str) -> None:
        """Call `VerifyOtp` with a code, and demand this outcome."""
        request = step_up.VerifyOtpRequest(actor=actor, code=code.digits)
        self._show_request(request)
        answer = self.send(rpcs.VERIFY_OTP, request)
        got = step_up.Outcome.Name(answer.outcome).removeprefix("OUTCOME_")
        colour = "green" if got == "VERIFIED" else "yellow"
        self.say(f"[{colour}]← {got}[/], {answer.attempts_remaining} attempts remaining")
        expect(got == outcome, outcome)

    def _show_request(self, request: Message) -> None:
        name = type(request).__name__.removesuffix("Request")
        self.say(f"[cyan]→ {name}[/] {escape(_shown(request))}")


def _seconds_left() -> float:
    return STEP_SECONDS - time.time() % STEP_SECONDS


def _shown(message: Message, hide: tuple[str, ...] = ()) -> str:
    """A message as grpcurl accepts it, on one line; long values such as receipts are cut."""
    fields = MessageToDict(message, preserving_proto_field_name=True)
    return orjson.dumps({k: _cut(v) for k, v in fields.items() if k not in hide}).decode()


def _cut(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _cut(inner) for key, inner in value.items()}
    if isinstance(value, str) and len(value) > _LONG:
        return value[:24] + "…"
    return value
