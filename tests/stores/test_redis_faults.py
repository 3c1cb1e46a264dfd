"""Each fault of Redis has its own sentence for operators, and none has a password (S11)."""

import asyncio
import re
import socket
from types import SimpleNamespace

import pytest
from cryptography import x509
from stepup_tests.certificates import Authority
from stepup_tests.redis_calls import KEYS
from stepup_tests.redis_with_tls import REDIS, has_tls
from stepup_tests.valkey_sentinel import MASTER
from stepup_tests.valkey_server import HOST, Server, wait_until

from stepup.domain.errors import StoreUnavailableError
from stepup.stores.redis import RedisElevations, close, connect

PASSWORD = "s3cret-w0rd"
pytestmark = pytest.mark.skipif(not has_tls(), reason="no redis-server with TLS: make .redis/stamp")


async def fault_of(url):
    """The sentence about the first call that fails: a look, then a write that tries the store."""
    client = connect(url)
    elevations = RedisElevations(client, KEYS)

    async def look_and_write():
        await elevations.ping()
        await elevations.check_writes()

    with pytest.raises(StoreUnavailableError) as raised:
        await look_and_write()
    await close(client)
    assert str(raised.value) == "the store of elevations does not answer"  # that is for callers
    return raised.value.fault


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    directory, authority = tmp_path_factory.mktemp("pki"), Authority.create()
    (directory / "ca.crt").write_bytes(authority.chain)
    (directory / "foreign.crt").write_bytes(Authority.create().chain)
    authority.server().write(directory, "server")
    authority.issue(x509.DNSName("elsewhere")).write(directory, "elsewhere")
    return directory


@pytest.fixture(scope="module")
def servers(tmp_path_factory, pki):
    """One server of each kind."""
    directory = tmp_path_factory.mktemp("redis")
    found = {}

    def start(name, *options, **more):
        found[name] = Server(directory / name, *options, program=REDIS, **more)

    start("plain", "--save", "", "--requirepass", PASSWORD, password=PASSWORD)
    start("open", "--save", "")
    start("replica", "--save", "", "--replicaof", f"{HOST} 1")
    start("node", "--save", "", "--cluster-enabled", "yes")
    for name, certificate in (("tls", "server"), ("elsewhere", "elsewhere")):
        start(
            name,
            *("--save", "", "--tls-cert-file", pki / f"{certificate}.crt"),
            *("--tls-key-file", pki / f"{certificate}.key", "--tls-ca-cert-file", pki / "ca.crt"),
            has_tls=True,
            ssl_ca_certs=pki / "ca.crt",
            ssl_check_hostname=False,
        )
    file = directory / "sentinel.conf"
    file.write_text(f"sentinel monitor {MASTER} {HOST} {found['open'].port} 1\n")
    found["sentinel"] = Server(directory / "sentinel", file, "--sentinel", program=REDIS)
    for name, server in found.items():
        if name not in ("tls", "elsewhere"):
            wait_until(server.answers, f"{name} answers")
    found["plain"].client.execute_command(
        "ACL", "SETUSER", "ann", "on", f">{PASSWORD}", "~*", "+ping", "+client", "+eval"
    )
    found["sentinel"].client.execute_command(
        "ACL", "SETUSER", "watcher", "on", f">{PASSWORD}", "+ping"
    )
    yield SimpleNamespace(**found)
    for server in found.values():
        server.close()


# The URL of each fault, where {name} is the address of a server, and the sentence.
FAULTS = {
    "a wrong password": (
        "redis://:{word}x@{plain}",
        r"Redis at 127.0.0.1:\d+ refuses the password of the user default \(WRONGPASS\): check",
    ),
    "no password": ("redis://{plain}", r"Redis at .* demands a password \(NOAUTH\): put USER:PASS"),
    "a denied command": (
        "redis://ann:{word}@{plain}",
        r"Redis at .* denies the user ann the command set \(NOPERM\): grant it by ACL SETUSER",
    ),
    "no such database": ("redis://{open}/99", r"Redis at .* has no database 99 \(ERR\): use the"),
    "a replica": ("redis://{replica}", r"Redis at .* is a replica, .* \(READONLY\): name the pri"),
    "a cluster spoken to as a server": (
        "redis://{node}",
        r"Redis at .* is a server of a cluster \(CLUSTERDOWN\): use a URL .* redis\+cluster",
    ),
    "a server spoken to as a cluster": (
        "redis+cluster://{open}",
        r"the Redis cluster at .* is not a cluster \(ERR\): use a URL that begins with redis or",
    ),
    "a wrong password of a cluster": (
        "redis+cluster://:x{word}@{plain}",
        r"the Redis cluster at .* refuses the password of the user default \(WRONGPASS\)",
    ),
    "a cluster without slots": (
        "redis+cluster://{node}",
        r"the Redis cluster at .* has no server for any key: see CLUSTER INFO",
    ),
    "no cluster": ("redis+cluster://{nobody}", r"the Redis cluster at .* \(Connection refused\)"),
    "a Sentinel taken for a server": (
        "redis://{sentinel}",
        r"Redis at .* does not know the command SET \(ERR\): for a Sentinel use .*redis\+sentinel",
    ),
    "a server taken for a Sentinel": (
        "redis+sentinel://{open}/main",
        r"the Sentinels at .* are servers: use a URL that begins with redis or rediss",
    ),
    "a login that a Sentinel wants": (
        "redis+sentinel://{plain}/main",
        r"the Sentinels at .* refuse the login: see sentinel_password",
    ),
    "a command that a Sentinel denies": (
        "redis+sentinel://{sentinel}/main?sentinel_username=watcher&sentinel_password={word}",
        r"the master main of .* denies the user watcher the command sentinel.* \(NOPERM\): grant",
    ),
    "an unknown master": (
        "redis+sentinel://{sentinel}/other",
        r"the Sentinels at .* do not know the master other, or report it as down: check the name",
    ),
    "no Sentinel": (
        "redis+sentinel://{nobody}/main",
        r"the Sentinels at .* cannot be asked: check",
    ),
    "TLS to a plain port": (
        "rediss://{open}?ssl_ca_certs={pki}/ca.crt",
        r"Redis at .* does not answer .*: if it listens in plain text, use a URL .* redis;",
    ),
    "plain text to a port with TLS": (
        "redis://{tls}",
        r"Redis at .* does not answer .*: if it listens with TLS, use a URL .* rediss;",
    ),
    "another authority": (
        "rediss://{tls}?ssl_ca_certs={pki}/foreign.crt",
        r"Redis at .* presents a certificate that is not verified \(.*\): ssl_ca_certs names /",
    ),
    "an unknown authority": (
        "rediss://{tls}",
        r"Redis at .* presents a certificate that is not verified \(.*\): the authorities of this",
    ),
    "another host's certificate": (
        "rediss://{elsewhere}?ssl_ca_certs={pki}/ca.crt",
        r"Redis at .* presents a certificate that is not verified \(IP address mismatch",
    ),
    "a demand for a client's certificate": (
        "rediss://{tls}?ssl_ca_certs={pki}/ca.crt",
        # The connection may be reset before the alert of the server arrives.
        r"Redis at .* (fails the TLS|does not answer) .*; if it demands a client's certificate",
    ),
    "nobody": ("redis://{nobody}", r"Redis at .* cannot be reached \(Connection refused\): check"),
    "nobody at several addresses": (
        "redis://localhost:{port}",
        r"Redis at localhost:\d+ cannot be reached \(Connection refused\): check",
    ),
    "no socket": ("unix:///no/redis", r"Redis at /no/redis cannot be reached \(No such file"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_of_the_connection_is_explained(fault, servers, pki, unused_tcp_port):
    template, sentence = FAULTS[fault]
    port = unused_tcp_port
    addresses = {name: server.address for name, server in vars(servers).items()}
    url = template.format(**addresses, nobody=f"{HOST}:{port}", port=port, word=PASSWORD, pki=pki)
    said = await fault_of(url)
    assert re.match(f"storage.redis_url: {sentence}", said), said
    assert PASSWORD not in said


@pytest.mark.parametrize(
    ("name", "setting", "value", "sentence"),
    [
        ("open", "maxmemory", "1", r"has no memory for writes \(OOM\): raise maxmemory"),
        ("open", "min-replicas-to-write", "1", r"takes no writes, .* \(NOREPLICAS\): start them"),
        ("replica", "replica-serve-stale-data", "no", r"is a replica that .* \(MASTERDOWN\): name"),
    ],
)
async def test_a_fault_of_the_configuration_is_explained(servers, name, setting, value, sentence):
    server = vars(servers)[name]
    before = server.client.config_get(setting)[setting]
    server.client.config_set(setting, value)
    said = await fault_of(f"redis://{server.address}")
    server.client.config_set(setting, before)
    assert re.match(f"storage.redis_url: Redis at {server.address} {sentence}", said), said


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ("-LOADING Redis is loading the dataset", r"loads its data \(LOADING\): wait until it"),
        (
            "-MISCONF Redis is configured to save",
            r"takes no writes, .* disk \(MISCONF\): see its l",
        ),
        ("-MOVED 1 10.0.0.1:1", r"is a server of a cluster \(MOVED\): use a URL"),
        ("-ERR max number of clients reached", r"has no free connection \(ERR\): raise maxclients"),
        ("-SECRET s3cret-w0rd", r"answers with an error: see its log"),
        (None, r"does not answer \(no answer in time\): if it listens with TLS"),
    ],
)
async def test_a_server_that_cannot_answer_is_explained(answer, sentence):
    async def reply(reader, writer):
        while await reader.read(4096) and answer is not None:
            writer.write(f"{answer}\r\n".encode())

    server = await asyncio.start_server(reply, HOST, 0)
    said = await fault_of(f"redis://{HOST}:{server.sockets[0].getsockname()[1]}")
    server.close()
    assert re.fullmatch(rf"storage.redis_url: Redis at {HOST}:\d+ {sentence}.*", said), said
    assert PASSWORD not in said


async def test_a_host_without_an_address_is_explained(monkeypatch):
    def fail(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert "cannot be reached (its host name is not known: " in await fault_of("redis://nowhere")
