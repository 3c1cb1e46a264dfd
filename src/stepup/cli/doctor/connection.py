"""The examinations of a connection of `stepup ctl`: each step needs the one before."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import grpc

from stepup.cli.ctl.clients import client_at, endpoint_of, in_plain_text
from stepup.cli.ctl.problems import problem_of
from stepup.cli.ctl.profiles import Profile
from stepup.cli.doctor.findings import (
    Examination,
    Remark,
    error,
    of_expiry,
    of_own_certificate,
    ok,
    unknown,
    warning,
)
from stepup.client import StepUpError
from stepup.client.channels import Endpoint
from stepup.settings import ConfigurationError
from stepup.stores.connection_faults import causes, certificate_problem, network_problem
from stepup.web.core import is_serving

_SECONDS: Final = 5.0
_DEFAULT_PORT: Final = 443  # of gRPC, for a target without a port
_HOST_AND_PORT: Final = re.compile(
    r"(?:(?:dns|ipv4|ipv6):(?:///)?)?\[?([^\[\]/]+?)\]?(?::([0-9]+))?"
)


@dataclass(frozen=True, slots=True)
class OperatorConnection:
    """A connection of `stepup ctl`.

    Attributes:
        profile: where the settings of the connection come from.
        endpoint: the address and the credentials, in the form that the client takes.
    """

    profile: Profile
    endpoint: Endpoint

    @classmethod
    def of(cls, profile: Profile) -> "OperatorConnection":
        """The connection that a profile describes.

        Raises:
            ConfigurationError: the entries do not fit together, or a file cannot be used.
        """
        try:
            return cls(profile, endpoint_of(profile))
        except ValueError as error:
            raise ConfigurationError(str(error)) from error

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port; None for a unix socket, or several addresses."""
        found = _HOST_AND_PORT.fullmatch(self.endpoint.target)
        return (found[1], int(found[2] or _DEFAULT_PORT)) if found else None

    def examinations(self) -> list[Examination]:
        """The examinations, each of which needs the one before."""
        return [
            Examination("certificate", self._certificate),
            Examination("network", self._network),
            Examination("tls", self._tls),
            Examination("health", self._health),
            Examination("permissions", self._permissions),
        ]

    async def _certificate(self) -> AsyncIterator[Remark]:
        file = self.profile.certificate
        if file is None:
            yield ok("none: calls carry a token" if self.profile.token_file else "none")
            return
        yield of_own_certificate(file)

    async def _network(self) -> AsyncIterator[Remark]:
        if self.address is None:
            yield unknown(f"{self.endpoint.target} is not a host and a port")
            return
        host, port = self.address
        try:
            async with asyncio.timeout(_SECONDS):
                _, writer = await asyncio.open_connection(host, port)
        except OSError as failure:
            problem = network_problem(list(causes(failure))) or type(failure).__name__
            yield error(f"{host}:{port} cannot be reached ({problem}): check the address")
            return
        yield ok(f"{host}:{port} takes connections ({writer.get_extra_info('peername')[0]})")
        writer.close()

    async def _tls(self) -> AsyncIterator[Remark]:
        if self.endpoint.insecure:
            yield warning(f"not used: {in_plain_text(self.endpoint)}")
            return
        if self.address is None or self.endpoint.credentials is None:
            yield ok("not used" if self.profile.insecure else "not tried")
            return
        host, port = self.address
        context = _context_of(self.profile)
        try:
            async with asyncio.timeout(_SECONDS):
                reader, writer = await asyncio.open_connection(
                    host, port, ssl=context, server_hostname=host
                )
        except (OSError, EOFError) as failure:
            yield error(_tls_problem(failure, f"{host}:{port}", self.profile.tls_ca))
            return
        try:
            shown = writer.get_extra_info("ssl_object").getpeercert()
            ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(shown["notAfter"]), UTC)
            yield of_expiry(ends, "the server's certificate is verified; it")
            if not await _is_let_in(reader):
                yield error(
                    "the server ends the connection after the handshake: it does not accept your"
                    " certificate, whose authority must be in its tls.client_ca; its log has"
                    " `handshake_failed` with the reason"
                )
        finally:
            writer.close()

    async def _health(self) -> AsyncIterator[Remark]:
        try:
            serves = await is_serving(self.endpoint, _SECONDS)
        except grpc.aio.AioRpcError as failure:
            yield error(self._health_problem(failure))
            return
        if serves:
            yield ok("the server can make decisions")
        else:
            yield warning(
                "the server answers, and cannot make decisions now: `stepup doctor` on the server"
                " says why"
            )

    def _health_problem(self, failure: grpc.aio.AioRpcError) -> str:
        code = failure.code()
        match code:
            case grpc.StatusCode.UNAVAILABLE if self.profile.insecure:
                advice = (
                    "the server closes the connection. Does it demand TLS? Then give tls_ca and"
                    " credentials instead of `insecure`"
                )
            case grpc.StatusCode.UNAVAILABLE:
                advice = "the server closes the connection: look at its log"
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                advice = (
                    f"no answer within {_SECONDS:.0f} s: look at the log of the server, and"
                    " whether a server of stepup has this address"
                )
            case grpc.StatusCode.UNIMPLEMENTED:
                advice = "another program has this address: check it"
            case _:
                advice = f"{failure.details()}: look at the log of the server"
        return f"{advice} ({code.name})"

    async def _permissions(self) -> AsyncIterator[Remark]:
        for state, sentence in await asyncio.to_thread(self._try_calls):
            yield state, sentence
        yield unknown(
            "acts of an operator are not tried, because each is on record: `stepup check-config"
            " --caller` on a server explains the rules"
        )

    def _try_calls(self) -> list[Remark]:
        """Call methods that change and record nothing."""
        tenant, found = self.profile.tenant, []
        with client_at(self.endpoint, timeout=_SECONDS) as client:
            calls: dict[str, Callable[[], object]] = {
                "PolicyService/ListOperations": client.policy.list_operations
            }
            if tenant is not None:
                calls["PolicyService/GetPolicy"] = partial(client.policy.get, tenant_id=tenant)
            for method, call in calls.items():
                try:
                    call()
                except StepUpError as failure:
                    problem = problem_of(failure, self.profile)
                    found.append(error(f"{method}: {problem.sentence} {problem.advice}"))
                else:
                    found.append(ok(f"{method} is permitted"))
        return found


def _context_of(profile: Profile) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=profile.tls_ca)
    if profile.certificate is not None:
        # Without a password, OpenSSL would ask the terminal for that of an encrypted key.
        context.load_cert_chain(profile.certificate, profile.key, lambda: "")
    context.set_alpn_protocols(["h2"])
    return context


def _tls_problem(error: BaseException, place: str, authorities: Path | None) -> str:
    found = list(causes(error))
    if problem := certificate_problem(found):
        source = f"the authorities in {authorities}" if authorities else "the system's authorities"
        return (
            f"{place}: {source} do not verify the server's certificate ({problem}): check tls_ca,"
            " the host of the address, and the clock of this machine"
        )
    if any(isinstance(each, ssl.SSLError) and "WRONG_VERSION" in str(each) for each in found):
        return f"{place} does not speak TLS: check the port, or whether the server has [tls]"
    return f"{place}: the TLS handshake fails: the server may not accept your certificate"


async def _is_let_in(reader: asyncio.StreamReader) -> bool:
    """Whether the server sends its settings of HTTP/2.

    In TLS 1.3 a server looks at the client's certificate only after the client's handshake has
    succeeded (RFC 8446, section 4.4.2.4).
    """
    try:
        async with asyncio.timeout(_SECONDS):
            return bool(await reader.read(1))
    except OSError:
        return False
