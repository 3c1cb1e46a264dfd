"""The durable records, in SQLite or PostgreSQL."""

from stepup.stores.sql.database import SqlDatabase
from stepup.stores.sql.folding import IdsCollideError, fold_ids
from stepup.stores.sql.limits import Limits
from stepup.stores.sql.migrate import (
    SchemaRevisionError,
    audit_rights,
    check_schema,
    downgrade,
    upgrade,
)
from stepup.stores.sql.rights import GrantError
from stepup.stores.sql.server_check import UnusableServerError, demand_usable_server

__all__ = [
    "GrantError",
    "IdsCollideError",
    "Limits",
    "SchemaRevisionError",
    "SqlDatabase",
    "UnusableServerError",
    "audit_rights",
    "check_schema",
    "demand_usable_server",
    "downgrade",
    "fold_ids",
    "upgrade",
]
