"""S17: health follows what callers' credentials are verified with."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import structlog
from stepup_tests.certificates import Authority, authority
from stepup_tests.clock import ManualClock
from stepup_tests.identity.tokens import AUDIENCE, ISSUER, Published, key, public
from stepup_tests.metrics import metric

from stepup.domain.callers import Callers
from stepup.domain.errors import StoreUnavailableError
from stepup.rpc.identity.certificate_files import CertificateFiles
from stepup.rpc.identity.jwt import Issuer, TokenIdentification
from stepup.rpc.identity.server_credentials import ServerCertificate
from stepup.rpc.identity.trusted_keys import TrustedKeys
from stepup.wiring.credentials import Credentials, admit_local_caller
from stepup.wiring.watched import Watched

OTHER = "https://other.example"


@pytest.fixture
def clock():
    """A clock at the time of this machine, by which certificates are made."""
    return ManualClock(datetime.now(UTC))


async def works():
    """Do nothing: every store does work."""


def watched(ping=works, **given):
    return Watched(
        SimpleNamespace(poll=works, is_fresh=True),
        SimpleNamespace(check_writes=works),
        SimpleNamespace(ping=ping, check_writes=works),
        SimpleNamespace(look=works),
        Credentials(admit_local_caller, Callers([]).named, None, **given),
    )


async def seen(watched_):
    await watched_.look()
    condition = watched_.condition
    return condition.admits, condition.certificate, condition.token_issuers


async def test_without_credentials_nothing_can_be_missing():
    assert await seen(watched()) == (True, True, True)


async def test_s17_keys_of_issuers_that_were_never_fetched_are_missing(clock):
    sources = [Published(public(key("k1"))), Published(public(key("k2")))]
    for source in sources:
        source.problem = "does not answer"
    tokens = TokenIdentification(
        [
            Issuer(name, frozenset({AUDIENCE}), TrustedKeys(source, clock))
            for name, source in zip((ISSUER, OTHER), sources, strict=True)
        ],
        clock,
    )
    watched_ = watched(tokens=tokens)
    found = []
    for source in (None, *sources):
        if source is not None:
            source.problem = None
        await tokens.poll()
        found.append(await seen(watched_))
        clock.advance(seconds=10)
    assert found == [(False, True, False), (True, True, False), (True, True, True)]
    assert metric("stepup_dependency_up", dependency="token_issuers") == 1


@pytest.mark.parametrize("expires_first", ["certificate", "client_ca"])
async def test_s17_a_certificate_or_all_authorities_that_expired_admit_nobody(
    clock, tmp_path, expires_first
):
    lifetimes = {"certificate": timedelta(days=9), "client_ca": timedelta(days=9)}
    lifetimes[expires_first] = timedelta(days=5)
    pair = authority("servers").server(lifetime=lifetimes["certificate"])
    client_ca = Authority.create("clients", lifetime=lifetimes["client_ca"])
    bundle = tmp_path / "clients.crt"
    bundle.write_bytes(client_ca.chain)
    files = CertificateFiles(*pair.write(tmp_path, "server"), bundle)
    watched_ = watched(certificate=ServerCertificate(files, clock))
    expires_at = min(made.certificate.not_valid_after_utc for made in (pair, client_ca))
    clock.set(expires_at - timedelta(microseconds=1))
    assert await seen(watched_) == (True, True, True)
    clock.set(expires_at)
    assert await seen(watched_) == (False, False, True)


async def test_a_store_that_does_not_answer_at_the_start_is_logged_once_with_its_fault():
    async def fail():
        raise StoreUnavailableError("the store does not answer", "Redis at cache refuses the login")

    with structlog.testing.capture_logs() as lines:
        watched_ = watched(ping=fail)
        await watched_.look()
        await watched_.look()
    assert [(line["event"], line["problem"]) for line in lines] == [
        ("store_unavailable", "Redis at cache refuses the login")
    ]
