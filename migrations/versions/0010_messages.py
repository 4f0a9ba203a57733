"""messages about jobs"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    binary = mysql.VARCHAR(36, charset="ascii", collation="ascii_bin")
    job_id = sa.String(36).with_variant(binary, "mysql", "mariadb")
    op.add_column("jobs", sa.Column("message_of", job_id, nullable=True))
    op.add_column("jobs", sa.Column("turn", sa.Integer(), nullable=True))
    op.create_index("uq_jobs_turn", "jobs", ["message_of", "turn"], unique=True)


def downgrade() -> None:
    op.drop_index("uq_jobs_turn", "jobs")
    op.drop_column("jobs", "turn")
    op.drop_column("jobs", "message_of")
