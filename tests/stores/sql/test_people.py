"""The promises of `People`, `AskedPeople` and `PastAuthenticators`."""

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from sqlalchemy import text
from stepup_tests.people import person

from stepup.domain.actor import CallerId, TenantId, UserId
from stepup.domain.audit import Event, EventKind
from stepup.domain.authenticator import Authenticator, ResetCodeRecord, SealedSecret
from stepup.domain.enrollment import PendingEnrollment
from stepup.domain.person import (
    ENDED_RECENTLY,
    EndedBy,
    PastAuthenticator,
    PeopleCounts,
    Person,
    PersonState,
)
from stepup.domain.policy import Policy
from stepup.domain.throttle import FAILURES_UNTIL_SUSPENSION, Throttle
from stepup.domain.totp import Label
from stepup.service.ports import KnownTenant, PeopleQuery
from stepup.stores.sql import Limits
from stepup.stores.sql.connection import Connection
from stepup.stores.sql.engine import parse_url, write_engine

NOW = datetime(2026, 3, 1, 12, 0, 0, 123457, tzinfo=UTC)
MOMENT, DAY = timedelta(microseconds=1), timedelta(days=1)
ACME, GLOBEX = TenantId("acme"), TenantId("globex")
ALICE, BOB = UserId("alice"), UserId("bob")
MOST = 100
SEALED = SealedSecret("key", b"sealed")


def port(database, name):
    """Calls a method of a port in a transaction of its own."""

    class Alone:
        def __getattr__(self, method):
            async def call(*args, **options):
                async with database.transaction() as records:
                    return await getattr(getattr(records, name), method)(*args, **options)

            return call

    return Alone()


@pytest.fixture
def people(database):
    return port(database, "people")


@pytest.fixture
def asked(database):
    return port(database, "asked")


@pytest.fixture
def past(database):
    return port(database, "past")


def authenticator(user, throttle=Throttle(), tenant=ACME):
    return Authenticator(tenant, user, "enrollment-1", SEALED, NOW - DAY, 1, throttle)


@dataclass(frozen=True)
class Stored:
    """Describes what is stored of a user; `wizards` are the ends of the user's wizards."""

    throttle: Throttle | None = None
    wizards: tuple[datetime, ...] = ()
    was_asked: bool = False
    toggle: bool | None = None
    ended_by: EndedBy | None = None

    async def store(self, records, tenant, user):
        if self.was_asked:  # first: `note` leaves out people with an authenticator
            await records.asked.note(tenant, {user: NOW - DAY}, MOST * MOST)
            await records.asked.note(tenant, {user: NOW}, MOST * MOST)
        if self.throttle is not None:
            await records.authenticators.add(authenticator(user, self.throttle, tenant))
            await records.reset_codes.add(
                ResetCodeRecord(tenant, user, "enrollment-1", SEALED, b"digest")
            )
        for number, until in enumerate(self.wizards):
            session = person(user, tenant=tenant, session=f"s-{number}").session_hash
            wizard = PendingEnrollment(tenant, user, session, "e", SEALED, Label("label"), until)
            await records.pending.replace(wizard)
        if self.toggle is not None:
            await records.accounts.set_mfa_enabled(tenant, user, enabled=self.toggle)
        if self.ended_by is not None:
            await records.past.remember(tenant, user, PastAuthenticator(NOW, self.ended_by))

    def person(self, user):
        """The person who should be found."""
        is_enrolled = self.throttle is not None
        return Person(
            user,
            authenticator=authenticator(user, self.throttle) if is_enrolled else None,
            has_reset_code=is_enrolled,
            account_mfa_enabled=self.toggle is True,
            pending_until=max((until for until in self.wizards if until > NOW), default=None),
            first_asked_at=NOW - DAY if self.was_asked else None,
            last_asked_at=NOW if self.was_asked else None,
            ever_enrolled=is_enrolled or self.toggle is not None or self.ended_by is not None,
        )


SUSPENDED = FAILURES_UNTIL_SUSPENSION
EVERY_MIXTURE = {
    UserId(f"user-{number:03}"): Stored(*mixture)
    for number, mixture in enumerate(
        product(
            (
                None,
                Throttle(),
                Throttle(5, (NOW,), NOW + MOMENT),
                Throttle(5, (NOW,), NOW),
                Throttle(SUSPENDED, (NOW,), NOW - DAY),
                Throttle(SUSPENDED, (NOW,), NOW + DAY),
            ),
            ((), (NOW,), (NOW, NOW + DAY, NOW + MOMENT)),
            (False, True),
            (None, False, True),
            (None, EndedBy.ADMINISTRATOR),
        )
    )
}


async def listed(people, query, size):
    """All pages of a list."""
    found = []
    while page := await people.list(query, size):
        found += page
        query = replace(query, after=page[-1].user_id)
    return found


@pytest.fixture
async def everybody(database):
    """People for every mixture; in another tenant the same people have the reverse."""
    async with database.transaction() as records:
        for tenant, mixtures in (
            (ACME, EVERY_MIXTURE.values()),
            (GLOBEX, reversed(EVERY_MIXTURE.values())),
        ):
            for user, stored in zip(EVERY_MIXTURE, mixtures, strict=True):
                await stored.store(records, tenant, user)
    return {user: stored.person(user) for user, stored in EVERY_MIXTURE.items()}


async def test_people_are_listed_by_the_states_that_the_domain_gives_them(people, everybody):
    for in_grace, state in product([False, True], [None, *PersonState]):
        query = PeopleQuery(ACME, NOW, in_grace, state)

        def is_wanted(each, in_grace=in_grace, state=state):
            states = set(each.states(NOW, in_grace=in_grace))
            is_known = each.authenticator or each.pending_until or each.last_asked_at
            return bool(is_known) if state is None else state in states

        expected = list(filter(is_wanted, everybody.values()))
        assert await listed(people, query, 60) == expected
        if state is not None:
            counts = PeopleCounts(**{state.value: len(expected)})
            assert await people.count(replace(query, after=ALICE)) == counts


async def test_counts_of_all_states_are_those_of_each(people, everybody):
    for in_grace in (False, True):
        states = [
            state.value
            for each in everybody.values()
            for state in each.states(NOW, in_grace=in_grace)
        ]
        counts = {state.value: states.count(state.value) for state in PersonState}
        assert await people.count(PeopleQuery(ACME, NOW, in_grace)) == PeopleCounts(**counts)


async def test_a_person_is_found_as_listed_and_a_past_authenticator_makes_nobody_known(
    people, everybody
):
    for user, stored in EVERY_MIXTURE.items():
        is_known = replace(stored, ended_by=None).person(user) != Person(user) or (
            stored.toggle is not None
        )
        assert await people.find(ACME, user, NOW) == (everybody[user] if is_known else None)
        assert await people.ever_enrolled(ACME, user) is everybody[user].ever_enrolled
    assert await people.find(ACME, ALICE, NOW) is None
    assert not await people.ever_enrolled(ACME, ALICE)


async def test_pages_have_everybody_once_whatever_the_ids_are(database, people):
    users = [UserId(user) for user in ("a", "B", "b", "_", "~", "a b", "ab", "A", "10", "9")]
    async with database.transaction() as records:
        for user in users:
            await Stored(Throttle(), (NOW + DAY,), was_asked=True).store(records, ACME, user)
    found = [each.user_id for each in await listed(people, PeopleQuery(ACME, NOW, False), 1)]
    assert sorted(found) == sorted(users)


async def test_tenants_are_those_with_events_and_their_policies_are_enabled_or_not(
    database, people
):
    async with database.transaction() as records:
        for tenant, enabled in (("a", None), ("b", True), ("c", False), ("d", True)):
            if enabled is not None:
                await records.policies.save(Policy(TenantId(tenant), enabled, version=1))
            if tenant != "d":
                event = Event(
                    TenantId(tenant), EventKind.OTP_VERIFIED, NOW, CallerId("console"), ALICE
                )
                await records.audit.append(event)
    expected = [
        KnownTenant(TenantId("a"), policy_enabled=False),
        KnownTenant(TenantId("b"), policy_enabled=True),
        KnownTenant(TenantId("c"), policy_enabled=False),
    ]
    assert await people.tenants(None, 10) == expected
    assert await people.tenants(None, 2) == expected[:2]
    assert await people.tenants(TenantId("b"), 2) == expected[2:]


async def explained(url, statement):
    """The plan of a statement, as if the tables were large."""
    engine = write_engine(parse_url(url), Limits())
    async with engine.connect() as connection:
        dialect = connection.dialect
        words = "EXPLAIN QUERY PLAN"
        if dialect.name == "postgresql":
            words = "EXPLAIN"
            await connection.execute(text("SET enable_seqscan = off"))
            await connection.execute(text("SET enable_bitmapscan = off"))
        query = statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
        plan = (await connection.execute(text(f"{words} {query}"))).all()
    await engine.dispose()
    return str(plan)


@pytest.mark.parametrize("state", [None, *PersonState])
async def test_a_page_reads_its_people_by_an_index_only(url, people, state, monkeypatch):
    statements = []

    async def note(_connection, statement, _read):
        statements.append(statement)
        return []

    monkeypatch.setattr(Connection, "fetch_all", note)
    await people.list(PeopleQuery(ACME, NOW, True, state, after=ALICE), 50)
    plan = await explained(url, statements[0])
    assert "Seq Scan" not in plan
    assert "SCAN authenticators" not in plan
    assert "SCAN asked_people" not in plan
    by_lock = "ix_authenticators_tenant_id_user_id" in plan
    assert by_lock == (state in (PersonState.LOCKED, PersonState.SUSPENDED))


class TestAsked:
    async def test_a_row_keeps_the_first_instant_and_takes_a_later_last_one(self, people, asked):
        for at in (NOW, NOW + DAY, NOW - DAY):
            assert await asked.note(ACME, {ALICE: at, BOB: NOW}, MOST) == 0
        found = await people.list(PeopleQuery(ACME, NOW, False), 10)
        assert found == [
            Person(ALICE, first_asked_at=NOW, last_asked_at=NOW + DAY),
            Person(BOB, first_asked_at=NOW, last_asked_at=NOW),
        ]

    async def test_people_with_an_authenticator_are_left_out(self, database, people, asked):
        async with database.transaction() as records:
            await records.authenticators.add(authenticator(ALICE))
        assert await asked.note(ACME, {ALICE: NOW, BOB: NOW}, MOST) == 0
        assert (await people.find(ACME, ALICE, NOW)).last_asked_at is None

    async def test_a_full_tenant_takes_nobody_new_and_another_tenant_does(self, people, asked):
        new = {UserId(f"user-{number}"): NOW for number in range(5)}
        assert await asked.note(ACME, new, 3) == 2
        assert [user for user in new if await people.find(ACME, user, NOW)] == list(new)[:3]
        later = dict.fromkeys(new, NOW + DAY)
        assert await asked.note(ACME, later, 3) == 2
        assert await asked.note(ACME, later, 2) == 2
        assert (await people.find(ACME, next(iter(new)), NOW)).last_asked_at == NOW + DAY
        assert await asked.note(GLOBEX, new, 3) == 2

    async def test_parallel_notes_of_several_workers_keep_to_the_most(self, people, asked):
        notes = [
            {UserId(f"user-{worker}-{number}"): NOW for number in range(10)} for worker in range(8)
        ]
        without_room = await asyncio.gather(*(asked.note(ACME, each, 25) for each in notes))
        counts = await people.count(PeopleQuery(ACME, NOW, False))
        assert (counts.not_enrolled, sum(without_room)) == (25, 55)

    async def test_a_row_is_removed_with_the_person_and_only_theirs(self, people, asked):
        for tenant in (ACME, GLOBEX):
            await asked.note(tenant, {ALICE: NOW, BOB: NOW}, MOST)
        for _ in range(2):
            await asked.remove(ACME, ALICE)
        assert await people.find(ACME, ALICE, NOW) is None
        assert await people.find(ACME, BOB, NOW)
        assert await people.find(GLOBEX, ALICE, NOW)

    async def test_rows_of_people_last_asked_before_are_purged_in_portions(self, people, asked):
        old = {UserId(f"user-{number}"): NOW - MOMENT for number in range(3)}
        await asked.note(ACME, {**old, ALICE: NOW}, MOST)
        assert [await asked.purge(NOW, 2) for _ in range(3)] == [2, 1, 0]
        found = await people.list(PeopleQuery(ACME, NOW, False), 10)
        assert [each.user_id for each in found] == [ALICE]


class TestPast:
    async def test_the_latest_end_is_found_and_belongs_to_its_user(self, past):
        ends = [PastAuthenticator(NOW + number * DAY, by) for number, by in enumerate(EndedBy)]
        for end in ends:
            await past.remember(ACME, ALICE, end)
            assert await past.find(ACME, ALICE) == end
        assert await past.find(ACME, BOB) is None
        assert await past.find(GLOBEX, ALICE) is None

    @pytest.mark.parametrize("by", [by for by in EndedBy if by.forbids_import])
    async def test_an_end_that_forbids_imports_outlasts_one_that_does_not(self, past, by):
        forbids = PastAuthenticator(NOW, by)
        await past.remember(ACME, ALICE, forbids)
        for after, expected in ((ENDED_RECENTLY - MOMENT, forbids), (ENDED_RECENTLY, None)):
            permits = PastAuthenticator(NOW + after, EndedBy.ADMINISTRATOR)
            await past.remember(ACME, ALICE, permits)
            assert await past.find(ACME, ALICE) == (expected or permits)

    async def test_the_last_break_glass_is_that_of_any_tenant(self, past):
        assert await past.last_break_glass() is None
        for tenant, by, after in (
            (ACME, EndedBy.BREAK_GLASS, 1),
            (GLOBEX, EndedBy.BREAK_GLASS, 2),
            (TenantId("initech"), EndedBy.OPERATOR, 3),
        ):
            await past.remember(tenant, ALICE, PastAuthenticator(NOW + after * DAY, by))
        assert await past.last_break_glass() == NOW + 2 * DAY

    async def test_ends_are_purged_in_portions_unless_people_have_time_to_enrol(
        self, database, past
    ):
        async with database.transaction() as records:
            for tenant, enroll_by in (("now", NOW), ("later", NOW + MOMENT)):
                policy = Policy(TenantId(tenant), True, version=1, enroll_by=enroll_by)
                await records.policies.save(policy)
        ended = {tenant: TenantId(tenant) for tenant in ("none", "now", "later")}
        old = PastAuthenticator(NOW - MOMENT, EndedBy.ADMINISTRATOR)
        for tenant in ended.values():
            await past.remember(tenant, ALICE, old)
        await past.remember(ACME, ALICE, PastAuthenticator(NOW, EndedBy.ADMINISTRATOR))
        assert [await past.purge(NOW, NOW, 1) for _ in range(3)] == [1, 1, 0]
        assert [bool(await past.find(tenant, ALICE)) for tenant in ended.values()] == [
            False,
            False,
            True,
        ]
        assert await past.find(ACME, ALICE)
