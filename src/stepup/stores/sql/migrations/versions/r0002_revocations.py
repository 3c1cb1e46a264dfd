"""Find the revocations of one user, which a retry's receipt is checked against."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_INDEX = "ix_changes_tenant_id_user_id"
_OF_NO_SESSION = sa.text("session_hash IS NULL")


def upgrade() -> None:
    """Create a partial index: it has no sign-outs, which are most of the table."""
    op.create_index(
        _INDEX,
        "changes",
        ["tenant_id", "user_id"],
        postgresql_where=_OF_NO_SESSION,
        sqlite_where=_OF_NO_SESSION,
    )


def downgrade() -> None:
    """Remove it."""
    op.drop_index(_INDEX, "changes")
