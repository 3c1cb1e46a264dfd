"""The data directory: who needs it, and who may read the key ring in it."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime

import pytest
import structlog

from stepup.domain.actor import TenantId, UserId
from stepup.domain.authenticator import Authenticator, SealedSecret
from stepup.settings import ConfigurationError, load
from stepup.system.clock import SystemClock
from stepup.wiring.database import make_data_dir, migrate_database, open_database
from stepup.wiring.keys import load_keys
from stepup.wiring.stores import open_stores

ELSEWHERE = {
    "database_url": "postgresql://stepup@db/stepup",
    "redis_url": "redis://cache",
    "keys_file": "/etc/stepup/keys.json",
}


@pytest.fixture
def unusable(tmp_path):
    """A directory that cannot be made, also not by root."""
    (tmp_path / "file").touch()
    return tmp_path / "file" / "data"


def test_a_server_with_nothing_embedded_needs_no_data_directory(unusable):
    make_data_dir(load(storage={"data_dir": unusable, **ELSEWHERE}, log={"decisions": "-"}))


@pytest.mark.parametrize("embedded", [*ELSEWHERE, "decisions"])
def test_a_server_with_something_embedded_does(unusable, embedded):
    storage = {name: value for name, value in ELSEWHERE.items() if name != embedded}
    log = {} if embedded == "decisions" else {"decisions": "-"}
    settings = load(storage={"data_dir": unusable, **storage}, log=log)
    with pytest.raises(ConfigurationError, match=r"storage\.data_dir: .* cannot be made"):
        make_data_dir(settings)


def test_the_group_may_read_the_key_ring_in_the_data_directory_if_that_is_wanted(tmp_path):
    made = load_keys(load(storage={"data_dir": tmp_path}))
    (tmp_path / "keys.json").chmod(0o640)
    wanted = load(storage={"data_dir": tmp_path, "keys_group_readable": True})
    assert load_keys(wanted).primary == made.primary
    with pytest.raises(ConfigurationError, match="others than its owner"):
        load_keys(load(storage={"data_dir": tmp_path}))


def test_a_key_ring_that_cannot_be_read_is_named_by_its_setting(tmp_path, monkeypatch):
    file = tmp_path / "ring.json"
    file.write_text("{}")
    file.chmod(0o600)
    monkeypatch.setenv("RING", "{}")
    for name, value in (("keys_file", file), ("keys_variable", "RING")):
        with pytest.raises(ConfigurationError, match=rf"^storage\.{name}: {value}: must have"):
            load_keys(load(storage={name: value}))


async def test_s6_a_ring_without_the_keys_of_the_database_is_logged_at_the_start(tmp_path):
    settings = load(storage={"data_dir": tmp_path, "redis_url": "redis://127.0.0.1:1"})
    await migrate_database(settings)
    sealed = SealedSecret("lost", b"x")
    ann = Authenticator(
        TenantId("acme"), UserId("ann"), "e-1", sealed, datetime.now(UTC), last_step=1
    )
    async with open_database(settings) as database, database.transaction() as records:
        await records.authenticators.add(ann)
    async with AsyncExitStack() as stack:
        with structlog.testing.capture_logs() as lines:
            await open_stores(settings, SystemClock(), None, stack)
    [line] = [line for line in lines if line["event"] == "key_ring_lacks_keys"]
    assert line["explanation"].startswith(
        f"storage.data_dir: {tmp_path}/keys.json: the ring lacks keys that seal secrets in the"
        " database (lost): use the key ring that all"
    )
