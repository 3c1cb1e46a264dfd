"""Which database URLs are refused, by which sentence, and that none repeats a part of the URL."""

import pytest

from stepup.stores.sql.engine import parse_url

SECRET = "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://stepup@db/stepup",
        "postgresql+asyncpg://stepup:p%40ss@db:5432/stepup?ssl=verify-full",
        "postgresql://stepup@/stepup?host=db1:5432&host=db2:5432",
        "postgresql://stepup@[::1]:5432/stepup",
        "postgresql://stepup@/stepup?host=/run/postgresql",
        "postgresql://stepup@db/stepup?passfile=/etc/stepup/pgpass",
        "sqlite:////var/lib/step up/stepup.db",
    ],
)
def test_a_url_that_the_driver_can_use_is_taken(url):
    assert parse_url(url).database


@pytest.mark.parametrize("url", ["postgresql:///stepup", "postgresql://stepup@db/stepup"])
@pytest.mark.parametrize("variable", ["PGSERVICE", "PGSERVICEFILE"])
def test_s25_a_service_file_may_not_say_where_the_database_is(monkeypatch, variable, url):
    monkeypatch.setenv(variable, SECRET)
    with pytest.raises(ValueError, match=f"the variable {variable} is set") as refused:
        parse_url(url)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (f"postgresql://u:{SECRET}@db/d?sslmode=verify-full", "sslmode is named ssl here"),
        (f"postgresql://u:{SECRET}@db/d?sslrootcert=/ca.pem", "variable PGSSLROOTCERT"),
        (f"postgresql://u:{SECRET}@db/d?application_name=x", "known are host, passfile, port, ssl"),
        (f"postgresql://u:x@db/d?{SECRET}=1", "known are host, passfile, port, ssl"),
        (f"postgresql://u:{SECRET}@db/d?ssl=yes", "ssl .* must be one of disable"),
        (f"postgresql://u:{SECRET}@db/d?ssl=", "has no value"),
        (f"postgresql://u:{SECRET}@db/d?ssl=require&ssl=disable", "a parameter twice"),
        (f"postgresql://u:{SECRET}@db/d ", "begins or ends with white space"),
        (f" postgresql://u:{SECRET}@db/d", "begins or ends with white space"),
        (f"postgresql://u:{SECRET}@db/d\n", "begins or ends with white space"),
        ("sqlite:////var/lib/stepup.db\n", "begins or ends with white space"),
        (f"postgresql://u: {SECRET}@db/d", "must be percent-encoded"),
        ("sqlite:////var/lib/a\0b", "control characters"),
        (f"postgresql://u:x@{SECRET}@db/d", "an @, .* must be percent-encoded"),
        (f"postgresql://u:x?{SECRET}@db/d", "an @, .* must be percent-encoded"),
        (f"postgresql://u:{SECRET}@db/d#x", "an @, .* must be percent-encoded"),
        (f"postgresql://u:{SECRET}%zz@db/d", "two hexadecimal digits"),
        (f"postgresql://u:{SECRET}@db:0/d", "a port .* 1 to 65535"),
        (f"postgresql://u:{SECRET}@db:99999/d", "a port .* 1 to 65535"),
        (f"postgresql://u:{SECRET}@db1,db2/d", "several hosts"),
        (f"postgresql://u:{SECRET}@/d?host=db:x", "a host .* must be HOST or HOST:PORT"),
        (f"postgresql://u:{SECRET}@/d?host=db&port=x", "a host .* must be HOST or HOST:PORT"),
        (f"postgresql://u:{SECRET}@/d?host=db1:1&host=db2", "a host .* must be HOST or HOST:PORT"),
        (f"postgresql+psycopg://u:{SECRET}@db/d", "must be sqlite:///... or postgresql://"),
        (f"postgres://u:{SECRET}@db/d", "must be sqlite:///... or postgresql://"),
    ],
)
def test_s11_a_url_that_cannot_be_used_is_refused_without_a_part_of_it(url, problem):
    with pytest.raises(ValueError, match=problem) as refused:
        parse_url(url)
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None
