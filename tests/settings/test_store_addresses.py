"""Which stores are reached in plain text, and which may hold real data (S15, S25)."""

import pytest

from stepup.settings import StorageSettings
from stepup.settings.store_addresses import in_plain_text, is_store_near, store_addresses


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in ("PGHOST", "PGSSLMODE"):
        monkeypatch.delenv(name, raising=False)


def warned_of(**urls):
    return [sentence.partition(":")[0] for _, sentence in in_plain_text(StorageSettings(**urls))]


@pytest.mark.parametrize(
    "url",
    [
        "redis://redis.example/0",
        "redis://10.0.0.7",
        "redis+sentinel://127.0.0.1,sentinel.example/main",
        "redis+cluster://[fd00::1]",
    ],
)
def test_s25_a_redis_that_is_reached_in_plain_text_is_warned_of(url):
    assert warned_of(redis_url=url) == ["storage.redis_url"]


@pytest.mark.parametrize(
    "url",
    [
        "rediss://redis.example",
        "redis://localhost",
        "redis://127.0.0.1:7000",
        "redis://[::1]",
        "unix:///run/redis.sock",
        "rediss+cluster://one.example,two.example",
    ],
)
def test_s25_a_redis_with_tls_or_on_this_machine_is_not_warned_of(url):
    assert warned_of(redis_url=url) == []


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://stepup@db.example/stepup",
        "postgresql://stepup@10.0.0.7/stepup?ssl=prefer",
        "postgresql://stepup@db.example/stepup?ssl=disable",
        "postgresql:///stepup?host=localhost:5432&host=db.example:5432",
    ],
)
def test_s25_a_database_that_is_reached_in_plain_text_is_warned_of(url):
    assert warned_of(database_url=url) == ["storage.database_url"]


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////var/lib/stepup.db",
        "postgresql://stepup@db.example/stepup?ssl=verify-full",
        "postgresql://stepup@db.example/stepup?ssl=require",
        "postgresql://stepup@localhost/stepup",
        "postgresql:///stepup",
        "postgresql:///stepup?host=/run/postgresql",
    ],
)
def test_s25_a_database_with_tls_or_on_this_machine_is_not_warned_of(url):
    assert warned_of(database_url=url) == []


@pytest.mark.parametrize(
    ("variable", "value", "warned"),
    [("PGSSLMODE", "verify-full", []), ("PGHOST", "db.example", ["storage.database_url"])],
)
def test_s25_what_the_url_leaves_to_the_environment_counts(monkeypatch, variable, value, warned):
    monkeypatch.setenv(variable, value)
    host = "" if variable == "PGHOST" else "db.example"
    assert warned_of(database_url=f"postgresql://{host}/stepup") == warned


def test_s25_what_is_embedded_is_not_warned_of():
    assert warned_of() == []


@pytest.mark.parametrize(
    ("url", "near"),
    [
        ("redis://127.0.0.1", True),
        ("redis://localhost", True),
        ("redis://192.168.1.4", True),
        ("redis://[fd00::1]", True),
        ("redis://[::ffff:10.0.0.1]", True),
        ("redis://[::ffff:8.8.8.8]", False),
        ("redis://0.0.0.0", False),
        ("redis://192.0.2.1", False),
        ("unix:///run/redis.sock", True),
        ("rediss://8.8.8.8", False),
        ("redis+cluster://10.0.0.1,8.8.8.8", False),
        ("redis://no-such-host.invalid", False),
    ],
)
def test_s15_a_store_is_near_by_its_addresses(url, near):
    [address] = store_addresses(StorageSettings(redis_url=url))
    assert is_store_near(address) is near
