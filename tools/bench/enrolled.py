"""Many people of some tenants, enrolled past the service; no code of theirs is used."""

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from stepup_tests.enrolled import store_enrolled
from stepup_tests.otp import code_at

from stepup.client.messages import actor as people
from stepup.client.messages import step_up
from stepup.domain.actor import Actor, SessionId, TenantId, UserId
from stepup.domain.totp import TotpSecret, time_step
from stepup.stores.sql import SqlDatabase, upgrade

_AT_ONCE = 500


@dataclass(frozen=True)
class Enrolled:
    """One of them, at one session."""

    actor: Actor
    secret: TotpSecret

    def attempt(self, now):
        """The request with the code of now, serialised."""
        asked = people.ActorContext(
            tenant_id=self.actor.tenant_id,
            user_id=self.actor.user_id,
            session_id=self.actor.session_id,
        )
        code = code_at(self.secret.octets, now)
        request = step_up.VerifyOtpRequest(actor=asked, code=code, request_id=str(uuid4()))
        return request.SerializeToString()

    def has_dead_code(self, now, used_steps=()):
        """Whether the code of now is the code of a dead step, too, as one in a million is.

        The service refuses such a code, although it is right (S22). A measurement of tens of
        thousands of codes meets one now and then.

        Args:
            now: when the code is given.
            used_steps: those whose codes the session used. The step before now is dead as well.
        """
        steps = (-1, *(step - time_step(now) for step in used_steps))
        dead = {code_at(self.secret.octets, now, steps=each) for each in steps}
        return code_at(self.secret.octets, now) in dead


def attempts(people, number, now):
    """Requests of the next so many people, except those whose code of now is dead.

    Args:
        people: an iterator; the people that are taken are gone from it.
        number: how many requests.
        now: when the codes are given.
    """
    alive = (person for person in people if not person.has_dead_code(now))
    return [person.attempt(now) for person in itertools.islice(alive, number)]


async def enrol(database_url, ring, number, tenants):
    """Enrol so many people, spread evenly over so many tenants; the schema is brought up to date.

    Args:
        database_url: where.
        ring: what seals their secrets.
        number: how many people.
        tenants: how many tenants.
    """
    everybody = [_person(n, TenantId(f"tenant-{n % tenants:06}")) for n in range(number)]
    await upgrade(database_url)
    database = SqlDatabase(database_url)
    by_tenant = sorted(everybody, key=lambda person: person.actor.tenant_id)
    for tenant, group in itertools.groupby(by_tenant, lambda person: person.actor.tenant_id):
        of_tenant = list(group)
        for some in (
            of_tenant[first : first + _AT_ONCE] for first in range(0, len(of_tenant), _AT_ONCE)
        ):
            secrets = {person.actor.user_id: person.secret for person in some}
            await store_enrolled(database, ring, tenant, secrets, datetime.now(UTC))
    await database.close()
    return everybody


def _person(number, tenant):
    actor = Actor(
        tenant, UserId(f"user-{number}@acme.example"), SessionId(f"session-{number:08}-of-monday")
    )
    return Enrolled(actor, TotpSecret.generate())
