"""Mark a database whose ids are folded, so that no server looks for other spellings in it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the table of the mark."""
    op.create_table(
        "folded_ids",
        sa.Column("since", sa.DateTime(timezone=True), primary_key=True),
    )


def downgrade() -> None:
    """Remove it: a server without `identity.fold_case` would not notice that ids are folded."""
    op.drop_table("folded_ids")
