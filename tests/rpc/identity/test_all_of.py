"""S15: a certificate and a token, both, on one call."""

import grpc
import pytest
from stepup_tests.certificates import DAY
from stepup_tests.identity.door import doorkeeper, refusal, who
from stepup_tests.identity.tokens import AUDIENCE, ISSUER, Published, claims_at, key, public, signed
from stepup_tests.wire import served

from stepup.domain.errors import CallerUnauthenticatedError
from stepup.rpc.identity import AllOf
from stepup.rpc.identity.jwt import Issuer, TokenIdentification
from stepup.rpc.identity.mtls import CertificateIdentification
from stepup.rpc.identity.server_credentials import ServerCertificate
from stepup.rpc.identity.trusted_keys import TrustedKeys

SOAR = "spiffe://acme/ns/prod/sa/soar"


@pytest.fixture
async def door(make_engine, files, clock):
    """A server that demands a certificate and a token."""
    keys = TrustedKeys(Published(public(key("k1"))), clock)
    tokens = TokenIdentification([Issuer(ISSUER, frozenset({AUDIENCE}), keys)], clock)
    await tokens.poll()
    credentials = ServerCertificate(files, clock).credentials()
    async with doorkeeper(
        make_engine, AllOf(CertificateIdentification(clock), tokens), credentials
    ) as door:
        yield door


@pytest.fixture
def bearer(clock):
    return [("authorization", f"Bearer {signed(claims_at(clock), key('k1'))}")]


async def test_both_identities_are_proved(door, servers_ca, clients_ca, bearer):
    async with door.channel(servers_ca.chain, clients_ca.client(SOAR)) as channel:
        assert await who(channel, bearer) == f"jwt:{ISSUER}#soar\n{SOAR}"


async def test_a_certificate_alone_is_not_enough(door, servers_ca, clients_ca):
    async with door.channel(servers_ca.chain, clients_ca.client(SOAR)) as channel:
        code, message = await refusal(channel)
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert message == "a bearer token is required in the authorization metadata"


async def test_a_token_with_a_certificate_that_names_nobody_is_not_enough(
    door, servers_ca, clients_ca, bearer
):
    async with door.channel(servers_ca.chain, clients_ca.client()) as channel:
        code, message = await refusal(channel, bearer)
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert message == "the client certificate has no URI SAN"


@pytest.mark.parametrize("lifetime", [None, -DAY], ids=["no certificate", "expired"])
async def test_a_token_alone_is_not_enough(door, servers_ca, clients_ca, bearer, lifetime):
    client = lifetime and clients_ca.client(SOAR, lifetime=lifetime)
    async with door.channel(servers_ca.chain, client) as channel:
        code, _ = await refusal(channel, bearer)
    assert (code, door.admitted) == (grpc.StatusCode.UNAVAILABLE, 0)


async def test_the_server_hands_over_what_the_connection_proved(worker):
    """Without TLS that is no certificate; but the connection is asked."""
    seen = []

    async def admit(invocation):
        seen.append(invocation.auth_context())
        raise CallerUnauthenticatedError("seen enough")

    async with served(worker, admit) as running, grpc.aio.insecure_channel(running.target) as c:
        with pytest.raises(grpc.aio.AioRpcError, match="seen enough"):
            await c.unary_unary("/stepup.v1.PolicyService/ListOperations")(b"")
    assert [sorted(context) for context in seen] == [["security_level", "transport_security_type"]]
