"""reviews of jobs"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TABLE: dict[str, Any] = {
    f"{dialect}_{name}": value
    for dialect in ("mysql", "mariadb")
    for name, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}


# A step is history: it spells its types out, and does not follow shared/tables.py when that moves on.
def ascii_(length: int) -> sa.types.TypeEngine[str]:
    binary = mysql.VARCHAR(length, charset="ascii", collation="ascii_bin")
    return sa.String(length).with_variant(binary, "mysql", "mariadb")


def long_text() -> sa.types.TypeEngine[str]:
    binary = mysql.MEDIUMTEXT(charset="utf8mb4", collation="utf8mb4_bin")
    return sa.Text().with_variant(binary, "mysql", "mariadb")


def upgrade() -> None:
    op.create_table(
        "reviews",
        sa.Column("id", ascii_(36), nullable=False),
        sa.Column("job_id", ascii_(36), nullable=False),
        sa.Column("owner", ascii_(64), nullable=False),
        sa.Column("verdict", ascii_(8), nullable=False),
        sa.Column("label", ascii_(64), nullable=True),
        sa.Column("note", long_text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_reviews_job_id"),
        sa.PrimaryKeyConstraint("id", name="pk_reviews"),
        **TABLE,
    )
    op.create_index("ix_reviews_job", "reviews", ["job_id", "id"])


def downgrade() -> None:
    op.drop_table("reviews")
