"""Over TLS, as a user who may do no more than docs/operating.md says, in each topology (S15)."""

import asyncio
import hashlib
import re

import pytest
from cryptography import x509
from redis.exceptions import NoPermissionError, ResponseError
from stepup_tests.certificates import Authority
from stepup_tests.places import ROOT
from stepup_tests.redis_calls import assert_unavailable, every_call
from stepup_tests.redis_with_tls import REDIS, has_tls
from stepup_tests.valkey_cluster import valkey_cluster
from stepup_tests.valkey_sentinel import MASTER, valkey_sentinel
from stepup_tests.valkey_server import Server, wait_until

from stepup.domain.errors import StoreUnavailableError
from stepup.stores.redis import connect
from stepup.stores.redis.tls import _context

ADMIN, PASSWORD = "admin-word", "p@ss/word"
AS_TEXT = "p%40ss%2Fword"
OPERATING = ROOT / "docs/operating.md"


pytestmark = pytest.mark.skipif(not has_tls(), reason="no redis-server with TLS: make .redis/stamp")


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """A directory with the authority's certificate, a server's, and a client's."""
    directory, authority = tmp_path_factory.mktemp("pki"), Authority.create()
    (directory / "ca.crt").write_bytes(authority.chain)
    (directory / "foreign.crt").write_bytes(Authority.create().chain)
    authority.issue(*_names(authority)).write(directory, "server")
    authority.issue(x509.DNSName("elsewhere")).write(directory, "elsewhere")
    authority.client().write(directory, "client")
    return directory


def _names(authority):
    """Those of a server that is a client of its peers as well: without an extended key usage."""
    extension = authority.server().certificate.extensions
    return list(extension.get_extension_for_class(x509.SubjectAlternativeName).value)


def user(name):
    """The line of docs/operating.md that is to be pasted."""
    text = OPERATING.read_text()
    return re.search(rf"^user {name} on .*$", text, re.MULTILINE)[0].replace(
        "SHA256_OF_PASSWORD", hashlib.sha256(PASSWORD.encode()).hexdigest()
    )


def access(directory, *users):
    """The options of a server that knows these users, and an administrator."""
    file = directory / f"{len(list(directory.iterdir()))}.acl"
    file.write_text("\n".join((f"user default on >{ADMIN} ~* &* +@all", *users)) + "\n")
    return ("--aclfile", file)


def secured(pki, name="server"):
    return (
        *("--tls-cert-file", pki / f"{name}.crt", "--tls-key-file", pki / f"{name}.key"),
        *("--tls-ca-cert-file", pki / "ca.crt"),
    )


def options(pki):
    return {
        "program": REDIS,
        "has_tls": True,
        "password": ADMIN,
        "ssl_ca_certs": pki / "ca.crt",
        "ssl_certfile": pki / "client.crt",
        "ssl_keyfile": pki / "client.key",
    }


def query(pki, authority="ca"):
    return (
        f"ssl_ca_certs={pki}/{authority}.crt"
        f"&ssl_certfile={pki}/client.crt&ssl_keyfile={pki}/client.key"
    )


def url_of(address, pki, authority="ca"):
    return f"rediss://stepup:{AS_TEXT}@{address}?{query(pki, authority)}"


@pytest.fixture(scope="module")
def server(pki, tmp_path_factory):
    directory = tmp_path_factory.mktemp("server")
    known = access(directory, user("stepup"))
    server = Server(directory / "0", *secured(pki), *known, **options(pki))
    wait_until(server.answers, "the server answers")
    yield server
    server.close()


@pytest.fixture
def single(pki, server):
    return url_of(server.address, pki)


@pytest.fixture
def sentinel(pki, tmp_path):
    secret = (
        f"sentinel auth-pass {MASTER} {ADMIN}",
        "sentinel sentinel-user default",
        f"sentinel sentinel-pass {ADMIN}",
    )
    with valkey_sentinel(
        tmp_path / "redis",
        *secured(pki),
        *("--tls-replication", "yes"),
        replica_options=("--masterauth", ADMIN, *access(tmp_path, user("stepup"))),
        sentinel_options=access(tmp_path, user("stepup-sentinel")),
        sentinel_lines=secret,
        **options(pki),
    ) as redis:
        hosts = ",".join(each.address for each in redis.sentinels)
        yield (
            f"rediss+sentinel://stepup:{AS_TEXT}@{hosts}/{MASTER}?{query(pki)}"
            f"&sentinel_username=stepup-sentinel&sentinel_password={AS_TEXT}"
        )


@pytest.fixture
def cluster(pki, tmp_path):
    with valkey_cluster(
        tmp_path / "redis",
        *secured(pki),
        *access(tmp_path, user("stepup-cluster")),
        *("--tls-cluster", "yes"),
        replicas=False,
        **options(pki),
    ) as redis:
        hosts = ",".join(each.address for each in redis.servers)
        yield f"rediss+cluster://stepup-cluster:{AS_TEXT}@{hosts}?{query(pki)}"


@pytest.mark.parametrize("topology", ["single", "sentinel", "cluster"])
async def test_the_user_of_the_documentation_can_do_everything_and_no_more(request, topology):
    async with connect(request.getfixturevalue(topology)) as client:
        ends = await asyncio.gather(*every_call(client).values(), return_exceptions=True)
        refused = [end for end in ends if isinstance(end, StoreUnavailableError) and end.__cause__]
        assert not refused
        for name in ("e{a}", "r{a}", "o{a}", "c"):
            await client.get(name)
        for command in (("FLUSHALL",), ("GET", "x"), ("UNLINK", "c")):
            with pytest.raises(NoPermissionError):
                await client.execute_command(*command)
        with pytest.raises(ResponseError, match="can't run this command"):
            await client.eval("return redis.call('UNLINK', KEYS[1])", 1, "c")


async def test_without_a_certificate_of_our_own_nothing_is_served(server, pki):
    url = f"rediss://stepup:{AS_TEXT}@{server.address}?ssl_ca_certs={pki}/ca.crt"
    async with connect(url) as client:
        await assert_unavailable(client)


async def test_s15_a_server_of_a_foreign_authority_is_not_believed(server, pki):
    async with connect(url_of(server.address, pki, "foreign")) as client:
        await assert_unavailable(client)


async def test_s15_a_server_of_another_name_is_not_believed(pki, tmp_path):
    elsewhere = options(pki) | {"ssl_check_hostname": False}
    known = access(tmp_path, user("stepup"))
    server = Server(tmp_path / "0", *secured(pki, "elsewhere"), *known, **elsewhere)
    wait_until(server.answers, "the server answers")
    async with connect(url_of(server.address, pki)) as client:
        await assert_unavailable(client)
    server.close()


async def test_files_are_read_once_and_again_when_they_have_changed(server, pki, tmp_path):
    authority = tmp_path / "ca.crt"
    authority.write_bytes((pki / "foreign.crt").read_bytes())
    url = url_of(server.address, pki).replace(f"{pki}/ca.crt", str(authority))
    async with connect(url) as client:
        await assert_unavailable(client)
        authority.write_bytes((pki / "ca.crt").read_bytes())
        read_before = _context.cache_info().misses
        assert await client.get("c") is None
        ends = await asyncio.gather(*every_call(client).values(), return_exceptions=True)
        assert not [end for end in ends if isinstance(end, StoreUnavailableError) and end.__cause__]
        assert _context.cache_info().misses == read_before + 1
