"""Elevations, recorded outcomes and callers' rates in Redis or Valkey."""

from stepup.stores.redis.caller_rates import RedisCallerRates
from stepup.stores.redis.connection import close, connect
from stepup.stores.redis.elevations import RedisElevations
from stepup.stores.redis.recorded_outcomes import RedisRecordedOutcomes

__all__ = ["RedisCallerRates", "RedisElevations", "RedisRecordedOutcomes", "close", "connect"]
