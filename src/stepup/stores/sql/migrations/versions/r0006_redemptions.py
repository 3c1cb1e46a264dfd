"""Record how a receipt was used, so that a check that is sent again shares the redemption."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add columns that may be null: servers of the release before do not write them."""
    for column in (
        sa.Column("redeemed_by", sa.Uuid),
        sa.Column("redeemed_at", sa.DateTime(timezone=True)),
        sa.Column("request_id", sa.Uuid),
        sa.Column("check_index", sa.Integer),
    ):
        op.add_column("redemptions", column)


def downgrade() -> None:
    """Remove them: a check that is sent again finds its receipt used."""
    for name in ("check_index", "request_id", "redeemed_at", "redeemed_by"):
        op.drop_column("redemptions", name)
