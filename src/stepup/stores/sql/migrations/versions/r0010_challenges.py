"""Add challenges and their items (S19)."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add two tables. Servers of the previous release do not use them."""
    op.create_table(
        "challenges",
        _required("tenant_id", sa.String()),
        _required("challenge_id", sa.Uuid()),
        _required("user_id", sa.String()),
        _required("session_hash", sa.String()),
        _required("caller", sa.String()),
        _required("requested_by", sa.String()),
        _required("message", sa.String()),
        _required("created_at", sa.DateTime(timezone=True)),
        _required("expires_at", sa.DateTime(timezone=True)),
        _required("valid_for", sa.Integer()),
        sa.Column("request_id", sa.Uuid),
        _required("state", sa.String()),
        sa.Column("verified_at", sa.DateTime(timezone=True)),
        sa.Column("verified_session", sa.String),
        sa.Column("enrollment_id", sa.String),
        sa.Column("usable_until", sa.DateTime(timezone=True)),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        _required("forget_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("tenant_id", "challenge_id", name="pk_challenges"),
    )
    _index("challenge_id")
    _index("tenant_id", "user_id", "created_at")
    _index("tenant_id", "caller", where="state = 'pending'")
    _index("expires_at", where="state = 'pending'")
    _index("forget_at")
    op.create_table(
        "challenge_items",
        _required("tenant_id", sa.String()),
        _required("challenge_id", sa.Uuid()),
        _required("place", sa.Integer()),
        _required("operation", sa.String()),
        _required("target", sa.String()),
        _required("label", sa.String()),
        _required("needed", sa.Boolean()),
        sa.Column("used_by", sa.Uuid),
        sa.Column("used_at", sa.DateTime(timezone=True)),
        sa.Column("request_id", sa.Uuid),
        sa.Column("check_index", sa.Integer),
        sa.PrimaryKeyConstraint("tenant_id", "challenge_id", "place", name="pk_challenge_items"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "challenge_id"],
            ["challenges.tenant_id", "challenges.challenge_id"],
            name="fk_challenge_items_challenges",
            ondelete="CASCADE",
        ),
    )


def downgrade() -> None:
    """Remove both tables, with all challenges."""
    op.drop_table("challenge_items")
    op.drop_table("challenges")


def _required(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def _index(*columns: str, where: str | None = None) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(
        f"ix_challenges_{'_'.join(columns)}",
        "challenges",
        list(columns),
        postgresql_where=condition,
        sqlite_where=condition,
    )
