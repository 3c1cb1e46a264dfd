"""What must survive everything, in SQLite or PostgreSQL."""

from stepup.stores.sql.database import SqlDatabase
from stepup.stores.sql.folding import IdsCollideError, fold_ids
from stepup.stores.sql.grants import GrantError
from stepup.stores.sql.limits import Limits
from stepup.stores.sql.migrate import (
    SchemaRevisionError,
    audit_rights,
    check_schema,
    downgrade,
    upgrade,
)

__all__ = [
    "GrantError",
    "IdsCollideError",
    "Limits",
    "SchemaRevisionError",
    "SqlDatabase",
    "audit_rights",
    "check_schema",
    "downgrade",
    "fold_ids",
    "upgrade",
]
