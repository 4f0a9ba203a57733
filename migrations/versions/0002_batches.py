"""batches, rejected entries, uploads in pieces"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"
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


def long_text() -> sa.types.TypeEngine[str]:
    binary = mysql.MEDIUMTEXT(charset="utf8mb4", collation="utf8mb4_bin")
    return sa.Text().with_variant(binary, "mysql", "mariadb")


def required(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def optional(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=True)


JOB_COLUMNS = (
    ("entry", sa.Integer()),
    ("entry_name", text_(1024)),
    ("custom_id", text_(255)),
    ("true_label", ascii_(64)),
)


def upgrade() -> None:
    for name, kind in JOB_COLUMNS:
        op.add_column("jobs", optional(name, kind))
    op.drop_index("ix_jobs_due", "jobs")
    op.create_index("ix_jobs_due", "jobs", ["lane", "status", "due_at"])
    op.drop_index("ix_jobs_batch", "jobs")
    op.create_index("ix_jobs_batch", "jobs", ["batch_id", "status", "stage", "pipeline", "due_at", "id"])
    op.create_index("uq_jobs_entry", "jobs", ["batch_id", "entry"], unique=True)

    op.create_table(
        "batches",
        required("id", ascii_(36)),
        required("owner", ascii_(64)),
        required("status", ascii_(16)),
        required("version", sa.BigInteger()),
        optional("filename", text_(255)),
        optional("media_type", ascii_(64)),
        optional("sha256", ascii_(64)),
        optional("size_bytes", sa.BigInteger()),
        required("defaults", sa.JSON()),
        optional("rerun_of", ascii_(36)),
        optional("rerun_only", ascii_(8)),
        optional("key_sha256", ascii_(64)),
        optional("content_sha256", ascii_(64)),
        optional("claim_id", ascii_(36)),
        optional("lease_until", sa.BigInteger()),
        required("due_at", sa.BigInteger()),
        required("failures", sa.Integer()),
        required("entry", sa.Integer()),
        optional("entries", sa.Integer()),
        required("accepted", sa.Integer()),
        required("rejected", sa.Integer()),
        optional("error_slug", ascii_(64)),
        optional("error_detail", long_text()),
        required("created_at", sa.BigInteger()),
        optional("read_at", sa.BigInteger()),
        optional("completed_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_batches"),
        **TABLE,
    )
    op.create_index("ix_batches_status", "batches", ["status", "completed_at"])
    op.create_index("ix_batches_due", "batches", ["status", "due_at"])
    op.create_index("ix_batches_owner", "batches", ["owner", "id"])
    op.create_index("uq_batches_key", "batches", ["key_sha256"], unique=True)
    op.create_table(
        "rejected",
        required("batch_id", ascii_(36)),
        sa.Column("entry", sa.Integer(), autoincrement=False, nullable=False),
        required("name", text_(1024)),
        required("slug", ascii_(64)),
        required("detail", long_text()),
        optional("errors", sa.JSON()),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name="fk_rejected_batch_id"),
        sa.PrimaryKeyConstraint("batch_id", "entry", name="pk_rejected"),
        **TABLE,
    )
    op.create_table(
        "windows",
        required("queue", ascii_(96)),
        required("filled_at", sa.BigInteger()),
        required("turns", sa.JSON()),
        sa.PrimaryKeyConstraint("queue", name="pk_windows"),
        **TABLE,
    )
    op.create_table(
        "uploads",
        required("id", ascii_(36)),
        required("owner", ascii_(64)),
        optional("length", sa.BigInteger()),
        optional("filename", text_(255)),
        optional("client_metadata", sa.JSON()),
        optional("token", ascii_(36)),
        optional("locked_until", sa.BigInteger()),
        required("created_at", sa.BigInteger()),
        required("expires_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_uploads"),
        **TABLE,
    )
    op.create_index("ix_uploads_expires", "uploads", ["expires_at"])


def downgrade() -> None:
    for table in ("uploads", "windows", "rejected", "batches"):
        op.drop_table(table)
    op.drop_index("uq_jobs_entry", "jobs")
    op.drop_index("ix_jobs_batch", "jobs")
    op.create_index("ix_jobs_batch", "jobs", ["batch_id", "status"])
    op.drop_index("ix_jobs_due", "jobs")
    op.create_index("ix_jobs_due", "jobs", ["status", "due_at"])
    for name, _ in reversed(JOB_COLUMNS):
        op.drop_column("jobs", name)
