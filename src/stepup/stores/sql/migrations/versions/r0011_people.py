"""Add people who were asked, past authenticators, devices of events, and times to enrol."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add tables and columns. Servers of the previous release do not use them.

    When a policy was enabled is not stored so far: its latest change is not earlier.
    """
    op.create_table(
        "asked_people",
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("first_asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "user_id", name="pk_asked_people"),
    )
    op.create_index("ix_asked_people_last_asked_at", "asked_people", ["last_asked_at"])
    op.create_table(
        "past_authenticators",
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_by", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "user_id", name="pk_past_authenticators"),
    )
    op.create_index("ix_past_authenticators_ended_at", "past_authenticators", ["ended_at"])
    op.create_index(
        "ix_past_authenticators_ended_by_ended_at", "past_authenticators", ["ended_by", "ended_at"]
    )
    op.create_table(
        "event_clients",
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("address", sa.String, nullable=False),
        sa.Column("user_agent", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "sequence", name="pk_event_clients"),
    )
    op.create_index("ix_event_clients_tenant_id_user_id", "event_clients", ["tenant_id", "user_id"])
    op.create_index("ix_event_clients_occurred_at", "event_clients", ["occurred_at"])
    op.create_table(
        "audit_checkpoints",
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("pruned_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("key_id", sa.String, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_audit_checkpoints"),
    )
    op.add_column("authenticators", sa.Column("unlocked_at", sa.Text))
    is_locked = sa.text("locked_until IS NOT NULL")
    op.create_index(
        "ix_authenticators_tenant_id_user_id",
        "authenticators",
        ["tenant_id", "user_id"],
        postgresql_where=is_locked,
        sqlite_where=is_locked,
    )
    op.add_column("policies", sa.Column("enroll_by", sa.DateTime(timezone=True)))
    op.add_column("policies", sa.Column("enabled_at", sa.DateTime(timezone=True)))
    op.execute("UPDATE policies SET enabled_at = updated_at WHERE enabled")


def downgrade() -> None:
    """Remove them: times to enrol end, and so do limits of unlocks."""
    op.drop_column("policies", "enabled_at")
    op.drop_column("policies", "enroll_by")
    op.drop_index("ix_authenticators_tenant_id_user_id", "authenticators")
    op.drop_column("authenticators", "unlocked_at")
    op.drop_table("audit_checkpoints")
    op.drop_table("event_clients")
    op.drop_table("past_authenticators")
    op.drop_table("asked_people")
