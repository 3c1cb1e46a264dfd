"""Count wrong codes by session, and know when a refused attempt was last put on record (S4)."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_TABLES = ("authenticators", "reset_codes")


def upgrade() -> None:
    """Add columns that may be null: servers of the release before do not write them."""
    for table in _TABLES:
        op.add_column(table, sa.Column("failed_sessions", sa.Text))
    op.add_column("authenticators", sa.Column("refused_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    """Remove them: spent sessions may try again, within the person's own budget."""
    op.drop_column("authenticators", "refused_at")
    for table in _TABLES:
        op.drop_column(table, "failed_sessions")
