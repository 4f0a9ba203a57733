"""the audit log, and what retention looks by"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0005"
down_revision = "0004"
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
        "audit",
        required("id", ascii_(36)),
        required("at", sa.BigInteger()),
        required("actor", ascii_(64)),
        required("owner", ascii_(64)),
        required("action", ascii_(16)),
        required("subject", ascii_(36)),
        optional("once", ascii_(64)),
        optional("block", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        **TABLE,
    )
    op.create_index("uq_audit_once", "audit", ["once"], unique=True)
    op.create_index("ix_audit_block", "audit", ["block", "id"])
    op.create_index("ix_audit_subject", "audit", ["subject", "id"])
    op.create_table(
        "audit_blocks",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        required("previous", ascii_(64)),
        required("sha256", ascii_(64)),
        required("entries", sa.Integer()),
        required("made_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("number", name="pk_audit_blocks"),
        **TABLE,
    )
    op.create_index("ix_jobs_kept", "jobs", ["erased_at", "completed_at"])
    op.add_column("batches", optional("erased_at", sa.BigInteger()))
    op.create_index("ix_batches_kept", "batches", ["erased_at", "completed_at"])


def downgrade() -> None:
    op.drop_index("ix_batches_kept", "batches")
    op.drop_column("batches", "erased_at")
    op.drop_index("ix_jobs_kept", "jobs")
    op.drop_table("audit_blocks")
    op.drop_table("audit")
