"""explanations, and frames of multi-frame pictures"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    binary = mysql.VARCHAR(8, charset="ascii", collation="ascii_bin")
    kind = sa.String(8).with_variant(binary, "mysql", "mariadb")
    op.add_column("jobs", sa.Column("explain", kind, nullable=True))
    op.add_column("jobs", sa.Column("frame", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "frame")
    op.drop_column("jobs", "explain")
