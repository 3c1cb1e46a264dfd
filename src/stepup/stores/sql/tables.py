"""The tables as the repositories know them. Every key begins with the tenant.

Migrations do not import this module: it describes the newest schema, and they describe each step.
"""

from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Select,
    String,
    Table,
    Uuid,
    bindparam,
    column,
    select,
)

from stepup.stores.sql.columns import Instant, JsonText, big_integer, throttle_columns

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

_is_locked = column("locked_until").is_not(None)

authenticators = Table(
    "authenticators",
    metadata,
    Column("tenant_id", String, nullable=False),
    Column("user_id", String, nullable=False),
    Column("enrollment_id", String, nullable=False),
    Column("key_id", String, nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
    Column("activated_at", Instant, nullable=False),
    Column("last_step", big_integer(), nullable=False),
    *throttle_columns(),
    Column("version", Integer, nullable=False),
    Column("failed_sessions", JsonText),  # null: an older release has stored it
    Column("refused_at", Instant),
    Column("code_history", JsonText),
    Column("generation", Integer),  # null: an older release has stored it
    Column("enrolled_session", String),
    Column("unlocked_at", JsonText),
    PrimaryKeyConstraint("tenant_id", "user_id"),
    Index(None, "tenant_id", "user_id", postgresql_where=_is_locked, sqlite_where=_is_locked),
)

reset_codes = Table(
    "reset_codes",
    metadata,
    Column("tenant_id", String, nullable=False),
    Column("user_id", String, nullable=False),
    Column("enrollment_id", String, nullable=False),
    Column("key_id", String, nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    *throttle_columns(),  # unused: the release before reads them
    Column("version", Integer, nullable=False),
    Column("failed_sessions", JsonText),
    PrimaryKeyConstraint("tenant_id", "user_id"),
    # Deferred, so that a use case may store the two in either order.
    ForeignKeyConstraint(
        ["tenant_id", "user_id"],
        [authenticators.c.tenant_id, authenticators.c.user_id],
        ondelete="CASCADE",
        deferrable=True,
        initially="DEFERRED",
    ),
)

pending_enrollments = Table(
    "pending_enrollments",
    metadata,
    Column("tenant_id", String, nullable=False),
    Column("user_id", String, nullable=False),
    Column("session_hash", String, nullable=False),
    Column("enrollment_id", String, nullable=False),
    Column("key_id", String, nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
    Column("account_name", String, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("replaces", String),
    Column("by_reset_code", Boolean, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("confirmed_step", big_integer()),
    Column("reset_key_id", String),
    Column("reset_ciphertext", LargeBinary),
    Column("reset_digest", LargeBinary),
    Column("version", Integer, nullable=False),
    Column("issuer", String),  # null: an older release has stored it
    Column("elevated_at", Instant),
    PrimaryKeyConstraint("tenant_id", "user_id", "session_hash"),
    Index(None, "expires_at"),
)

policies = Table(
    "policies",
    metadata,
    Column("tenant_id", String, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("max_ages", JsonText, nullable=False),  # seconds by operation; 0: every time
    Column("version", Integer, nullable=False),
    Column("updated_at", Instant),
    Column("issuer", String),
    Column("enroll_by", Instant),
    Column("enabled_at", Instant),
    PrimaryKeyConstraint("tenant_id"),
)

accounts = Table(
    "accounts",
    metadata,
    Column("tenant_id", String, nullable=False),
    Column("user_id", String, nullable=False),
    Column("mfa_enabled", Boolean, nullable=False),
    PrimaryKeyConstraint("tenant_id", "user_id"),
)

asked_people = Table(
    "asked_people",
    metadata,
    Column("tenant_id", String, nullable=False),
    Column("user_id", String, nullable=False),
    Column("first_asked_at", Instant, nullable=False),
    Column("last_asked_at", Instant, nullable=False),
    PrimaryKeyConstraint("tenant_id", "user_id"),
    Index(None, "last_asked_at"),
)

past_authenticators = Table(
    "past_authenticators",
    metadata,
    Column("tenant_id", String, nullable=False),
    Column("user_id", String, nullable=False),
    Column("ended_at", Instant, nullable=False),
    Column("ended_by", String, nullable=False),
    PrimaryKeyConstraint("tenant_id", "user_id"),
    Index(None, "ended_at"),
    Index(None, "ended_by", "ended_at"),
)

redemptions = Table(
    "redemptions",
    metadata,
    Column("tenant_id", String, nullable=False),
    Column("decision_id", Uuid, nullable=False),
    Column("forget_at", Instant, nullable=False),
    Column("redeemed_by", Uuid),  # null, like those that follow: an older release has stored it
    Column("redeemed_at", Instant),
    Column("request_id", Uuid),
    Column("check_index", Integer),
    PrimaryKeyConstraint("tenant_id", "decision_id"),
    Index(None, "forget_at"),
)

_is_pending = column("state") == "pending"

challenges = Table(
    "challenges",
    metadata,
    Column("tenant_id", String, nullable=False),
    Column("challenge_id", Uuid, nullable=False),
    Column("user_id", String, nullable=False),
    Column("session_hash", String, nullable=False),
    Column("caller", String, nullable=False),
    Column("requested_by", String, nullable=False),
    Column("message", String, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("valid_for", Integer, nullable=False),  # seconds
    Column("request_id", Uuid),
    Column("state", String, nullable=False),
    Column("verified_at", Instant),
    Column("verified_session", String),
    Column("enrollment_id", String),
    Column("usable_until", Instant),
    Column("ended_at", Instant),
    Column("forget_at", Instant, nullable=False),
    PrimaryKeyConstraint("tenant_id", "challenge_id"),
    Index(None, "challenge_id"),
    Index(None, "tenant_id", "user_id", "created_at"),
    Index(None, "tenant_id", "caller", postgresql_where=_is_pending, sqlite_where=_is_pending),
    Index(None, "expires_at", postgresql_where=_is_pending, sqlite_where=_is_pending),
    Index(None, "forget_at"),
)

challenge_items = Table(
    "challenge_items",
    metadata,
    Column("tenant_id", String, nullable=False),
    Column("challenge_id", Uuid, nullable=False),
    Column("place", Integer, nullable=False),  # counted from 0
    Column("operation", String, nullable=False),
    Column("target", String, nullable=False),
    Column("label", String, nullable=False),
    Column("needed", Boolean, nullable=False),
    Column("used_by", Uuid),  # a decision; null, like those that follow, until the item is used
    Column("used_at", Instant),
    Column("request_id", Uuid),
    Column("check_index", Integer),
    PrimaryKeyConstraint("tenant_id", "challenge_id", "place"),
    ForeignKeyConstraint(
        ["tenant_id", "challenge_id"],
        [challenges.c.tenant_id, challenges.c.challenge_id],
        ondelete="CASCADE",
    ),
)

audit_heads = Table(
    "audit_heads",
    metadata,
    Column("tenant_id", String, nullable=False),
    Column("sequence", big_integer(), nullable=False),
    Column("hash", LargeBinary, nullable=False),
    PrimaryKeyConstraint("tenant_id"),
)

audit_events = Table(
    "audit_events",
    metadata,
    Column("tenant_id", String, nullable=False),
    Column("sequence", big_integer(), nullable=False),
    Column("event_id", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("occurred_at", Instant, nullable=False),
    Column("caller", String, nullable=False),
    Column("actor_user_id", String, nullable=False),
    Column("subject_user_id", String),
    Column("details", JsonText, nullable=False),
    Column("previous_hash", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    PrimaryKeyConstraint("tenant_id", "sequence"),
    Index(None, "tenant_id", "occurred_at"),
    Index(None, "tenant_id", "actor_user_id", "sequence"),
    Index(None, "tenant_id", "subject_user_id", "sequence"),
    Index(None, "tenant_id", "kind", "sequence"),
)

event_clients = Table(
    "event_clients",
    metadata,
    Column("tenant_id", String, nullable=False),
    Column("sequence", big_integer(), nullable=False),
    Column("user_id", String, nullable=False),
    Column("occurred_at", Instant, nullable=False),
    Column("salt", LargeBinary, nullable=False),
    Column("address", String, nullable=False),
    Column("user_agent", String, nullable=False),
    PrimaryKeyConstraint("tenant_id", "sequence"),
    Index(None, "tenant_id", "user_id"),
    Index(None, "occurred_at"),
)
"""The devices of acting persons, by event: deleted apart from the events, which have their hash."""

audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("tenant_id", String, nullable=False),
    Column("sequence", big_integer(), nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("pruned_at", Instant, nullable=False),
    Column("key_id", String, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    PrimaryKeyConstraint("tenant_id"),
)
"""Where a chain begins whose older events were pruned: after the event of this number and hash."""

of_no_session = column("session_hash").is_(None)
"""The condition of a partial index; a query uses the index only if it has the same condition."""
_of_a_session = column("session_hash").is_not(None)

folded_ids = Table(
    "folded_ids",
    metadata,
    Column("since", Instant, primary_key=True),
)
"""One row if ids of tenants and users are folded, else none."""

changes = Table(
    "changes",
    metadata,
    Column("id", big_integer(), primary_key=True, autoincrement=True),
    Column("created_at", Instant, nullable=False),
    Column("kind", String, nullable=False),
    Column("tenant_id", String, nullable=False),
    Column("user_id", String),
    Column("session_hash", String),
    Column("enrollment_id", String),
    Column("through", Instant),
    Column("version", Integer),
    # Most changes are sign-outs, which no redemption reads.
    Index(
        None,
        "tenant_id",
        "user_id",
        postgresql_where=of_no_session,
        sqlite_where=of_no_session,
    ),
    Index(None, "session_hash", postgresql_where=_of_a_session, sqlite_where=_of_a_session),
    # PostgreSQL: the number of the transaction, by a default in the database, so that servers of
    # the version before write it, too. SQLite: always null.
    Column("xact_id", big_integer()),
    Index(None, "created_at", "id"),
    Index(None, "xact_id", "id"),
    sqlite_autoincrement=True,  # a number that was purged is never given again
)


def row_of_user(table: Table) -> Select[Any]:
    """The row of the user `user_id` of the tenant `tenant_id`: two parameters."""
    return select(table).where(
        table.c.tenant_id == bindparam("tenant_id"), table.c.user_id == bindparam("user_id")
    )
