"""What a role of PostgreSQL could do to the audit trail, beyond what grants take from it (S14).

A membership counts whether or not its rights are inherited: a member takes those of a role by
SET ROLE.
"""

from sqlalchemy import Connection, TextClause, bindparam, text

from stepup.stores.sql.tables import metadata

_STRONG_ROLES = (
    "pg_write_all_data",
    # Each of these leads to what a superuser may do, by the files of the server.
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
# What a role, PUBLIC or another role passes on; a trigger could leave out what is inserted.
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
           AND has_table_privilege(member_of.oid, pg_class.oid, 'DELETE, TRUNCATE, TRIGGER'))
    ORDER BY member_of.oid <> asked.oid, member_of.rolname, relname
""")


def powers(connection: Connection, role: str) -> list[str]:
    """Why no grant limits a role: each reason completes "<role> ...".

    Args:
        connection: of any role, in the database and schema of the tables.
        role: the role; without one of this name there is no reason.
    """
    return _reasons(connection, _POWERS, role)


def excessive_grants(connection: Connection, role: str) -> list[str]:
    """Which grants let a role change what was recorded: each completes "<role> ..."."""
    return _reasons(connection, _GRANTS, role)


def excessive_rights(connection: Connection) -> list[str]:
    """Both of the connection's own role; none on SQLite, which has no roles."""
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
