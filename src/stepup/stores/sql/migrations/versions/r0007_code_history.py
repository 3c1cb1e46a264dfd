"""Remember the codes that sessions used, so that honest repetition locks nobody (S22)."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add a column that may be null: servers of the release before do not write it."""
    op.add_column("authenticators", sa.Column("code_history", sa.Text))


def downgrade() -> None:
    """Remove it: repeated codes count as wrong ones again, and no failure is forgiven."""
    op.drop_column("authenticators", "code_history")
