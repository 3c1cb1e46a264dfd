"""Elevations and recorded outcomes in Redis or Valkey."""

from stepup.stores.redis.connection import connect
from stepup.stores.redis.elevations import RedisElevations
from stepup.stores.redis.recorded_outcomes import RedisRecordedOutcomes

__all__ = ["RedisElevations", "RedisRecordedOutcomes", "connect"]
