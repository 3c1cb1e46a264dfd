"""The change feed says which transaction wrote a row, and is read in portions (S27).

Revision: 0003.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the number of the transaction, and indexes in the order in which portions are read."""
    op.add_column(
        "changes", sa.Column("xact_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"))
    )
    if op.get_bind().dialect.name == "postgresql":
        # Apart from ADD COLUMN, which would write a volatile default into every row. Rows that are
        # there keep NULL: they are older than any position that is ever compared with.
        op.execute(
            "ALTER TABLE changes ALTER COLUMN xact_id"
            " SET DEFAULT CAST(CAST(pg_current_xact_id() AS text) AS bigint)"
        )
    op.create_index("ix_changes_created_at_id", "changes", ["created_at", "id"])
    op.create_index("ix_changes_xact_id_id", "changes", ["xact_id", "id"])
    op.drop_index("ix_changes_created_at", "changes")


def downgrade() -> None:
    """Nothing is lost: a server of the version before reads rows by their own numbers."""
    op.create_index("ix_changes_created_at", "changes", ["created_at"])
    op.drop_index("ix_changes_xact_id_id", "changes")
    op.drop_index("ix_changes_created_at_id", "changes")
    op.drop_column("changes", "xact_id")
