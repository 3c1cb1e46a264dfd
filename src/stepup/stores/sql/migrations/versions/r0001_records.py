"""Create everything."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables."""
    _create_enrollment()
    _create_policy()
    _create_audit()
    _create_changes()


def downgrade() -> None:
    """Remove them, with all that is in them."""
    for table in (
        "changes",
        "audit_events",
        "audit_heads",
        "redemptions",
        "accounts",
        "policies",
        "pending_enrollments",
        "reset_codes",
        "authenticators",
    ):
        op.drop_table(table)


def _required(name: str, kind: Any = sa.String) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def _throttle() -> tuple[sa.Column[Any], ...]:
    return (
        _required("in_a_row", sa.Integer),
        _required("recent", sa.Text),
        sa.Column("locked_until", _INSTANT),
    )


def _create_enrollment() -> None:
    op.create_table(
        "authenticators",
        _required("tenant_id"),
        _required("user_id"),
        _required("enrollment_id"),
        _required("key_id"),
        _required("ciphertext", sa.LargeBinary),
        _required("activated_at", _INSTANT),
        _required("last_step", _BIG),
        *_throttle(),
        _required("version", sa.Integer),
        sa.PrimaryKeyConstraint("tenant_id", "user_id", name="pk_authenticators"),
    )
    op.create_table(
        "reset_codes",
        _required("tenant_id"),
        _required("user_id"),
        _required("enrollment_id"),
        _required("key_id"),
        _required("ciphertext", sa.LargeBinary),
        _required("digest", sa.LargeBinary),
        *_throttle(),
        _required("version", sa.Integer),
        sa.PrimaryKeyConstraint("tenant_id", "user_id", name="pk_reset_codes"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "user_id"],
            ["authenticators.tenant_id", "authenticators.user_id"],
            name="fk_reset_codes_authenticators",
            ondelete="CASCADE",
            deferrable=True,
            initially="DEFERRED",
        ),
    )
    op.create_table(
        "pending_enrollments",
        _required("tenant_id"),
        _required("user_id"),
        _required("session_hash"),
        _required("enrollment_id"),
        _required("key_id"),
        _required("ciphertext", sa.LargeBinary),
        _required("account_name"),
        _required("expires_at", _INSTANT),
        sa.Column("replaces", sa.String),
        _required("by_reset_code", sa.Boolean),
        _required("failures", sa.Integer),
        sa.Column("confirmed_step", _BIG),
        sa.Column("reset_key_id", sa.String),
        sa.Column("reset_ciphertext", sa.LargeBinary),
        sa.Column("reset_digest", sa.LargeBinary),
        _required("version", sa.Integer),
        sa.PrimaryKeyConstraint(
            "tenant_id", "user_id", "session_hash", name="pk_pending_enrollments"
        ),
    )
    _index("pending_enrollments", "expires_at")


def _create_policy() -> None:
    op.create_table(
        "policies",
        _required("tenant_id"),
        _required("enabled", sa.Boolean),
        _required("max_ages", sa.Text),
        _required("version", sa.Integer),
        sa.Column("updated_at", _INSTANT),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_policies"),
    )
    op.create_table(
        "accounts",
        _required("tenant_id"),
        _required("user_id"),
        _required("mfa_enabled", sa.Boolean),
        sa.PrimaryKeyConstraint("tenant_id", "user_id", name="pk_accounts"),
    )
    op.create_table(
        "redemptions",
        _required("tenant_id"),
        _required("decision_id", sa.Uuid),
        _required("forget_at", _INSTANT),
        sa.PrimaryKeyConstraint("tenant_id", "decision_id", name="pk_redemptions"),
    )
    _index("redemptions", "forget_at")


def _create_audit() -> None:
    op.create_table(
        "audit_heads",
        _required("tenant_id"),
        _required("sequence", _BIG),
        _required("hash", sa.LargeBinary),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_audit_heads"),
    )
    op.create_table(
        "audit_events",
        _required("tenant_id"),
        _required("sequence", _BIG),
        _required("event_id"),
        _required("kind"),
        _required("occurred_at", _INSTANT),
        _required("caller"),
        _required("actor_user_id"),
        sa.Column("subject_user_id", sa.String),
        _required("details", sa.Text),
        _required("previous_hash", sa.LargeBinary),
        _required("hash", sa.LargeBinary),
        sa.PrimaryKeyConstraint("tenant_id", "sequence", name="pk_audit_events"),
    )
    _index("audit_events", "tenant_id", "occurred_at")
    _index("audit_events", "tenant_id", "actor_user_id", "sequence")
    _index("audit_events", "tenant_id", "subject_user_id", "sequence")
    _index("audit_events", "tenant_id", "kind", "sequence")


def _create_changes() -> None:
    op.create_table(
        "changes",
        sa.Column("id", _BIG, autoincrement=True, nullable=False),
        _required("created_at", _INSTANT),
        _required("kind"),
        _required("tenant_id"),
        sa.Column("user_id", sa.String),
        sa.Column("session_hash", sa.String),
        sa.Column("enrollment_id", sa.String),
        sa.Column("through", _INSTANT),
        sa.Column("version", sa.Integer),
        sa.PrimaryKeyConstraint("id", name="pk_changes"),
        sqlite_autoincrement=True,
    )
    _index("changes", "created_at")


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, columns)
