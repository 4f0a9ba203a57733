"""an owner's reviews"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_reviews_owner", "reviews", ["owner", "id"])


def downgrade() -> None:
    op.drop_index("ix_reviews_owner", "reviews")
