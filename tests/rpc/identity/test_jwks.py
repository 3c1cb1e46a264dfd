"""S15: where keys come from, and which of them count (RFC 7517)."""

import asyncio
import json
import threading
import time
from contextlib import asynccontextmanager, suppress

import pytest
from stepup_tests.certificates import authority
from stepup_tests.identity.tokens import key, public
from stepup_tests.identity.web_server import DOCUMENT, WebServer, served

from stepup.rpc.identity import jwks
from stepup.rpc.identity.jwks import JwksError, JwksFile, JwksUrl, usable_keys
from stepup.rpc.identity.trusted_keys import TrustedKeys


def kids(document):
    return [known.kid for known in usable_keys(document)]


def a_set(*entries):
    return json.dumps({"keys": entries}).encode()


def jwk(name, kind="EC", **changes):
    entry = {**key(name, kind).as_dict(private=False), **changes}
    return {field: value for field, value in entry.items() if value is not None}


UNUSABLE = {
    "symmetric": {"kty": "oct", "kid": "no", "k": "c2VjcmV0"},
    "private": key("no").as_dict(private=True),
    "for encryption": jwk("no", use="enc"),
    "for other operations": jwk("no", key_ops=["encrypt"]),
    "operations that are no list": jwk("no", key_ops=7),
    "an id that is no text": jwk("no", kid=7),
    "an unknown curve": jwk("no", crv="P-1"),
    "without a coordinate": jwk("no", x=None),
    "not on the curve": jwk("no", x="AA"),
    "a coordinate that is no text": jwk("no", x=5),
    "an unknown type": jwk("no", kty="AKP"),
    "without a type": jwk("no", kty=None),
    "a type that is no text": jwk("no", kty=["EC"]),
    "RSA of 1024 bits": jwk("short", "RSA"),
    "RSA without a modulus": jwk("no", "RSA", n=None),
    "RSA with a modulus that is no text": jwk("no", "RSA", n=5),
    "RSA without an exponent": jwk("no", "RSA", e=None),
    "text": "no",
    "null": None,
}


@pytest.mark.parametrize("entry", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_a_key_that_cannot_be_used_is_passed_over(entry):
    assert kids(a_set(entry, jwk("yes"))) == ["yes"]
    assert kids(a_set(entry)) == []


@pytest.mark.parametrize("kind", ["EC", "P-384", "P-521", "RSA", "Ed25519"])
def test_public_keys_of_every_kind_are_usable(kind):
    assert kids(a_set(jwk("k", kind, use="sig", key_ops=["verify"]))) == ["k"]


async def test_a_missing_file_is_a_problem(tmp_path):
    with pytest.raises(JwksError, match="cannot be read"):
        await JwksFile(tmp_path / "jwks.json").fetch()


async def test_a_file_that_is_replaced_rotates_the_keys(tmp_path, clock):
    path = tmp_path / "jwks.json"
    path.write_bytes(DOCUMENT)
    keys = TrustedKeys(JwksFile(path), clock)
    await keys.poll()
    path.write_bytes(public(key("k2")))
    clock.advance(seconds=5)
    await keys.poll()
    assert [known.kid for known in keys.current()] == ["k2"]


@pytest.fixture
def web():
    with served(WebServer()) as web:
        yield web


@pytest.fixture
def tls_web(tmp_path):
    with served(WebServer(authority("servers").server().write(tmp_path, "web"))) as web:
        yield web


@pytest.fixture
def ca_file(tmp_path):
    path = tmp_path / "ca.crt"
    path.write_bytes(authority("servers").chain)
    return path


async def problem(source):
    with pytest.raises(JwksError) as error:
        await source.fetch()
    assert error.value.__suppress_context__ or error.value.__context__ is None
    return str(error.value)


async def test_a_web_server_is_asked(web):
    assert await JwksUrl(web.url).fetch() == DOCUMENT


async def test_a_web_server_whose_authority_is_known_is_asked_over_tls(tls_web, ca_file):
    assert await JwksUrl(tls_web.url, ca_file=ca_file).fetch() == DOCUMENT


async def test_s15_a_web_server_of_a_foreign_authority_is_not_believed(tls_web, tmp_path):
    foreign = tmp_path / "foreign.crt"
    foreign.write_bytes(authority("foreign").chain)
    for source in (JwksUrl(tls_web.url), JwksUrl(tls_web.url, ca_file=foreign)):
        assert await problem(source) == "has a certificate that is not trusted"
    assert tls_web.requests == []


async def test_an_api_server_gets_the_token_that_it_demands(tls_web, ca_file, tmp_path):
    token = tmp_path / "token"
    source = JwksUrl(tls_web.url, ca_file=ca_file, bearer_token_file=token)
    for content in ("one", "two\n"):  # Kubernetes rotates it
        token.write_text(content)
        await source.fetch()
    sent = [headers["Authorization"] for _, headers in tls_web.requests]
    assert sent == ["Bearer one", "Bearer two"]


@pytest.mark.parametrize("content", [None, b"", b"\n", b"one\r\nX-Forged: 1", b"\xff"])
async def test_a_token_file_without_a_token_is_a_problem(web, tmp_path, content):
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    source = JwksUrl(web.url, bearer_token_file=tmp_path / "token")
    assert "needs a bearer token file that" in await problem(source)
    assert web.requests == []


@pytest.mark.parametrize("content", [None, b"", b"nonsense", b"\xff"])
async def test_a_ca_file_without_authorities_is_a_problem(web, tmp_path, content):
    if content is not None:
        (tmp_path / "ca").write_bytes(content)
    found = await problem(JwksUrl(web.url, ca_file=tmp_path / "ca"))
    assert f"needs its ca_file, {tmp_path / 'ca'}, which " in found


async def test_s15_each_authority_of_a_ca_file_counts_whatever_form_it_has(tls_web, ca_file):
    """OpenSSL passes over what is indented, or stands behind a byte-order mark."""
    indented = b"".join(b"  " + line for line in ca_file.read_bytes().splitlines(keepends=True))
    ca_file.write_bytes(b"\xef\xbb\xbf" + indented + authority("foreign").chain)
    assert await JwksUrl(tls_web.url, ca_file=ca_file).fetch() == DOCUMENT


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_s15_a_redirect_is_not_followed(web, tmp_path, status):
    (tmp_path / "token").write_text("secret")
    web.status, web.headers = status, {"Location": f"{web.url}/elsewhere"}
    source = JwksUrl(web.url, bearer_token_file=tmp_path / "token")
    assert await problem(source) == f"answers with the status {status}"
    assert len(web.requests) == 1


@pytest.mark.parametrize("status", [401, 404, 500])
async def test_an_error_of_the_web_server_is_a_problem(web, status):
    web.status = status
    assert await problem(JwksUrl(web.url)) == f"answers with the status {status}"


async def test_s18_a_document_that_is_too_large_is_not_read(web, tmp_path):
    web.body = b" " * (jwks.MAX_DOCUMENT_BYTES + 1)
    (tmp_path / "jwks.json").write_bytes(web.body)
    for source in (JwksUrl(web.url), JwksFile(tmp_path / "jwks.json")):
        assert await problem(source) == "has a document that is too large"


async def test_a_web_server_that_is_away_is_a_problem():
    web = WebServer()
    web.server.server_close()
    assert await problem(JwksUrl(web.url)) == "does not answer"


async def test_a_web_server_that_does_not_answer_in_time_is_a_problem(web, monkeypatch):
    monkeypatch.setattr(jwks, "FETCH_SECONDS", 0.01)
    web.may_answer.clear()
    assert await problem(JwksUrl(web.url)) == "does not answer in time"


@asynccontextmanager
async def dripping(beginning):
    """A server that begins an answer, and goes on with a byte every few milliseconds."""

    drips = []

    async def drip(reader, writer):
        drips.append(asyncio.current_task())
        await reader.readuntil(b"\r\n\r\n")
        with suppress(ConnectionError):
            writer.write(beginning)
            for _ in range(300):
                writer.write(b"a")
                await writer.drain()
                await asyncio.sleep(0.01)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*drips)


@pytest.mark.parametrize(
    "beginning",
    [b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n"],
    ids=["status", "headers", "body"],
)
@pytest.mark.parametrize("is_proxy", [False, True], ids=["server", "proxy"])
async def test_s18_a_web_server_that_drips_is_given_up(monkeypatch, beginning, is_proxy):
    """The deadline is one of the whole answer, and no thread outlives it for long."""
    monkeypatch.setattr(jwks, "FETCH_SECONDS", 0.2)
    async with dripping(beginning) as port:
        url = f"http://127.0.0.1:{port}/keys"
        if is_proxy:
            monkeypatch.setenv("https_proxy", url)
            url = "https://issuer.invalid/keys"
        expected = "does not answer" if is_proxy and beginning.endswith(b"\n\r\n") else "in time"
        assert expected in await asyncio.wait_for(problem(JwksUrl(url)), 2)
        async with asyncio.timeout(2):
            while any(  # noqa: ASYNC110  # no event tells of the end of a thread
                each.name == "stepup-deadline" for each in threading.enumerate()
            ):
                await asyncio.sleep(0.01)


def test_s18_a_fetch_that_hangs_does_not_keep_the_process_from_ending(web, monkeypatch):
    monkeypatch.setattr(jwks, "FETCH_SECONDS", 30)
    web.may_answer.clear()

    async def give_up():
        async with asyncio.timeout(0.05):
            await JwksUrl(web.url).fetch()

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(give_up())
    assert time.monotonic() - began < 2


def test_a_file_without_a_usable_key_is_refused_at_the_start(tmp_path):
    (tmp_path / "jwks.json").write_bytes(a_set(UNUSABLE["symmetric"]))
    with pytest.raises(JwksError, match="has no public key for signatures"):
        JwksFile(tmp_path / "jwks.json").check()


async def test_what_is_no_http_is_a_problem():
    async def babble(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await problem(JwksUrl(f"http://127.0.0.1:{port}/")) == "does not answer in HTTP"


async def test_a_fetch_does_not_hold_up_the_event_loop(web):
    web.may_answer.clear()
    fetch = asyncio.create_task(JwksUrl(web.url).fetch())
    while not web.requests:  # noqa: ASYNC110  # the server has no event loop to set an event of
        await asyncio.sleep(0)
    assert not fetch.done()
    web.may_answer.set()
    assert await fetch == DOCUMENT


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.example/keys",
        "http://10.0.0.1/keys",
        "ftp://localhost/keys",
        "file:///etc/passwd",
        "https:///keys",
        "https://user:secret@issuer.example/keys",
        "keys",
        "",
    ],
)
def test_s15_keys_come_from_a_server_that_proves_itself(url):
    with pytest.raises(ValueError, match="must be") as error:
        JwksUrl(url)
    assert "secret" not in str(error.value)


def test_a_source_is_named_without_its_query():
    named = str(JwksUrl("https://issuer.example:8443/keys?api_key=secret#x"))
    assert named == "https://issuer.example:8443/keys"
