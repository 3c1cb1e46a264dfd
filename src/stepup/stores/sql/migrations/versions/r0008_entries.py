"""Keep what distinguishes the entries of authenticator apps: issuers and generations."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add columns that may be null: servers of the release before do not write them."""
    op.add_column("policies", sa.Column("issuer", sa.String))
    op.add_column("pending_enrollments", sa.Column("issuer", sa.String))
    op.add_column("authenticators", sa.Column("generation", sa.Integer))
    op.add_column("authenticators", sa.Column("enrolled_session", sa.String))


def downgrade() -> None:
    """Remove them: the tenants' issuers are lost, and labels of replacements count from 2 again."""
    op.drop_column("authenticators", "enrolled_session")
    op.drop_column("authenticators", "generation")
    op.drop_column("pending_enrollments", "issuer")
    op.drop_column("policies", "issuer")
