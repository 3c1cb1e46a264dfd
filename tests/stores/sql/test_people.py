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
        """Store the user, who was noted as asked before if at all."""
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
            ((), (NOW,), (NOW + DAY, NOW + MOMENT)),
            (False, True),
            (None, False),
            (None, EndedBy.ADMINISTRATOR),
        )
    )
}


async def store_all(database, users, tenant=ACME):
    async with database.transaction() as records:
        asked = [user for user, stored in users.items() if stored.was_asked]
        for at in (NOW - DAY, NOW):  # first: `note` leaves out people with an authenticator
            await records.asked.note(tenant, dict.fromkeys(asked, at), len(users))
        for user, stored in users.items():
            await stored.store(records, tenant, user)


async def listed(people, query, size):
    """All pages of a list."""
    found = []
    while page := await people.list(query, size):
        found += page
        query = replace(query, after=page[-1].user_id)
    return found


async def test_people_are_listed_and_counted_by_the_states_that_the_domain_gives_them(
    database, people
):
    await store_all(database, EVERY_MIXTURE)
    others = dict(zip(list(EVERY_MIXTURE)[:20], list(EVERY_MIXTURE.values())[-20:], strict=True))
    await store_all(database, others, GLOBEX)
    everybody = [stored.person(user) for user, stored in EVERY_MIXTURE.items()]
    for in_grace in (False, True):
        query = PeopleQuery(ACME, NOW, in_grace)
        states = {each.user_id: list(each.states(NOW, in_grace=in_grace)) for each in everybody}
        known = [each for each in everybody if states[each.user_id]]
        assert await listed(people, query, 60) == known
        counts = {}
        for state in PersonState:
            expected = [each for each in known if state in states[each.user_id]]
            assert await listed(people, replace(query, state=state), 60) == expected
            counts[state.value] = len(expected)
            of_one = PeopleCounts(**{state.value: len(expected)})
            assert await people.count(replace(query, state=state, after=ALICE)) == of_one
        assert await people.count(query) == PeopleCounts(**counts)


async def test_a_person_is_found_as_stored_and_a_past_authenticator_makes_nobody_known(
    database, people
):
    parts = {
        "throttle": Throttle(5, (NOW,), NOW + MOMENT),
        "wizards": (NOW + MOMENT, NOW + DAY),
        "was_asked": True,
        "toggle": False,
        "ended_by": EndedBy.OPERATOR,
    }
    stored = {UserId(name): Stored(**{name: value}) for name, value in parts.items()}
    stored |= {UserId("all"): Stored(**parts), UserId("old-wizard"): Stored(wizards=(NOW,))}
    await store_all(database, stored)
    await store_all(database, {ALICE: Stored(**parts)}, GLOBEX)
    for user, each in (stored | {ALICE: Stored()}).items():
        is_known = user not in {"ended_by", "old-wizard", ALICE}
        assert await people.find(ACME, user, NOW) == (each.person(user) if is_known else None)
        assert await people.ever_enrolled(ACME, user) is each.person(user).ever_enrolled


async def test_pages_have_everybody_once_whatever_the_ids_are(database, people):
    users = [UserId(user) for user in ("a", "B", "b", "_", "~", "a b", "ab", "A", "10", "9")]
    stored = Stored(Throttle(), (NOW + DAY,), was_asked=True)
    await store_all(database, dict.fromkeys(users, stored))
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
async def test_no_list_reads_the_people_of_other_tenants(url, people, state, monkeypatch):
    statements = []

    async def note(_connection, statement, _read):
        statements.append(statement)
        return [None]

    monkeypatch.setattr(Connection, "fetch_all", note)
    query = PeopleQuery(ACME, NOW, True, state, after=ALICE)
    await people.list(query, 50)
    await people.count(query)
    by_lock = state in {PersonState.LOCKED, PersonState.SUSPENDED}
    anti_joins = {PersonState.NOT_ENROLLED: 1, PersonState.IN_GRACE: 3}.get(state, 0)
    for statement in statements:
        plan = await explained(url, statement)
        assert "Seq Scan" not in plan
        assert "SCAN authenticators" not in plan
        assert "SCAN asked_people" not in plan
        if state is not None:
            assert ("ix_authenticators_tenant_id_user_id" in plan) == by_lock
            if url.startswith("postgresql"):
                # Another condition of this meaning would make it read whole tables.
                assert plan.count("Anti Join") == anti_joins


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

    async def test_people_who_were_forgotten_since_are_left_out(self, people, asked, past):
        await past.remember(ACME, ALICE, PastAuthenticator(NOW, EndedBy.DEPROVISIONING))
        assert await asked.note(ACME, {ALICE: NOW - MOMENT, BOB: NOW - MOMENT}, MOST) == 0
        assert await people.find(ACME, ALICE, NOW) is None
        assert await people.find(ACME, BOB, NOW)
        await asked.note(ACME, {ALICE: NOW}, MOST)
        assert await people.find(ACME, ALICE, NOW)

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
