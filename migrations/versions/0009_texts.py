"""texts that an operator adds"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0009"
down_revision = "0008"
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


def text_(length: int) -> sa.types.TypeEngine[str]:
    binary = mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")
    return sa.String(length).with_variant(binary, "mysql", "mariadb")


def upgrade() -> None:
    op.create_table(
        "texts",
        sa.Column("id", ascii_(36), nullable=False),
        sa.Column("key_sha256", ascii_(64), nullable=False),
        sa.Column("sha256", ascii_(64), nullable=False),
        sa.Column("file", text_(255), nullable=False),
        sa.Column("title", text_(200), nullable=False),
        sa.Column("source", text_(200), nullable=False),
        sa.Column("url", ascii_(2000), nullable=True),
        sa.Column("date", ascii_(10), nullable=False),
        sa.Column("lang", ascii_(2), nullable=False),
        sa.Column("passages", sa.JSON(), nullable=False),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_texts"),
        **TABLE,
    )
    op.create_index("uq_texts_key", "texts", ["key_sha256"], unique=True)


def downgrade() -> None:
    op.drop_table("texts")
