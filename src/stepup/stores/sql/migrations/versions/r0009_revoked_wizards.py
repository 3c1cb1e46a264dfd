"""Let a revocation end the wizards that its elevations permitted (S10)."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add a column that may be null, and find the sign-outs of a session by an index."""
    op.add_column("pending_enrollments", sa.Column("elevated_at", sa.DateTime(timezone=True)))
    of_a_session = sa.text("session_hash IS NOT NULL")
    op.create_index(
        "ix_changes_session_hash",
        "changes",
        ["session_hash"],
        postgresql_where=of_a_session,
        sqlite_where=of_a_session,
    )


def downgrade() -> None:
    """Remove them: a wizard counts as one of the release before."""
    op.drop_index("ix_changes_session_hash", "changes")
    op.drop_column("pending_enrollments", "elevated_at")
