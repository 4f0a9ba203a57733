"""jobs by the client's own id"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_jobs_custom", "jobs", ["owner", "custom_id", "id"])


def downgrade() -> None:
    op.drop_index("ix_jobs_custom", "jobs")
