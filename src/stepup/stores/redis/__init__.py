"""Elevations, recorded outcomes, callers' rates and portal sessions in Redis or Valkey."""

from stepup.stores.redis.caller_rates import RedisCallerRates
from stepup.stores.redis.connection import close, connect
from stepup.stores.redis.elevations import RedisElevations
from stepup.stores.redis.portal_sessions import RedisPortalSessions
from stepup.stores.redis.recorded_outcomes import RedisRecordedOutcomes

__all__ = [
    "RedisCallerRates",
    "RedisElevations",
    "RedisPortalSessions",
    "RedisRecordedOutcomes",
    "close",
    "connect",
]
