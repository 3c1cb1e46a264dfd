"""What a real PostgreSQL loses, and what a worker believes afterwards (S2, S4, S28)."""

import pytest
from prometheus_client import REGISTRY
from stepup_tests.e2e.sql import executed
from stepup_tests.people import ACME, administrator, person
from stepup_tests.postgres import SETTINGS, PostgresServer, run_alone
from stepup_tests.worker import OSQUERY
from stepup_tests.world import world_on

from stepup.domain.actor import UserId
from stepup.domain.decision import Decision, Reason
from stepup.domain.elevation import Outcome
from stepup.domain.errors import EtagMismatchError, StoreUnavailableError
from stepup.stores.sql import SqlDatabase, upgrade

ALICE, BOB, ROOT = person("alice"), person("bob"), administrator()


class Pair:
    """A primary and its standby, behind one address."""

    def __init__(self, directory):
        self._address = directory / "address"
        self.primary = PostgresServer()
        try:
            self.primary.start()
            self.primary.kill()
            self.standby = PostgresServer(primary=self.primary)
        except BaseException:
            self.primary.close()
            raise
        self.primary.start()
        self.standby.start_as_standby()
        self._address.symlink_to(self.primary.directory)

    @property
    def url(self):
        return f"postgresql://postgres@/postgres?host={self._address}"

    async def cut(self):
        """End the standby once it has everything that is committed by now."""
        [(committed,)] = await executed(self.primary.url(), "SELECT pg_current_wal_lsn()::text")
        reached = f"SELECT pg_last_wal_replay_lsn() >= '{committed}'"
        while await executed(self.standby.url(), reached) != [(True,)]:
            pass
        self.standby.kill()

    async def fail_over(self):
        """Lose the primary, and promote the standby, which has the address now."""
        self.primary.kill()
        self.standby.start_as_standby()
        await self.promote()

    async def promote(self):
        """Promote the standby, which has the address now; a primary that runs stays one."""
        assert await executed(self.standby.url(), "SELECT pg_promote()") == [(True,)]
        self.lead_to(self.standby)

    def lead_to(self, server):
        """Let the address lead to a server."""
        self._address.unlink()
        self._address.symlink_to(server.directory)

    def close(self):
        self.primary.close()
        self.standby.close()


@pytest.fixture
def pair(tmp_path):
    pair = Pair(tmp_path)
    yield pair
    pair.close()


async def reached(worker):
    """Poll until the database answers: connections that were lost are found out one by one."""
    for _ in range(20):
        try:
            await worker.poll()
        except StoreUnavailableError:
            continue
        return
    raise AssertionError("the database does not answer")


async def test_s28_nothing_that_a_promoted_standby_lacks_is_believed(pair, tmp_path):
    await upgrade(pair.url)
    async with world_on(pair.url, tmp_path) as world:
        worker = await world.worker()
        await worker.select(OSQUERY)
        await worker.elevate(ROOT, await worker.enrol(ROOT))
        await pair.cut()

        # The standby gets nothing of this: another enrollment, and version 2 of the policy.
        await worker.elevate(BOB, await worker.enrol(BOB))
        lost = await worker.update_policy(ROOT, enabled=False)
        assert (await worker.check(ALICE)).verdict.reason is Reason.MFA_NOT_ENABLED

        await pair.fail_over()
        await reached(worker)
        assert (await worker.check(ALICE)).verdict.decision is Decision.ENROLLMENT_REQUIRED
        assert (await worker.check(BOB)).verdict.decision is Decision.ENROLLMENT_REQUIRED
        # A worker that started after the fail-over has not seen it.
        started = await world.worker()
        assert (await started.check(BOB)).verdict.decision is Decision.ENROLLMENT_REQUIRED
        assert (await worker.check(ROOT)).verdict.reason is Reason.ELEVATED

        with pytest.raises(EtagMismatchError):
            await worker.update_policy(ROOT, enabled=False, etag=lost.etag)
        given_again = await started.update_policy(ROOT, selected=[OSQUERY, "playbook.manage"])
        assert given_again.version == lost.version
        await reached(worker)
        assert (await worker.check(ALICE)).verdict.decision is Decision.ENROLLMENT_REQUIRED


async def test_s28_of_two_primaries_only_the_promoted_one_is_used(pair):
    await upgrade(pair.url)
    database = SqlDatabase(pair.url)

    async def write(user):
        async with database.transaction() as records:
            await records.accounts.set_mfa_enabled(ACME, UserId(user), enabled=True)

    async def place():
        async with database.snapshot() as records:
            return await records.changes.position()

    async def written_to(server):
        rows = await executed(server.url(), "SELECT user_id FROM accounts")
        return {user for (user,) in rows}

    await write("alice")
    await pair.cut()
    pair.standby.start_as_standby()
    await pair.promote()
    # The connection that wrote leads to the primary of before, which still runs.
    promoted = await place()
    await write("bob")
    assert await written_to(pair.primary) == {"alice"}
    assert await written_to(pair.standby) == {"alice", "bob"}

    # It gets the address back, restarted, and every connection has to be opened anew.
    pair.primary.kill()
    pair.standby.kill()
    pair.primary.start()
    pair.lead_to(pair.primary)
    for call in (place, lambda: write("carol")):
        with pytest.raises(StoreUnavailableError):
            await call()
    assert await written_to(pair.primary) == {"alice"}

    pair.standby.start()
    pair.lead_to(pair.standby)
    await write("carol")
    assert not (await place()).continues(promoted)  # it was restarted
    await database.close()


async def test_s28_standbys_that_may_lack_commits_are_known(pair):
    await upgrade(pair.url)
    statements = "CREATE ROLE plain LOGIN", "GRANT ALL ON ALL TABLES IN SCHEMA public TO plain"
    for statement in statements:
        await run_alone(pair.primary.url(), statement)
    database = SqlDatabase(pair.url.replace("postgres@", "plain@"))

    async def becomes(value):
        for _ in range(1000):
            await database.check_writes()
            if REGISTRY.get_sample_value("stepup_database_standbys_may_lack_commits") == value:
                return
        raise AssertionError(f"never {value}")

    await becomes(1)
    assert await database.standbys_may_lack_commits() is True
    for statement in (
        "ALTER SYSTEM SET synchronous_standby_names = '*'",
        "SELECT pg_reload_conf()",
    ):
        await run_alone(pair.primary.url(), statement)
    await becomes(0)
    assert await database.standbys_may_lack_commits() is False
    await database.close()


async def test_s2_s4_a_killed_database_that_commits_late_forgets_no_code(tmp_path):
    """`synchronous_commit = off` acknowledges what is not on the disk, unless a client objects."""
    settings = SETTINGS | {
        "synchronous_commit": "off",
        # Nothing is written in the background before the server is killed.
        "wal_writer_delay": "10s",
        "wal_writer_flush_after": "1GB",
        "wal_buffers": "64MB",
    }
    with PostgresServer(settings) as server:
        await upgrade(server.url())
        async with world_on(server.url(), tmp_path) as world:
            worker = await world.worker()
            await worker.select(OSQUERY)
            app = await worker.enrol(ALICE)
            await worker.fail(ALICE, app, times=3)
            await worker.advance(seconds=30)
            await executed(server.url(), "CHECKPOINT")
            code = app.code(world.clock.now())
            assert (await worker.verify(ALICE, code)).outcome is Outcome.VERIFIED
            await worker.fail(ALICE, app, times=4)
            server.kill()
            server.start()
            await reached(worker)
            again = await worker.verify(person("alice", session="another"), code)
            assert again.outcome is Outcome.REJECTED
            throttled = await worker.verify(ALICE, app.wrong_code(world.clock.now()))
            assert throttled.outcome is Outcome.THROTTLED
