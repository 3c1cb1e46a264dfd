"""That the canary for S11 sings: secrets are planted, and found."""

import re
from contextlib import suppress

import pytest
from redis.exceptions import ResponseError
from stepup_tests.e2e.clients import GrpCurl
from stepup_tests.e2e.guarded import CLIENTS, SOAR, TokenIssuer
from stepup_tests.e2e.leaks import Secrets, leaks
from stepup_tests.e2e.people import OSQUERY, administrator, check, person, protect
from stepup_tests.e2e.serving import serving
from stepup_tests.e2e.topologies import ENVOY, TOPOLOGY

pytestmark = pytest.mark.e2e

TENANT = "acme"
PLANTED = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@pytest.fixture
def planted(tmp_path):
    """Where a secret can be planted: a data directory, and what was used beside it."""
    secrets = Secrets()
    secrets.note({"code": "314159", "secret": PLANTED})
    return secrets, tmp_path


@pytest.mark.parametrize(
    "line", [b'{"code": "314159"}', b"314159\n", b"T05:42:03.000001Z 314159 typed"]
)
def test_the_canary_finds_a_code_in_a_log(planted, line):
    secrets, data_dir = planted
    (data_dir / "decisions.jsonl").write_bytes(line)
    assert [secret for _, secret in leaks(secrets, data_dir, {})] == ["314159"]


@pytest.mark.parametrize("line", [b"T05:42:03.314159+00:00", b"duration_ms=13141592"])
def test_the_canary_takes_no_other_number_for_a_code(planted, line):
    secrets, data_dir = planted
    assert not list(leaks(secrets, data_dir, {"stderr": line}))


@pytest.mark.parametrize(
    "octets",
    [
        b"\x00\xffJBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP\x00",
        b"\x00Hello!\xde\xad\xbe\xefHello!\xde\xad\xbe\xef\x00",
    ],
    ids=["base32", "octets"],
)
def test_the_canary_finds_a_secret_in_any_file(planted, octets):
    secrets, data_dir = planted
    (data_dir / "valkey").mkdir()
    (data_dir / "valkey" / "file.aof").write_bytes(octets)
    assert list(leaks(secrets, data_dir, {}))


def test_the_canary_finds_credentials(planted):
    secrets, data_dir = planted
    token, credential = TokenIssuer().token(), CLIENTS.client(SOAR)
    secrets.note_token(token)
    secrets.note_private_key(credential.key)
    for leaked in (
        token.encode(),
        credential.key.replace(b"\n", b"\\n"),
        credential.key.splitlines()[2],
    ):
        assert list(leaks(secrets, data_dir, {"stderr": b"said: " + leaked}))


def remember(server, secret):
    """Leave a secret in Redis, as no server does."""
    with server.site.redises(server) as clients:
        taken = 0
        for client in clients:
            with suppress(ResponseError):  # another master has its slot
                taken += bool(client.set(TENANT, secret))
        assert taken == 1


def test_the_canary_finds_what_a_server_process_writes(tmp_path):
    """A caller that takes a secret for a name puts it everywhere (S11)."""
    places = ["stderr", "decisions.jsonl", r"stepup.db|/data/(base|pg_wal)/", "valkey/|redis-"]
    if TOPOLOGY == ENVOY:
        places.append("envoy.log")

    def serve():
        with serving(tmp_path) as server:
            server.secrets.note({"secret": PLANTED})
            client = GrpCurl(server, "-H", f"x-request-id: {PLANTED}")
            protect(client, administrator(TENANT, PLANTED), OSQUERY)
            check(client, person(TENANT, PLANTED), OSQUERY)
            remember(server, PLANTED)

    with pytest.raises(AssertionError) as leaked:
        serve()
    for place in places:
        assert re.search(rf"({place})[^']*', '{PLANTED}'", str(leaked.value)), place
