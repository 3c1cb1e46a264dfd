"""One URL says where Redis is, whatever it is there; what weakens TLS is refused (S11, S15)."""

from contextlib import suppress
from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepup.stores.redis.url import Login, RedisUrl, RedisUrlError, Tls, Topology, parse_url

SINGLE = RedisUrl(Topology.SINGLE, (("cache", 6379),))
SENTINEL = RedisUrl(Topology.SENTINEL, (("s1", 26379), ("s2", 26380)), master="main")
CLUSTER = RedisUrl(Topology.CLUSTER, (("n1", 7000), ("n2", 6379)))
ANN = Login("ann", "p@ss:w/rd?#%")
ANN_AS_TEXT = f"ann:{quote(ANN.password, safe='')}"
WORD = "s3cret"

GOOD = {
    "redis://cache": SINGLE,
    "redis://cache:6380/3": replace(SINGLE, addresses=(("cache", 6380),), database=3),
    "redis://[::1]": replace(SINGLE, addresses=(("::1", 6379),)),
    "redis://[2001:db8:0::7]:7": replace(SINGLE, addresses=(("2001:db8::7", 7),)),
    f"redis://:{WORD}@cache": replace(SINGLE, login=Login(None, WORD)),
    f"redis://{ANN_AS_TEXT}@cache": replace(SINGLE, login=ANN),
    "rediss://cache": replace(SINGLE, tls=Tls()),
    "rediss://cache?ssl_ca_certs=/ca%20s.pem": replace(SINGLE, tls=Tls("/ca s.pem")),
    "rediss://cache/1?ssl_certfile=/c&ssl_keyfile=/k": replace(
        SINGLE, database=1, tls=Tls(None, "/c", "/k")
    ),
    "rediss://cache?ssl_cert_reqs=required&ssl_check_hostname=True": replace(SINGLE, tls=Tls()),
    "unix:///run/redis.sock": RedisUrl(Topology.SINGLE, (), path="/run/redis.sock"),
    f"unix://{ANN_AS_TEXT}@/run/a%20b?db=2": RedisUrl(
        Topology.SINGLE, (), path="/run/a b", database=2, login=ANN
    ),
    "redis+sentinel://s1,s2:26380/main?db=2": replace(SENTINEL, database=2),
    "redis+sentinel://s1,s2:26380/main?sentinel_username=watch&sentinel_password=a+b%26c": replace(
        SENTINEL, sentinel_login=Login("watch", "a+b&c")
    ),
    "redis+sentinel://s1,s2:26380/main?sentinel_password=x": replace(
        SENTINEL, sentinel_login=Login(None, "x")
    ),
    "rediss+sentinel://s1,s2:26380/main?ssl_ca_certs=/ca": replace(SENTINEL, tls=Tls("/ca")),
    "redis+sentinel://[::1]:1/ma%20in": RedisUrl(Topology.SENTINEL, (("::1", 1),), master="ma in"),
    "redis+cluster://n1:7000,n2": CLUSTER,
    f"rediss+cluster://{ANN_AS_TEXT}@n1:7000,n2": replace(CLUSTER, login=ANN, tls=Tls()),
    "redis+cluster://[::1]:7000,[::2]": RedisUrl(Topology.CLUSTER, (("::1", 7000), ("::2", 6379))),
}

BAD = {
    f"{WORD}": "must be redis://",
    f"http://{WORD}": "must be redis://",
    f"unix+cluster://{WORD}": "must be redis://",
    "redis://": "a host must be",
    f"redis:///{WORD}": "the database must be a number",
    f"redis://:{WORD}@": "a host must be",
    f"redis://{WORD}:port": "a host must be",
    f"redis://{WORD}:0": "a port must be",
    f"redis://{WORD}:65536": "a port must be",
    f"redis://[{WORD}]": "a host must be",
    "redis://[1:2]": "must be an IPv6 address",
    "redis://[127.0.0.1]": "must be an IPv6 address",
    f"redis://{WORD},b": "several hosts need",
    f"redis://{WORD}/one": "the database must be a number",
    f"redis://{WORD}/1?db=1": "the database is given twice",
    f"redis://{WORD}@cache": "USER:PASSWORD or :PASSWORD",
    f"redis://{WORD}:@cache": "USER:PASSWORD or :PASSWORD",
    f"redis://:{WORD}/x@cache": "a / in a password is %2F",
    f"redis://:1/{WORD}@cache": "a / in a password is %2F",
    f"redis+sentinel://ann:1/{WORD}@cache": "a / in a password is %2F",
    f"redis+cluster://ann:1/{WORD}@cache": "a / in a password is %2F",
    f"redis://:{WORD}#x@cache": "# in the URL must be percent-encoded",
    f"redis://:x?{WORD}@cache": "occurs twice or has no value",
    f"redis://cache?{WORD}=x": "is unknown",
    f"redis://cache?socket_timeout={WORD}": "is unknown",
    f"redis://cache?db=1&db={WORD}": "occurs twice",
    f"redis://cache?sentinel_password={WORD}": "is unknown",
    f"redis://:%{WORD}@cache": "two hexadecimal digits",
    f"redis://:{WORD}%ff@cache": "must be UTF-8",
    f"redis://cache?ssl_ca_certs=/{WORD}": "need a URL that begins with rediss",
    "redis://cache?ssl_cert_reqs=none": "need a URL that begins with rediss",
    "rediss://cache?ssl_cert_reqs=none": "ssl_cert_reqs must be required",
    "rediss://cache?ssl_check_hostname=false": "ssl_check_hostname must be true",
    f"rediss://cache?ssl_ca_data={WORD}": "is unknown",
    "rediss://cache?ssl_min_version=769": "is unknown",
    "rediss://cache?ssl_ciphers=ALL": "is unknown",
    "rediss://cache?ssl_exclude_verify_flags=VERIFY_X509_STRICT": "is unknown",
    f"rediss://cache?ssl_certfile=/{WORD}": "ssl_certfile and ssl_keyfile need each other",
    f"rediss://cache?ssl_keyfile=/{WORD}": "ssl_certfile and ssl_keyfile need each other",
    f"unix://{WORD}/x": "must be unix://",
    "unix:///": "must be unix://",
    f"unix:///x?ssl_ca_certs={WORD}": "begins with rediss",
    f"redis+sentinel://{WORD}": "must be the name of the master",
    f"redis+sentinel://cache/main/{WORD}": "must be the name of the master",
    f"redis+sentinel://cache,/{WORD}": "a host must be",
    f"redis+sentinel://cache/main?sentinel_username={WORD}": "needs sentinel_password",
    f"redis+cluster://{WORD}/1": "a cluster has no database but 0",
    f"redis+cluster://{WORD}?db=1": "a cluster has no database but 0",
}


@pytest.mark.parametrize("text", GOOD)
def test_a_url_says_where_redis_is_and_how_it_is_reached(text):
    assert parse_url(text) == GOOD[text]


@pytest.mark.parametrize("text", BAD)
def test_s11_anything_else_is_refused_in_words_that_have_no_part_of_it(text):
    with pytest.raises(RedisUrlError) as raised:
        parse_url(text)
    assert BAD[text] in str(raised.value)
    assert WORD not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_s11_no_password_is_in_a_repr():
    url = parse_url(f"redis+sentinel://ann:{WORD}@a/main?sentinel_password={WORD}2")
    assert WORD not in f"{url!r} {url}"


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
hosts = st.one_of(
    st.from_regex(r"[a-z0-9][a-z0-9.-]{0,20}", fullmatch=True), st.ip_addresses(v=6).map(str)
)
addresses = st.tuples(hosts, st.integers(1, 65535))
logins = st.builds(Login, names, names)
tls = st.none() | st.builds(Tls, names, names, names)
databases = st.integers(0, 99)


def some(number):
    return st.lists(addresses, min_size=1, max_size=number).map(tuple)


urls = st.one_of(
    st.builds(
        RedisUrl, st.just(Topology.SINGLE), some(1), database=databases, login=logins, tls=tls
    ),
    st.builds(
        RedisUrl,
        st.just(Topology.SENTINEL),
        some(5),
        master=names.filter(lambda name: "/" not in name),
        database=databases,
        login=logins,
        sentinel_login=logins,
        tls=tls,
    ),
    st.builds(RedisUrl, st.just(Topology.CLUSTER), some(5), login=logins, tls=tls),
)


def encoded(text):
    return quote(text, safe="")


def written(url):
    """The URL as an operator writes it, everything percent-encoded that may be."""
    scheme = "rediss" if url.tls else "redis"
    if url.topology is not Topology.SINGLE:
        scheme += f"+{url.topology.value}"
    hosts = (
        f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in url.addresses
    )
    parameters = {"db": str(url.database)}
    if url.topology is Topology.SENTINEL:
        parameters["sentinel_username"] = url.sentinel_login.username
        parameters["sentinel_password"] = url.sentinel_login.password
    if url.tls:
        parameters["ssl_ca_certs"] = url.tls.ca_certs
        parameters["ssl_certfile"] = url.tls.certfile
        parameters["ssl_keyfile"] = url.tls.keyfile
    query = "&".join(f"{name}={encoded(value)}" for name, value in parameters.items())
    login = f"{encoded(url.login.username)}:{encoded(url.login.password)}"
    return f"{scheme}://{login}@{','.join(hosts)}/{encoded(url.master or '')}?{query}"


@given(urls)
def test_what_is_written_into_a_url_is_read_from_it(url):
    assert parse_url(written(url)) == url


@given(st.sampled_from(["", "redis://", "rediss+sentinel://", "redis+cluster://"]), st.text())
def test_any_text_is_a_url_or_a_refusal(scheme, text):
    with suppress(RedisUrlError):
        parse_url(scheme + text)
