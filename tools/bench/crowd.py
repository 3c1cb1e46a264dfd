"""Many people of many tenants, all of them elevated: put where the service would have put them."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

import orjson
import redis

from stepup.client.messages import actor as people
from stepup.client.messages import step_up
from stepup.domain.actor import Actor, SessionId, TenantId, UserId
from stepup.domain.elevation import LIFETIME, Elevation
from stepup.domain.operations import OperationId
from stepup.domain.policy import Policy
from stepup.stores.redis.authentic_values import AuthenticValues, elevation_fields
from stepup.stores.redis.keyspace import elevation_key
from stepup.stores.sql import SqlDatabase, upgrade
from tools.bench.person import OPERATION

_AT_ONCE = 1000


@dataclass(frozen=True)
class Crowd:
    """So many people with an elevation each, spread evenly over so many tenants."""

    elevations: int
    tenants: int
    callers: int

    def message(self, number):
        """The question about one of them, serialised."""
        actor = self._actor(number)
        asked = people.ActorContext(
            tenant_id=actor.tenant_id, user_id=actor.user_id, session_id=actor.session_id
        )
        request = step_up.CheckStepUpRequest(actor=asked, operation=OPERATION, target="host-17")
        return request.SerializeToString()

    async def enable(self, database_url):
        """Give each tenant a policy that asks for a code."""
        await upgrade(database_url)
        database = SqlDatabase(database_url)
        for first in range(0, self.tenants, _AT_ONCE):
            async with database.transaction() as records:
                for number in range(first, min(first + _AT_ONCE, self.tenants)):
                    await records.policies.save(_policy(self._tenant(number)))
        await database.close()

    def elevate(self, store, keys):
        """Elevate everybody from now on; returns the bytes of the store that each takes.

        Args:
            store: its host and port.
            keys: the key ring of the server.
        """
        values = AuthenticValues(keys)
        with redis.Redis.from_url(f"redis://{store}/0") as client:
            before = client.info("memory")["used_memory"]
            for first in range(0, self.elevations, _AT_ONCE):
                with client.pipeline(transaction=False) as pipeline:
                    for number in range(first, min(first + _AT_ONCE, self.elevations)):
                        self._put(pipeline, values, number)
                    pipeline.execute()
            return (client.info("memory")["used_memory"] - before) / self.elevations

    def _put(self, pipeline, values, number):
        actor, now = self._actor(number), datetime.now(UTC)
        elevation = Elevation(
            actor.tenant_id, actor.user_id, actor.session_hash, str(uuid4()), now, now + LIFETIME
        )
        owner = actor.tenant_id, actor.user_id, actor.session_hash
        key = elevation_key(*owner)
        value = values.sign(key, owner, orjson.dumps(elevation_fields(elevation)))
        pipeline.set(key, value, ex=LIFETIME)

    def _actor(self, number):
        return Actor(
            self._tenant(number % self.tenants),
            UserId(f"user-{number}@acme.example"),
            SessionId(f"session-{number:08}-of-monday"),
        )

    def _tenant(self, number):
        return TenantId(f"tenant-{number:06}")


def _policy(tenant_id):
    selected = {OperationId(OPERATION): LIFETIME}
    return Policy(
        tenant_id, enabled=True, max_ages=selected, version=1, updated_at=datetime.now(UTC)
    )
