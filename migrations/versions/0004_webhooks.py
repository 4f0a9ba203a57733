"""webhooks, deliveries and their tries"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0004"
down_revision = "0003"
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


def required(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def optional(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=True)


def upgrade() -> None:
    op.create_table(
        "webhooks",
        required("job_id", ascii_(36)),
        required("url", ascii_(2000)),
        required("stages", sa.Boolean()),
        required("seen", sa.Integer()),
        optional("closed_at", sa.BigInteger()),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_webhooks_job_id"),
        sa.PrimaryKeyConstraint("job_id", name="pk_webhooks"),
        **TABLE,
    )
    op.create_index("ix_webhooks_open", "webhooks", ["closed_at", "job_id"])
    op.create_table(
        "deliveries",
        required("id", ascii_(36)),
        required("job_id", ascii_(36)),
        required("event", ascii_(16)),
        required("status", ascii_(16)),
        required("tries", sa.Integer()),
        required("due_at", sa.BigInteger()),
        required("created_at", sa.BigInteger()),
        optional("ended_at", sa.BigInteger()),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_deliveries_job_id"),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
        **TABLE,
    )
    op.create_index("ix_deliveries_due", "deliveries", ["status", "due_at"])
    op.create_index("ix_deliveries_job", "deliveries", ["job_id", "id"])
    op.create_table(
        "delivery_tries",
        required("delivery_id", ascii_(36)),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        required("at", sa.BigInteger()),
        required("took_us", sa.BigInteger()),
        optional("status", sa.Integer()),
        optional("error", ascii_(255)),
        sa.ForeignKeyConstraint(["delivery_id"], ["deliveries.id"], name="fk_delivery_tries_delivery_id"),
        sa.PrimaryKeyConstraint("delivery_id", "number", name="pk_delivery_tries"),
        **TABLE,
    )


def downgrade() -> None:
    for table in ("delivery_tries", "deliveries", "webhooks"):
        op.drop_table(table)
