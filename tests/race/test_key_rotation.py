"""A rotation by `stepup keys rotate`, in a process of its own, while a server verifies codes."""

import asyncio
import os
import signal
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text
from stepup_tests.clock import ManualClock
from stepup_tests.enrolled import RESET_CODE, store_enrolled
from stepup_tests.keys import ring_in
from stepup_tests.otp import code_at
from stepup_tests.people import ACME, person
from stepup_tests.postgres import new_database
from stepup_tests.worker import Worker

from stepup.domain.actor import UserId
from stepup.domain.elevation import Outcome, Verification
from stepup.domain.totp import TotpSecret
from stepup.keys.file import KeyFile
from stepup.keys.following import ReloadingKeys
from stepup.keys.source import KeySource
from stepup.settings import Settings, StorageSettings
from stepup.stores.sql import Limits, SqlDatabase, upgrade
from stepup.stores.sql.engine import parse_url, read_engine
from stepup.system.clock import SystemClock

pytestmark = [pytest.mark.race, pytest.mark.asyncio(loop_scope="module")]

SECRET = TotpSecret(bytes(range(20)))
SQLITE_IN_THE_GATE = pytest.mark.parametrize(
    "backend", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True
)
POSTGRESQL_IN_THE_GATE = pytest.mark.parametrize(
    "backend", ["postgresql", pytest.param("sqlite", marks=pytest.mark.slow)], indirect=True
)


class Deployment:
    """A key file, a database of enrolled users, and a server's worker over them."""

    def __init__(self, directory, stores, url, number):
        self.directory = directory
        self.keys_file = directory / "keys.json"
        self.users = [f"user-{index}" for index in range(number)]
        self.clock = ManualClock()
        self._stores = stores
        self._url = url
        KeySource(self.keys_file).create(KeyFile.generated(self.clock.now()))

    async def open(self):
        await upgrade(self._url)
        # A machine that is busy with other tests makes nobody give up.
        self.database = SqlDatabase(self._url, Limits.lasting(timedelta(seconds=60)))
        ring = ring_in(self.keys_file)
        secrets = dict.fromkeys(self.users, SECRET)
        await store_enrolled(self.database, ring, ACME, secrets, self.clock.now())

    def worker(self, keys):
        stores = replace(self._stores, database=self.database, keys=keys)
        settings = Settings(storage=StorageSettings(data_dir=self.directory))
        return Worker(stores, settings, self.clock)

    def following_worker(self):
        return self.worker(ReloadingKeys(KeySource(self.keys_file), SystemClock()))

    async def command(self, *arguments):
        """Start `stepup keys`."""
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "stepup", "keys", *arguments, "--data-dir", self.directory),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=os.environ | {"STEPUP_STORAGE__DATABASE_URL": self._url},
            start_new_session=True,
        )

    async def verifications(self, worker):
        """Everybody's code of the next time step, all at once; an error is an answer here."""
        self.clock.advance(seconds=30)
        code = code_at(SECRET.octets, self.clock.now())
        calls = (worker.verify(person(user), code) for user in self.users)
        return await asyncio.gather(*calls, return_exceptions=True)

    async def sealed_by(self):
        """How many secrets each key seals."""
        query = (
            "SELECT key_id, count(*) FROM (SELECT key_id FROM authenticators UNION ALL"
            " SELECT key_id FROM reset_codes) AS sealed GROUP BY key_id"
        )
        engine = read_engine(parse_url(self._url), Limits())
        async with engine.connect() as connection:
            rows = await connection.execute(text(query))
        await engine.dispose()
        return dict(rows.all())

    async def all_open(self, ring):
        """Whether everybody's secrets open with a ring, and are the right ones."""
        async with self.database.transaction() as records:
            for user in self.users:
                place = (ACME, UserId(user))
                found = await records.authenticators.find(*place)
                code = await records.reset_codes.find_for_update(*place)
                if ring.open(found.sealed_secret, *place, found.enrollment_id) != SECRET:
                    return False
                if not ring.is_reset_code(RESET_CODE, code):
                    return False
        return True


@pytest.fixture
async def deployed(stores, tmp_path, backend):
    async with AsyncExitStack() as stack:
        url = f"sqlite:///{tmp_path / 'stepup.db'}"
        if backend is not None:
            url = await stack.enter_async_context(new_database(*backend))

        async def deploy(number):
            deployment = Deployment(tmp_path, stores, url, number)
            await deployment.open()
            stack.push_async_callback(deployment.database.close)
            return deployment

        yield deploy


async def verified_throughout_a_rotation(deployment, worker):
    """S6: whoever gives a right code while the keys are rotated is verified."""
    old = ring_in(deployment.keys_file).primary
    rotation = await deployment.command("rotate", "--wait", "1.5")
    ended = asyncio.create_task(rotation.communicate())
    outcomes = []
    while not ended.done():
        outcomes += await deployment.verifications(worker)
        await asyncio.wait([ended], timeout=0.5)
    outcomes += await deployment.verifications(worker)
    output, _ = await ended
    assert rotation.returncode == 0, output.decode()
    new = ring_in(deployment.keys_file).primary
    assert new != old
    assert await deployment.sealed_by() == {new: 2 * len(deployment.users)}
    kinds = {each.outcome if isinstance(each, Verification) else each for each in outcomes}
    assert kinds == {Outcome.VERIFIED}
    return len(outcomes)


async def test_s6_s8_a_rotation_during_parallel_verifications_fails_none(deployed):
    deployment = await deployed(50)
    worker = deployment.following_worker()
    assert await verified_throughout_a_rotation(deployment, worker) >= 100
    assert await deployment.all_open(ring_in(deployment.keys_file))


@SQLITE_IN_THE_GATE
async def test_s6_a_server_that_does_not_follow_its_file_is_caught(deployed):
    deployment = await deployed(25)
    worker = deployment.worker(ring_in(deployment.keys_file))
    with pytest.raises(AssertionError, match="SealBrokenError"):
        await verified_throughout_a_rotation(deployment, worker)


@POSTGRESQL_IN_THE_GATE
async def test_s6_s8_a_rotation_that_was_killed_is_gone_on_with(deployed):
    deployment = await deployed(300)
    old = ring_in(deployment.keys_file).primary
    rotation = await deployment.command("rotate", "--wait", "0")
    deadline = time.monotonic() + 60
    while (await deployment.sealed_by()).keys() == {old}:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)
    os.kill(rotation.pid, signal.SIGKILL)
    await rotation.communicate()
    new = ring_in(deployment.keys_file).primary

    assert (await deployment.sealed_by()).keys() == {old, new}  # it was in the middle of it
    assert await deployment.all_open(ring_in(deployment.keys_file))
    left = (await deployment.sealed_by())[old]

    resumed = await deployment.command("rewrap")
    output, _ = await resumed.communicate()
    assert resumed.returncode == 0, output.decode()
    assert f"{left // 2} authenticators" in output.decode()
    assert await deployment.sealed_by() == {new: 600}
    assert await deployment.all_open(ring_in(deployment.keys_file))
