"""The rights of the database role of `stepup serve`: the least that a server needs.

The role that migrates owns the tables. Every run of `stepup migrate --grant-to ROLE` revokes and
grants for every table that exists then, in the transaction of the migration: a table of a later
revision is covered by the run that creates it.
"""

from sqlalchemy import Connection, text

from stepup.domain.errors import StoreUnavailableError
from stepup.stores.sql.rights import excessive_grants, powers

_ALL = "SELECT, INSERT, UPDATE, DELETE"
_LESS = {
    "alembic_version": "SELECT",
    "audit_events": "SELECT, INSERT",  # S14: a server can append to the trail, and change nothing
    "audit_heads": "SELECT, INSERT, UPDATE",
}
_ROLE_EXISTS = text("SELECT 1 FROM pg_roles WHERE rolname = :role")
_TABLES = text(
    "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
    " AND relkind IN ('r', 'p') AND pg_has_role(relowner, 'USAGE') ORDER BY relname"
)


class GrantError(StoreUnavailableError):
    """The role of a server does not exist, or could do more than it is granted."""


def grant_to_server(connection: Connection, role: str) -> None:
    """Grant a PostgreSQL role the rights that a server needs, and revoke all other grants.

    Args:
        connection: a transaction of the role that owns the tables.
        role: the name of the role that serves.

    Raises:
        GrantError: the database has no roles, or not this one; or the role could drop or rewrite
            audit events in spite of the grants, and the message says why.
    """
    if connection.dialect.name != "postgresql":
        raise GrantError("--grant-to: only PostgreSQL has roles")
    _demand_few_rights(connection, role)
    quote = connection.dialect.identifier_preparer.quote_identifier
    schema = quote(connection.execute(text("SELECT current_schema()")).scalar_one())
    to = quote(role)
    statements = [
        f"GRANT USAGE ON SCHEMA {schema} TO {to}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {to}",
    ]
    tables = connection.execute(_TABLES).scalars().all()
    for table in tables:
        name = f"{schema}.{quote(table)}"
        statements.append(f"REVOKE ALL ON TABLE {name} FROM {to}")
        statements.append(f"GRANT {_LESS.get(table, _ALL)} ON TABLE {name} TO {to}")
    for statement in statements:
        connection.exec_driver_sql(statement)
    if grants := excessive_grants(connection, role):
        raise GrantError(f"--grant-to: {role} could still rewrite audit events: {_joined(grants)}")


def _demand_few_rights(connection: Connection, role: str) -> None:
    if connection.execute(_ROLE_EXISTS, {"role": role}).one_or_none() is None:
        raise GrantError(f"--grant-to: PostgreSQL has no role {role}")
    if reasons := powers(connection, role):
        raise GrantError(
            f"--grant-to: {role} could drop or rewrite audit events, whatever it is granted:"
            f" {_joined(reasons)}; see docs/operating.md, Roles"
        )


def _joined(reasons: list[str]) -> str:
    return "; ".join(f"it {reason}" for reason in reasons)
