"""The rights of the role of `stepup serve`: the least that a server needs (S14).

The role that migrates owns the tables. Every run of `stepup migrate --grant-to ROLE` revokes and
grants for every table that exists then, in the transaction of the migration: a table of a later
revision is covered by the run that creates it. Grants cannot limit every role: see `powers`.

A membership counts whether or not its rights are inherited: a member takes those of a role by
SET ROLE.
"""

from sqlalchemy import Connection, TextClause, bindparam, text

from stepup.domain.errors import StoreUnavailableError
from stepup.stores.sql.tables import metadata

_STRONG_ROLES = (
    "pg_write_all_data",
    # Each of these leads to the rights of a superuser, by the files of the server.
    "pg_execute_server_program",
    "pg_read_server_files",
    "pg_write_server_files",
)
_POWERS = text("""
    SELECT member_of.rolname AS of, power.said AS said
    FROM pg_roles AS asked
    JOIN pg_roles AS member_of
      ON member_of.oid = asked.oid
      OR (NOT asked.rolsuper AND pg_has_role(asked.oid, member_of.oid, 'MEMBER'))
    CROSS JOIN LATERAL (VALUES
      (1, 'is a superuser', member_of.rolsuper),
      (2, 'may create roles', member_of.rolcreaterole),
      (3, 'bypasses row-level security', member_of.rolbypassrls),
      (4, 'owns the database', member_of.oid = (
        SELECT datdba FROM pg_database WHERE datname = current_database())),
      (5, 'owns the schema', member_of.oid = (
        SELECT nspowner FROM pg_namespace WHERE oid = current_schema()::regnamespace)),
      (6, 'owns tables of stepup', EXISTS (
        SELECT FROM pg_class
        WHERE relnamespace = current_schema()::regnamespace
          AND relname IN :tables AND relowner = member_of.oid)),
      (7, 'writes all tables, or files of the server', member_of.rolname IN :strong)
    ) AS power (rank, said, holds)
    WHERE asked.rolname = :role AND power.holds
    ORDER BY member_of.oid <> asked.oid, member_of.rolname, power.rank
""").bindparams(
    bindparam("tables", (*metadata.tables, "alembic_version"), expanding=True),
    bindparam("strong", _STRONG_ROLES, expanding=True),
)
# Rights that the role has by itself, by PUBLIC or by another role. A trigger could drop inserts.
_GRANTS = text("""
    SELECT member_of.rolname AS of, 'may change ' || relname AS said
    FROM pg_roles AS asked
    JOIN pg_roles AS member_of
      ON member_of.oid = asked.oid
      OR (NOT asked.rolsuper AND pg_has_role(asked.oid, member_of.oid, 'MEMBER'))
    JOIN pg_class ON relnamespace = current_schema()::regnamespace
    WHERE asked.rolname = :role
      AND (relname = 'audit_events' AND (
             has_table_privilege(member_of.oid, pg_class.oid, 'UPDATE, DELETE, TRUNCATE, TRIGGER')
             OR has_any_column_privilege(member_of.oid, pg_class.oid, 'UPDATE'))
           OR relname = 'audit_heads'
           AND has_table_privilege(member_of.oid, pg_class.oid, 'DELETE, TRUNCATE, TRIGGER')
           OR relname = 'audit_checkpoints'
           AND has_table_privilege(
             member_of.oid, pg_class.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER'))
    ORDER BY member_of.oid <> asked.oid, member_of.rolname, relname
""")
_ALL = "SELECT, INSERT, UPDATE, DELETE"
_LESS = {
    "alembic_version": "SELECT",
    "audit_events": "SELECT, INSERT",  # S14: a server can append to the trail, and change nothing
    "audit_heads": "SELECT, INSERT, UPDATE",
    "audit_checkpoints": "SELECT",  # `stepup audit prune` runs with the role that migrates
}
_ROLE_EXISTS = text("SELECT 1 FROM pg_roles WHERE rolname = :role")
_TABLES = text(
    "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
    " AND relkind IN ('r', 'p') AND pg_has_role(relowner, 'USAGE') ORDER BY relname"
)


def powers(connection: Connection, role: str) -> list[str]:
    """Return why grants cannot limit a role: each reason completes "<role> ...".

    The connection may be of any role. A role that does not exist has no reasons.
    """
    return _reasons(connection, _POWERS, role)


def excessive_grants(connection: Connection, role: str) -> list[str]:
    """Return which grants let a role change recorded events: each completes "<role> ..."."""
    return _reasons(connection, _GRANTS, role)


def excessive_rights(connection: Connection) -> list[str]:
    """Return `powers`, or else `excessive_grants`, of the connection's role; none on SQLite."""
    if connection.dialect.name != "postgresql":
        return []
    role = connection.execute(text("SELECT current_user")).scalar_one()
    return powers(connection, role) or excessive_grants(connection, role)


def _reasons(connection: Connection, query: TextClause, role: str) -> list[str]:
    first: dict[str, str] = {}
    for row in connection.execute(query, {"role": role}):
        first.setdefault(row.of, row.said)  # one reason is enough: a superuser has them all
    return [
        said if of == role else f"is a member of {of}, which {said}" for of, said in first.items()
    ]


class GrantError(StoreUnavailableError):
    """The role of a server does not exist, or could do more than it is granted."""


def grant_to_server(connection: Connection, role: str) -> None:
    """Grant a PostgreSQL role the rights that a server needs, and revoke all other grants.

    The transaction must be of the role that owns the tables.

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
