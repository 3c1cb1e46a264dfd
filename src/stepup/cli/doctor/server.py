"""The examinations of a server: everything that its settings name, without starting it."""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Final

from stepup.cli.doctor.findings import (
    Examination,
    Remark,
    error,
    of_clock,
    of_expiry,
    ok,
    unknown,
    warning,
)
from stepup.cli.output import counted
from stepup.keys.file import KeyFile
from stepup.keys.ring import KeyRing
from stepup.rpc.identity.certificate_files import CertificateError, CertificateFiles
from stepup.rpc.identity.jwks import JwksError, JwksUrl, usable_keys
from stepup.settings import ConfigurationError, Settings
from stepup.settings.callers import TokenIssuerSettings
from stepup.settings.section import Listener
from stepup.stores.redis import RedisElevations, close, connect
from stepup.stores.redis.examination import durability_problems, redis_clock_offset, try_rights
from stepup.stores.sql import audit_rights
from stepup.stores.sql.clock import database_clock_offset
from stepup.system.clock import SystemClock
from stepup.system.outlet import Outlet
from stepup.wiring.database import database_url_of, embedded_database_file, open_database
from stepup.wiring.keys import describe_missing_keys, key_source_of, read_keys
from stepup.wiring.start_checks import start_problems
from stepup.wiring.stores import decision_log_file

_SAMPLE: Final = 1000
"""How many secrets of each kind are compared with the key ring."""


def examinations_of_server(settings: Settings) -> list[Examination]:
    """The examinations of everything that the settings of a server name, except callers' rules."""
    own = [
        Examination("configuration", partial(_configuration, settings)),
        Examination("certificate", partial(_certificate, settings)),
        Examination("key ring", partial(_key_ring, settings)),
        Examination("database", partial(_database, settings)),
        Examination("redis", partial(_redis, settings)),
        Examination("decision log", partial(_decision_log, settings)),
    ]
    listeners = {"server": settings.server, "metrics": settings.metrics, "probes": settings.probes}
    own += [
        Examination(f"{section}.listen", partial(_listener, each))
        for section, each in listeners.items()
        if each is not None
    ]
    return own + [
        Examination(f"token_issuers[{index}]", partial(_issuer, each))
        for index, each in enumerate(settings.token_issuers)
        if each.jwks_url is not None
    ]


async def _configuration(settings: Settings) -> AsyncIterator[Remark]:
    if problems := list(start_problems(settings)):
        raise ConfigurationError("\n".join(map(str, problems)))
    yield ok(f"a server starts with it; {counted(len(settings.callers), 'caller')}")


async def _certificate(settings: Settings) -> AsyncIterator[Remark]:
    tls = settings.tls
    if tls is None:
        yield ok("none: the server has no TLS")
        return
    files = CertificateFiles(tls.certificate, tls.key, tls.client_ca)
    try:
        loaded = files.load(SystemClock().now())
    except CertificateError as failure:
        raise ConfigurationError(str(failure)) from failure
    yield of_expiry(loaded.not_after, f"tls.certificate: {tls.certificate}: the certificate")
    if tls.client_ca is not None and loaded.usable_until < loaded.not_after:
        ends = loaded.usable_until
        yield of_expiry(ends, f"tls.client_ca: {tls.client_ca}: the last authority")


async def _key_ring(settings: Settings) -> AsyncIterator[Remark]:
    source = key_source_of(settings)
    storage = settings.storage
    if storage.keys_file is None and storage.keys_variable is None and not source.file.exists():
        yield ok(f"{source} does not exist yet: a server makes it when it starts")
        return
    ring = read_keys(settings)
    yield ok(f"{source}: {counted(len(ring.stored_values.keys), 'key')}")


async def _database(settings: Settings) -> AsyncIterator[Remark]:
    storage = settings.storage
    file = embedded_database_file(settings)
    if storage.database_url is None and not file.exists():
        yield ok(f"{file} does not exist yet: a server makes it when it starts")
        return
    url, limits = database_url_of(settings), storage.database.limits
    async with open_database(settings) as database:
        yield ok("answers, and has the schema of this version")
        await database.check_writes()
        yield ok("takes writes")
        async with database.snapshot() as records:
            used = await records.key_uses.sample(_SAMPLE)
        if missing := used - _known_keys(settings):
            yield error(describe_missing_keys(settings, missing))
        if await database.standbys_may_lack_commits():
            yield warning(
                "storage.database_url: PostgreSQL has standbys, and no commit waits for one. A"
                " promoted standby may accept used codes, and lack wrong codes, locks and"
                " enrollments: set synchronous_standby_names on the primary, see docs/runbooks.md,"
                " StepUpStandbysMayLackCommits"
            )
    if rights := await audit_rights(url, limits):
        yield warning(
            f"the role of the URL {'; it '.join(rights)}, and could rewrite the audit trail:"
            " give servers a role of their own, see docs/operating.md, Roles"
        )
    if storage.database_url is not None and not url.startswith("sqlite"):
        yield of_clock(await database_clock_offset(url, limits, SystemClock()))


def _known_keys(settings: Settings) -> set[str]:
    try:
        return set(read_keys(settings).stored_values.keys)
    except ConfigurationError:  # its own examination reports it
        return set()


async def _redis(settings: Settings) -> AsyncIterator[Remark]:
    url = settings.storage.redis_url
    if url is None:
        yield ok("embedded: a server starts its own")
        return
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        client = connect(url.get_secret_value(), max_connections=4)
        stack.push_async_callback(close, client)
        # No value is read or written that needs a MAC, so the key does not matter.
        elevations = RedisElevations(client, KeyRing.of(KeyFile.generated(clock.now())))
        await elevations.ping()
        yield ok("answers")
        await elevations.check_writes()
        await try_rights(client)
        yield ok("takes writes, and permits the commands of a server")
        yield of_clock(await redis_clock_offset(client, clock))
        problems = await durability_problems(client)
        if problems is None:
            yield unknown(
                "its user may not run INFO, which a server does not need: look at persistence,"
                " maxmemory-policy and replicas as another user (docs/runbooks.md, Redis)"
            )
        for problem in problems or ():
            yield warning(f"storage.redis_url: Redis {problem}")


async def _decision_log(settings: Settings) -> AsyncIterator[Remark]:
    target = settings.log.decisions
    if target == "-":
        yield ok("standard output of the server")
        return
    file = decision_log_file(settings)
    if file.exists():
        yield _appended(file)
    elif not file.parent.exists() and target is None:
        yield ok(f"{file.parent} does not exist yet: a server makes it when it starts")
    elif not file.parent.exists():
        yield warning(
            f"log.decisions: {file.parent} does not exist: make it for the user that serves, if"
            " systemd does not (StateDirectory)"
        )
    elif os.access(file.parent, os.W_OK | os.X_OK):
        yield ok(f"{file} does not exist yet, and can be made")
    else:
        yield error(f"log.decisions: this user may not write to {file.parent}")


def _appended(file: Path) -> Remark:
    """Open the log as a server does, and write nothing."""
    try:
        outlet = Outlet(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK))
        try:
            outlet.check()
        finally:
            outlet.close()
    except OSError as failure:
        no_reader = failure.errno == errno.ENXIO
        problem = "nobody reads from this pipe" if no_reader else failure.strerror
        return error(f"log.decisions: {file}: {problem}")
    return ok(f"{file} can be written")


async def _listener(section: Listener) -> AsyncIterator[Remark]:
    path = getattr(section, "socket", None)
    yield await _address(section) if path is None else _socket_directory(path)


def _socket_directory(path: Path) -> Remark:
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return error(f"server.listen: this user may not write to {path.parent}")
    return ok(f"{path.parent} can be written")


async def _address(section: Listener) -> Remark:
    """Bind the address for an instant, without listening."""
    loop = asyncio.get_running_loop()
    try:
        for family, kind, _, _, address in await loop.getaddrinfo(
            section.host, section.port, type=socket.SOCK_STREAM
        ):
            with socket.socket(family, kind) as trial:
                # Connections that were closed do not prevent this; a process that listens does.
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(address)
    except OSError as failure:
        if failure.errno == errno.EADDRINUSE:
            by = "by a server that runs already, or by another program"
            return warning(f"{section.listen} is in use: {by}")
        return error(f"cannot listen on {section.listen}: {failure.strerror}")
    return ok(f"{section.listen} is free")


async def _issuer(settings: TokenIssuerSettings) -> AsyncIterator[Remark]:
    source = JwksUrl(
        settings.jwks_url.get_secret_value() if settings.jwks_url else "",
        ca_file=settings.ca_file,
        bearer_token_file=settings.bearer_token_file,
    )
    try:
        keys = usable_keys(await source.fetch()).keys
    except JwksError as failure:
        yield error(f"{source} {failure}")
        return
    if keys:
        yield ok(f"{source} has {counted(len(keys), 'key')}")
    else:
        yield error(f"{source} has no public key for signatures: ask its operators")
